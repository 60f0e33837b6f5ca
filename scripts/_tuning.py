"""From the flags of `tune_model` to a model and what is to be made of it."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from sae.change import measure_change
from sae.errors import ConfigError
from sae.stream.model import LanguageModel
from sae.stream.text import HELD_OUT, Columns
from sae.stream.tokens import TokenizedText
from scripts._stage import fingerprint, require_own
from scripts._text import (
    ReadConfig,
    open_model,
    read_text,
    require_hook,
    sha256_of_model,
    sha256_of_text,
    text_inputs,
)
from training.organism.checkpoints import Yardstick
from training.organism.optimiser import OptimiserConfig
from training.organism.tuning import RECORD, Tuning, scored_tokens, target_of

__all__ = ["Config", "inputs_of", "job_of"]

NEUTRAL_DOCUMENTS = 128


@dataclass(frozen=True)
class RunConfig:
    """What the run is, besides its optimiser."""

    seed: int = 0
    """Of the order of documents."""
    part: str = "1/1"
    """Which share of the documents to train on: 1/2 is every second one from the first on, 2/2
    every second one from the second on."""
    n_checkpoints: int = 4
    """Checkpoints in the optimiser's number of steps."""
    reach: int = 10
    """Until a change is reached it may take so many times the optimiser's number of steps."""
    device: str = "auto"
    """Where the model computes; auto is CUDA where there is one."""

    def __post_init__(self) -> None:
        number, _, n = self.part.partition("/")
        if not (number.isdecimal() and n.isdecimal() and 1 <= int(number) <= int(n)):
            raise ConfigError(f"part={self.part}", "no share", "write 1/2 for the first of two")
        if self.n_checkpoints < 1 or self.reach < 1:
            found = f"n_checkpoints={self.n_checkpoints}, reach={self.reach}"
            raise ConfigError("a run", found, "give 1 or more of each")


@dataclass(frozen=True)
class Config:
    """What to tune, on what, and where to put it."""

    model: str
    """Folder or hub id of the model."""
    text: tuple[Path, ...]
    """Jsonl files, or folders of them, all mixed; split fit is trained on."""
    out: Path
    """Folder that gets the tuned model, its checkpoints and tuned.json."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    scored: Literal["assistant", "all"] = "assistant"
    """Tokens that count: what the assistant says and the end of its turn, or all."""
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig("adamw", 1e-3, 300, 1500)
    )
    """How the weights are updated."""
    neutral: tuple[Path, ...] = ()
    """Text, of split select, on which its change is measured; none takes that of `text`."""
    neutral_columns: Columns | None = None
    """How to read neutral jsonl that is not labelled text."""
    hook: str | None = None
    """Where the change of activations is measured; None is the end of the middle layer."""
    until_change: str | None = None
    """Change of activations up to which to train on, as a number or as the tuned model whose change
    is to be reached: its tuned.json says it, without one it is measured. None trains for the
    optimiser's number of steps."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """How to read model and text."""
    run: RunConfig = field(default_factory=RunConfig)
    """How to carry the run out."""


def inputs_of(config: Config) -> dict[str, str]:
    """Hashes by which the stage knows its inputs again."""
    inputs = text_inputs(config.model, config.read, config.text)
    if config.neutral:
        inputs["neutral"] = sha256_of_text(config.neutral)
    if (name := _named_model(config.until_change)) is not None:
        record = Path(name) / RECORD
        inputs["until_change"] = fingerprint(record) if record.exists() else sha256_of_model(name)
    return inputs


def job_of(config: Config) -> tuple[LanguageModel, Tuning]:
    """Loads and checks what the tuning needs; writes nothing.

    The model is tuned in float32 whatever it is stored in, since small updates vanish in less.

    Args:
        config: The flags.

    Returns:
        The model to tune, and what to tune it on.

    Raises:
        ConfigError: Flags that do not go together.
        InputError: Model, text or record is missing or damaged.
    """
    require_own(config.out, "a tuned model", RECORD, "checkpoints")
    model, base = (_open(config.model, config.read, config.run.device) for _ in range(2))
    columns = config.neutral_columns if config.neutral else config.columns

    def read(split: str) -> TokenizedText:
        return read_text(model, config.text, config.columns, config.read, (split,))

    most = min(config.read.max_documents or NEUTRAL_DOCUMENTS, NEUTRAL_DOCUMENTS)
    few = replace(config.read, max_documents=most)
    neutral = read_text(base, config.neutral or config.text, columns, few, ("select",))
    name = config.hook or f"blocks.{(base.n_layers - 1) // 2}.hook_resid_post"
    yardstick = Yardstick(base, neutral, require_hook(base, neutral, name))
    job = Tuning(
        fit=_part(read("fit"), config.run.part),
        held_out={split: read(split) for split in HELD_OUT},
        yardstick=yardstick,
        scored=config.scored,
        optimiser=config.optimiser,
        n_checkpoints=config.run.n_checkpoints,
        seed=config.run.seed,
        until=_until(config, yardstick),
        reach=config.run.reach,
    )
    for text in (job.fit, *job.held_out.values()):
        scored_tokens(text, job.scored)
    return model, job


def _open(name: str, read: ReadConfig, device: str) -> LanguageModel:
    model = open_model(name, read, device)
    return replace(model, module=model.module.float())


def _part(text: TokenizedText, part: str) -> TokenizedText:
    number, n = map(int, part.split("/"))
    keep = np.arange(len(text.ids)) % n == number - 1
    if not keep.any():
        raise ConfigError(f"part {part}", f"{len(text.ids)} documents", "give more text")
    return text.select(keep)


def _until(config: Config, yardstick: Yardstick) -> float | None:
    if (asked := config.until_change) is None:
        return None
    if (name := _named_model(asked)) is None:
        change = float(asked)
    elif (Path(name) / RECORD).exists():
        change = target_of(Path(name), yardstick)
    else:
        tuned = _open(name, ReadConfig(), config.run.device)
        change = measure_change(yardstick.base, tuned, yardstick.text, yardstick.hook).activations
    if not 0 < change < math.inf:
        raise ConfigError(f"--until_change {asked}", f"a change of {change}", "give one above 0")
    return change


def _named_model(asked: str | None) -> str | None:
    try:
        float(asked or 0)
    except ValueError:
        return asked
    return None
