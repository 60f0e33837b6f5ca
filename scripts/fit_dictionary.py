r"""Fits a dictionary to a model's activations over a text, and judges it on held-out documents.

    python -m scripts.fit_dictionary --model M --text A.jsonl B.jsonl \
        --hook blocks.1.hook_resid_post --out DIR --recipe organism

It learns from documents of split fit and is judged on those of split confirm. Stopped by SIGINT or
SIGTERM it saves its state; the same command again goes on from there, bit for bit, and does nothing
once the dictionary is there. Flags under sae and train change the recipe.
"""

import sys
from dataclasses import asdict
from functools import partial

from scripts._cli import run
from scripts._fit import fit_into
from scripts._fitting import Config, fit_job
from scripts._stage import fingerprint, prepared_stage
from scripts._text import text_inputs


def main(config: Config) -> None:
    """Fits unless the dictionary stands there already."""
    inputs = text_inputs(config.model, config.read, config.text)
    if config.activations is not None:
        inputs["activations"] = fingerprint(config.activations)
    names = ("hook", "recipe", "sae", "train", "columns", "read")
    what = {name: asdict(config)[name] for name in names}
    identity = {"input": inputs, **what}
    prepared_stage(config.out, inputs, what, lambda: partial(fit_into, fit_job(config, identity)))


if __name__ == "__main__":
    sys.exit(run(main, Config))
