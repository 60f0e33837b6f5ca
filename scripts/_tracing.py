"""The flags of `trace_personas`."""

from dataclasses import dataclass, field
from pathlib import Path

from sae.stream.text import Columns
from scripts._cast import Cast
from scripts._text import LengthConfig

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What to trace, and where to put it."""

    dictionary: Path
    """Dictionary fitted on the base model."""
    continued: Path
    """Folder of continued dictionaries: `base`, and one for every tuned model and null."""
    out: Path
    """Folder that gets summary.json, the tables and report.html."""
    organism: Path | None = None
    """Folder of an organism, whose models, text and observer are used where none are named."""
    cast: Cast = field(default_factory=Cast)
    """Which model plays which part."""
    text: tuple[Path, ...] = ()
    """Jsonl files of held-out text, or folders of them."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: LengthConfig = field(default_factory=LengthConfig)
    """How much of the text to read."""
    effects: int = 16
    """Tokens a latent on which it is ablated and steered in every model; 0 leaves effects out."""
    seed: int = 0
    """Of resampling blocks, resamples and random subspaces."""
