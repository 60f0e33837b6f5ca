"""How much of what a model moved by is one constant vector, the same at every token.

Fine-tuning adds one; it is no feature's fate, and no coordinate of a latent counts it as one.
"""

import numpy as np
from jaxtyping import Float

from analysis.statistics.intervals import Blocks, Interval, interval

__all__ = ["constant_share"]


def constant_share(
    base: Float[np.ndarray, "n d_in"],
    tuned: Float[np.ndarray, "n d_in"],
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples n_blocks"],
) -> Interval:
    """Share of the squared norm of the shift that is its mean over tokens.

    Args:
        base: The base model's residual vectors at counted tokens.
        tuned: The tuned model's.
        blocks: Resampling block of every token.
        weights: Resamples.

    Returns:
        The share in [0, 1], with its interval over documents; not a number where nothing moved.

    Example:
        >>> from analysis.statistics.intervals import assign_blocks, resample_weights
        >>> blocks, x = assign_blocks(np.arange(8)), np.eye(8, 2)
        >>> constant_share(x, x + 1, blocks, resample_weights(8)).value
        1.0
    """
    shift = tuned - base
    count, total = blocks.sums(np.ones(len(shift))), blocks.sums(shift)
    energy = blocks.sums(np.einsum("ij,ij->i", shift, shift).astype(float))

    def share(w: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((w @ total) ** 2).sum(axis=1) / ((w @ count) * (w @ energy))

    value = share(np.ones((1, blocks.n_blocks)))[0]
    n_used = max(2, int((count > 0).sum()))
    return interval(float(value), share(weights), n_used)
