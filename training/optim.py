"""Adam for a dictionary: its rate, one exact step, and its moments as named tensors."""

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
    """Adam over every parameter of `sae`, its moments at zero.

    Args:
        sae: The dictionary to fit.
        config: Rate and betas.

    Returns:
        The optimiser, without weight decay.
    """
    rate = width_lr(sae.config.d_sae) if config.lr is None else config.lr
    return torch.optim.Adam(sae.parameters(), lr=rate, betas=config.betas, fused=True)


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
    gradients = [each.grad for each in sae.parameters() if each.grad is not None]
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
        ConfigError: A tensor is missing or has another shape than its parameter.
    """
    optimiser.state.clear()
    for name, parameter in sae.named_parameters() if tensors else ():
        held = {moment: tensors.get(f"{moment}.{name}") for moment in _MOMENTS}
        shapes = {moment: None if t is None else tuple(t.shape) for moment, t in held.items()}
        wanted = dict(
            zip(_MOMENTS, (tuple(parameter.shape), tuple(parameter.shape), ()), strict=True)
        )
        if shapes != wanted:
            raise ConfigError(
                f"Adam's moments for {name}, {wanted}",
                str(shapes),
                "resume with the dictionary's own configuration",
            )
        optimiser.state[parameter] = {
            # Laid out as the parameter is, for Adam's rounding depends on it.
            moment: torch.empty_like(parameter).copy_(t) if t.ndim else t.to(parameter, copy=True)
            for moment, t in held.items()
            if t is not None
        }
