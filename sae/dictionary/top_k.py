"""TopK and BatchTopK: the largest pre-activations fire, of a token or of a batch."""

import copy

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from sae.dictionary.kinds import BatchTopKConfig, TopKConfig
from sae.dictionary.latents import Latents
from sae.dictionary.selection import PreActivations
from sae.errors import InputError

__all__ = ["BatchTopK", "TopK"]


def _kept(pre: Float[Tensor, "n d_sae"], kept: Latents) -> Float[Tensor, "n d_sae"]:
    """`pre` at the entries kept, 0 elsewhere."""
    at = (kept.token, kept.index)
    return torch.zeros_like(pre).index_put(at, pre[at])


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
        return _kept(pre, self.select(PreActivations.of(pre), training))

    def select(self, pre: PreActivations, training: bool, progress: float = 1.0) -> Latents:
        """The k largest of each token, those above 0.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted; makes no difference.
            progress: Share of the fit behind; makes no difference.
        """
        return pre.largest(self.k)

    def activate(self, pre: Latents, training: bool) -> Latents:
        """Latents of the entries that `select` gave: those entries themselves.

        Args:
            pre: Entries with their pre-activations.
            training: Whether a batch is being fitted; makes no difference.
        """
        return pre

    def scale_(self, factor: float) -> None:
        """Nothing: no state has the unit of an activation.

        Args:
            factor: New unit over old.
        """

    def added(self, n: int) -> "TopK":
        """This: no state belongs to single latents.

        Args:
            n: Latents to add.
        """
        return self

    def constrain_(self) -> None:
        """Nothing: there are no parameters."""


class BatchTopK(nn.Module):
    """The n k largest pre-activations of a batch fire in training, those above a threshold after.

    The threshold is a float64 running mean of the smallest pre-activation kept in each batch. Its
    memory starts short and grows to `threshold_beta`, so that short runs are not held to what
    the untrained dictionary kept.

    While latents are untrained the longest vectors take nearly all places, and these are sums of
    many features, from which single ones are hard to learn. So each token may have its own k for
    the first part of a fit (`BatchTopKConfig.per_token`). Until a threshold is taught it is as TopK
    outside of training too; one that is set, as in a dictionary continued, ends that part.

    Source:
        Bussmann et al. 2024, arXiv:2412.06410, section 3. Differs from it: the growing memory, and
        the first part where there is one.
    """

    threshold: Float64[Tensor, ""]
    n_updates: Int64[Tensor, ""]

    def __init__(self, config: BatchTopKConfig) -> None:
        super().__init__()
        self.k, self.beta, self.per_token = config.k, config.threshold_beta, config.per_token
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
        return _kept(pre, self.select(PreActivations.of(pre), training))

    def select(self, pre: PreActivations, training: bool, progress: float = 1.0) -> Latents:
        """The n k largest of the batch in training, those above the threshold after.

        Whatever exceeds a guess from the batch before is looked through first. Where that is too
        little, a bound that is never too high takes the guess's place, so the answer is exact.

        Args:
            pre: Pre-activations of real tokens.
            training: Select over the batch and update the threshold, instead of applying it.
            progress: Share of the fit behind, in [0, 1].

        Raises:
            InputError: Not in training, and no batch has set the threshold.
        """
        is_first_part = progress < self.per_token if training else self.per_token > 0
        if is_first_part and self.threshold < 0:
            return pre.largest(self.k)
        if not training:
            return pre.above(self._set_threshold())
        found = None if self._guess is None else pre.above(self._guess)
        if found is None or len(found.index) < len(found) * self.k:
            found = pre.above(pre.least_of_largest(self.k))
        kept = found.largest(len(found) * self.k)
        if len(kept.value):
            least = kept.value.min()
            self._guess = 0.95 * float(least)
            self._update(least)
        return kept

    def activate(self, pre: Latents, training: bool) -> Latents:
        """Latents of the entries that `select` gave: those entries themselves.

        Args:
            pre: Entries with their pre-activations.
            training: Whether a batch is being fitted; makes no difference.
        """
        return pre

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

    def added(self, n: int) -> "BatchTopK":
        """A copy for n more latents, its threshold kept and its memory short, so that it can move.

        Args:
            n: Latents to add.
        """
        wider = copy.deepcopy(self)
        wider.n_updates.zero_()
        return wider

    def constrain_(self) -> None:
        """Nothing: there are no parameters."""
