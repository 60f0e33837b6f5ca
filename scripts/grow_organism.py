"""Grows a model organism: a world with known personas, a base model, and its tuned twins.

    python -m scripts.grow_organism --out runs/demo/organism

Two cores: about 8 minutes and 2 GiB. A minute, and nothing learned, with
`--organism.base.n_steps 100 --organism.arms [assistant,continued_a]`.

"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from scripts._cli import run
from scripts._meter import Meter
from scripts._stage import stage
from training.organism.config import GrowConfig
from training.organism.grow import grow
from training.organism.language_model import LmStep


@dataclass(frozen=True)
class Config:
    """What to grow, and where."""

    out: Path
    """Folder that gets organism.json, text/, observer.parquet and models/."""
    organism: GrowConfig = field(default_factory=GrowConfig)
    """The organism."""


def main(config: Config) -> None:
    """Grows the organism unless it stands there already."""
    meter = Meter()

    def tell(name: str, n_steps: int, step: LmStep) -> None:
        meter(name, step.step, n_steps, f"loss {step.loss:.3f}")

    stage(config.out, {}, config.organism, lambda: grow(config.organism, config.out, tell)["base"])
    meter.close()


if __name__ == "__main__":
    sys.exit(run(main, Config))
