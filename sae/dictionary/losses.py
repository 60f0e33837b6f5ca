"""What fitting lowers: pure terms, and a `Loss` whose total is derived from them.

Terms are in training units (`input_scale` times activation) over the width, hence dimensionless and
comparable between models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.dictionary.config import ReluConfig
from sae.dictionary.sae import Sae, SaeOutput
from sae.errors import ConfigError

__all__ = ["Loss", "auxiliary", "dictionary_loss", "l1", "reconstruction"]


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
    error: Float[Tensor, "n d_in"],
    pre: Float[Tensor, "n d_sae"],
    W_dec: Float[Tensor, "d_sae d_in"],  # noqa: N803
    dead: Bool[Tensor, " d_sae"],
    k_aux: int,
) -> Float[Tensor, ""]:
    """Squared error, over d_in, of the dead latents' attempt at what the dictionary missed.

    The attempt uses each token's k_aux largest positive pre-activations among dead latents (all
    of them where there are fewer) and no bias. The missed part is a target: no gradient reaches it.

    Args:
        error: `x - x_hat` in training units; every row counts.
        pre: Pre-activations in training units.
        W_dec: Directions.
        dead: True where a latent has not fired for long.
        k_aux: Latents used a token, at least 1.

    Returns:
        At least 0, dimensionless.

    Source:
        Gao et al. 2024, arXiv:2406.04093, appendix A.2. Differs from it: the squared error is over
        d_in, not over the error's own size.

    Example:
        >>> error, pre = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 9.0]])
        >>> auxiliary(error, pre, torch.eye(2), torch.tensor([True, False]), k_aux=1).item()
        0.5
    """
    candidates = pre[:, dead].relu()
    kept = candidates.topk(min(k_aux, candidates.shape[1]), dim=-1, sorted=False)
    z = torch.zeros_like(candidates).scatter(-1, kept.indices, kept.values)
    return (error.detach() - z @ W_dec[dead]).square().mean()


def dictionary_loss(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    dead: Bool[Tensor, " d_sae"] | None = None,
    aux_weight: float = 1 / 32,
    k_aux: int | None = None,
) -> tuple[Loss, SaeOutput]:
    """The loss of a dictionary on one batch, and what its pass gave.

    `reconstruction` is always a term, with weight 1. `l1` is one for Relu. `auxiliary` is one where
    some latents are dead and `aux_weight` is above 0, except for Relu, whose dead latents have no
    positive pre-activation to learn from.

    Args:
        sae: The dictionary, in training mode.
        x: Residual vectors of real tokens; unit: activation.
        dead: True where a latent has not fired for long; None means none is.
        aux_weight: Weight of `auxiliary`, at least 0; 1/32 as in Gao et al. 2024.
        k_aux: Dead latents used a token; half of d_in where None.

    Returns:
        The loss, and the pass it came from.

    Example:
        >>> from sae.dictionary.config import SaeConfig, TopKConfig
        >>> sae = Sae(SaeConfig(d_in=4, d_sae=8, sparsity=TopKConfig(k=2)))
        >>> loss, output = dictionary_loss(sae, torch.ones(3, 4))
        >>> list(loss.terms), output.z.shape
        (['reconstruction'], torch.Size([3, 8]))
    """
    pre = sae.pre_activations(x)
    z = sae.sparsity(pre, sae.training)
    nested = sae.decode_nested(z)
    scale, config = sae.input_scale, sae.config
    terms = {"reconstruction": scale**2 * reconstruction(x, nested)}
    weights = {"reconstruction": 1.0}
    if isinstance(config.sparsity, ReluConfig):
        terms["l1"], weights["l1"] = l1(z, sae.W_dec), config.sparsity.l1
    elif dead is not None and aux_weight > 0 and bool(dead.any()):
        used = max(1, config.d_in // 2) if k_aux is None else k_aux
        error = scale * (x - nested[-1])
        terms["auxiliary"] = auxiliary(error, pre, sae.W_dec, dead, used)
        weights["auxiliary"] = aux_weight
    return Loss(terms, weights), SaeOutput(z=z, x_hat=nested[-1], pre=pre)
