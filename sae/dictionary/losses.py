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
from torch.nn.functional import mse_loss

from sae.dictionary import kernels
from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluTanhConfig,
    ReluConfig,
    TopKConfig,
)
from sae.dictionary.latents import Latents
from sae.dictionary.penalties import l1, penalties
from sae.dictionary.sae import Sae
from sae.errors import ConfigError

__all__ = ["Loss", "Pass", "auxiliary", "dictionary_loss", "l1", "reconstruction", "relative"]


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


@torch.no_grad()
def relative(x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"]:
    """Weights by which a token's error counts relative to its size.

    A token counts in inverse proportion to its squared distance from the mean token plus the median
    such distance: a long vector cannot drown the rest, and a short one counts no more than twice
    what one of median size does.

    Args:
        x: Residual vectors; every row counts.

    Returns:
        A weight a token, 1 on average.

    Source:
        Gao et al. 2024, arXiv:2406.04093, who scale every token to norm 1. Differs from it: tokens
        keep their size, so latents keep their unit.

    Example:
        >>> relative(torch.tensor([[4.0], [4.0], [4.0], [0.0]])).tolist()
        [1.25, 1.25, 1.25, 0.25]
    """
    size = (x - x.mean(0)).square().sum(1)
    # Where most tokens are the mean token, the median says nothing of size.
    least = 1e-6 * size.mean() + torch.finfo(size.dtype).tiny
    weight = 1 / (size + size.median()).clamp_min(least)
    return weight / weight.mean()


def reconstruction(
    x: Float[Tensor, "n d_in"],
    nested: Sequence[Float[Tensor, "n d_in"]],
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over tokens of the squared error over d_in, averaged over nested reconstructions.

    Args:
        x: Residual vectors; every row counts.
        nested: Reconstructions of `x` from each prefix of the latents, the whole included.
        weight: How much each token counts, 1 on average; None: all alike.

    Returns:
        At least 0, in the square of the unit of `x`.

    Source:
        Bussmann et al. 2025, arXiv:2503.17547. Differs from it: a mean over prefixes, not a sum.

    Example:
        >>> reconstruction(torch.tensor([[1.0, 0.0]]), [torch.tensor([[0.0, 0.0]])]).item()
        0.5
    """
    if weight is None:
        return torch.stack([mse_loss(x_hat, x) for x_hat in nested]).mean()
    root = weight.sqrt()[:, None]
    return torch.stack([mse_loss(root * x_hat, root * x) for x_hat in nested]).mean()


def auxiliary(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    error: Float[Tensor, "n d_in"],
    dead: Bool[Tensor, " d_sae"],
    k_aux: int,
    rows: tuple[Float[Tensor, "n_dead d_in"], Float[Tensor, "n_dead d_in"]] | None = None,
    weight: Float[Tensor, " n"] | None = None,
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
        rows: Encoder and decoder rows of the dead latents, where the caller has them apart.
        weight: How much each token counts, 1 on average; None: all alike.

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
    readers, writers = (sae.W_enc.T[few], sae.W_dec[few]) if rows is None else rows
    centred = sae.scale * x.to(sae.W_enc.dtype) - sae.b_dec.detach()
    # A vector of zeros, so that b_dec's gradient is one product of it and not one a token.
    bias = sae.b_enc[few] + readers @ (sae.b_dec.detach() - sae.b_dec)
    tried = torch.addmm(bias, centred, readers.T).relu()
    kept = tried.topk(min(k_aux, len(few)), dim=-1, sorted=False)
    z = torch.zeros_like(tried).scatter(-1, kept.indices, kept.values)
    missed = (error.detach() - z @ writers).square()
    return missed.mean() if weight is None else weight @ missed.mean(1) / len(missed)


class Pass(NamedTuple):
    """What a batch came to while its loss was computed."""

    z: Latents
    """Latents that fire; unit: activation times `input_scale`."""
    x_hat: Float[Tensor, "n d_in"]
    """Reconstructions; unit: activation."""


AUX_TOKENS = 512
"""Tokens of a batch, evenly spaced, at whose errors dead latents try; all where there are fewer."""


SPARSE_SHARE = 1 / 32
"""Share of entries up to which passing them one by one costs less than dense products."""
PROBE_TOKENS = 64
"""Tokens of a batch, evenly spaced, by which that share is judged."""
HAVE_NO_AUXILIARY = (ReluConfig, GatedConfig, JumpReluTanhConfig)
"""Kinds whose dead latents have no positive pre-activation, or another way back."""


@torch.no_grad()
def _is_sparse(sae: Sae, x: Float[Tensor, "n d_in"]) -> bool:
    """Whether few entries of a batch matter; nothing but the batch may decide, so runs resume."""
    if isinstance(sae.config.sparsity, TopKConfig | BatchTopKConfig):
        return True
    few = x[:: max(1, len(x) // PROBE_TOKENS)]
    return len(sae.pre_sparse(few).index) <= SPARSE_SHARE * len(few) * sae.config.d_sae


def _apart(
    sae: Sae, dead: Bool[Tensor, " d_sae"] | None
) -> tuple[
    Float[Tensor, "d_in d_sae"],
    Float[Tensor, "d_sae d_in"],
    tuple[Float[Tensor, "n_dead d_in"], Float[Tensor, "n_dead d_in"]] | None,
]:
    """Encoder, decoder, and the rows of dead latents of both apart, if there are any."""
    if dead is None:
        return sae.W_enc, sae.W_dec, None
    few = dead.nonzero().squeeze(1)
    W_enc, readers = kernels.apart(sae.W_enc.T, few)  # noqa: N806
    W_dec, writers = kernels.apart(sae.W_dec, few)  # noqa: N806
    return W_enc.T, W_dec, (readers, writers)


def dictionary_loss(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    dead: Bool[Tensor, " d_sae"] | None = None,
    aux_weight: float = 1 / 32,
    encoder_dtype: torch.dtype | None = None,
    progress: float = 1.0,
    relative_error: bool = False,
) -> tuple[Loss, Pass]:
    """The loss of a dictionary on one batch, and what its pass gave.

    `reconstruction` is always a term, with weight 1; others are the sparsity's own
    (`penalties.penalties`). `auxiliary` is one where some latents are dead and `aux_weight` is
    above 0, except for Relu and Gated, whose dead latents have no positive pre-activation to learn
    from, and for JumpRelu with a tanh penalty, whose `pre_act` does its work; it is a mean over 512
    tokens of the batch, evenly spaced, which estimates that over all, and each uses up to d_in / 2
    dead latents, as in Gao et al. 2024.

    Kinds that do not count fires are passed as entries where few of them matter, else densely; the
    loss and its gradients are the same.

    Args:
        sae: The dictionary, in training mode.
        x: Residual vectors of real tokens; unit: activation.
        dead: True where a latent has not fired for long; None means none is.
        aux_weight: Weight of `auxiliary`, at least 0; 1/32 as in Gao et al. 2024.
        encoder_dtype: Of the encoder's product (see `Sae.encode_sparse`); makes no difference to a
            batch that is passed densely.
        progress: Share of the run behind, in [0, 1]; penalties and selections change with it.
        relative_error: Whether `relative` weighs tokens in these two terms.

    Returns:
        The loss, and the pass it came from.

    Example:
        >>> from sae.dictionary.config import SaeConfig, TopKConfig
        >>> sae = Sae(SaeConfig(d_in=4, d_sae=8, sparsity=TopKConfig(k=2)))
        >>> loss, output = dictionary_loss(sae, torch.ones(3, 4))
        >>> list(loss.terms), output.z.dense().shape
        (['reconstruction'], torch.Size([3, 8]))
    """
    scale, config = sae.scale, sae.config
    scaled = scale * x.to(sae.W_enc.dtype)
    helps = not isinstance(config.sparsity, HAVE_NO_AUXILIARY) and aux_weight > 0
    silent = dead if helps and dead is not None and bool(dead.any()) else None
    is_sparse = _is_sparse(sae, x)
    W_enc, W_dec, rows = _apart(sae, silent if is_sparse else None)  # noqa: N806
    if is_sparse:
        pre = sae.pre_sparse(x, encoder_dtype, progress, W_enc)
        z = fired = sae.sparsity.activate(pre, sae.training)
    else:
        pre = sae.pre_activations(x)
        z = sae.sparsity(pre, sae.training)
        fired = Latents.of(z.detach())
    nested = kernels.nested(z, W_dec, sae.b_dec, config.prefixes)
    weight = relative(scaled) if relative_error else None
    found = {"reconstruction": (reconstruction(scaled, nested, weight), 1.0)}
    found |= penalties(sae, x, pre, z, progress)
    if silent is not None:
        used, every = max(1, config.d_in // 2), max(1, len(x) // AUX_TOKENS)
        error = scaled[::every] - nested[-1][::every]
        few = None if weight is None else weight[::every]
        missed = auxiliary(sae, x[::every], error, silent, used, rows, few)
        found["auxiliary"] = (missed, aux_weight)
    terms = {name: term for name, (term, _) in found.items()}
    weights = {name: weight for name, (_, weight) in found.items()}
    return Loss(terms, weights), Pass(fired, nested[-1] / scale)
