"""A model on its way: checkpoints on disk, and how far each moved from the base."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sae.change import Change, Ruler
from sae.stream.activations import HookPoint
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText
from training.organism.language_model import LmStep
from training.organism.optimiser import OptimiserConfig

__all__ = ["Checkpoint", "Yardstick", "as_far", "checkpoints", "due_steps", "falling_steps"]
__all__ += ["GROWN", "finished", "hotter", "lengthened", "up_to", "write_model"]

GROWN = "grown.json"
"""Name of the file that says how a model of an organism was grown."""
HOTTER = 1.3  # rate of a null that has the arms' schedule, over theirs
NULL_RATE = 1.5  # of that of the arms
BEYOND = 1.02  # a null goes a little further than the arm, so that the arm's change is within it


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Where, and on what text, the change of a model is measured."""

    base: LanguageModel
    """The model before."""
    text: TokenizedText
    """Neutral text: what the base was pre-trained on."""
    hook: HookPoint
    """Where activations are compared."""

    def __call__(self, module: PreTrainedModel) -> Change:
        """How far a model tuned from the base is from it."""
        tuned = LanguageModel(module, self.base.tokenizer, "tuned")
        return self._ruler.measure(tuned)

    @cached_property
    def _ruler(self) -> Ruler:
        return Ruler(self.base, self.text, self.hook)


@dataclass(frozen=True)
class Checkpoint:
    """A model at one step of its training."""

    name: str
    """Name of its folder."""
    step: int
    """Updates taken."""
    n_tokens: int
    """Tokens seen."""
    loss: float
    """Of that step, in nats a scored token."""
    change: Change
    """How far it moved from the base."""


def checkpoints(
    module: PreTrainedModel,
    steps: Iterator[LmStep],
    due: Sequence[int],
    record: Path,
    yardstick: Yardstick,
) -> Iterator[Checkpoint]:
    """Writes and measures a model at some steps of its training.

    What says that the model is finished is removed first, so that a model whose training was begun
    anew, and interrupted, is not taken for a finished one.

    Args:
        module: What is trained.
        steps: Its training, from `train`.
        due: The steps to keep, see `due_steps`.
        record: File beside the model that is written when it is finished; `checkpoints/` beside it
            is begun anew.
        yardstick: Measures the change.

    Yields:
        Each checkpoint once it is on disk. Who asks no further ends the training.
    """
    kept = record.parent / "checkpoints"
    kept.mkdir(parents=True, exist_ok=True)  # by it or the record a model's folder is known again
    record.unlink(missing_ok=True)
    for each in kept.iterdir():
        shutil.rmtree(each, ignore_errors=True)
    for step in steps:
        if step.step in due:
            name = f"step-{step.step:05d}"
            write_model(kept / name, module, yardstick.base.tokenizer)
            yield Checkpoint(name, step.step, step.n_tokens, step.loss, yardstick(module))


def due_steps(n_steps: int, every: int) -> list[int]:
    """Steps at which a model is kept: every so many, and the last.

    Example:
        >>> due_steps(10, 4)
        [4, 8, 10]
    """
    return sorted({*range(every, n_steps, every), n_steps})


def falling_steps(config: OptimiserConfig, n: int) -> list[int]:
    """Steps at which a null is kept: so many while its rate falls, the last among them.

    While the rate is high weights shake, which those of an arm whose training has ended do not: a
    null from there moves latents further than the arm can at an equal change of activations.

    Example:
        >>> falling_steps(OptimiserConfig(n_steps=100, decay=0.5), 2)
        [75, 100]
    """
    first = config.n_steps * (1 - config.decay)
    return sorted({round(first + (config.n_steps - first) * (i + 1) / n) for i in range(n)})


def hotter(config: OptimiserConfig, attempt: int) -> OptimiserConfig:
    """The run of a null: that of the arms, at a rate that grows with every attempt from the first.

    At the arms' own rate a model that reads on in its pre-training text moves less than they.
    """
    return replace(config, lr=HOTTER**attempt * config.lr)


def as_far(record: Mapping[str, Any], change: float) -> bool:
    """Whether any checkpoint's activations moved further than those of another model.

    Args:
        record: Of the model, as `finished` reads it.
        change: `Change.activations` of the other model.
    """
    moved = [each["change"]["activations"] for each in record["checkpoints"]]
    return max(moved) > BEYOND * change


def up_to(found: Iterator[Checkpoint], change: float) -> Iterator[Checkpoint]:
    """Checkpoints up to the first whose activations moved further than those of another model.

    Args:
        found: The checkpoints.
        change: `Change.activations` of the other model; 0 sets no end.
    """
    for each in found:
        yield each
        if 0 < BEYOND * change < each.change.activations:
            return


def lengthened(config: OptimiserConfig, reach: int) -> OptimiserConfig:
    """The run of a null up to `reach` times as long, at a rate above the arms' and never less.

    For models whose null cannot be trained several times over until it has moved as far.
    """
    return replace(config, n_steps=config.n_steps * reach, lr=NULL_RATE * config.lr, decay=0.0)


def write_model(folder: Path, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A Hugging Face folder with the tokenizer beside the weights."""
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def finished(folder: Path) -> dict[str, Any] | None:
    """The record of a model grown to its end, which is written last; None where there is none."""
    path = folder / GROWN
    return json.loads(path.read_text()) if path.exists() else None
