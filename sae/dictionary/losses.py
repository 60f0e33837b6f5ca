"""What fitting lowers: pure terms, and a `Loss` whose total is derived from them.

Terms are in training units (`input_scale` times activation) over the width, hence dimensionless and
comparable between models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.dictionary.config import ReluConfig
from sae.dictionary.kernels import Latents
from sae.dictionary.sae import Sae
from sae.errors import ConfigError

__all__ = ["Loss", "Pass", "auxiliary", "dictionary_loss", "l1", "reconstruction"]


@dataclass(frozen=True)
class Loss:
    """Named terms and their weights.

    Example:
        >>> loss = Loss({"reconstruction": torch.tensor(2.0)}, {"reconstruction": 0.5})
        >>> loss.total.item()
        1.0
    """

    terms: Mapping[str, Float[Tensor, ""]]
    """Value of each term, before its weight."""
    weights: Mapping[str, float]
    """Weight of each term, under the same names."""

    def __post_init__(self) -> None:
        if not self.terms or self.terms.keys() != self.weights.keys():
            found = f"terms {sorted(self.terms)} and weights {sorted(self.weights)}"
            raise ConfigError("a loss", found, "give every term one weight, and at least one term")

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum of the weighted terms: what is differentiated."""
        return torch.stack([self.weights[name] * term for name, term in self.terms.items()]).sum()

    def reweighted(self, name: str, weight: float) -> "Loss":
        """The same terms with one weight changed.

        Args:
            name: A term of this loss.
            weight: Its new weight.

        Returns:
            A new loss; this one is left alone.

        Raises:
            ConfigError: There is no such term.
        """
        if name not in self.terms:
            raise ConfigError(f"loss term {name!r}", "no such term", f"use {', '.join(self.terms)}")
        return replace(self, weights={**self.weights, name: weight})


def reconstruction(
    x: Float[Tensor, "n d_in"], nested: Sequence[Float[Tensor, "n d_in"]]
) -> Float[Tensor, ""]:
    """Mean over tokens of the squared error over d_in, averaged over nested reconstructions.

    Args:
        x: Residual vectors; every row counts.
        nested: Reconstructions of `x` from each prefix of the latents, the whole included.

    Returns:
        At least 0, in the square of the unit of `x`.

    Source:
        Bussmann et al. 2025, arXiv:2503.17547. Differs from it: a mean over prefixes, not a sum.

    Example:
        >>> reconstruction(torch.tensor([[1.0, 0.0]]), [torch.tensor([[0.0, 0.0]])]).item()
        0.5
    """
    return torch.stack([(x - x_hat).square().mean() for x_hat in nested]).mean()


def l1(z: Float[Tensor, "n d_sae"], W_dec: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, ""]:  # noqa: N803
    """Mean over tokens of the sum of latents weighted by decoder norm, over the root of d_in.

    Args:
        z: Latents in training units; every row counts.
        W_dec: Directions; a longer row makes its latent dearer.

    Returns:
        At least 0; 1 is one latent as large as a typical input is long.

    Source:
        Anthropic, "Circuits updates: April 2024". Differs from it: over the root of d_in, with the
        squared error over d_in, so that one weight suits every width.

    Example:
        >>> l1(torch.tensor([[2.0, 0.0]]), torch.eye(2, 4)).item()
        1.0
    """
    return (z @ W_dec.norm(dim=-1)).mean() / W_dec.shape[1] ** 0.5


def auxiliary(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    error: Float[Tensor, "n d_in"],
    dead: Bool[Tensor, " d_sae"],
    k_aux: int,
) -> Float[Tensor, ""]:
    """Squared error, over d_in, of the dead latents' attempt at what the dictionary missed.

    The attempt uses each token's k_aux largest positive pre-activations among dead latents (all
    of them where there are fewer) and no bias. The missed part is a target: no gradient reaches it.

    Args:
        sae: The dictionary.
        x: Residual vectors; every row counts.
        error: What the reconstructions miss of them, in training units.
        dead: True where a latent has not fired for long.
        k_aux: Latents used a token, at least 1.

    Returns:
        At least 0, dimensionless.

    Source:
        Gao et al. 2024, arXiv:2406.04093, appendix A.2. Differs from it: the squared error is over
        d_in, not over the error's own size.

    Example:
        >>> from sae.dictionary.config import SaeConfig, TopKConfig
        >>> sae = Sae(SaeConfig(d_in=2, d_sae=2, sparsity=TopKConfig(k=1)))
        >>> _ = sae.load_state_dict(sae.state_dict() | dict(W_enc=torch.eye(2), W_dec=torch.eye(2)))
        >>> x, error = torch.tensor([[1.0, 9.0]]), torch.tensor([[2.0, 0.0]])
        >>> auxiliary(sae, x, error, torch.tensor([True, False]), k_aux=1).item()
        0.5
    """
    few = dead.nonzero().squeeze(1)
    centred = sae.input_scale * x.to(sae.W_enc.dtype) - sae.b_dec
    tried = torch.addmm(sae.b_enc[few], centred, sae.W_enc.T[few].T).relu()
    kept = tried.topk(min(k_aux, len(few)), dim=-1, sorted=False)
    z = torch.zeros_like(tried).scatter(-1, kept.indices, kept.values)
    return (error.detach() - z @ sae.W_dec[few]).square().mean()


class Pass(NamedTuple):
    """What a batch came to while its loss was computed."""

    z: Latents
    """Latents that fire; unit: activation times `input_scale`."""
    x_hat: Float[Tensor, "n d_in"]
    """Reconstructions; unit: activation."""


AUX_TOKENS = 512
"""Tokens of a batch, evenly spaced, at whose errors dead latents try; all where there are fewer."""


def dictionary_loss(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    dead: Bool[Tensor, " d_sae"] | None = None,
    aux_weight: float = 1 / 32,
    k_aux: int | None = None,
    encoder_dtype: torch.dtype | None = None,
) -> tuple[Loss, Pass]:
    """The loss of a dictionary on one batch, and what its pass gave.

    `reconstruction` is always a term, with weight 1. `l1` is one for Relu. `auxiliary` is one where
    some latents are dead and `aux_weight` is above 0, except for Relu, whose dead latents have no
    positive pre-activation to learn from; it is a mean over 512 tokens of the batch, evenly spaced,
    which estimates that over all.

    Args:
        sae: The dictionary, in training mode.
        x: Residual vectors of real tokens; unit: activation.
        dead: True where a latent has not fired for long; None means none is.
        aux_weight: Weight of `auxiliary`, at least 0; 1/32 as in Gao et al. 2024.
        k_aux: Dead latents used a token; half of d_in where None.
        encoder_dtype: Of the encoder's product (see `Sae.encode_sparse`); makes no difference to
            Relu, whose latents are too many to be sparse while it is fitted.

    Returns:
        The loss, and the pass it came from.

    Example:
        >>> from sae.dictionary.config import SaeConfig, TopKConfig
        >>> sae = Sae(SaeConfig(d_in=4, d_sae=8, sparsity=TopKConfig(k=2)))
        >>> loss, output = dictionary_loss(sae, torch.ones(3, 4))
        >>> list(loss.terms), output.z.dense().shape
        (['reconstruction'], torch.Size([3, 8]))
    """
    scale, config, weights = sae.input_scale, sae.config, {"reconstruction": 1.0}
    if isinstance(config.sparsity, ReluConfig):
        z = sae.encode(x)
        nested, fired = sae.decode_nested(z), Latents.of(z.detach())
        terms = {"l1": l1(z, sae.W_dec)}
        weights["l1"] = config.sparsity.l1
    else:
        fired, terms = sae.encode_sparse(x, encoder_dtype), {}
        nested = sae.decode_sparse(fired)
        if dead is not None and aux_weight > 0 and bool(dead.any()):
            used = max(1, config.d_in // 2) if k_aux is None else k_aux
            every = max(1, len(x) // AUX_TOKENS)
            few = x[::every]
            error = scale * (few - nested[-1][::every])
            terms["auxiliary"] = auxiliary(sae, few, error, dead, used)
            weights["auxiliary"] = aux_weight
    terms = {"reconstruction": scale**2 * reconstruction(x, nested)} | terms
    return Loss(terms, weights), Pass(fired, nested[-1])
