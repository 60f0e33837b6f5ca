"""Products in int8 in place of float32, with a bound on how far they are off.

A product in int8 takes a fraction of the time of one in float32. Numbers are rounded up or down by
chance, so that they keep their mean, in every dimension independently. So what a product is off by
is a sum of independent parts of mean 0, and Hoeffding's inequality says how rarely such a sum is
large, whatever was rounded: the bound stays the same part of the products' spread at any width,
where that of Cauchy and Schwarz grows with its root.

Source:
    A scale for each row, and a few large dimensions apart: Dettmers et al. 2022, "LLM.int8(): 8-bit
    matrix multiplication for transformers at scale", arXiv:2208.07339. The bound: Hoeffding 1963,
    "Probability inequalities for sums of bounded random variables", theorem 2. Differs from the
    first: dimensions are picked by comparison with their median, all latents have one scale, and
    rounding is by chance.
"""

import math

import torch
from jaxtyping import Float, Int8, Int64
from torch import Tensor

__all__ = ["RoundedProduct", "multiplies_int8"]

FAR, MOST_APART = 4.0, 16
"""How many times the median reach of a dimension sets it apart, and how many are at most."""
MISSES = 1e-12
"""Chance that a product is further off than it says. By Hoeffding; of real sums it is far less."""
STEPS = 126
"""Of 127, since chance may round up."""
N_ROWS = 512
"""Rows rounded at a time, so that they stay in cache."""


def multiplies_int8() -> bool:
    """Whether this processor has instructions for products of int8."""
    able = torch.cpu.get_capabilities()
    return any(able.get(each, False) for each in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _rounded(
    rows: Float[Tensor, "n d"], scale: Float[Tensor, "_ 1"], chance: Float[Tensor, " d"]
) -> Int8[Tensor, "n d"]:
    whole, scales = torch.empty(rows.shape, dtype=torch.int8), scale.expand(len(rows), 1)
    for at in range(0, len(rows), N_ROWS):
        here = slice(at, at + N_ROWS)
        whole[here] = rows[here].div(scales[here]).add_(chance).floor_()
    return whole


class RoundedProduct:
    """Products of tokens and latents, both rounded to int8, and how far these may be off.

    Each token has a scale of its own, the latents have one together. The few dimensions that are
    far larger than most are multiplied in float32 and added, since beside them all others would get
    few of int8's steps.
    """

    def __init__(self, x: Float[Tensor, "n d_in"], readers: Float[Tensor, "d_sae d_in"]) -> None:
        """Rounds both, by the same chance every time.

        Args:
            x: Tokens.
            readers: Latents, a row each.
        """
        apart, d_in, numbers = _apart(x), x.shape[1], torch.finfo(x.dtype)
        self._x_apart, self._readers_apart = x[:, apart], readers[:, apart].T
        rest, rows = (e.index_fill(1, apart, 0.0) if len(apart) else e for e in (x, readers))
        low, high = rows.aminmax()
        of_x = (rest.abs().amax(1, keepdim=True) / STEPS).clamp_min(numbers.tiny)
        of_readers = (torch.maximum(-low, high).view(1, 1) / STEPS).clamp_min(numbers.tiny)
        chances = torch.rand(2, d_in, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        self._x = _rounded(rest, of_x, chances[0])
        self._readers = _rounded(rows, of_readers, chances[1])
        self._scale = of_x * of_readers
        # x w - x' w' = (x - x') w + x' (w - w'), sums of parts that have a scale each to lie in,
        # and x' is no longer than this.
        longest = torch.linalg.vector_norm(rest, dim=1) + of_x[:, 0] * d_in**0.5
        width = torch.linalg.vector_norm(rows, dim=1).max() * of_x[:, 0]
        spread = torch.hypot(width, longest * of_readers[0])
        token, latent = (torch.linalg.vector_norm(each, dim=1) for each in (x, readers))
        float32 = 2 * d_in * numbers.eps * token * latent.max()
        self.off: Float[Tensor, " n"] = math.sqrt(math.log(2 / MISSES) / 2) * spread + float32
        """For each token how far its products may lie from the true ones."""

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
        torch._int_mm(self._x[here], self._readers.T, out=whole)  # noqa: SLF001
        torch.addcmul(bias, out.copy_(whole), self._scale[here], out=out)
        if len(self._readers_apart):
            out.addmm_(self._x_apart[here], self._readers_apart)


def _apart(x: Float[Tensor, "n d_in"]) -> Int64[Tensor, " n_apart"]:
    """Dimensions far larger than most."""
    reach = x.abs().amax(0)
    far = (reach > FAR * reach.median()).nonzero().squeeze(1)
    return far[reach[far].topk(min(len(far), MOST_APART)).indices]
