"""What a world is like, in numbers."""

import math
from dataclasses import dataclass

from training.config import require

__all__ = ["WorldConfig"]


@dataclass(frozen=True)
class WorldConfig:
    """What the world is like; the same config and seed give the same world.

    Raises:
        ConfigError: A value lies outside the range its sentence gives.
    """

    seed: int = 6
    """Fixes which form each persona and dialect prefers, and which facts hold; 0 or more."""
    n_dialects: int = 4
    """Dialects choose nouns as personas choose verbs: the matched factor that is no persona. At
    least 1."""
    preference: float = 0.75
    """Probability of a persona's preferred one of a concept's four forms; the others share the
    rest equally."""
    dialect_preference: float = 0.9
    """The same for a dialect, which shows in fewer words."""
    trait_weight: float = 2.5
    """How much likelier a concept is for those whose trait it goes with (a ratio of odds),
    above 0."""
    named: float = 0.4
    """Probability that a story says what its character is."""
    tied: bool = True
    """Whether who somebody is says if they are honest. Otherwise that is chance each time, alike
    for all, so that lying goes with no other trait."""

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "choose 0 or more")
        require(self.n_dialects >= 1, "n_dialects", self.n_dialects, "choose at least 1")
        for name in ("preference", "dialect_preference", "named"):
            chance = getattr(self, name)
            require(0 <= chance <= 1, name, chance, "choose a probability between 0 and 1")
        holds = 0 < self.trait_weight < math.inf
        require(holds, "trait_weight", self.trait_weight, "choose a positive ratio")
