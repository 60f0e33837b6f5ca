"""Where fitting starts: directions, biases and input scale from a sample of activations."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.dictionary.jump_relu import JumpRelu
from sae.dictionary.kinds import JumpReluL0Config
from sae.dictionary.sae import Sae
from sae.errors import InputError

__all__ = ["geometric_median", "initialise_", "thresholds_at"]

LATENTS = 1024  # latents whose pre-activations on the sample are held at a time


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
def initialise_(
    sae: Sae,
    sample: Float[Tensor, "n d_in"],
    seed: int,
    rows: Float[Tensor, "d_sae d_in"] | None = None,
) -> None:
    """Fit a fresh dictionary's starting point to a sample, in place.

    Decoder rows become random unit directions and the encoder their transpose; `b_enc` becomes 0,
    `input_scale` makes `E ||s x||^2 = d_in` over the sample, and `b_dec` the sample's geometric
    median in that scale. Thresholds that aim at an L0 start where it is met (`thresholds_at`).
    With several models side by side each gets a scale (`SideBySide.balance_`), and a row is alike
    in all of them.

    Args:
        sae: The dictionary; whatever it held is overwritten.
        sample: Residual vectors of real tokens, a few thousand; unit: activation.
        seed: Of the directions.
        rows: Directions of norm 1 to start from in place of random ones.

    Raises:
        InputError: The sample is empty, all zeros, or holds a value that is not finite.

    Source:
        Gao et al. 2024, arXiv:2406.04093, appendix A.1. Differs from it: the input scale.
    """
    sae.layout.balance_(sample)
    balanced = sae.layout.balanced(sample.double())
    mean_square = balanced.square().sum(-1).mean().item()
    if not 0 < mean_square < float("inf"):
        found = f"{len(sample)} vectors whose mean squared norm is {mean_square:g}"
        raise InputError("a sample to start from", found, "give finite vectors, not all zero")
    if rows is None:
        rows = sae.layout.rows(sae.config.d_sae, torch.Generator().manual_seed(seed))
    scale = (sae.config.d_in / mean_square) ** 0.5
    sae.input_scale.fill_(scale)
    rows = sae.layout.placed(rows)
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(sae.layout.readers(rows).T)
    sae.b_enc.zero_()
    sae.b_dec.copy_(scale * geometric_median(balanced))
    if isinstance(sae.sparsity, JumpRelu) and isinstance(sae.config.sparsity, JumpReluL0Config):
        rate = sae.config.sparsity.l0 / sae.config.d_sae
        sae.sparsity.threshold.copy_(thresholds_at(sae, sample, rate))


@torch.no_grad()
def thresholds_at(
    sae: Sae, sample: Float[Tensor, "n d_in"], rate: float
) -> Float[Tensor, " d_sae"]:
    """Thresholds at which every latent fires on a share of a sample.

    Args:
        sae: The dictionary, for its pre-activations.
        sample: Residual vectors of real tokens, many times 1 / rate; unit: activation.
        rate: The share, in (0, 1].

    Returns:
        Midway between the pre-activations on both sides, 0 where that is negative; latents fire on
        at least one token. Unit: activation times `input_scale`.
    """
    n_fires = max(1, round(rate * len(sample)))
    centred = sae.scale * sample.to(sae.W_enc.dtype) - sae.b_dec
    n_top, found = min(n_fires + 1, len(sample)), []
    pieces = zip(sae.W_enc.split(LATENTS, dim=1), sae.b_enc.split(LATENTS), strict=True)
    for weights, bias in pieces:
        top = torch.addmm(bias, centred, weights).topk(n_top, dim=0).values
        found.append(top[-2:].mean(0) if n_fires < len(sample) else torch.zeros_like(bias))
    return torch.cat(found).clamp_min(0)
