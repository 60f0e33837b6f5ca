"""Where fitting starts: directions, biases and input scale from a sample of activations."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.dictionary.directions import unit_rows
from sae.dictionary.sae import Sae
from sae.errors import InputError

__all__ = ["geometric_median", "initialise_"]


def geometric_median(
    x: Float[Tensor, "n d_in"], n_steps: int = 100, tolerance: float = 1e-7
) -> Float64[Tensor, " d_in"]:
    """The point with the least summed distance to the rows of `x`, by Weiszfeld's iteration.

    Args:
        x: Points; every row counts the same, and far ones pull no harder than near ones.
        n_steps: Most iterations.
        tolerance: Stop once a step is shorter than this share of the median row's norm.

    Returns:
        A point in the unit of `x`.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
        >>> geometric_median(x).abs().max().item() < 1e-6
        True
    """
    points = x.double()
    centre = points.mean(0)
    floor = points.norm(dim=-1).median().clamp_min(1e-30) * 1e-9
    for _ in range(n_steps):
        weights = 1 / (points - centre).norm(dim=-1).clamp_min(floor)
        moved = weights @ points / weights.sum()
        step, centre = (moved - centre).norm(), moved
        if step <= tolerance * floor * 1e9:
            break
    return centre


@torch.no_grad()
def initialise_(sae: Sae, sample: Float[Tensor, "n d_in"], seed: int) -> None:
    """Fit a fresh dictionary's starting point to a sample, in place.

    Decoder rows become random unit directions and the encoder their transpose; `b_enc` becomes 0,
    `input_scale` makes `E ||s x||^2 = d_in` over the sample, and `b_dec` the sample's geometric
    median in that scale.

    Args:
        sae: The dictionary; whatever it held is overwritten.
        sample: Residual vectors of real tokens, a few thousand; unit: activation.
        seed: Of the directions.

    Raises:
        InputError: The sample is empty, all zeros, or holds a value that is not finite.

    Source:
        Gao et al. 2024, arXiv:2406.04093, appendix A.1. Differs from it: the input scale.
    """
    mean_square = sample.double().square().sum(-1).mean().item()
    if not 0 < mean_square < float("inf"):
        found = f"{len(sample)} vectors whose mean squared norm is {mean_square:g}"
        raise InputError("a sample to start from", found, "give finite vectors, not all zero")
    rows = unit_rows(sae.config.d_sae, sae.config.d_in, torch.Generator().manual_seed(seed))
    scale = (sae.config.d_in / mean_square) ** 0.5
    sae.input_scale.fill_(scale)
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows.T)
    sae.b_enc.zero_()
    sae.b_dec.copy_(scale * geometric_median(sample))
