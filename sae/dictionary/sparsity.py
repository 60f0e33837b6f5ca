"""pre-activations -> latents: one small module for each member of `SparsityConfig`.

Each says in `select` which entries it keeps, from pre-activations a few tokens at a time; `forward`
is the same, dense and differentiable. Each is positively homogeneous: scaling the pre-activations
and `scale_`-ing the module by the same factor scales the latents by it. Folding a dictionary's
input scale relies on that.
"""

from typing import assert_never

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from sae.dictionary.config import BatchTopKConfig, ReluConfig, SparsityConfig, TopKConfig
from sae.dictionary.kernels import Latents
from sae.dictionary.selection import Chunks, above, largest, least_of_largest
from sae.errors import InputError

__all__ = ["BatchTopK", "Relu", "Sparsity", "TopK", "sparsity_for"]


def _whole(pre: Float[Tensor, "n d_sae"]) -> Chunks:
    return lambda: iter((pre.detach(),))


def _kept(pre: Float[Tensor, "n d_sae"], kept: Latents) -> Float[Tensor, "n d_sae"]:
    """`pre` at the entries kept, 0 elsewhere."""
    at = (kept.token, kept.index)
    return torch.zeros_like(pre).index_put(at, pre[at])


class Relu(nn.Module):
    """Positive pre-activations fire."""

    def forward(self, pre: Float[Tensor, "n d_sae"], training: bool) -> Float[Tensor, "n d_sae"]:
        """Latents of `pre`, in its unit; `training` makes no difference.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted.

        Returns:
            Latent activations, at least 0.

        Example:
            >>> Relu()(torch.tensor([[3.0, -1.0]]), training=False)
            tensor([[3., 0.]])
        """
        return pre.relu()

    def select(self, chunks: Chunks, training: bool) -> Latents:
        """The entries above 0.

        Args:
            chunks: Pre-activations of real tokens.
            training: Whether a batch is being fitted; makes no difference.
        """
        return above(chunks(), 0.0)

    def scale_(self, factor: float) -> None:
        """Nothing: no state has the unit of an activation.

        Args:
            factor: New unit over old.
        """


class TopK(nn.Module):
    """The k largest pre-activations of each token fire, where positive."""

    def __init__(self, config: TopKConfig) -> None:
        super().__init__()
        self.k = config.k

    def forward(self, pre: Float[Tensor, "n d_sae"], training: bool) -> Float[Tensor, "n d_sae"]:
        """Latents of `pre`, in its unit, each row on its own; `training` makes no difference.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted.

        Returns:
            Latent activations, at most k of a row above 0.

        Example:
            >>> TopK(TopKConfig(k=1))(torch.tensor([[3.0, 2.0]]), training=False)
            tensor([[3., 0.]])
        """
        return _kept(pre, self.select(_whole(pre), training))

    def select(self, chunks: Chunks, training: bool) -> Latents:
        """The k largest of each token, those above 0.

        Args:
            chunks: Pre-activations of real tokens.
            training: Whether a batch is being fitted; makes no difference.
        """
        return largest(chunks(), self.k)

    def scale_(self, factor: float) -> None:
        """Nothing: no state has the unit of an activation.

        Args:
            factor: New unit over old.
        """


class BatchTopK(nn.Module):
    """The n k largest pre-activations of a batch fire in training, those above a threshold after.

    The threshold is a float64 running mean of the smallest pre-activation kept in each batch. Its
    memory starts short and grows to `threshold_beta`, so that short runs are not held to what
    the untrained dictionary kept.

    Source:
        Bussmann et al. 2024, arXiv:2412.06410, section 3. Differs from it: the growing memory.
    """

    threshold: Float64[Tensor, ""]
    n_updates: Int64[Tensor, ""]

    def __init__(self, config: BatchTopKConfig) -> None:
        super().__init__()
        self.k, self.beta = config.k, config.threshold_beta
        self.register_buffer("threshold", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("n_updates", torch.tensor(0))
        self._guess: float | None = None

    def forward(self, pre: Float[Tensor, "n d_sae"], training: bool) -> Float[Tensor, "n d_sae"]:
        """Latents of `pre`, in its unit.

        Args:
            pre: Pre-activations of real tokens.
            training: Select over the batch and update the threshold, instead of applying it.

        Returns:
            Latent activations; in training at most n k of them above 0.

        Raises:
            InputError: Not in training, and no batch has set the threshold.

        Example:
            >>> pre = torch.tensor([[3.0, 2.0], [1.0, 0.5]])
            >>> BatchTopK(BatchTopKConfig(k=1))(pre, training=True)
            tensor([[3., 2.],
                    [0., 0.]])
        """
        return _kept(pre, self.select(_whole(pre), training))

    def select(self, chunks: Chunks, training: bool) -> Latents:
        """The n k largest of the batch in training, those above the threshold after.

        Whatever exceeds a guess from the batch before is looked through first. Where that is too
        little, a bound that is never too high takes the guess's place, so the answer is exact.

        Args:
            chunks: Pre-activations of real tokens.
            training: Select over the batch and update the threshold, instead of applying it.

        Raises:
            InputError: Not in training, and no batch has set the threshold.
        """
        if not training:
            return above(chunks(), self._set_threshold())
        found = None if self._guess is None else above(chunks(), self._guess)
        if found is None or len(found.index) < len(found) * self.k:
            found = above(chunks(), least_of_largest(chunks(), self.k))
        kept = found.largest(len(found) * self.k)
        if len(kept.value):
            least = kept.value.min()
            self._guess = 0.95 * float(least)
            self._update(least)
        return kept

    def _set_threshold(self) -> float:
        if self.threshold < 0:
            raise InputError(
                "latents of a batch_topk dictionary outside training",
                "a threshold that no training batch has set",
                "fit it first, or put it in training mode with .train()",
            )
        return float(self.threshold)

    @torch.no_grad()
    def _update(self, smallest: Float[Tensor, ""]) -> None:
        n = self.n_updates.double()
        beta = torch.clamp((1 + n) / (10 + n), max=self.beta) if self.threshold >= 0 else 0.0
        self.threshold.copy_(beta * self.threshold + (1 - beta) * smallest.double())
        self.n_updates += 1

    def scale_(self, factor: float) -> None:
        """Express a threshold that has been set in another unit, in place.

        Args:
            factor: New unit over old, above 0.
        """
        if self.threshold >= 0:
            self.threshold *= factor


Sparsity = Relu | TopK | BatchTopK
"""Any of the modules `sparsity_for` makes."""


def sparsity_for(config: SparsityConfig) -> Sparsity:
    """The module a config describes.

    Args:
        config: Any member of `SparsityConfig`.

    Returns:
        A fresh module.

    Example:
        >>> sparsity_for(TopKConfig(k=3)).k
        3
    """
    match config:
        case ReluConfig():
            return Relu()
        case TopKConfig():
            return TopK(config)
        case BatchTopKConfig():
            return BatchTopK(config)
        case _:
            assert_never(config)
