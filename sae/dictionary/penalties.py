"""What keeps latents few: the terms of a loss that are a sparsity's own, and which has which.

Latents and pre-activations come as matrices or as entries (`Latents`); every term is the same sum
over either.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary import kernels
from sae.dictionary.jump_relu import JumpRelu, n_above
from sae.dictionary.kinds import (
    GatedConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
)
from sae.dictionary.latents import Latents
from sae.dictionary.layout import Costs
from sae.dictionary.sae import Sae

__all__ = ["gate_reconstruction", "l0_excess", "l1", "penalties", "pre_act", "tanh"]


def _with_each(
    z: Float[Tensor, "n d_sae"] | Latents, each: Float[Tensor, " d_sae"]
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Values, and beside each what belongs to its latent."""
    return (z.value, each[z.index]) if isinstance(z, Latents) else (z, each.expand_as(z))


def _costs(sae: Sae) -> Costs:
    return sae.layout.costs(sae.W_dec)


def _priced(
    cost: Float[Tensor, "..."], z: Float[Tensor, "n d_sae"] | Latents, costs: Costs
) -> Float[Tensor, "..."]:
    return cost if costs.price is None else cost * _with_each(z, costs.price)[1]


def l1(
    z: Float[Tensor, "n d_sae"] | Latents,
    W_dec: Float[Tensor, "d_sae d_in"],  # noqa: N803
    costs: Costs | None = None,
) -> Float[Tensor, ""]:
    """Mean over tokens of the sum of latents weighted by decoder norm, over the root of d_in.

    Args:
        z: Latents in training units; every row counts.
        W_dec: Directions; a longer row makes its latent dearer.
        costs: What the layout of the dictionary says of them; norms at one price where None.

    Returns:
        At least 0; 1 is one latent as large as a typical input is long.

    Source:
        Anthropic, "Circuits updates: April 2024". Differs from it: over the root of d_in, with the
        squared error over d_in, so that one weight suits every width.

    Example:
        >>> l1(torch.tensor([[2.0, 0.0]]), torch.eye(2, 4)).item()
        1.0
    """
    costs = costs or Costs(W_dec.norm(dim=-1))
    value, length = _with_each(z, costs.length)
    return _priced(value * length, z, costs).sum() / (len(z) * W_dec.shape[1] ** 0.5)


def tanh(
    z: Float[Tensor, "n d_sae"] | Latents,
    W_dec: Float[Tensor, "d_sae d_in"],  # noqa: N803
    steepness: float,
    costs: Costs | None = None,
) -> Float[Tensor, ""]:
    """Mean over tokens of what latents cost when the cost of each saturates at 1, over d_in.

    A latent costs the hyperbolic tangent of steepness times latent times decoder norm.

    Args:
        z: Latents in training units; every row counts.
        W_dec: Directions.
        steepness: How fast a latent's cost saturates, above 0.
        costs: As in `l1`; a price is what the saturated cost is multiplied by.

    Returns:
        At least 0; nearly L0 over d_in where latents are large.

    Source:
        Conerly et al. 2025, "Dictionary learning optimization techniques". Differs from it: over
        d_in, as the squared error is.

    Example:
        >>> round(tanh(torch.tensor([[9.0, 0.0]]), torch.eye(2), 4.0).item(), 6)
        0.5
    """
    costs = costs or Costs(W_dec.norm(dim=-1))
    value, length = _with_each(z, costs.length)
    cost = _priced((steepness * value * length).tanh(), z, costs)
    return cost.sum() / (len(z) * W_dec.shape[1])


def pre_act(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    pre: Float[Tensor, "n d_sae"] | Latents,
    threshold: Float[Tensor, " d_sae"],
) -> Float[Tensor, ""]:
    """Mean over tokens of how far latents stay below their thresholds, by decoder norm, over d_in.

    Where only entries are given, it is the sum over all pre-activations, which costs one product
    with the sum of the tokens, put right at the entries above their thresholds.

    Args:
        sae: The dictionary.
        x: Residual vectors; every row counts.
        pre: Their pre-activations, at least those above their thresholds.
        threshold: Of each latent, at least 0.

    Returns:
        At least 0, dimensionless.

    Source:
        Conerly et al. 2025, "Dictionary learning optimization techniques". Differs from it: over
        d_in. SAELens counts dead latents alone.

    Example:
        >>> from sae.dictionary.config import JumpReluTanhConfig, SaeConfig
        >>> sae = Sae(SaeConfig(2, 2, JumpReluTanhConfig(tanh=1.0)))
        >>> _ = sae.load_state_dict(sae.state_dict() | dict(W_enc=torch.eye(2), W_dec=torch.eye(2)))
        >>> x, threshold = torch.tensor([[3.0, 0.5]]), torch.tensor([1.0, 1.0])
        >>> pre_act(sae, x, sae.pre_activations(x), threshold).item()
        0.25
    """
    n, length = len(x), _costs(sae).length
    if not isinstance(pre, Latents):
        return ((threshold - pre).relu() @ length).sum() / (n * sae.config.d_in)
    total = (sae.scale * x.to(sae.W_enc.dtype)).sum(0) - n * sae.b_dec
    below = n * (threshold - sae.b_enc) - total @ sae.W_enc
    value, own = _with_each(pre, threshold)
    above = ((value - own).relu() * length[pre.index]).sum()
    return (below @ length + above) / (n * sae.config.d_in)


def l0_excess(
    pre: Float[Tensor, "n d_sae"] | Latents,
    threshold: Float[Tensor, " d_sae"],
    bandwidth: float,
    l0: float,
) -> Float[Tensor, ""]:
    """Square of how far fires a token are from a number of them, in shares of that number.

    Args:
        pre: Pre-activations in training units, at least those above their threshold or near it.
        threshold: Of each latent, at least 0; what the gradient reaches.
        bandwidth: Width of the window whose entries make that gradient, in training units.
        l0: Fires a token aimed at.

    Returns:
        0 where as many fire as aimed at, 1 where none or twice as many do.

    Source:
        Rajamanoharan et al. 2024, arXiv:2407.14435, and the targeted form in `dictionary_learning`.

    Example:
        >>> l0_excess(torch.tensor([[3.0, 0.5], [2.0, 2.0]]), torch.ones(2), 0.1, l0=1.0).item()
        0.25
    """
    value, own = _with_each(pre, threshold)
    return (n_above(value, own, bandwidth) / len(pre) / l0 - 1).square()


def gate_reconstruction(
    sae: Sae, x: Float[Tensor, "n d_in"], gates: Float[Tensor, "n d_sae"] | Latents
) -> Float[Tensor, ""]:
    """Squared error, over d_in, of what positive gates reconstruct through the frozen decoder.

    It teaches gates to be open where they are of use. Nested prefixes count as in `reconstruction`.

    Args:
        sae: The dictionary.
        x: Residual vectors; every row counts.
        gates: Gates, where positive, in training units.

    Returns:
        At least 0, dimensionless.

    Source:
        Rajamanoharan et al. 2024, arXiv:2404.16014, the auxiliary term.

    Example:
        >>> from sae.dictionary.config import GatedConfig, SaeConfig
        >>> sae = Sae(SaeConfig(2, 2, GatedConfig(l1=0.1)))
        >>> _ = sae.load_state_dict(sae.state_dict() | dict(W_dec=torch.eye(2)))
        >>> gate_reconstruction(sae, torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
        2.0
    """
    frozen = (sae.W_dec.detach(), sae.b_dec.detach(), sae.config.prefixes)
    scaled = sae.scale * x.to(sae.W_enc.dtype)
    errors = [(scaled - each).square().mean() for each in kernels.nested(gates, *frozen)]
    return torch.stack(errors).mean()


def penalties(
    sae: Sae,
    x: Float[Tensor, "n d_in"],
    pre: Float[Tensor, "n d_sae"] | Latents,
    z: Float[Tensor, "n d_sae"] | Latents,
    progress: float,
) -> dict[str, tuple[Float[Tensor, ""], float]]:
    """The terms a dictionary's sparsity adds to its loss, each with its weight.

    Args:
        sae: The dictionary.
        x: Residual vectors; every row counts.
        pre: Their pre-activations, in training units.
        z: Their latents.
        progress: Share of the run behind, in [0, 1].

    Returns:
        `l1` for Relu; `l1` and `gate_reconstruction` for Gated; `tanh` and `pre_act`, or `l0`, for
        JumpRelu; nothing for kinds that count fires, or whose penalty is unknown.
    """
    match sae.config.sparsity, sae.sparsity:
        case ReluConfig() as config, _:
            return {"l1": (l1(z, sae.W_dec, _costs(sae)), config.l1)}
        case GatedConfig() as config, _:
            gates = pre.valued(pre.value.relu()) if isinstance(pre, Latents) else pre.relu()
            own = (gate_reconstruction(sae, x, gates), 1.0)
            return {
                "l1": (l1(gates, sae.W_dec, _costs(sae)), config.l1),
                "gate_reconstruction": own,
            }
        case JumpReluTanhConfig() as config, JumpRelu() as jump:
            weight = config.tanh * min(1.0, progress / config.ramp if config.ramp else 1.0)
            silent = pre_act(sae, x, pre, jump.threshold.clamp_min(0))
            cost = tanh(z, sae.W_dec, config.steepness, _costs(sae))
            return {"tanh": (cost, weight), "pre_act": (silent, config.pre_act)}
        case JumpReluL0Config() as config, JumpRelu() as jump:
            threshold = jump.threshold.clamp_min(0)
            cost = l0_excess(pre, threshold, config.bandwidth, config.l0)
            return {"l0": (cost, config.weight)}
    return {}
