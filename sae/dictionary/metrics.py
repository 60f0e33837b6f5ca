"""One definition for each number: `update` returns sums that add up, `compute` divides.

Every row given counts: leave out padding and special tokens before. Sums are float64 or integers,
so that batching cannot change an answer.
"""

from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from sae.dictionary.latents import Latents
from sae.errors import InputError

__all__ = ["CeSums", "FireSums", "FvuSums", "KlSums", "dead_compute", "dead_update"]
__all__ += ["ce_recovered_compute", "ce_recovered_update", "fire_rate_compute", "fire_rate_update"]
__all__ += ["fvu_compute", "fvu_update", "kl_compute", "kl_update", "l0_compute", "l0_update"]

ROWS = 256
_SumsT = TypeVar("_SumsT", bound="_Sums")


@dataclass(frozen=True)
class _Sums:
    """Sums over tokens; those of two batches add up to those of both."""

    n_tokens: int
    """Tokens."""

    def __add__(self: _SumsT, other: _SumsT) -> _SumsT:
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return type(self)(*(mine + theirs for mine, theirs in pairs))


def _require_tokens(metric: str, n_tokens: int, least: int = 1) -> None:
    if n_tokens < least:
        raise InputError(metric, f"{n_tokens} tokens", f"give at least {least}")


@dataclass(frozen=True)
class FvuSums(_Sums):
    """What `fvu` needs of tokens."""

    x: Float64[Tensor, " d_in"]
    """Sum of `x`; unit: activation."""
    x_squared: Float64[Tensor, " d_in"]
    """Sum of `x` squared; unit: activation^2."""
    error_squared: Float64[Tensor, ""]
    """Sum of squared errors over tokens and dimensions; unit: activation^2."""


def fvu_update(x: Float[Tensor, "n d_in"], x_hat: Float[Tensor, "n d_in"]) -> FvuSums:
    """Sums for the fraction of variance unexplained.

    Args:
        x: Residual vectors as the model gave them; unit: activation.
        x_hat: Reconstructions, in the same unit.

    Returns:
        Sums over these tokens.
    """
    parts = zip(x.detach().split(ROWS), x_hat.detach().split(ROWS), strict=True)
    return reduce(add, (_fvu_part(*each) for each in parts))  # float64 parts that fit a cache


def _fvu_part(x: Float[Tensor, "n d_in"], x_hat: Float[Tensor, "n d_in"]) -> FvuSums:
    exact = x.double()
    ones = exact.new_ones(len(x))  # products with it are faster than sums over rows
    # Unlike the mean's, this difference loses nothing: rounded once, it is as exact as x_hat.
    error = (x - x_hat).flatten()
    return FvuSums(len(x), ones @ exact, ones @ exact.square(), error.dot(error).double())


def fvu_compute(sums: FvuSums) -> float:
    """Fraction of the variance of x left unexplained by x_hat; 0 is perfect.

    Sum of squared error over sum of squared deviation from the per-dimension mean, both over all
    dimensions and tokens. A constant offset counts as error.

    Args:
        sums: From `fvu_update`, added up.

    Returns:
        Dimensionless: 0 for a perfect copy, 1 for the mean of x, unbounded above.

    Raises:
        InputError: Fewer than two tokens, or no variance to explain.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> fvu_compute(fvu_update(x, x.mean(0).expand_as(x)))
        1.0
    """
    _require_tokens("fvu", sums.n_tokens, least=2)
    variance = (sums.x_squared - sums.x.square() / sums.n_tokens).clamp_min(0).sum().item()
    if variance == 0:
        raise InputError("fvu", f"{sums.n_tokens} equal vectors", "give vectors that vary")
    return sums.error_squared.item() / variance


@dataclass(frozen=True)
class FireSums(_Sums):
    """What `l0` and `fire_rate` need of tokens."""

    n_fires: Int64[Tensor, " d_sae"]
    """Tokens on which each latent fires."""


def fire_rate_update(z: Float[Tensor, "n d_sae"] | Latents) -> FireSums:
    """Sums for how often each latent fires, and how many fire on a token.

    Args:
        z: Latent activations, in any unit.

    Returns:
        Sums over these tokens.
    """
    return FireSums(len(z), z.n_fires() if isinstance(z, Latents) else (z > 0).sum(0))


l0_update = fire_rate_update
"""Sums for the number of fires a token: those of `fire_rate_update`."""


def l0_compute(sums: FireSums) -> float:
    """Mean number of latents that fire on a token.

    Args:
        sums: From `l0_update`, added up.

    Returns:
        Fires per token, from 0 to d_sae.

    Raises:
        InputError: No tokens.

    Example:
        >>> l0_compute(l0_update(torch.tensor([[1.0, 0.0], [2.0, 3.0]])))
        1.5
    """
    _require_tokens("l0", sums.n_tokens)
    return sums.n_fires.sum().item() / sums.n_tokens


def fire_rate_compute(sums: FireSums) -> Float64[Tensor, " d_sae"]:
    """Share of tokens on which each latent fires, in [0, 1].

    Args:
        sums: From `fire_rate_update`, added up.

    Raises:
        InputError: No tokens.

    Example:
        >>> fire_rate_compute(fire_rate_update(torch.tensor([[1.0, 0.0], [2.0, 3.0]]))).tolist()
        [1.0, 0.5]
    """
    _require_tokens("fire_rate", sums.n_tokens)
    return sums.n_fires.double() / sums.n_tokens


def dead_update(
    n_tokens_since_fired: Int64[Tensor, " d_sae"], z: Latents
) -> Int64[Tensor, " d_sae"]:
    """Tokens since each latent last fired, after a batch in the order it was seen.

    Args:
        n_tokens_since_fired: Before the batch; start at 0.
        z: Latent activations of the batch, in any unit.

    Returns:
        After the batch: 0 for a latent that fired on its last token.
    """
    fired = torch.where(z.value > 0, z.token, -1)
    last = torch.full_like(n_tokens_since_fired, -1).scatter_reduce(0, z.index, fired, "amax")
    return torch.where(last >= 0, len(z) - 1 - last, n_tokens_since_fired + len(z))


def dead_compute(
    n_tokens_since_fired: Int64[Tensor, " d_sae"], dead_after_tokens: int
) -> Bool[Tensor, " d_sae"]:
    """True for a dead latent: one that fired on none of the last `dead_after_tokens` tokens.

    Args:
        n_tokens_since_fired: From `dead_update`.
        dead_after_tokens: Tokens of silence after which a latent is dead, at least 1.

    Example:
        >>> z = Latents.of(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        >>> n = dead_update(torch.tensor([0, 0]), z)
        >>> n.tolist(), dead_compute(n, dead_after_tokens=2).tolist()
        ([1, 2], [False, True])
    """
    return n_tokens_since_fired >= dead_after_tokens


@dataclass(frozen=True)
class CeSums(_Sums):
    """What `ce_recovered` needs of tokens; each a sum of next-token cross-entropies in nats."""

    clean: Float64[Tensor, ""]
    """Of the untouched model."""
    patched: Float64[Tensor, ""]
    """With the residual at the hook replaced by its reconstruction."""
    ablated: Float64[Tensor, ""]
    """With the residual at the hook replaced by its mean over the tokens evaluated."""


def ce_recovered_update(
    clean: Float[Tensor, " n"], patched: Float[Tensor, " n"], ablated: Float[Tensor, " n"]
) -> CeSums:
    """Sums for the cross-entropy a dictionary recovers, from one value a predicted token.

    Args:
        clean: Cross-entropies of the untouched model, in nats.
        patched: Those with the residual replaced by its reconstruction.
        ablated: Those with the residual replaced by its mean (mean ablation).

    Returns:
        Sums over these tokens.
    """
    sums = (each.detach().double().sum() for each in (clean, patched, ablated))
    return CeSums(len(clean), *sums)


def ce_recovered_compute(sums: CeSums) -> float:
    """Share of the cross-entropy lost by mean ablation that the reconstruction wins back.

    Args:
        sums: From `ce_recovered_update`, added up.

    Returns:
        `(ablated - patched) / (ablated - clean)`: 1 for a perfect copy, 0 for the mean.

    Raises:
        InputError: No tokens, or ablation costs nothing.

    Example:
        >>> clean, patched, ablated = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([5.0])
        >>> ce_recovered_compute(ce_recovered_update(clean, patched, ablated))
        0.75
    """
    _require_tokens("ce_recovered", sums.n_tokens)
    cost = (sums.ablated - sums.clean).item()
    if cost <= 0:
        raise InputError("ce_recovered", f"ablation costs {cost:g} nats", "use a hook that matters")
    return (sums.ablated - sums.patched).item() / cost


@dataclass(frozen=True)
class KlSums(_Sums):
    """What `kl` needs of tokens."""

    nats: Float64[Tensor, ""]
    """Sum of divergences."""


def kl_update(base: Float[Tensor, "n vocab"], tuned: Float[Tensor, "n vocab"]) -> KlSums:
    """Sums for KL(base || tuned) of next-token distributions.

    Args:
        base: Logits of the base model.
        tuned: Logits of the tuned, or patched, model on the same tokens.

    Returns:
        Sums over these tokens.
    """
    log_base, log_tuned = (each.detach().float().log_softmax(-1) for each in (base, tuned))
    per_token = (log_base.exp() * (log_base - log_tuned)).sum(-1)
    return KlSums(len(base), per_token.double().sum())


def kl_compute(sums: KlSums) -> float:
    """Mean over tokens of KL(base || tuned).

    Args:
        sums: From `kl_update`, added up.

    Returns:
        Nats per token, at least 0 up to rounding; 0 for equal distributions.

    Raises:
        InputError: No tokens.

    Example:
        >>> kl_compute(kl_update(torch.zeros(1, 3), torch.ones(1, 3)))
        0.0
    """
    _require_tokens("kl", sums.n_tokens)
    return sums.nats.item() / sums.n_tokens
