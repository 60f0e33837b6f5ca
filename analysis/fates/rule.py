"""The thresholds of the fates, and how far a preserved latent may lie."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.latents.coordinates import OFTEN

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """The thresholds of the fates, fixed before any tuned model is looked at."""

    min_firings: int = 64
    """Firings on the held-out tokens, in either model, below which a latent has no fate."""
    q: float = 0.05
    """False discovery rate of changes, within persona latents and within the others."""
    level: float = 0.95
    """Share of null latents inside the bands of all coordinates at once."""
    lost_ratio: float = 0.2
    """Share of the base model's activation, `kept`, below which a latent counts as lost."""
    rare: float = OFTEN
    """Share of the base model's firings from which a latent is not lost, wherever it fires."""
    min_direction: float = 0.7
    """Cosine that preservation needs, however far the null drifts."""
    max_gain: float = float(np.log(2))
    """Absolute gain, in nats, that preservation allows, however far the null drifts."""
    max_gating: float = 0.5
    """Dice distance that preservation allows, however far the null drifts."""
    max_profile: float = 0.3
    """Share of its activation in other strata that preservation allows, however far the null
    drifts."""
    small_direction: float = 0.99
    """Cosine from which a latent points as it did, however little the null drifts."""
    small_gain: float = float(np.log(1.05))
    """Gain beyond that of the median null latent, in nats and either way, up to which a latent is
    as loud as the others, however little the null drifts."""
    small_gating: float = 0.05
    """Dice distance up to which a latent fires where it did, however little the null drifts."""
    small_profile: float = 0.05
    """Share of its activation in other strata that preservation allows, however little the null
    drifts: of few firings no interval is narrower, and a twentieth is no other use."""
    small_effect: float = 0.99
    """Agreement of effects from which a latent does what it did, however little the null drifts."""
    min_effect: float = 0.3
    """Agreement of effects that preservation needs where they were measured, however far the null
    drifts; 0 is that of effects with nothing in common, and at .3 a tenth of one is the other's."""

    def allowed(self, coordinate: str, band: tuple[Any, Any], middle: Any = 0.0) -> tuple[Any, Any]:
        """Where the whole interval of a preserved latent lies: the null's band, within limits.

        Args:
            coordinate: direction, gain, gating, profile or effect.
            band: Where null latents lie, low and high; of one latent or arrays of many.
            middle: Their median gain, from which a small one is told; of gain alone.

        Returns:
            Low and high, shaped as the band's.
        """
        low, high = band
        least, most = self.small(coordinate, middle)
        low, high = np.minimum(low, least), np.maximum(high, most)
        least, most = {
            "direction": (self.min_direction, np.inf),
            "gain": (-self.max_gain, self.max_gain),
            "gating": (-np.inf, self.max_gating),
            "profile": (-np.inf, self.max_profile),
            "effect": (self.min_effect, np.inf),
        }[coordinate]
        return np.maximum(low, least), np.minimum(high, most)

    def is_small(self, coordinate: str, values: np.ndarray, middle: Any = 0.0) -> np.ndarray:
        """Whether a difference is too small for a change, however little the null drifts.

        Args:
            coordinate: direction, gain, gating, profile or effect.
            values: What was measured.
            middle: As for `allowed`.
        """
        least, most = self.small(coordinate, middle)
        return (values >= least) & (values <= most)

    def small(self, coordinate: str, middle: Any = 0.0) -> tuple[Any, Any]:
        """Between which values a latent is what it was, however little the null drifts.

        Args:
            coordinate: direction, gain, gating, profile or effect.
            middle: As for `allowed`.
        """
        return {
            "direction": (self.small_direction, np.inf),
            "gain": (middle - self.small_gain, middle + self.small_gain),
            "gating": (-np.inf, self.small_gating),
            "profile": (-np.inf, self.small_profile),
            "effect": (self.small_effect, np.inf),
        }[coordinate]
