"""activations -> batches: a seeded shuffle, bounded in bytes, that can be resumed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint, harvest, outliers
from sae.stream.cache import ActivationCache
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText

__all__ = ["ActivationBuffer", "CacheSource", "Keep", "ModelSource", "Source", "usual_tokens"]

Keep = Callable[[pd.DataFrame], Bool[np.ndarray, " n"]]
"""From a token table to which of its rows count."""


def usual_tokens(table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Tokens that a dictionary is fitted on: neither special nor an outlier of the norm."""
    return ~(table["is_special"] | table["is_outlier"]).to_numpy(dtype=bool)


@runtime_checkable
class Source(Protocol):
    """Residual vectors in chunks, the same ones whenever a chunk is asked for again."""

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        ...

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        ...

    def n_most(self, number: int) -> int:
        """Most rows that a chunk can have, known without computing it."""
        ...

    def chunk(self, number: int) -> Float[Tensor, "n d_in"]:
        """Rows of a chunk, float32 on the CPU."""
        ...


class CacheSource:
    """The shards of an activation cache, reduced to some of the tokens.

    Args:
        cache: The cache.
        keep: From the table of tokens to those that count.
    """

    def __init__(self, cache: ActivationCache, keep: Keep = usual_tokens) -> None:
        self._cache = cache
        self._kept = torch.tensor(keep(cache.tokens))

    @property
    def n_chunks(self) -> int:
        """Number of shards."""
        return self._cache.n_shards

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self._cache.d_in

    def n_most(self, number: int) -> int:
        """Rows of a shard that are kept."""
        return int(self._kept[self._cache.rows(number)].sum())

    def chunk(self, number: int) -> Float[Tensor, "n d_in"]:
        """Kept rows of a shard.

        Raises:
            InputError: The shard is damaged.
        """
        return self._cache.shard(number)[self._kept[self._cache.rows(number)]]


class ModelSource:
    """Vectors harvested when they are needed, by documents, reduced to some of the tokens.

    Outliers are told by the median norm of their chunk, where a cache knows that of the whole text.

    Args:
        model: The model.
        text: The text.
        hook: Where to take the residual vectors.
        documents_per_chunk: Documents of a chunk.
        keep: From the table of tokens to those that count.
    """

    def __init__(
        self,
        model: LanguageModel,
        text: TokenizedText,
        hook: HookPoint,
        documents_per_chunk: int = 64,
        keep: Keep = usual_tokens,
    ) -> None:
        self._model, self._text, self._hook = model, text, hook
        self._size, self._keep = documents_per_chunk, keep

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-len(self._text.ids) // self._size)

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self._model.d_in

    def n_most(self, number: int) -> int:
        """Tokens of a chunk, kept or not."""
        first, last = self._text.starts[self._bounds(number)]
        return int(last - first)

    def chunk(self, number: int) -> Float[Tensor, "n d_in"]:
        """Kept rows of a chunk, from a forward pass.

        Raises:
            ConfigError: The model has no such hook.
            InputError: The activations are not finite.
        """
        part = self._text.between(*self._bounds(number))
        batches = harvest(self._model, part, [self._hook])
        x = torch.cat([found[self._hook].cpu() for _, found in batches])
        table = part.table.assign(is_outlier=outliers(x).numpy())
        return x[torch.tensor(self._keep(table))]

    def _bounds(self, number: int) -> list[int]:
        return [number * self._size, min((number + 1) * self._size, len(self._text.ids))]


class ActivationBuffer:
    """Shuffled batches of residual vectors, for ever, the same for the same seed.

    The stream is a chain of fills. A fill takes the next chunks, in the order drawn for the epoch,
    as many as the bytes allow and none of the next epoch; its rows come out in an order drawn for
    the fill. Chunks that are held already are not asked for again. Batches are cut from the chain:
    what is too short for one opens the next fill's first.
    Hence every kept token comes out exactly once an epoch, up to that remainder, and a cursor of a
    few numbers gives the rest of the stream bit for bit.

    Args:
        source: Where chunks come from.
        batch_tokens: Rows of a batch.
        bytes_limit: Most bytes the rows held may take; one chunk and one batch come on top.
        seed: Another seed gives another order; not negative.
        cursor: Where to go on, from `cursor` of a buffer over the same source.

    Raises:
        ConfigError: A chunk does not fit the bytes, or the cursor is of another stream.
        InputError: The source has no token to give, which is known with the first batch.
    """

    def __init__(
        self,
        source: Source,
        batch_tokens: int,
        bytes_limit: int = 2**28,
        seed: int = 0,
        cursor: Mapping[str, int] | None = None,
    ) -> None:
        if batch_tokens < 1 or seed < 0:
            found = "numbers below 1 and 0"
            raise ConfigError(f"batch_tokens={batch_tokens}, seed={seed}", found, "raise them")
        self._source, self._batch_tokens, self._seed = source, batch_tokens, seed
        self._sizes = [source.n_most(number) for number in range(source.n_chunks)]
        self._capacity = bytes_limit // (4 * source.d_in)
        if max(self._sizes, default=0) > self._capacity:
            raise ConfigError(
                f"bytes_limit={bytes_limit}",
                f"a chunk of {4 * source.d_in * max(self._sizes)} bytes",
                "raise the limit or make smaller chunks",
            )
        self._stream = {"seed": seed, "bytes_limit": bytes_limit, "n_chunks": source.n_chunks}
        self._stream["n_most"] = sum(self._sizes)
        self._epoch = self._first = self._next = self._offset = 0
        self._rows, self._n_rows = torch.empty(0, source.d_in), 0
        self._held: list[int] = []
        self._order = torch.empty(0, dtype=torch.int64)
        if cursor is not None:
            self._resume(cursor)

    def __iter__(self) -> Iterator[Float[Tensor, "batch_tokens d_in"]]:
        return self

    def __next__(self) -> Float[Tensor, "batch_tokens d_in"]:
        """The next batch, on the CPU."""
        batch = torch.empty(self._batch_tokens, self._source.d_in)
        at = 0
        while at < self._batch_tokens:
            if self._offset == len(self._order):
                self._refill()
            picked = self._order[self._offset : self._offset + self._batch_tokens - at]
            torch.index_select(self._rows, 0, picked, out=batch[at : at + len(picked)])
            self._offset += len(picked)
            at += len(picked)
        return batch

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows held at the moment."""
        return self._rows.numel() * self._rows.element_size()

    def cursor(self) -> dict[str, int]:
        """Where the next batch begins, to be kept beside the weights.

        Example:
            >>> class Ones:
            ...     n_chunks, d_in = 2, 3
            ...     def n_most(self, number: int) -> int:
            ...         return 5
            ...     def chunk(self, number: int) -> Tensor:
            ...         return torch.ones(5, 3)
            >>> buffer = ActivationBuffer(Ones(), batch_tokens=4)
            >>> _ = next(buffer)
            >>> buffer.cursor()["offset"]
            4
        """
        done = self._offset == len(self._order)
        chunk, offset = (self._next, 0) if done else (self._first, self._offset)
        return {**self._stream, "epoch": self._epoch, "chunk": chunk, "offset": offset}

    def _resume(self, cursor: Mapping[str, int]) -> None:
        other = {name: cursor.get(name) for name in self._stream}
        if other != self._stream:
            do = "resume with the seed, the limit and the source it began with"
            raise ConfigError(f"a cursor of {other}", f"a buffer of {self._stream}", do)
        self._epoch, self._next = cursor["epoch"], cursor["chunk"]
        self._fill()
        self._offset = cursor["offset"]
        if self._offset > len(self._order):
            found = f"{len(self._order)} rows where the cursor stands at {self._offset}"
            raise InputError("the stream of a cursor", found, "give the source it began with")

    def _refill(self) -> None:
        """Go on to the next fill that has rows; a round through the source must meet one."""
        for _ in range(self._source.n_chunks + 1):
            if self._next >= self._source.n_chunks:
                self._epoch, self._next = self._epoch + 1, 0
            self._fill()
            if len(self._order):
                return
        raise InputError("tokens for a batch", "none that is kept", "check the text and the mask")

    def _fill(self) -> None:
        self._first, self._offset = self._next, 0
        chunks = self._draw(0, self._source.n_chunks)[self._first :].tolist()
        taken = np.cumsum([self._sizes[number] for number in chunks]) <= self._capacity
        chunks = sorted(chunks[: int(taken.sum())])
        self._next += len(chunks)
        if chunks != self._held:  # else a text that fits as a whole: only its order is new
            self._take(chunks)
        self._order = self._draw(1, self._n_rows)

    def _take(self, chunks: list[int]) -> None:
        """The rows of some chunks, in place of those held."""
        # the old rows go before the new ones come, so that both are never held
        self._held, self._rows = [], torch.empty(0, self._source.d_in)
        self._rows = torch.empty(sum(self._sizes[number] for number in chunks), self._source.d_in)
        self._n_rows = 0
        for number in chunks:
            x = self._source.chunk(number)
            self._rows[self._n_rows : self._n_rows + len(x)] = x
            self._n_rows += len(x)
        self._held = chunks

    def _draw(self, what: int, size: int) -> Int[Tensor, " n"]:
        """An order of ``size`` things; 0 is of chunks, which is one for the epoch, 1 of rows."""
        key = [self._seed, self._epoch, what, what * self._first]
        return torch.from_numpy(np.random.default_rng(key).permutation(size))
