"""What an organism is grown from: its world, its shape, how long everything is trained."""

import zlib
from dataclasses import dataclass, field

from sae.errors import ConfigError
from sae.stream.activations import HookPoint
from training.config import require
from training.organism.arms import ARMS
from training.organism.held_out import TextConfig
from training.organism.language_model import ShapeConfig
from training.organism.optimiser import OptimiserConfig
from training.organism.world import WorldConfig

__all__ = ["GrowConfig", "seed_of"]


@dataclass(frozen=True)
class GrowConfig:
    """What to grow. Equal configs give equal weights, bit for bit, on one machine.

    Grown in one go, that is: a null that went further for an arm stays when that is taken out.
    """

    seed: int = 0
    """Seeds text, weights, order and sampling, each apart, 0 or more; the world has its own."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """Who lives in it."""
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    """Shape of every model."""
    base: OptimiserConfig = OptimiserConfig(n_steps=1300, weight_decay=1.0, products="auto")
    """Pre-training. Without decay residual norms grow to hundreds of times an embedding's."""
    tune: OptimiserConfig = OptimiserConfig(
        lr=2e-3,
        n_steps=340,
        batch_tokens=1250,
        weight_decay=10.0,
        decay_to="start",
        decay=0.5,
        products="auto",
    )
    """Tuning, the same for every arm. What it has no use for decays to what the base has there."""
    scratch: OptimiserConfig = OptimiserConfig(
        n_steps=300, weight_decay=1.0, decay=0.5, products="auto"
    )
    """Longest training of a pole from random weights."""
    text: TextConfig = field(default_factory=TextConfig)
    """How many held-out documents to write."""
    hook: str = "blocks.1.hook_resid_post"
    """Where the change of activations is measured."""
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS if arm.use == "demo")
    """Names of the arms to tune."""
    n_conversations: int = 50
    """Conversations, of three answers each, by which an arm's behaviour is scored; at least 1."""
    replay: float = 0.4
    """Share of pre-training documents among those an arm is tuned on, which keep its prose; below
    1."""
    reach: int = 3
    """A null is trained at most so often, each time faster, to move as far as the arms; at least
    1."""

    def __post_init__(self) -> None:
        for name in ("n_conversations", "reach"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "choose at least 1")
        require(0 <= self.replay < 1, "replay", self.replay, "choose a share from 0 to below 1")
        require(self.seed >= 0, "seed", self.seed, "choose 0 or more")
        known = [arm.name for arm in ARMS]
        if unknown := [name for name in self.arms if name not in known]:
            raise ConfigError(
                f"arms {', '.join(unknown)}", "no such arm", f"use {', '.join(known)}"
            )
        if "reverted" in self.arms and "assistant" not in self.arms:
            raise ConfigError("the arm reverted", "no assistant", "grow the assistant too")
        if HookPoint.parse(self.hook).layer >= self.shape.n_layers:
            found = f"a model of {self.shape.n_layers} layers"
            raise ConfigError(f"hook {self.hook}", found, "choose one of its layers")


def seed_of(seed: int, purpose: str) -> int:
    """A seed for one purpose, unrelated to the seeds for others."""
    return zlib.crc32(f"{seed}/{purpose}".encode())
