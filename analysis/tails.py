"""Scales on which coordinates are judged, and p-values out into the tail of finitely many draws."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.coordinates import COORDINATES
from sae.errors import ConfigError

__all__ = ["rank_p", "rolled", "standard_errors", "tail_p", "unrolled"]


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


def rank_p(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(1 + draws at least as large) / (1 + draws).

    Args:
        draws: Under the null.
        values: What was measured.

    Example:
        >>> rank_p(np.array([1.0, 2.0, 3.0]), np.array([2.0, 9.0])).tolist()
        [0.75, 0.25]
    """
    ordered = np.sort(draws)
    as_extreme = len(ordered) - np.searchsorted(ordered, values, side="left")
    return (1 + as_extreme) / (1 + len(ordered))


def tail_p(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank p-values, extended beyond the largest draw by a power law (Hill 1975).

    The exponent is the lower 95 % limit of Hill's, from the upper tenth of the draws.

    Args:
        draws: Under the null.
        values: What was measured.
    """
    ordered = np.sort(draws)
    n_top = max(len(ordered) // 10, 2)
    threshold, largest = ordered[-n_top - 1], ordered[-1]
    p = rank_p(draws, values)
    if threshold <= 0 or largest <= threshold:
        return p
    hill = n_top / np.log(ordered[-n_top:] / threshold).sum()
    exponent = hill * max(1 - 1.96 / np.sqrt(n_top), 0)
    return p * (largest / np.maximum(values, largest)) ** exponent
