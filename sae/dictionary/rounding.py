"""Products in int8 in place of float32, with a bound on how far they are off.

A product in int8 takes a fraction of the time of one in float32. By Cauchy and Schwarz it is off by
no more than the lengths of what rounding took away allow.

Source:
    A scale for each token, and a few large dimensions apart: Dettmers et al. 2022, "LLM.int8():
    8-bit matrix multiplication for transformers at scale", arXiv:2208.07339. Differs from it: one
    scale for all latents, dimensions picked by comparison with their median, and the bound.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["RoundedProduct", "multiplies_int8"]

FAR, MOST_APART = 4.0, 16
"""How many times the median reach of a dimension sets it apart, and how many are at most."""
N_ROWS = 512
"""Rows rounded at a time, so that they stay in cache."""


def multiplies_int8() -> bool:
    """Whether this processor has instructions for products of int8."""
    able = torch.cpu.get_capabilities()
    return any(able.get(each, False) for each in ("avx512_vnni", "avx_vnni", "amx_int8"))


class _Rounded:
    """Rows as int8 times a scale, one of each row or of all; dimensions set apart are 0."""

    def __init__(
        self, rows: Float[Tensor, "n d"], apart: Int64[Tensor, " n_apart"], by_row: bool
    ) -> None:
        self.whole = torch.empty(rows.shape, dtype=torch.int8)
        self.lost, self.length = rows.new_empty(2, len(rows)).unbind()
        """Lengths of what rounding took away from each row, and of the row."""
        rest = rows.index_fill(1, apart, 0.0) if len(apart) else rows
        reach = rest.abs().amax(1, keepdim=True) if by_row else _reach(rest).view(1, 1)
        self.scale = (reach / 127).clamp_min(torch.finfo(rows.dtype).tiny)
        scales = self.scale.expand(len(rows), 1)
        for at in range(0, len(rows), N_ROWS):
            here = slice(at, at + N_ROWS)
            near = (rest[here] / scales[here]).round_()
            self.whole[here] = near
            near.mul_(scales[here]).sub_(rest[here])
            self.lost[here] = torch.linalg.vector_norm(near, dim=1)
            self.length[here] = torch.linalg.vector_norm(rest[here], dim=1)


def _reach(rows: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Largest magnitude; `aminmax` finds it without a copy, but row by row takes far longer."""
    low, high = rows.aminmax()
    return torch.maximum(-low, high)


class RoundedProduct:
    """Products of tokens and latents, both rounded to int8, and how far these may be off.

    Each token has a scale of its own, the latents have one together. The few dimensions that are
    far larger than most are multiplied in float32 and added, since beside them all others would get
    few of int8's steps.
    """

    def __init__(self, x: Float[Tensor, "n d_in"], readers: Float[Tensor, "d_sae d_in"]) -> None:
        """Rounds both.

        Args:
            x: Tokens.
            readers: Latents, a row each.
        """
        apart = _apart(x)
        self.x, self.readers = _Rounded(x, apart, True), _Rounded(readers, apart, False)
        self.x_apart, self.readers_apart = x[:, apart], readers[:, apart].T
        self.scale = self.x.scale * self.readers.scale
        # |x w - x' w'| <= |x - x'| |w| + |x'| |w - w'|, and |x'| <= |x| + |x - x'|.
        off = self.x.lost * self.readers.length.max()
        off += (self.x.length + self.x.lost) * self.readers.lost.max()
        token, latent = (torch.linalg.vector_norm(each, dim=1) for each in (x, readers))
        rounding = 2 * x.shape[1] * torch.finfo(torch.float32).eps
        self.off = off + rounding * token * latent.max()

    def product(
        self, here: slice, bias: Float[Tensor, " d_sae"], out: Float[Tensor, "_ d_sae"]
    ) -> None:
        """Writes the product of some tokens plus a bias, within `off` of the true sum.

        Args:
            here: Which tokens.
            bias: Of each latent.
            out: Where to.
        """
        whole = out.new_empty(out.shape, dtype=torch.int32)
        torch._int_mm(self.x.whole[here], self.readers.whole.T, out=whole)  # noqa: SLF001
        torch.addcmul(bias, out.copy_(whole), self.scale[here], out=out)
        if len(self.readers_apart):
            out.addmm_(self.x_apart[here], self.readers_apart)


def _apart(x: Float[Tensor, "n d_in"]) -> Int64[Tensor, " n_apart"]:
    """Dimensions far larger than most."""
    reach = x.abs().amax(0)
    far = (reach > FAR * reach.median()).nonzero().squeeze(1)
    return far[reach[far].topk(min(len(far), MOST_APART)).indices]
