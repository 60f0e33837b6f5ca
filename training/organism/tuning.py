"""Tuning any causal language model on labelled text, with the trainer of the organism."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from sae.errors import ConfigError, InputError
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText
from sae.whole import write_json
from training.organism.checkpoints import (
    Yardstick,
    checkpoints,
    due_steps,
    lengthened,
    up_to,
    write_model,
)
from training.organism.language_model import (
    Tell,
    batches,
    told,
    train,
)
from training.organism.losses import Batch, mean_loss
from training.organism.optimiser import OptimiserConfig

__all__ = ["RECORD", "Tuning", "scored_tokens", "target_of", "text_batches", "tune"]

RECORD = "tuned.json"
"""Name of the file that says how a model was tuned."""
SCHEMA = "forelimb.tuned/1"

Scored = Literal["assistant", "all"]


@dataclass(frozen=True, eq=False)
class Tuning:
    """What a model is tuned on, and how."""

    fit: TokenizedText
    """What it is trained on, over and over, each time in another order."""
    held_out: Mapping[str, TokenizedText]
    """Texts by name on which its loss is measured before and after."""
    yardstick: Yardstick
    """Measures how far it moved; holds the model before."""
    scored: Scored = "assistant"
    """Tokens whose prediction counts: what the assistant says and the end of its turn, or all."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """How it is trained."""
    n_checkpoints: int = 4
    """Checkpoints in the optimiser's number of steps."""
    seed: int = 0
    """Of the order of documents."""
    until: float | None = None
    """Change of activations up to which it is trained, for as long as it takes; None for the
    optimiser's number of steps."""
    reach: int = 10
    """With `until`, it is trained for at most so many times the optimiser's number of steps."""


def scored_tokens(text: TokenizedText, scored: Scored) -> list[Bool[np.ndarray, " p"]]:
    """For every document, which tokens' prediction counts.

    Args:
        text: The documents.
        scored: "all", or "assistant" for the words of assistants and the token after their last,
            which ends the turn, as in supervised fine-tuning.

    Raises:
        ConfigError: Nothing counts.
    """
    said = text.table["role"].eq("assistant").to_numpy(bool)
    if scored == "all":
        said = np.ones_like(said)
    elif not said.any():
        raise ConfigError("--scored assistant", "a text without assistant", "use --scored all")
    rows = [said[start:stop] for start, stop in pairwise(text.starts)]
    return [row | np.insert(row[:-1], 0, False) for row in rows]


def text_batches(
    text: TokenizedText, scored: Scored, seed: int, batch_tokens: int
) -> Iterator[Batch]:
    """Batches of a text without end: all documents, then all again in another order."""
    return batches(_again_and_again(_rows(text, scored), random.Random(seed)), batch_tokens)


def _rows(text: TokenizedText, scored: Scored) -> list[tuple[list[int], list[bool]]]:
    """Ids and what counts of every document in which anything does."""
    rows = zip(text.ids, scored_tokens(text, scored), strict=True)
    return [(ids.tolist(), counted.tolist()) for ids, counted in rows if counted[1:].any()]


def _again_and_again(documents: list[Any], rng: random.Random) -> Iterator[Any]:
    while True:
        yield from rng.sample(documents, len(documents))


def tune(
    model: LanguageModel, job: Tuning, folder: Path, tell: Tell = lambda *_: None
) -> dict[str, Any]:
    """Tunes a model in place and writes it, its checkpoints and `tuned.json`.

    Args:
        model: What to tune.
        job: On what, and how.
        folder: Gets the model as a Hugging Face folder, and `checkpoints/`.
        tell: Hears of every step.

    Returns:
        The content of `tuned.json`.
    """
    before = _losses(model, job)
    run = job.optimiser if job.until is None else lengthened(job.optimiser, job.reach)
    every = max(1, job.optimiser.n_steps // job.n_checkpoints)
    source = text_batches(job.fit, job.scored, job.seed, run.batch_tokens)
    steps = told(train(model.module, source, run), tell, folder.name, run.n_steps)
    due = due_steps(run.n_steps, every)
    found = checkpoints(model.module, steps, due, folder / RECORD, job.yardstick)
    kept = list(found if job.until is None else up_to(found, job.until))
    write_model(folder, model.module, model.tokenizer)
    record = {
        "schema": SCHEMA,
        "base": job.yardstick.base.name,
        "scored": job.scored,
        "optimiser": asdict(job.optimiser),
        "seed": job.seed,
        "n_steps": kept[-1].step,
        "n_tokens": kept[-1].n_tokens,
        "n_tokens_of_text": job.fit.n_tokens,
        "held_out_loss": {"before": before, "after": _losses(model, job)},
        "yardstick": _said_of(job.yardstick),
        "until": job.until,
        "reached": job.until is None or kept[-1].change.activations > job.until,
        "change": asdict(kept[-1].change),
        "checkpoints": [asdict(each) for each in kept],
    }
    write_json(folder / RECORD, record, indent=1)
    return record


def target_of(folder: Path, yardstick: Yardstick) -> float:
    """How far the activations of a tuned model moved, as its `tuned.json` says.

    Args:
        folder: Of the model, which `tune` wrote.
        yardstick: By what another model is to be compared with it.

    Raises:
        ConfigError: It was measured from another base, at another hook or on another text.
        InputError: There is no such record.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found, change = record["yardstick"], float(record["change"]["activations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / RECORD}", "no record", "name a tuned model's folder"
        ) from error
    wanted = _said_of(yardstick)
    if differing := [name for name in wanted if found.get(name) != wanted[name]]:
        do = "measure both from the same base, at the same hook, on the same neutral text"
        raise ConfigError(f"the change of {folder}", f"another {', '.join(differing)}", do)
    return change


def _said_of(yardstick: Yardstick) -> dict[str, str]:
    base, text = yardstick.base.weights_sha256, yardstick.text.sha256
    return {"base_sha256": base, "hook": str(yardstick.hook), "neutral_sha256": text}


def _losses(model: LanguageModel, job: Tuning) -> dict[str, float]:
    """Held-out loss by name of the text, in nats a scored token."""
    losses = {}
    for name, text in job.held_out.items():
        rows = _rows(text, job.scored)
        losses[name] = mean_loss(model.module, batches(rows, job.optimiser.batch_tokens))
    return losses
