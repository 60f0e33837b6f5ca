"""Scales, norms and rotations that another library keeps beside its weights, put into them.

All work on tensors in row orientation, in float64, and leave the latents as the other library has
them.
"""

from jaxtyping import Float, Shaped
from torch import Tensor

__all__ = ["fold_bias", "fold_row_norms", "fold_scales", "fold_whitening"]

Tensors = dict[str, Shaped[Tensor, "..."]]


def fold_scales(tensors: Tensors, scale_in: float, scale_out: float) -> None:
    """For weights that take `scale_in x` and give `scale_out x_hat`; in place.

    Args:
        tensors: `W_enc`, `W_dec` and `b_dec`, the latter in the unit of the output.
        scale_in: What activations are multiplied by, above 0.
        scale_out: What reconstructions were multiplied by, above 0.
    """
    factors = {"W_enc": scale_in, "W_dec": 1 / scale_out, "b_dec": 1 / scale_out}
    for name, factor in factors.items():
        tensors[name] = tensors[name].double() * factor


def fold_row_norms(tensors: Tensors) -> None:
    """For latents that are pre-activations times the norm of their decoder row; in place.

    Args:
        tensors: `W_enc`, `b_enc` and `W_dec`, whose rows have norm 1 afterwards.
    """
    norms = tensors["W_dec"].double().norm(dim=-1).clamp_min(1e-8)
    tensors["W_enc"] = tensors["W_enc"].double() * norms
    tensors["W_dec"] = tensors["W_dec"].double() / norms.unsqueeze(-1)
    tensors["b_enc"] = tensors["b_enc"].double() * norms


def fold_whitening(
    tensors: Tensors,
    mean: Float[Tensor, " d_in"],
    matrix: Float[Tensor, "d_in d_in"],
    inverse: Float[Tensor, "d_in d_in"],
) -> None:
    """For weights that take `(x - mean) matrix` and give what `inverse` and `mean` turn back.

    `b_dec` holds the mean afterwards. Where it is not subtracted, `fold_bias` has to come before.

    Args:
        tensors: `W_enc`, `W_dec` and `b_dec`.
        mean: Of the activations.
        matrix: Whitens them.
        inverse: Its inverse.
    """
    tensors["W_enc"] = matrix.double() @ tensors["W_enc"].double()
    tensors["W_dec"] = tensors["W_dec"].double() @ inverse.double()
    tensors["b_dec"] = tensors["b_dec"].double() @ inverse.double() + mean.double()


def fold_bias(tensors: Tensors, sign: int = 1) -> None:
    """Makes a `b_dec` that is not subtracted before encoding one that is; in place.

    Args:
        tensors: `W_enc`, `b_dec` and the biases of the encoder: `b_enc`.
        sign: -1 for the other way.
    """
    shift = tensors["b_dec"].double() @ tensors["W_enc"].double()
    tensors["b_enc"] = tensors["b_enc"].double() + sign * shift
