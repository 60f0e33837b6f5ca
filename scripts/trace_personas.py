r"""Traces the latents of a base model's dictionary into tuned models, and says what became of each.

    python -m scripts.trace_personas --organism runs/demo/organism \
        --dictionary runs/demo/dictionary --continued runs/demo/continued --out runs/demo/trace

Two cores, 200,000 held-out tokens, the four tuned models and three nulls of the demo: two minutes
and 3.5 GiB. Models
from elsewhere are named: `--cast.base B --cast.tuned [assistant=A] --cast.null [continued_a=C]`.
Other dictionaries of the base say what they alone change: `--cast.again same_weights=D`, the same
dictionary continued with another seed, and `--cast.other_seed dictionary_seed=E`, one fitted anew.
Small models are laid on the bench side by side, on one thread each.
"""

import sys
from dataclasses import asdict

from analysis.study.trace_folder import write_trace
from analysis.study.tracing import study
from sae.stream.model import load_model
from sae.stream.text import HELD_OUT
from scripts._cast import models_of, read_organism, texts_of, trace_config
from scripts._cli import run
from scripts._meter import Parts
from scripts._report import seconds_of, write_and_tell
from scripts._stage import fingerprint, require_own, stage
from scripts._text import read_text, sha256_of_model, sha256_of_text
from scripts._tracing import Config


def main(config: Config) -> None:
    """Traces unless the folder is up to date, then writes its report and prints the verdict."""
    organism = read_organism(config.organism)
    trace = trace_config(config, organism)
    texts = texts_of(config.text, config.organism)
    inputs = {name: fingerprint(getattr(config, name)) for name in ("dictionary", "continued")}
    inputs["model base"] = sha256_of_model(trace.base)
    inputs |= {f"model {name}": sha256_of_model(path) for name, path in models_of(trace).items()}
    inputs |= {f"control {each.name}": fingerprint(each.path) for each in trace.controls}
    inputs["text"] = sha256_of_text(texts)
    if trace.observer is not None:
        inputs["observer"] = fingerprint(trace.observer)
    require_own(config.out, "a trace", "summary.json", "fates.parquet", "provenance.json")
    stages = seconds_of(config.organism, config.dictionary, config.continued)

    def work() -> dict[str, int]:
        base = load_model(trace.base)
        text = read_text(base, texts, config.columns, config.read, HELD_OUT)
        with Parts() as tell:
            found = study(trace, text, tell)
            write_trace(found, config.out, organism, tell, lambda: stages | tell.seconds)
        return {"n_tokens": text.n_tokens}

    stage(config.out, inputs, asdict(config), work)
    write_and_tell(config.out)


if __name__ == "__main__":
    sys.exit(run(main, Config))
