"""Adam for a dictionary: its rate, one exact step, and its moments as named tensors."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae.dictionary.sae import Sae
from sae.errors import ConfigError, NumericalError
from training.config import TrainConfig

__all__ = ["adam", "moments", "restore_moments_", "step_", "width_lr"]

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def width_lr(d_sae: int) -> float:
    """The peak learning rate for a dictionary of `d_sae` latents.

    Source:
        Gao et al. 2024, arXiv:2406.04093, as `dictionary_learning` spells it: 2e-4 at 2^14
        latents, falling with the square root of the width.

    Example:
        >>> width_lr(2**14), width_lr(2**10)
        (0.0002, 0.0008)
    """
    return 2e-4 / (d_sae / 2**14) ** 0.5


def adam(sae: Sae, config: TrainConfig) -> torch.optim.Adam:
    """Adam over every parameter of `sae` that is not frozen, its moments at zero.

    Args:
        sae: The dictionary to fit.
        config: Rate and betas.

    Returns:
        The optimiser, without weight decay.
    """
    rate = width_lr(sae.config.d_sae) if config.lr is None else config.lr
    free = [each for each in sae.parameters() if each.requires_grad]
    return _Adam(free, lr=rate, betas=config.betas, fused=True)


def _lying(matrix: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same numbers in the order in which they lie, where a matrix's columns lie together."""
    return matrix.T if matrix.ndim == 2 and not matrix.is_contiguous() else matrix


class _Adam(torch.optim.Adam):
    """Adam that sees a matrix whose columns lie together as its transpose.

    The fused kernel would copy such a matrix and its gradient into rows and back, at twice the
    price of the step itself.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        lying = [
            each
            for group in self.param_groups
            for each in group["params"]
            if each.ndim == 2 and each.grad is not None and not each.is_contiguous()
        ]
        self._transpose_(lying)
        try:
            return super().step(closure)
        finally:
            self._transpose_(lying)

    def _transpose_(self, matrices: list[Float[Tensor, "_ _"]]) -> None:
        for each in matrices:
            gradient, each.grad = each.grad, None
            each.data = each.data.T
            each.grad = None if gradient is None else gradient.T
            state = self.state[each]
            state.update({name: t.T for name, t in state.items() if t.ndim == 2})


def step_(
    sae: Sae, optimiser: torch.optim.Adam, rate: float, grad_clip: float
) -> Float[Tensor, ""]:
    """One step from the gradients at hand; decoder rows have norm 1 before and after it.

    The part of each decoder row's gradient that would only change the row's length is removed
    first, so that Adam's moments never hold it.

    Args:
        sae: Its parameters have gradients.
        optimiser: From `adam` on the same dictionary.
        rate: Learning rate of this step.
        grad_clip: Largest gradient norm.

    Returns:
        The norm of the gradient over all parameters before clipping.

    Raises:
        NumericalError: The gradient is not finite; nothing was changed.
    """
    sae.remove_parallel_gradient_()
    gradients = [_lying(each.grad) for each in sae.parameters() if each.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not torch.isfinite(norm):
        raise NumericalError(
            "a finite gradient", f"norm {norm.item()}", "lower lr or look for extreme activations"
        )
    if norm > grad_clip:
        torch.nn.utils.clip_grads_with_norm_(sae.parameters(), grad_clip, norm)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    sae.constrain_()
    return norm


def moments(sae: Sae, optimiser: torch.optim.Adam) -> dict[str, Shaped[Tensor, "..."]]:
    """Adam's state as tensors named `moment.parameter`; empty before the first step.

    The tensors are the optimiser's own: copy what must outlive the next step.
    """
    return {
        f"{moment}.{name}": optimiser.state[parameter][moment]
        for name, parameter in sae.named_parameters()
        for moment in (_MOMENTS if parameter in optimiser.state else ())
    }


def restore_moments_(
    sae: Sae, optimiser: torch.optim.Adam, tensors: dict[str, Shaped[Tensor, "..."]]
) -> None:
    """Puts back what `moments` gave, copied; an empty mapping restores a fresh optimiser.

    Raises:
        ConfigError: A tensor is missing, has another shape than its parameter, or belongs to one
            that is frozen.
    """
    optimiser.state.clear()
    for name, parameter in sae.named_parameters() if tensors else ():
        held = {moment: tensors.get(f"{moment}.{name}") for moment in _MOMENTS}
        shapes = {moment: None if t is None else tuple(t.shape) for moment, t in held.items()}
        shape = tuple(parameter.shape)
        free = parameter.requires_grad
        wanted = dict(zip(_MOMENTS, (shape, shape, ()) if free else (None,) * 3, strict=True))
        if shapes != wanted:
            raise ConfigError(
                f"Adam's moments for {name}, {wanted}",
                str(shapes),
                "resume with the dictionary's own configuration, and frozen as it was",
            )
        if not free:
            continue
        optimiser.state[parameter] = {
            # Laid out as the parameter is, for Adam's rounding depends on it.
            moment: torch.empty_like(parameter).copy_(t) if t.ndim else t.to(parameter, copy=True)
            for moment, t in held.items()
            if t is not None
        }
