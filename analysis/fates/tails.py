"""Scales on which coordinates are judged, and p-values out into the tail of finitely many draws."""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from analysis.latents.coordinates import COORDINATES
from sae.errors import ConfigError

__all__ = [
    "effective_tests",
    "rank_p",
    "rolled",
    "standard_errors",
    "tail_p",
    "unit_of",
    "unrolled",
]

UPPER = 0.1
"""Share of the draws that count as their tail."""
LEAST_ABOVE = 10  # draws above 0, most being 0, from which a tail is told: fewer may be a cluster
LEVEL, LEAST = 0.05, 3  # farthest draws of a bin, that say what the coordinates amount to


def unrolled(coordinate: str, values: np.ndarray) -> np.ndarray:
    """The coordinate on a scale where large is far from the base and spreads are comparable.

    Args:
        coordinate: One of direction, gain, gating, profile, effect, existence.
        values: Cosines, log ratios, distances or shares.

    Returns:
        Angles, log ratios, angles whose sine is the root of the distance, or what is missing.

    Raises:
        ConfigError: There is no such coordinate.
    """
    match coordinate:
        case "direction" | "effect":
            return np.arccos(np.clip(values, -1, 1))
        case "gating" | "profile":
            return np.arcsin(np.sqrt(np.clip(values, 0, 1)))
        case "gain":
            return values
        case "existence":
            return 1 - values
    raise ConfigError(coordinate, "no such coordinate", f"choose among {', '.join(COORDINATES)}")


def rolled(coordinate: str, far: np.ndarray) -> np.ndarray:
    """The coordinate back from the scale on which latents are judged.

    Args:
        coordinate: One of direction, gain, gating, profile, effect.
        far: What `unrolled` gives; what lies beyond its range is taken to its end.

    Example:
        >>> rolled("gating", unrolled("gating", np.array([0.25, 1.0]))).round(6).tolist()
        [0.25, 1.0]
    """
    match coordinate:
        case "direction" | "effect":
            return np.cos(np.minimum(far, np.pi))
        case "gating" | "profile":
            return np.sin(np.minimum(far, np.pi / 2)) ** 2
    return far


def standard_errors(table: pd.DataFrame, coordinate: str) -> Float[np.ndarray, " rows"]:
    """Standard errors of a coordinate over documents, on the scale on which latents are judged.

    Args:
        table: Rows of `Coordinates.table`, or of latents with their existence.
        coordinate: One of direction, gain, gating, profile, effect, existence.
    """
    low, high = (table[f"{coordinate}_{end}"].to_numpy(float) for end in ("low", "high"))
    return np.abs(unrolled(coordinate, high) - unrolled(coordinate, low)) / (2 * 1.96)


def rank_p(
    draws: Float[np.ndarray, " n"], values: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Chance of a draw as far out as each value, by its rank among n draws.

    i / (1 + n) at the i-th largest draw, linear between two, and 1 / (1 + n) beyond all. One more
    draw lies beyond the i-th largest with just that chance, so p-values are not held to a grid,
    which would leave fewer than a hundredth below a level of 1 %. Of equal draws all count.

    Args:
        draws: Under the null.
        values: What was measured.

    Example:
        >>> rank_p(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.5, 9.0, 0.0])).tolist()
        [0.5, 0.375, 0.25, 1.0]
    """
    places, n_equal = np.unique(draws, return_counts=True)
    as_far = np.cumsum(n_equal[::-1])[::-1] / (1 + len(draws))
    return np.interp(values, places, as_far, left=1.0, right=1 / (1 + len(draws)))


def effective_tests(
    far: Float[np.ndarray, "coordinates draws"], bins: Int[np.ndarray, " draws"]
) -> float:
    """How many independent tests the smallest p-value over the coordinates amounts to.

    Coordinates of one latent go together, so the smallest of their p-values is not as small by
    chance as that of as many independent ones. The draws themselves say how small: how many are
    among the farthest 5 % of their bin (three at least) in some coordinate, over how many these
    are in one.

    Args:
        far: How far out each draw lies in each coordinate; where not measured, not a number.
        bins: Bin of each draw, within which it is ranked.

    Returns:
        From 1 to the number of coordinates. It is taken at 5 %; coordinates that go together come
        apart farther out, where p-values so corrected are up to 1.5 times too small (four normal
        ones of correlation .8, at .0002).

    Source:
        The idea of Westfall and Young 1993, "Resampling-based multiple testing" (minP), with the
        draws in place of permutations. Here it gives a factor, so that p-values beyond all draws
        keep their order.

    Example:
        >>> draws = np.arange(100.0)
        >>> effective_tests(np.stack([draws, draws]), np.zeros(100, int))
        1.0
        >>> effective_tests(np.stack([draws, -draws]), np.zeros(100, int))
        2.0
    """
    n_far = n_in_one = 0
    for b in np.unique(bins):
        mine = far[:, bins == b]
        n = mine.shape[1]
        least = min(max(math.ceil(LEVEL * n), LEAST), n)
        ranks = stats.rankdata(-np.nan_to_num(mine, nan=-np.inf), method="max", axis=1)
        n_far += int((ranks.min(axis=0) <= least).sum())
        n_in_one += least
    return float(np.clip(n_far / max(n_in_one, 1), 1, len(far)))


def unit_of(far: Float[np.ndarray, " n"]) -> float:
    """The distance beyond which the upper tenth of a bin's draws lies.

    Where most draws are 0 it is the median of those above, if that is further.

    Args:
        far: How far out each draw lies.
    """
    above = far[far > 0]
    return float(max(np.quantile(far, 1 - UPPER), np.median(above))) if len(above) else 1.0


def tail_p(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank p-values, extended beyond the largest draw by a power law (Hill 1975).

    The exponent is Hill's, from the upper tenth of the draws, or from the upper half of those above
    0 where these are fewer, of which it takes ten. Drift has lighter tails than a power law, so
    beyond all draws this errs towards large p-values.

    Args:
        draws: Under the null.
        values: What was measured.
    """
    ordered = np.sort(draws)
    n_top, n_above = max(int(UPPER * len(ordered)), 2), int((ordered > 0).sum()) // 2
    p = rank_p(draws, values)
    if n_above < min(n_top, LEAST_ABOVE):
        return p
    n_top = min(n_top, n_above)
    threshold, largest = ordered[-n_top - 1], ordered[-1]
    if largest <= threshold:
        return p
    exponent = n_top / np.log(ordered[-n_top:] / threshold).sum()
    return p * (largest / np.maximum(values, largest)) ** exponent
