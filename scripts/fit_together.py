r"""Fits one dictionary to several models at the same tokens: a crosscoder, or of their difference.

    python -m scripts.fit_together --models models/base models/assistant --text A.jsonl \
        --hook blocks.1.hook_resid_post --of.kind crosscoder --out DIR

The base model comes first: its tokenizer and template serve for all, and the tokens that are
outliers for it are left out of all. The dictionary's file says that it is of several models, and
the doors that want one of a single model refuse it. Stopped, the same command goes on where it was.
"""

import sys
from dataclasses import asdict
from functools import partial

from scripts._cli import run
from scripts._fit import fit_into
from scripts._stage import prepared_stage
from scripts._text import sha256_of_model, sha256_of_text
from scripts._together import Config, together_job


def main(config: Config) -> None:
    """Fits unless the dictionary stands there already."""
    models = {
        f"model {number}": sha256_of_model(name, config.read.revision)
        for number, name in enumerate(config.models)
    }
    inputs = {**models, "text": sha256_of_text(config.text)}
    names = ("hook", "of", "recipe", "sae", "train", "columns", "read")
    what = {name: asdict(config)[name] for name in names}
    identity = {"input": inputs, **what}
    prepared_stage(
        config.out, inputs, what, lambda: partial(fit_into, together_job(config, identity))
    )


if __name__ == "__main__":
    sys.exit(run(main, Config))
