"""Scales, norms and rotations that another library keeps beside its weights, put into them.

All work on tensors in row orientation, in float64, and leave the latents as the other library has
them.
"""

import copy

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae.dictionary.sae import Sae
from sae.dictionary.top_k import BatchTopK, TopK
from sae.errors import InputError

__all__ = [
    "fold_bias",
    "fold_lengths",
    "fold_row_norms",
    "fold_scales",
    "fold_whitening",
    "unit_rows_in",
    "with_unit_rows",
]

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


def fold_lengths(tensors: Tensors, n_models: int) -> None:
    """For latents that are pre-activations times their rows' norms, summed over models; in place.

    A latent whose rows are all 0 adds nothing anywhere, and never fires afterwards.

    Args:
        tensors: `W_enc`, `b_enc` and `W_dec` of models side by side; the norms of each row of the
            latter sum to 1 afterwards.
        n_models: Number of models.
    """
    blocks = tensors["W_dec"].double().unflatten(-1, (n_models, -1))
    length = blocks.norm(dim=-1).sum(-1)
    tensors["W_enc"] = tensors["W_enc"].double() * length
    tensors["b_enc"] = tensors["b_enc"].double() * length
    tensors["W_dec"] = (blocks / length.clamp_min(1e-300)[:, None, None]).flatten(-2)


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


def unit_rows_in(rows: Float[Tensor, "d_sae d_in"]) -> bool:
    """Whether every row has norm 1, as other libraries' readers test it.

    Args:
        rows: Decoder rows.
    """
    norms = rows.detach().norm(dim=-1)
    return bool(torch.allclose(norms, torch.ones_like(norms)))


def with_unit_rows(sae: Sae) -> Sae:
    """An equal dictionary whose decoder rows have norm 1, as fitting keeps them.

    Args:
        sae: A finished dictionary.

    Returns:
        It itself where its rows are so already; else a copy, whose latents are this one's times
        the norms of their rows.

    Raises:
        InputError: Its sparsity compares latents with one another or with one threshold, so that
            other units would choose others.
    """
    if unit_rows_in(sae.W_dec):
        return sae
    if isinstance(sae.sparsity, TopK | BatchTopK):
        asked = f"a {sae.config.sparsity.kind} dictionary to continue"
        found = "decoder rows whose norm is not 1, which choose with their latents"
        raise InputError(asked, found, "fit one on this model, or continue it where it is from")
    twin = copy.deepcopy(sae)
    norms = sae.W_dec.detach().norm(dim=-1).clamp_min(1e-12)
    with torch.no_grad():
        twin.W_dec.div_(norms.unsqueeze(-1))
        twin.W_enc.mul_(norms)
        twin.b_enc.mul_(norms)
        for name in ("threshold", "offset"):
            if isinstance(each := getattr(twin.sparsity, name, None), Tensor):
                each.mul_(norms)
    return twin
