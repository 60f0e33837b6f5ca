"""Activations of several models at the same tokens, as one source."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sae.errors import ConfigError, InputError
from sae.stream.buffer import Source

__all__ = ["DifferenceSource", "SideBySideSource"]


class _Several:
    """Sources whose chunks hold the same tokens."""

    def __init__(self, sources: Sequence[Source]) -> None:
        shapes = {(each.n_chunks, each.d_in) for each in sources}
        if len(sources) < 2 or len(shapes) != 1:
            found = f"{len(sources)} sources of chunks and widths {sorted(shapes)}"
            do = "give two or more that read the same tokens at one width"
            raise ConfigError("activations of several models", found, do)
        self.sources = tuple(sources)

    @property
    def n_chunks(self) -> int:
        """Number of chunks, that of every model."""
        return self.sources[0].n_chunks

    def n_most(self, number: int) -> int:
        """Most rows of a chunk: what every model's can have."""
        return min(each.n_most(number) for each in self.sources)

    def chunks(self, number: int) -> list[Float[Tensor, "n d_model"]]:
        """Rows of a chunk in every model, seen to be as many."""
        found = [each.chunk(number) for each in self.sources]
        if len({len(each) for each in found}) > 1:
            asked, rows = f"chunk {number} of several models", [len(each) for each in found]
            raise InputError(asked, f"{rows} tokens", "let the same tokens count for all of them")
        return found


class SideBySideSource(_Several):
    """Vectors of several models side by side, for a crosscoder.

    Args:
        sources: One for each model, over the same tokens in the same order: the text tokenised by
            one tokenizer, and the same tokens left out of all.

    Raises:
        ConfigError: There is one source only, or they differ in chunks or width.
    """

    @property
    def d_in(self) -> int:
        """Width of all models together."""
        return sum(each.d_in for each in self.sources)

    def chunk(self, number: int) -> Float[Tensor, "n d_in"]:
        """Rows of a chunk, the first model's vector first.

        Raises:
            InputError: The models give different numbers of tokens.
        """
        return torch.cat(self.chunks(number), dim=1)


class DifferenceSource(_Several):
    """Vectors of a tuned model less those of its base at the same tokens.

    Args:
        base: Activations of the base model.
        tuned: Those of the tuned model, over the same tokens in the same order.

    Raises:
        ConfigError: They differ in chunks or width.

    Source:
        Dumas, Minder and Nanda 2025, on what crosscoders miss and difference dictionaries find.
    """

    def __init__(self, base: Source, tuned: Source) -> None:
        super().__init__((base, tuned))

    @property
    def d_in(self) -> int:
        """Width of either model."""
        return self.sources[0].d_in

    def chunk(self, number: int) -> Float[Tensor, "n d_in"]:
        """Differences at the tokens of a chunk, tuned less base.

        Raises:
            InputError: The models give different numbers of tokens.
        """
        base, tuned = self.chunks(number)
        return tuned - base
