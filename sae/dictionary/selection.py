"""Which pre-activations are kept: exact, and without sorting what cannot be among them.

A latent belongs to a group with every d_sae / n_groups-th other. The k largest of a token lie in
the k groups with the largest maxima, so one pass over the pre-activations finds the maxima, and
only few groups are looked into.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae.dictionary.kernels import Latents

__all__ = ["Chunks", "above", "largest", "least_of_largest", "pre_activations"]

Chunk = Float[Tensor, "_ d_sae"]
Chunks = Callable[[], Iterator[Chunk]]
"""Pre-activations of a batch, a few tokens at a time; each chunk is gone when the next one comes,
and they can be asked for again."""
CHUNK_ELEMENTS = {False: 1 << 22, True: 1 << 26}
"""Pre-activations held at a time, on the CPU (they should stay in its cache) and on CUDA."""
N_GROUPS = 512


def pre_activations(
    centred: Float[Tensor, "n d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],  # noqa: N803
    b_enc: Float[Tensor, " d_sae"],
    dtype: torch.dtype,
) -> Chunks:
    """The encoder's product, a few tokens at a time, in memory that is used again.

    Args:
        centred: What is encoded, `b_dec` taken off.
        W_enc: Encoder.
        b_enc: Its bias.
        dtype: Of the product.
    """
    weight, bias = (each.detach().to(dtype) for each in (W_enc, b_enc))
    n_rows = max(1, CHUNK_ELEMENTS[centred.is_cuda] // len(b_enc))
    room = weight.new_empty(min(n_rows, len(centred)), len(b_enc))

    def chunks() -> Iterator[Chunk]:
        for rows in centred.split(n_rows):
            yield torch.addmm(bias, rows.to(dtype), weight, out=room[: len(rows)])

    return chunks


def _grouped(pre: Chunk, wanted: int) -> Float[Tensor, "n per_group n_groups"]:
    """Groups of latents as the last dimension; each latent its own where they cannot be grouped."""
    d_sae = pre.shape[1]
    fits = next((g for g in (wanted, wanted // 2) if g and d_sae % g == 0), d_sae)
    return pre.view(len(pre), d_sae // fits, fits)


Entries = tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Float[Tensor, " m"]]
"""Token in the chunk, latent and value of each entry."""


def _collected(chunks: Iterator[Chunk], chosen: Callable[[Chunk], Entries]) -> Latents:
    parts, n, d_sae = [], 0, 0
    for pre in chunks:
        token, index, value = chosen(pre)
        parts.append((token + n, index, value))
        n, d_sae = n + len(pre), pre.shape[1]
    token, index, value = (torch.cat(each) for each in zip(*parts, strict=True))
    return Latents.from_entries(token, index, value, (n, d_sae))


@torch.no_grad()
def largest(chunks: Iterator[Chunk], k: int) -> Latents:
    """The k largest of each token, those above 0.

    Args:
        chunks: Pre-activations, a few tokens at a time.
        k: Most entries a token.

    Returns:
        Latents, in the unit of the pre-activations.
    """

    def chosen(pre: Chunk) -> Entries:
        value, index = _largest(pre, k)
        at = (value > 0).nonzero(as_tuple=True)
        return at[0], index[at], value[at]

    return _collected(chunks, chosen)


def _largest(pre: Chunk, k: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    groups = _grouped(pre, 8 * k)
    n, per_group, n_groups = groups.shape
    if per_group == 1 or n_groups <= 2 * k:
        return tuple(pre.topk(k, dim=-1, sorted=False))  # pyright: ignore
    group = groups.amax(1).topk(k, dim=-1, sorted=False).indices
    few = groups.gather(2, group[:, None, :].expand(-1, per_group, -1)).view(n, per_group * k)
    value, place = _largest(few, k)
    row = place.div(k, rounding_mode="floor")
    return value, row * n_groups + group.gather(1, place % k)


@torch.no_grad()
def above(
    chunks: Iterator[Chunk], bound: float | Float[Tensor, " d_sae"], slack: float = 0.0
) -> Latents:
    """The entries above a bound.

    Args:
        chunks: Pre-activations, a few tokens at a time.
        bound: At least 0; one for all latents, or one each.
        slack: How far below its bound an entry may lie.

    Returns:
        Entries, in the unit of the pre-activations.
    """
    if isinstance(bound, Tensor):
        return _collected(chunks, lambda pre: _above_each(pre, bound, slack))
    return _collected(chunks, lambda pre: _above(pre, bound - slack))


def _above_each(pre: Chunk, bound: Float[Tensor, " d_sae"], slack: float) -> Entries:
    token, index, _ = _above(pre - bound, -slack)
    return token, index, pre[token, index]


def _above(pre: Chunk, bound: float) -> Entries:
    at = _where((pre > bound).view(-1))
    d_sae = pre.shape[1]
    return at.div(d_sae, rounding_mode="floor"), at % d_sae, pre.view(-1)[at]


def _where(mask: Bool[Tensor, " m"]) -> Int64[Tensor, " n_true"]:
    """Places of what is true; numpy finds them in about half of torch's time on a CPU."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


@torch.no_grad()
def least_of_largest(chunks: Iterator[Chunk], k: int) -> float:
    """A bound that k entries a token exceed on average, if so many are above 0, and few others.

    Args:
        chunks: Pre-activations, a few tokens at a time.
        k: Entries wanted a token.

    Returns:
        Just below the (n k)-th largest of the groups' maxima; 0 where that is not above 0.
    """
    maxima = torch.cat([_grouped(pre, N_GROUPS).amax(1) for pre in chunks])
    n_kept, maxima = len(maxima) * k, maxima.flatten()
    if len(maxima) <= n_kept:
        return 0.0
    least = maxima.kthvalue(len(maxima) - n_kept + 1).values
    return max(0.0, torch.nextafter(least, torch.zeros_like(least)).item())
