"""JumpReLU: a threshold for each latent, and how it learns although a jump has no slope."""

import copy
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from sae.dictionary.kinds import JumpReluConfig, JumpReluL0Config, JumpReluTanhConfig
from sae.dictionary.latents import Latents
from sae.dictionary.selection import PreActivations

__all__ = ["JumpRelu", "n_above"]


def _near(
    pre: Float[Tensor, "..."], threshold: Float[Tensor, "..."], bandwidth: float
) -> Float[Tensor, "..."]:
    """1 where a pre-activation lies within half a bandwidth of its threshold, 0 elsewhere."""
    return ((pre - threshold).abs() < bandwidth / 2).to(pre.dtype)


class _Jump(torch.autograd.Function):
    """`pre` where above `threshold`; the jump's slope is threshold / bandwidth near it."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Shaped[Tensor, "..."]:
        pre, threshold, ctx.bandwidth, ctx.reaches_pre = given
        ctx.save_for_backward(pre, threshold)
        return torch.where(pre > threshold, pre, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Shaped[Tensor, "..."] | None, ...]:
        (grad,), (pre, threshold) = grads, ctx.saved_tensors
        jump = grad * _near(pre, threshold, ctx.bandwidth) * threshold / ctx.bandwidth
        kept = torch.where(pre > threshold, grad, 0.0)
        return kept + jump if ctx.reaches_pre else kept, -jump, None, None


class _Above(torch.autograd.Function):
    """1 where `pre` is above `threshold`; the step's slope is 1 / bandwidth near it."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Shaped[Tensor, "..."]:
        pre, threshold, ctx.bandwidth = given
        ctx.save_for_backward(pre, threshold)
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Shaped[Tensor, "..."] | None, ...]:
        (grad,), (pre, threshold) = grads, ctx.saved_tensors
        return None, -grad * _near(pre, threshold, ctx.bandwidth) / ctx.bandwidth, None


def n_above(
    pre: Float[Tensor, "..."], threshold: Float[Tensor, "..."], bandwidth: float
) -> Float[Tensor, ""]:
    """How many pre-activations exceed their thresholds, with a slope for the thresholds.

    Args:
        pre: Pre-activations; no gradient reaches them.
        threshold: Of each, in the same unit, at least 0.
        bandwidth: Width of the window around a threshold in which entries count for its gradient,
            in the same unit.

    Returns:
        A count, whose derivative by a threshold is minus the entries in its window over the
        bandwidth: an estimate, from this batch, of minus their density at the threshold.

    Source:
        Rajamanoharan et al. 2024, "Jumping ahead: improving reconstruction fidelity with JumpReLU
        sparse autoencoders", arXiv:2407.14435, with the rectangle kernel.

    Example:
        >>> threshold = torch.ones(3, requires_grad=True)
        >>> count = n_above(torch.tensor([0.9, 1.1, 5.0]), threshold, bandwidth=0.5)
        >>> count.backward()
        >>> count.item(), threshold.grad.tolist()
        (2.0, [-2.0, -2.0, -0.0])
    """
    return _Above.apply(pre, threshold, bandwidth).sum()  # pyright: ignore


class JumpRelu(nn.Module):
    """Pre-activations above their latent's threshold fire, at their full value.

    Thresholds are plain float32 numbers, not logarithms, whose steps would shrink with them until
    they froze; they lie in the unit of the pre-activations, and `constrain_` keeps them at least 0.
    They are parameters where the config says how they are fitted, and a buffer that fitting
    leaves alone where it does not (`JumpReluConfig`).

    A jump has no slope, so its threshold's gradient is estimated from the entries of a batch
    within half a bandwidth of it, fired or not. `select` collects those too in training; they carry
    a gradient and the value 0. Under `JumpReluTanhConfig` the estimate reaches the encoder as well,
    under `JumpReluL0Config` the thresholds alone.

    Source:
        Rajamanoharan et al. 2024, arXiv:2407.14435; Conerly et al. 2025,
        "Dictionary learning optimization techniques", for the encoder's part. Differs from both:
        thresholds are not exponentials of what is fitted.
    """

    threshold: Float[Tensor, " d_sae"]

    def __init__(
        self, config: JumpReluConfig | JumpReluTanhConfig | JumpReluL0Config, d_sae: int
    ) -> None:
        super().__init__()
        start = torch.zeros(d_sae)
        self.bandwidth: float | None = None
        self.reaches_pre = isinstance(config, JumpReluTanhConfig)
        if isinstance(config, JumpReluConfig):
            self.register_buffer("threshold", start)
            return
        self.bandwidth = config.bandwidth
        if isinstance(config, JumpReluTanhConfig):
            start += config.threshold
        self.threshold = nn.Parameter(start)

    def _apply(self, fn: Any, recurse: bool = True) -> "JumpRelu":
        """Moves as modules do, but stays float32 at least: bfloat16 would round steps away."""
        exact = self.threshold.detach().clone()
        super()._apply(fn, recurse)
        if self.threshold.dtype.itemsize < exact.dtype.itemsize:
            self.threshold.data = exact.to(self.threshold.device)
        return self

    def forward(self, pre: Float[Tensor, "n d_sae"], training: bool) -> Float[Tensor, "n d_sae"]:
        """Latents of `pre`, in its unit.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted: thresholds then get a gradient. It makes no
                difference to the latents.

        Returns:
            Latent activations, 0 or above their thresholds.

        Example:
            >>> sparsity = JumpRelu(JumpReluTanhConfig(tanh=1.0, threshold=0.5), d_sae=2)
            >>> sparsity(torch.tensor([[0.6, 0.4]]), training=False).tolist()
            [[0.6000000238418579, 0.0]]
        """
        return self._jumped(pre, self.threshold.clamp_min(0).expand_as(pre), training)

    def _jumped(
        self, pre: Float[Tensor, "..."], threshold: Float[Tensor, "..."], training: bool
    ) -> Float[Tensor, "..."]:
        if self.bandwidth is None or not training:
            return torch.where(pre > threshold, pre, 0.0)
        return _Jump.apply(pre, threshold, self.bandwidth, self.reaches_pre)  # pyright: ignore

    def select(self, pre: PreActivations, training: bool, progress: float = 1.0) -> Latents:
        """The entries above their thresholds, and in training those just below too.

        Args:
            pre: Pre-activations of real tokens.
            training: Whether a batch is being fitted.
            progress: Share of the fit behind; makes no difference.
        """
        slack = 0.0 if self.bandwidth is None or not training else self.bandwidth / 2
        return pre.above(self.threshold.detach().clamp_min(0), slack)

    def activate(self, pre: Latents, training: bool) -> Latents:
        """Latents of the entries that `select` gave.

        Args:
            pre: Entries with their pre-activations.
            training: As in `forward`.
        """
        threshold = self.threshold.clamp_min(0)[pre.index]
        return pre.valued(self._jumped(pre.value, threshold, training))

    def scale_(self, factor: float) -> None:
        """Express the thresholds in another unit, in place.

        The bandwidth stays what it is: it is in training units, whichever those are.

        Args:
            factor: New unit over old, above 0.
        """
        self.threshold.data *= factor

    def added(self, n: int) -> "JumpRelu":
        """A copy for n more latents after these, whose thresholds are the median of these.

        Args:
            n: Latents to add.
        """
        wider = copy.deepcopy(self)
        more = self.threshold.detach().median().expand(n)
        wider.threshold.data = torch.cat([self.threshold.detach(), more])
        return wider

    @torch.no_grad()
    def constrain_(self) -> None:
        """Lift thresholds below 0 to it, in place; wanted after every optimiser step."""
        self.threshold.clamp_min_(0)
