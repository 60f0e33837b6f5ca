"""How small a change a null leaves to be seen."""

import numpy as np
import pandas as pd

from analysis.fates.nulls import Null
from analysis.latents.coordinates import EFFECT, PROFILE

__all__ = ["power"]


def power(null: Null, level: float = 0.95) -> pd.DataFrame:
    """The smallest change of each coordinate that leaves a null's band, per fire-rate bin.

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
    gain_low, gain_high = null.band("gain", starts, level)
    return pd.DataFrame(
        {
            "fire_rate_from": starts,
            "n_latents": np.bincount(null.bins, minlength=len(starts)),
            "direction": null.band("direction", starts, level)[0],
            "gain_low": gain_low,
            "gain_high": gain_high,
            "gating": null.band("gating", starts, level)[1],
            **{
                c: null.band(c, starts, level)[end]
                for c, end in ((PROFILE, 1), (EFFECT, 0))
                if c in null.values
            },
        }
    )
