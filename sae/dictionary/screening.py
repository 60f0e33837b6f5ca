"""Pre-activations worked out only where they may be kept.

A product in int8 says, within bounds, how large each will be. What even so cannot be among the kept
is left out, and the rest is multiplied in float32, so that what is kept is what the whole product
in float32 would give, but for a chance of 1e-12 an entry (`rounding.MISSES`).

Source:
    Exact search by bounds from rounded vectors is the VA-file's: Weber, Schek and Blott 1998, "A
    quantitative analysis and performance study for similarity-search methods in high-dimensional
    spaces", VLDB. Differs from it: inner products in place of distances.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise, starmap

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.dictionary.kernels import dots
from sae.dictionary.latents import Latents, starts_of
from sae.dictionary.rounding import RoundedProduct, multiplies_int8
from sae.dictionary.selection import (
    CHUNK_ELEMENTS,
    Bound,
    Chunk,
    Entries,
    PreActivations,
    collected,
    entries_above,
    k_largest,
    positive,
    products,
)

__all__ = ["Screened", "pre_activations"]

LEAST_D_IN, LEAST_TOKENS = 512, 1024
"""Below either a product in float32 is too cheap to be spared."""
MOST_CANDIDATES = 1 / 64
"""Share of entries that may be multiplied again; past it the whole product is cheaper."""
N_TRIED = 32
"""Tokens worked out whole, which tell what share that is going to be."""
N_SAMPLED = 256
"""Latents looked at for it."""
N_COMPARED = 32
"""Tokens compared with their bounds at a time, so that these stay in cache."""


def pre_activations(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],  # noqa: N803
    b_enc: Float[Tensor, " d_sae"],
    dtype: torch.dtype,
) -> PreActivations:
    """Pre-activations, screened where that may pay and worked out whole where not.

    Args:
        centred: What is encoded, `b_dec` taken off.
        W_enc: Encoder.
        b_enc: Its bias.
        dtype: Of the product.
    """
    is_float32 = {dtype, centred.dtype, W_enc.dtype} == {torch.float32}
    is_dear = len(centred) >= LEAST_TOKENS and centred.shape[1] >= LEAST_D_IN
    if is_float32 and is_dear and centred.device.type == "cpu" and multiplies_int8():
        return Screened(centred, W_enc, b_enc)
    return PreActivations(products(centred, W_enc, b_enc, dtype), len(b_enc))


class Screened(PreActivations):
    """Pre-activations of which a product in int8 says where they may be kept.

    What is kept does not depend on how well that works, nor do its values but for rounding in
    float32. A few dimensions far larger than most are multiplied in float32. Where even so too much
    would have to be multiplied again, everything is worked out whole.
    """

    def __init__(
        self,
        centred: Float[Tensor, "n d_in"],
        W_enc: Float[Tensor, "d_in d_sae"],  # noqa: N803
        b_enc: Float[Tensor, " d_sae"],
    ) -> None:
        """Holds both sides of the product, to be rounded once that is known to pay.

        Args:
            centred: What is encoded, `b_dec` taken off; float32, on the CPU.
            W_enc: Encoder.
            b_enc: Its bias.
        """
        super().__init__(products(centred, W_enc, b_enc, torch.float32), len(b_enc))
        self._x, self._readers, self._bias = centred, W_enc.detach().T.contiguous(), b_enc.detach()

    @cached_property
    def _rounded(self) -> RoundedProduct:
        return RoundedProduct(self._x, self._readers)

    @torch.no_grad()
    def largest(self, k: int) -> Latents:
        """The k largest of each token, those above 0.

        Args:
            k: Most entries a token.

        Returns:
            Latents, in the unit of the pre-activations.
        """

        def plain(pre: Chunk) -> Entries:
            return positive(*k_largest(pre, k))

        def chosen(near: Chunk, here: slice) -> Entries | None:
            first = k_largest(near, k)[1]
            token = torch.arange(len(near)).repeat_interleave(k)
            value = self._multiplied(here, first.flatten(), token).view(len(near), k)
            near.scatter_(1, first, -torch.inf)
            # The k-th largest of each token is at least the least of these.
            found = self._candidates(near, here, value.amin(1).clamp_min(0))
            return None if found is None else positive(*_larger(value, first, found))

        def expected(pre: Chunk) -> Float[Tensor, " n"]:
            return k_largest(pre, k)[0].amin(1).clamp_min(0)

        return self._screened(self._bias, expected, chosen, plain)

    @torch.no_grad()
    def above(self, bound: Bound, slack: float = 0.0) -> Latents:
        """The entries above a bound.

        Args:
            bound: At least 0; one for all latents, or one each.
            slack: How far below its bound an entry may lie.

        Returns:
            Entries, in the unit of the pre-activations.
        """
        limit = torch.as_tensor(bound, dtype=torch.float32).expand(self.d_sae)

        def plain(pre: Chunk) -> Entries:
            return entries_above(pre, bound, slack)

        def expected(pre: Chunk) -> Float[Tensor, " n"]:
            return torch.full((len(pre),), -slack)

        def chosen(near: Chunk, here: slice) -> Entries | None:
            found = self._candidates(near, here, expected(near))
            if found is None:
                return None
            token, index, value = found
            kept = (value > limit[index] - slack).nonzero().squeeze(1)
            return token[kept], index[kept], value[kept]

        return self._screened(self._bias - limit, expected, chosen, plain)

    def _screened(
        self,
        bias: Float[Tensor, " d_sae"],
        expected: Callable[[Chunk], Float[Tensor, " n"]],
        chosen: Callable[[Chunk, slice], Entries | None],
        plain: Callable[[Chunk], Entries],
    ) -> Latents:
        """Entries of all tokens, chunk by chunk.

        Args:
            bias: What is added to the product before anything is compared.
            expected: Bounds that the entries kept of each token reach.
            chosen: What is kept of a product in int8; None where it is better worked out whole.
            plain: What is kept of pre-activations.
        """

        def parts() -> Iterator[tuple[int, Entries]]:
            n, n_rows = len(self._x), max(1, CHUNK_ELEMENTS[False] // self.d_sae)
            n_tried = min(N_TRIED, n_rows, n)
            room = self._x.new_empty(min(n_rows, n), self.d_sae)
            pre = self._whole(slice(0, n_tried), room[:n_tried])
            yield n_tried, plain(pre)
            compared = pre + (bias - self._bias)
            pays = n > n_tried and self._pays(compared, expected(compared))
            edges = sorted({*range(n_tried, n, n_rows), n})
            for here in starmap(slice, pairwise(edges)):
                near, found = room[: here.stop - here.start], None
                if pays:
                    self._rounded.product(here, bias, near)
                    found = chosen(near, here)
                    pays = found is not None
                yield len(near), plain(self._whole(here, near)) if found is None else found

        return collected(parts(), self.d_sae)

    def _pays(self, pre: Chunk, bound: Float[Tensor, " n"]) -> bool:
        """Whether few entries of the first tokens lie so near to their bounds as rounding leads."""
        sample = self._readers[:: max(1, self.d_sae // N_SAMPLED)]
        off = RoundedProduct(self._x[: len(pre)], sample).off
        return float((pre >= (bound - off)[:, None]).float().mean()) <= MOST_CANDIDATES

    def _candidates(self, near: Chunk, here: slice, bound: Float[Tensor, " n"]) -> Entries | None:
        """All entries that may reach their token's bound, multiplied; None where too many.

        Nothing that is not finite passes for a candidate: where there is any, all is worked out.
        """
        low = bound - self._rounded.off[here]
        if not low.isfinite().all():
            return None
        token, index = _at_least(near, low)
        if len(index) > MOST_CANDIDATES * near.numel():
            return None
        return token, index, self._multiplied(here, index, token)

    def _multiplied(
        self, here: slice, index: Int64[Tensor, " m"], token: Int64[Tensor, " m"]
    ) -> Float[Tensor, " m"]:
        """Pre-activations of entries of some tokens, in float32."""
        x = self._x[here]
        found = dots(x, self._readers, index, starts_of(token, len(x)), token)
        return found + self._bias[index]

    def _whole(self, here: slice, out: Chunk) -> Chunk:
        return torch.addmm(self._bias, self._x[here], self._readers.T, out=out)


def _larger(
    value: Float[Tensor, "n k"], index: Int64[Tensor, "n k"], others: Entries
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The k largest of each token, from k of its entries and others, by tokens in order."""
    token, latent, more = others
    starts = starts_of(token, len(value))
    width = value.shape[1] + int(starts.diff().max())
    values, latents = value.new_full((len(value), width), -torch.inf), index.new_zeros(1)
    latents = latents.expand_as(values).clone()
    values[:, : value.shape[1]], latents[:, : value.shape[1]] = value, index
    place = value.shape[1] + torch.arange(len(token)) - starts[token]
    values[token, place], latents[token, place] = more, latent
    found, at = k_largest(values, value.shape[1])
    return found, latents.gather(1, at)


def _at_least(
    near: Chunk, bound: Float[Tensor, " n"]
) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"]]:
    """Rows and columns of what is at least its row's bound."""
    plain, bounds, places = near.numpy(), bound[:, None].numpy(), []
    for at in range(0, len(near), N_COMPARED):
        here = slice(at, at + N_COMPARED)
        places.append(np.flatnonzero(plain[here] >= bounds[here]) + at * near.shape[1])
    found = torch.from_numpy(np.concatenate(places))
    return found.div(near.shape[1], rounding_mode="floor"), found % near.shape[1]
