"""Which pre-activations are kept: exact, and without sorting what cannot be among them.

A latent belongs to a group with every n_groups-th other. The k largest of a token lie in the k
groups with the largest maxima, so one pass over the pre-activations finds the maxima, and only few
groups are looked into; the maxima are looked through in the same way.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.dictionary.latents import Latents

__all__ = ["Chunks", "above", "largest", "least_of_largest", "pre_activations"]

Chunk = Float[Tensor, "_ d_sae"]
Chunks = Callable[[], Iterator[Chunk]]
"""Pre-activations of a batch, a few tokens at a time; each chunk is gone when the next one comes,
and they can be asked for again."""
CHUNK_ELEMENTS = {False: 1 << 22, True: 1 << 26}
"""Pre-activations held at a time, on the CPU (they should stay in its cache) and on CUDA."""
N_COLUMNS = 1 << 20 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1024
"""Latents of one product in float32 on a CPU: its blocks multiply faster than the whole, but where
the processor has AVX-512."""
N_GROUPS = 512
PLACES = 1 << 18
"""Pre-activations compared at a time on a CPU, so that what comes of it stays in cache."""


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

    width = N_COLUMNS if dtype == torch.float32 and not centred.is_cuda else len(bias)
    columns = list(zip(*(each.split(width, -1) for each in (room, bias, weight)), strict=True))

    def chunks() -> Iterator[Chunk]:
        for rows in centred.split(n_rows):
            narrow = rows.to(dtype)
            for out, added, readers in columns:
                torch.addmm(added, narrow, readers, out=out[: len(rows)])
            yield room[: len(rows)]

    return chunks


def _grouped(pre: Chunk, n_groups: int) -> Float[Tensor, "n per_group n_groups"]:
    """Groups of latents as the last dimension."""
    return pre.view(len(pre), pre.shape[1] // n_groups, n_groups)


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
        if bool((value > 0).all()):
            token = torch.arange(len(pre), device=pre.device).repeat_interleave(k)
            return token, index.flatten(), value.flatten()
        at = (value > 0).nonzero(as_tuple=True)
        return at[0], index[at], value[at]

    return _collected(chunks, chosen)


def _largest(pre: Chunk, k: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    d_sae = pre.shape[1]
    per_group = next((g for g in (8, 4, 2) if d_sae % g == 0 and d_sae // g >= 4 * k), 1)
    if per_group == 1:
        return _sorted_out(pre, k)
    groups = _grouped(pre, d_sae // per_group)
    _, group = _largest(groups.amax(1), k)
    few = groups.gather(2, group[:, None, :].expand(-1, per_group, -1)).flatten(1)
    value, place = _sorted_out(few, k)
    row = place.div(k, rounding_mode="floor")
    return value, row * groups.shape[2] + group.gather(1, place - k * row)


def _sorted_out(few: Chunk, k: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The k largest of each row; where no value is there twice numpy finds the least of them."""
    n, width = few.shape
    if few.dtype == torch.float32 and few.device.type == "cpu" and k < width:
        plain = few.numpy()
        least = np.partition(plain, width - k, axis=1)[:, width - k, None]
        at = np.flatnonzero(plain >= least)
        if len(at) == n * k:
            place = torch.from_numpy(at).view(n, k)
            return few.take(place), place - width * torch.arange(n)[:, None]
    return tuple(few.topk(k, dim=-1, sorted=False))  # pyright: ignore


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
    at = _places(pre.view(-1), bound)
    d_sae = pre.shape[1]
    return at.div(d_sae, rounding_mode="floor"), at % d_sae, pre.view(-1)[at]


def _places(pre: Float[Tensor, " m"], bound: float) -> Int64[Tensor, " n_above"]:
    """Places of what is above a bound; numpy finds them in a fraction of torch's time on a CPU."""
    if pre.device.type != "cpu":
        return (pre > bound).nonzero().squeeze(1)
    plain = pre if pre.dtype in (torch.float32, torch.float64) else pre.float()
    if pre.dtype == torch.bfloat16 and bound >= 0:
        # Read as integers, numbers above 0 keep their order and all others are negative.
        plain, bound = (
            pre.view(torch.int16),
            int(torch.tensor(abs(bound)).view(torch.int32)) >> 16,
        )
    parts = ((part.numpy(), at * PLACES) for at, part in enumerate(plain.split(PLACES)))
    return torch.from_numpy(np.concatenate([np.flatnonzero(p > bound) + at for p, at in parts]))


@torch.no_grad()
def least_of_largest(chunks: Iterator[Chunk], k: int) -> float:
    """A bound that k entries a token exceed on average, if so many are above 0, and few others.

    Args:
        chunks: Pre-activations, a few tokens at a time.
        k: Entries wanted a token.

    Returns:
        Just below the (n k)-th largest of the groups' maxima; 0 where that is not above 0.
    """
    maxima = torch.cat([_maxima(pre) for pre in chunks])
    n_kept, maxima = len(maxima) * k, maxima.flatten()
    if len(maxima) <= n_kept:
        return 0.0
    least = maxima.kthvalue(len(maxima) - n_kept + 1).values
    return max(0.0, torch.nextafter(least, torch.zeros_like(least)).item())


def _maxima(pre: Chunk) -> Float[Tensor, "n n_groups"]:
    """Of some 512 groups of latents, or of each latent where they cannot be grouped."""
    n_groups = next((g for g in (N_GROUPS, N_GROUPS // 2) if pre.shape[1] % g == 0), pre.shape[1])
    return _grouped(pre, n_groups).amax(1)
