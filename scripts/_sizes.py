"""The flags of `demo`, and its two sizes."""

from dataclasses import dataclass, replace
from pathlib import Path

from training.organism.config import GrowConfig
from training.organism.held_out import TextConfig

__all__ = ["FULL", "QUICK", "Config", "DemoSize"]


@dataclass(frozen=True)
class Config:
    """How much of it, and where to put it."""

    out: Path | None = None
    """Folder that gets organism, dictionary, continued dictionaries, trace and report.html; None
    is runs/demo, or runs/quick where it is quick, so that neither clears the other away."""
    quick: bool = False
    """Two arms and a model too small for a verdict."""
    seed: int = 0
    """Of everything grown, fitted and drawn."""


@dataclass(frozen=True)
class DemoSize:
    """How much of everything a demo takes."""

    organism: GrowConfig
    """What is grown, but for its seed."""
    fit_tokens: int
    """Tokens the base dictionary is fitted on."""
    continue_tokens: int
    """Tokens every continuation goes on for."""

    @property
    def hook(self) -> str:
        """Where activations are taken."""
        return self.organism.hook

    def grow(self, seed: int) -> GrowConfig:
        """The organism of one seed."""
        return replace(self.organism, seed=seed)


FULL = DemoSize(GrowConfig(), fit_tokens=1_500_000, continue_tokens=300_000)
"""What `make demo` runs: every arm, and a verdict."""
_LITTLE = GrowConfig()
QUICK = DemoSize(
    replace(
        _LITTLE,
        base=replace(_LITTLE.base, n_steps=200),
        tune=replace(_LITTLE.tune, n_steps=40),
        text=TextConfig(pretraining=(1500, 250, 250), chat=(400, 80, 80)),
        arms=("assistant", "format_only", "continued_a", "continued_b"),
        n_conversations=25,
        reach=2,
    ),
    fit_tokens=200_000,
    continue_tokens=60_000,
)
"""What `make demo DEMO=quick` runs: two arms and their nulls, too little for a verdict."""
