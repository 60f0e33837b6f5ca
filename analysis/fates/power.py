"""How small a change a null leaves to be seen."""

import numpy as np
import pandas as pd

from analysis.fates.nulls import Null
from analysis.fates.rule import Rule
from analysis.latents.coordinates import EFFECT, PROFILE

__all__ = ["power"]


def power(null: Null, level: float = 0.95) -> pd.DataFrame:
    """The smallest change of each coordinate that can be called, per fire-rate bin.

    It leaves the null's band and is no trifle (`Rule.is_small`).

    Args:
        null: The null.
        level: As for `Null.band`.

    Returns:
        One row a bin: fire_rate_from (0 for the first), n_latents, direction (cosines below
        are beyond), gain_low, gain_high, gating (distances above are beyond) and, where they
        were measured, profile (likewise) and effect (agreements below are beyond).
    """
    # A rate on an inner edge belongs to the bin below it, so step just above.
    starts = np.concatenate([[0.0], np.nextafter(null.edges, np.inf)])
    middle, rule = null.middle("gain", starts), Rule()

    def beyond(coordinate: str, end: int) -> np.ndarray:
        least, most = rule.small(coordinate, middle)
        band = null.band(coordinate, starts, level)[end]
        return np.maximum(band, most) if end else np.minimum(band, least)

    return pd.DataFrame(
        {
            "fire_rate_from": starts,
            "n_latents": np.bincount(null.bins, minlength=len(starts)),
            "direction": beyond("direction", 0),
            "gain_low": beyond("gain", 0),
            "gain_high": beyond("gain", 1),
            "gating": beyond("gating", 1),
            **{c: beyond(c, end) for c, end in ((PROFILE, 1), (EFFECT, 0)) if c in null.values},
        }
    )
