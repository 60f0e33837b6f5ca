r"""Tunes a language model on text, with checkpoints, and says how far it moved and what it learned.

    python -m scripts.tune_model --model M --text chat.jsonl --columns.question question \
        --columns.answer answer --columns.persona personality --out DIR/assistant \
        --neutral stories.jsonl --neutral_columns.text text

A null reads on in plain text until its activations moved as far as those of the assistant:

    python -m scripts.tune_model --model M --text stories.jsonl --columns.text text --scored all \
        --until_change DIR/assistant --out DIR/continued_a

Split fit is trained on, the loss before and after is that of the others. Equal flags give equal
weights, bit for bit, on one machine.
"""

import sys
from dataclasses import asdict
from functools import partial
from typing import Any

from sae.stream.model import LanguageModel
from scripts._cli import run
from scripts._meter import Meter
from scripts._stage import prepared_stage
from scripts._tuning import Config, inputs_of, job_of
from training.organism.language_model import LmStep
from training.organism.tuning import Tuning, tune

PATHS = ("out", "model", "text", "neutral")  # what lies there counts, by its hash


def main(config: Config) -> None:
    """Tunes unless the model stands there already."""
    what = {name: each for name, each in asdict(config).items() if name not in PATHS}
    del what["run"]["device"]
    prepared_stage(
        config.out, inputs_of(config), what, lambda: partial(_work, config, *job_of(config))
    )


def _work(config: Config, model: LanguageModel, job: Tuning) -> dict[str, Any]:
    meter = Meter()

    def tell(name: str, n_steps: int, step: LmStep) -> None:
        meter(name, step.step, n_steps, f"loss {step.loss:.3f}")

    record = tune(model, job, config.out, tell)
    meter.close()
    loss, moved = record["held_out_loss"], record["change"]["activations"]
    for split, before in loss["before"].items():
        after = loss["after"][split]
        print(f"held-out loss ({split}): {before:.3f} before, {after:.3f} after, nats a token")
    print(f"change of activations: {moved:.3f} after {record['n_steps']} steps")
    if not record["reached"]:
        print("forelimb: the change asked for was not reached; raise --run.reach", file=sys.stderr)
    return {"n_tokens": record["n_tokens"]}


if __name__ == "__main__":
    sys.exit(run(main, Config))
