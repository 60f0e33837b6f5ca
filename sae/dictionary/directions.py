"""Where decoder rows can come from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.errors import ConfigError

__all__ = ["covariance_rows", "principal_rows", "unit_rows"]


def unit_rows(n: int, d_in: int, generator: torch.Generator) -> Float[Tensor, "n d_in"]:
    """Random directions, evenly spread over the sphere.

    Args:
        n: Number of directions.
        d_in: Width.
        generator: Source of the randomness, on the CPU.

    Returns:
        Rows of norm 1.

    Example:
        >>> unit_rows(3, 4, torch.Generator().manual_seed(0)).norm(dim=-1).allclose(torch.ones(3))
        True
    """
    return nn.functional.normalize(torch.randn(n, d_in, generator=generator), dim=-1)


def covariance_rows(
    sample: Float[Tensor, "n d_in"], n: int, generator: torch.Generator
) -> Float[Tensor, "n_rows d_in"]:
    """Random directions of vectors that are normal with the covariance of a sample.

    Args:
        sample: Residual vectors of real tokens.
        n: Number of directions.
        generator: Source of the randomness, on the CPU.

    Returns:
        Rows of norm 1; a direction in which the sample varies more is nearer to more of them.

    Example:
        >>> sample = torch.tensor([[5.0, 1.0], [5.0, -1.0], [5.0, 3.0]])
        >>> covariance_rows(sample, 3, torch.Generator().manual_seed(0)).abs().tolist()
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """
    centred = (sample - sample.mean(0)).double()
    weights = torch.randn(n, len(sample), generator=generator, dtype=torch.float64)
    return nn.functional.normalize(weights.to(centred) @ centred, dim=-1).to(sample.dtype)


def principal_rows(sample: Float[Tensor, "n d_in"], n: int) -> Float[Tensor, "n_rows d_in"]:
    """The directions in which a sample varies most, each followed by its opposite.

    Both signs, because a latent is never negative. The larger part of each first one is positive.

    Args:
        sample: Residual vectors of real tokens.
        n: Number of directions, at most twice the width.

    Returns:
        Rows of norm 1, by falling variance.

    Raises:
        ConfigError: n is more than there are.

    Example:
        >>> sample = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
        >>> principal_rows(sample, 3).round().add(0.0).tolist()
        [[0.0, 1.0], [0.0, -1.0], [1.0, 0.0]]
    """
    if n > 2 * sample.shape[1]:
        most = 2 * sample.shape[1]
        raise ConfigError(f"{n} principal directions", f"a width of {most // 2}", f"ask for {most}")
    centred = (sample - sample.mean(0)).double()
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0)
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * largest.sign()
    return torch.stack([axes, -axes], dim=1).flatten(0, 1)[:n].to(sample.dtype)
