"""Where decoder rows can come from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["unit_rows"]


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
