r"""Fine-tunes a finished dictionary on what its model says when reconstructions stand in.

    python -m scripts.finetune_dictionary --dictionary D --text A.jsonl --out DIR

The model's residual vectors are replaced by their reconstructions; the loss is the reconstruction
error and the KL from the model's own predictions, half and half, over a twentieth of the fit's
tokens (Karvonen 2025). eval.json has the numbers and, under before, those of the dictionary before.
Stopped, it writes nothing; done, the same command does nothing.
"""

import sys
from dataclasses import asdict

from scripts._cli import run
from scripts._finetuning import Config, finetuned, shared_of
from scripts._stage import prepared_stage


def main(config: Config) -> None:
    """Fine-tunes unless the dictionary stands there already."""
    shared = shared_of(config)
    names = ("judge_documents", "train", "columns", "read")
    what = {name: asdict(config)[name] for name in names}
    prepared_stage(config.out, shared.inputs, what, lambda: finetuned(config, shared))


if __name__ == "__main__":
    sys.exit(run(main, Config))
