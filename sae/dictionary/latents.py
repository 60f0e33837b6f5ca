"""The latents that fire, without the zeros between them."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["Latents", "starts_of"]


def starts_of(group: Int64[Tensor, " n"], n_groups: int) -> Int64[Tensor, " n_starts"]:
    """Where each group's entries begin, once in order; one more says where the last one's end.

    Args:
        group: Group of each entry.
        n_groups: How many there are.
    """
    ends = torch.bincount(group, minlength=n_groups).cumsum(0)
    return torch.cat([ends.new_zeros(1), ends])


@dataclass(frozen=True, eq=False)
class _Places:
    """What follows from where entries are, whatever their activations."""

    starts: Int64[Tensor, " n_starts"]
    index: Int64[Tensor, " n_kept"]
    d_sae: int

    @cached_property
    def token(self) -> Int64[Tensor, " n_kept"]:
        tokens = torch.arange(len(self.starts) - 1, device=self.index.device)
        return tokens.repeat_interleave(self.starts.diff(), output_size=len(self.index))

    @cached_property
    def by_latent(self) -> tuple[Int64[Tensor, " n_kept"], Int64[Tensor, " n_starts"]]:
        # Sorting takes a pass for each byte of a key.
        narrow = torch.int16 if self.d_sae < 2**15 else torch.int32
        return self.index.to(narrow).argsort(stable=True), starts_of(self.index, self.d_sae)

    @cached_property
    def token_by_latent(self) -> Int64[Tensor, " n_kept"]:
        return self.token[self.by_latent[0]]


@dataclass(frozen=True, eq=False)
class Latents:
    """Latent activations of n tokens with the zeros left out, token by token (CSR).

    Example:
        >>> z = Latents.of(torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]]))
        >>> z.starts.tolist(), z.index.tolist(), z.value.tolist()
        ([0, 2, 2], [1, 2], [2.0, 1.0])
        >>> z.dense().tolist()
        [[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]]
    """

    starts: Int64[Tensor, " n_starts"]
    """Where each token's entries begin; one more says where the last one's end."""
    index: Int64[Tensor, " n_kept"]
    """Latent of each entry."""
    value: Float[Tensor, " n_kept"]
    """Activation of each entry, at least 0."""
    d_sae: int
    """Number of latents."""
    _places: "_Places" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", _Places(self.starts, self.index, self.d_sae))

    @classmethod
    def of(cls, z: Float[Tensor, "n d_sae"]) -> "Latents":
        """The entries of a dense matrix that are above 0; differentiable.

        Args:
            z: Latents.
        """
        token, index = (z.detach() > 0).nonzero(as_tuple=True)
        return cls.from_entries(token, index, z[token, index], (len(z), z.shape[1]))

    @classmethod
    def from_entries(
        cls,
        token: Int64[Tensor, " n_kept"],
        index: Int64[Tensor, " n_kept"],
        value: Float[Tensor, " n_kept"],
        shape: tuple[int, int],
    ) -> "Latents":
        """Latents from entries that are in order already.

        Args:
            token: Token of each entry, never falling.
            index: Latent of each entry.
            value: Activation of each entry.
            shape: Tokens and latents.
        """
        n, d_sae = shape
        return cls(starts_of(token, n), index, value, d_sae)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def token(self) -> Int64[Tensor, " n_kept"]:
        """Token of each entry."""
        return self._places.token

    @property
    def by_latent(self) -> tuple[Int64[Tensor, " n_kept"], Int64[Tensor, " n_starts"]]:
        """The order that puts entries latent by latent, and where each latent's then begin."""
        return self._places.by_latent

    @property
    def token_by_latent(self) -> Int64[Tensor, " n_kept"]:
        """Token of each entry, latent by latent."""
        return self._places.token_by_latent

    def n_fires(self) -> Int64[Tensor, " d_sae"]:
        """Tokens on which each latent is above 0."""
        return torch.bincount(self.index[self.value > 0], minlength=self.d_sae)

    def valued(self, value: Float[Tensor, " n_kept"]) -> "Latents":
        """The same entries with other activations.

        Args:
            value: Activation of each entry.
        """
        twin = replace(self, value=value)
        object.__setattr__(twin, "_places", self._places)
        return twin

    def largest(self, n_kept: int) -> "Latents":
        """The entries with the largest activations.

        Args:
            n_kept: How many; all where there are no more. Of equal ones the first count, so that
                what is kept does not depend on how much smaller ones there are.
        """
        if len(self.value) <= n_kept:
            return self
        least = self.value.topk(n_kept, sorted=False).values.min()
        more, ties = self.value > least, self.value == least
        n_ties = n_kept - more.sum()
        at = (more | (ties & (ties.cumsum(0) <= n_ties))).nonzero().squeeze(1)
        shape = (len(self), self.d_sae)
        return self.from_entries(self.token[at], self.index[at], self.value[at], shape)

    def dense(self) -> Float[Tensor, "n d_sae"]:
        """The matrix, zeros and all."""
        out = self.value.new_zeros(len(self), self.d_sae)
        return out.index_put((self.token, self.index), self.value)
