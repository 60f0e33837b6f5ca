"""Which pre-activations are kept: exact, and without sorting what cannot be among them.

A latent belongs to a group with every n_groups-th other. The k largest of a token lie in the k
groups with the largest maxima, so one pass over the pre-activations finds the maxima, and only few
groups are looked into; the maxima are looked through in the same way.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae.dictionary.latents import Latents

__all__ = [
    "CHUNK_ELEMENTS",
    "Bound",
    "Chunk",
    "Chunks",
    "Entries",
    "PreActivations",
    "collected",
    "entries_above",
    "k_largest",
    "positive",
    "products",
]

Chunk = Float[Tensor, "_ d_sae"]
"""Pre-activations of a few tokens."""
Chunks = Callable[[], Iterator[Chunk]]
"""Pre-activations of a batch, a few tokens at a time; each chunk is gone when the next one comes,
and they can be asked for again."""
Bound = float | Float[Tensor, " d_sae"]
"""One for all latents, or one each."""
CHUNK_ELEMENTS = {False: 1 << 22, True: 1 << 26}
"""Pre-activations held at a time, on the CPU (they should stay in its cache) and on CUDA."""
N_COLUMNS = 1 << 20 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1024
"""Latents of one product in float32 on a CPU: its blocks multiply faster than the whole, but where
the processor has AVX-512."""
N_GROUPS = 512
PLACES = 1 << 18
"""Pre-activations compared at a time on a CPU, so that what comes of it stays in cache."""


def products(
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


def collected(parts: Iterable[tuple[int, Entries]], d_sae: int) -> Latents:
    """Latents of a batch from those of its chunks.

    Args:
        parts: Tokens of each chunk, and the entries kept of them.
        d_sae: Number of latents.
    """
    found, n = [], 0
    for n_rows, (token, index, value) in parts:
        found.append((token + n, index, value))
        n += n_rows
    token, index, value = (torch.cat(each) for each in zip(*found, strict=True))
    return Latents.from_entries(token, index, value, (n, d_sae))


def positive(value: Float[Tensor, "n k"], index: Int64[Tensor, "n k"]) -> Entries:
    """Entries of k a token, those above 0.

    Args:
        value: Of each entry.
        index: Its latent.
    """
    n, k = value.shape
    if bool((value > 0).all()):
        token = torch.arange(n, device=value.device).repeat_interleave(k)
        return token, index.flatten(), value.flatten()
    at = (value > 0).nonzero(as_tuple=True)
    return at[0], index[at], value[at]


class PreActivations:
    """Pre-activations of a batch, asked for what of them is kept."""

    def __init__(self, chunks: Chunks, d_sae: int) -> None:
        """Holds them as they are given.

        Args:
            chunks: All of them, in order.
            d_sae: Number of latents.
        """
        self.chunks, self.d_sae = chunks, d_sae

    @classmethod
    def of(cls, pre: Float[Tensor, "n d_sae"]) -> "PreActivations":
        """Those of a matrix at hand.

        Args:
            pre: Pre-activations; no gradient reaches them.
        """
        return cls(lambda: iter((pre.detach(),)), pre.shape[1])

    @torch.no_grad()
    def largest(self, k: int) -> Latents:
        """The k largest of each token, those above 0.

        Args:
            k: Most entries a token.

        Returns:
            Latents, in the unit of the pre-activations.
        """
        return self._collected(lambda pre: positive(*k_largest(pre, k)))

    @torch.no_grad()
    def above(self, bound: Bound, slack: float = 0.0) -> Latents:
        """The entries above a bound.

        Args:
            bound: At least 0; one for all latents, or one each.
            slack: How far below its bound an entry may lie.

        Returns:
            Entries, in the unit of the pre-activations.
        """
        return self._collected(lambda pre: entries_above(pre, bound, slack))

    @torch.no_grad()
    def least_of_largest(self, k: int) -> float:
        """A bound that k entries a token exceed on average, if so many are above 0, and few others.

        Args:
            k: Entries wanted a token.

        Returns:
            Just below the (n k)-th largest of the groups' maxima; 0 where that is not above 0.
        """
        maxima = torch.cat([_maxima(pre) for pre in self.chunks()])
        n_kept, maxima = len(maxima) * k, maxima.flatten()
        if len(maxima) <= n_kept:
            return 0.0
        least = maxima.kthvalue(len(maxima) - n_kept + 1).values
        return max(0.0, torch.nextafter(least, torch.zeros_like(least)).item())

    def _collected(self, chosen: Callable[[Chunk], Entries]) -> Latents:
        return collected(((len(pre), chosen(pre)) for pre in self.chunks()), self.d_sae)


def k_largest(pre: Chunk, k: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The k largest of each row, in any order, and where they are.

    Args:
        pre: Rows.
        k: How many.
    """
    d_sae = pre.shape[1]
    per_group = next((g for g in (8, 4, 2) if d_sae % g == 0 and d_sae // g >= 4 * k), 1)
    if per_group == 1:
        return _sorted_out(pre, k)
    groups = _grouped(pre, d_sae // per_group)
    _, group = k_largest(groups.amax(1), k)
    few = groups.gather(2, group[:, None, :].expand(-1, per_group, -1)).flatten(1)
    value, place = _sorted_out(few, k)
    row = place.div(k, rounding_mode="floor")
    return value, row * groups.shape[2] + group.gather(1, place - k * row)


def _sorted_out(few: Chunk, k: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """The k largest of each row, in any order; numpy finds the least of them where that is once."""
    n, width = few.shape
    if few.dtype != torch.float32 or few.device.type != "cpu" or k >= width:
        return tuple(few.topk(k, dim=-1, sorted=False))  # pyright: ignore
    plain = few.numpy()
    least = np.partition(plain, width - k, axis=1)[:, width - k, None]
    is_kept = plain >= least
    tied = np.flatnonzero(np.count_nonzero(is_kept, axis=1) != k)  # or not a number
    if len(tied):
        is_kept[tied] = False
        first = few[tied].topk(k, dim=-1, sorted=False).indices.numpy()
        is_kept[tied[:, None], first] = True
    place = torch.from_numpy(np.flatnonzero(is_kept)).view(n, k)
    return few.take(place), place - width * torch.arange(n)[:, None]


def entries_above(pre: Chunk, bound: Bound, slack: float = 0.0) -> Entries:
    """The entries above a bound.

    Args:
        pre: Pre-activations.
        bound: One for all latents, or one each.
        slack: How far below its bound an entry may lie.
    """
    if not isinstance(bound, Tensor):
        return _above(pre, bound - slack)
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


def _maxima(pre: Chunk) -> Float[Tensor, "n n_groups"]:
    """Of some 512 groups of latents, or of each latent where they cannot be grouped."""
    n_groups = next((g for g in (N_GROUPS, N_GROUPS // 2) if pre.shape[1] % g == 0), pre.shape[1])
    return _grouped(pre, n_groups).amax(1)
