r"""Takes a model's residual vectors over a text, and keeps them in an activation cache.

    python -m scripts.harvest --model M --text A.jsonl B.jsonl --hook blocks.1.hook_resid_post \
        --out DIR

A token takes 4 bytes a dimension on disk: a million tokens of width 128 are half a GiB.
"""

import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from sae.stream.text import Columns
from scripts import _text
from scripts._cli import run
from scripts._source import harvest_into
from scripts._stage import prepared_stage, require_own


@dataclass(frozen=True)
class Config:
    """What to harvest, and where to put it."""

    model: str
    """Folder or hub id of the model."""
    text: tuple[Path, ...]
    """Jsonl files, or folders of them."""
    hook: str
    """Where to take the vectors, such as blocks.1.hook_resid_post."""
    out: Path
    """Folder that gets manifest.json, tokens.parquet and the shards."""
    splits: tuple[str, ...] = ("fit",)
    """Splits of the text to go through: fit, select, confirm."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: _text.ReadConfig = field(default_factory=_text.ReadConfig)
    """How to read model and text."""
    device: str = "auto"
    """Where the model computes; auto is CUDA where there is one."""


def main(config: Config) -> None:
    """Harvests unless the cache stands there already."""
    inputs = _text.text_inputs(config.model, config.read, config.text)
    what = {name: asdict(config)[name] for name in ("hook", "splits", "columns", "read")}

    def prepare() -> partial[dict[str, int]]:
        require_own(config.out, "an activation cache", "manifest.json")
        model = _text.open_model(config.model, config.read, config.device)
        text = _text.read_text(model, config.text, config.columns, config.read, config.splits)
        hook = _text.require_hook(model, text, config.hook)
        return partial(harvest_into, config.out, model, text, hook)

    prepared_stage(config.out, inputs, what, prepare)


if __name__ == "__main__":
    sys.exit(run(main, Config))
