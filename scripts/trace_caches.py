r"""Traces latents from the activations of one model into those of another, without either model.

    python -m scripts.trace_caches --base CACHE --tuned CACHE --null CACHE --out DIR

Caches are those of `harvest`, or any that `sae.stream.cache.save_cache` wrote, over the same tokens
in the same order, at the same hook. A document is of one split; fit, select and confirm all have
some, and the last two at least 8 between them. Short fits to the base say how many latents should
fire a token (`--ks`). Then a dictionary is fitted on the base's documents of split fit, continued
there, and continued on each cache; latents are traced on those of splits select and confirm. What
only a language model can tell, such as the effect of a latent, is left null. A null is a model to
which nothing of interest happened; a second one, `--held_back CACHE`, measures how often the calls
are wrong. Without a null nothing is called.
"""

import sys
from dataclasses import asdict

from analysis.study.cached import study_caches
from analysis.study.trace_folder import write_trace
from scripts._caching import Caches, Config
from scripts._cli import run
from scripts._meter import Parts
from scripts._report import seconds_of, write_and_tell
from scripts._stage import require_own, stage

MARKS = ("summary.json", "dictionary", "first", "k", "provenance.json")
"""Of which a folder of this command, finished or not, has at least one."""


def main(config: Config) -> None:
    """Fits what is needed and traces, unless the folder is up to date; then writes the report."""
    require_own(config.out, "a trace", *MARKS)
    caches = Caches(config)
    caches.fit()
    stages = seconds_of(None, config.out / "dictionary", config.out / "continued")

    def work() -> dict[str, int]:
        with Parts() as tell:
            found = study_caches(caches.traced(), tell)
            write_trace(found, config.out, {}, tell, lambda: stages | tell.seconds)
        return {"n_tokens": caches.caches["base"].n_tokens}

    stage(config.out, caches.inputs, asdict(config), work)
    write_and_tell(config.out)


if __name__ == "__main__":
    sys.exit(run(main, Config))
