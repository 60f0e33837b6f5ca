"""How well a dictionary reconstructs the activations of a model, perhaps another than its own."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.statistics.intervals import Blocks, Interval, interval, resample_weights
from sae.dictionary.metrics import FvuSums, fvu_compute, fvu_update

__all__ = ["fidelity"]


def fidelity(
    x: Float[Tensor, "n d_in"],
    x_hat: Float[Tensor, "n d_in"],
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples n_blocks"] | None = None,
) -> Interval:
    """FVU of a dictionary on a model's activations, with its interval over documents.

    Args:
        x: Residual vectors.
        x_hat: The dictionary's reconstructions.
        blocks: Resampling block of every token.
        weights: Resamples, whole numbers; the default ones where absent.

    Returns:
        The interval of the same FVU that dictionaries are judged by.
    """
    block = torch.as_tensor(blocks.of_token)
    parts = [fvu_update(x[block == b], x_hat[block == b]) for b in range(blocks.n_blocks)]
    w = resample_weights(blocks.n_blocks) if weights is None else weights
    every = torch.as_tensor(np.concatenate([np.ones((1, blocks.n_blocks)), w]))
    first, second, error, count = (
        every @ torch.stack([one.x for one in parts]),
        every @ torch.stack([one.x_squared for one in parts]),
        every @ torch.stack([one.error_squared for one in parts]),
        every @ torch.tensor([float(one.n_tokens) for one in parts], dtype=torch.float64),
    )
    found = np.array(
        [
            fvu_compute(FvuSums(int(n), s1, s2, e))
            for n, s1, s2, e in zip(count, first, second, error, strict=True)
        ]
    )
    n_used = max(2, sum(one.n_tokens > 0 for one in parts))
    return interval(float(found[0]), found[1:], n_used)
