"""Quantiles of many columns at once, undefined values left out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["quantiles"]


def quantiles(
    values: Float[np.ndarray, " n *d"], at: Sequence[float]
) -> Float[np.ndarray, " at *d"]:
    """Quantiles over the first axis, linear between two values, as `numpy.nanquantile` has them.

    Of finite values. That function goes through columns one by one; this one sorts them together.

    Args:
        values: What to sort; values that are not a number are left out.
        at: Shares, in [0, 1].

    Returns:
        One quantile a share and column; not a number where a column has no value.

    Example:
        >>> quantiles(np.array([[1.0, 5.0], [2.0, np.nan], [4.0, 7.0]]), [0.5]).tolist()
        [[2.0, 6.0]]
    """
    n, shape = len(values), values.shape[1:]
    columns = np.ascontiguousarray(values.reshape(n, -1).T, dtype=float)
    ordered = np.sort(columns, axis=1)  # what is not a number comes last
    last = np.maximum(n - np.isnan(ordered).sum(axis=1) - 1, 0)
    found = []
    for share in at:
        place = share * last
        below = np.floor(place).astype(int)
        first, second = (
            np.take_along_axis(ordered, i[:, None], 1)[:, 0]
            for i in (below, np.minimum(below + 1, last))
        )
        with np.errstate(invalid="ignore"):  # infinite values
            between = first + (second - first) * (place - below)
        found.append(np.where(first == second, first, between).reshape(shape))
    return np.stack(found)
