"""Whether a dictionary is what it claims on activations at hand: silent misreadings, said aloud."""

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.metrics import (
    FireSums,
    FvuSums,
    fvu_compute,
    fvu_update,
    l0_compute,
    l0_update,
)
from sae.dictionary.sae import Sae
from sae.errors import InputError

__all__ = ["Sanity", "sanity_check"]

NEAR = 4.0
"""How many times the declared number of fires, or how small a part of it, is near it."""
CHUNK_TOKENS = 4096


class Sanity(NamedTuple):
    """What a dictionary makes of activations."""

    fvu: float
    """Fraction of variance unexplained, see `fvu_compute`."""
    l0: float
    """Fires a token."""


def sanity_check(
    sae: Sae, activations: Float[Tensor, "n d_in"], meta: Mapping[str, Any] | None = None
) -> Sanity:
    """Makes sure that a dictionary explains activations and fires about as often as it declares.

    Where it does not, it is tried with the other rule for `b_dec` and on scaled activations, so
    that the message can name the likely cause.

    Args:
        sae: A finished dictionary; left alone.
        activations: Residual vectors of real tokens, at least two, without special ones; unit:
            activation.
        meta: What it says of itself: `source.l0` or `metrics.l0` is the declared L0. Without either
            that is its sparsity's bound, and where there is none any L0 will do.

    Returns:
        What was measured.

    Raises:
        InputError: FVU is not below 1, or L0 not within a factor of 4 of the declared one.

    Example:
        >>> from sae.dictionary.config import SaeConfig
        >>> from sae.dictionary.kinds import ReluConfig
        >>> sae = Sae(SaeConfig(d_in=1, d_sae=2, sparsity=ReluConfig(l1=0.0)))
        >>> with torch.no_grad():
        ...     _ = sae.W_enc.copy_(torch.tensor([[1.0, -1.0]]))
        ...     _ = sae.W_dec.copy_(sae.W_enc.T)
        >>> sanity_check(sae, torch.tensor([[1.0], [-3.0]]))
        Sanity(fvu=0.0, l0=1.0)
    """
    meta = meta or {}
    found, declared = _measure(sae, activations), _declared(sae, meta)
    if _is_well(found, declared):
        return found
    held = "" if declared is None else f" where {declared:g} is declared"
    asked = f"a dictionary of {sae.config.d_in} inputs that explains {len(activations)} activations"
    told = f"FVU {found.fvu:.3g} and {found.l0:.3g} fires a token{held}"
    raise InputError(asked, told, _likely(sae, activations, meta, declared))


def _measure(sae: Sae, x: Float[Tensor, "n d_in"]) -> Sanity:
    was_training = sae.training
    sae.eval()
    try:
        with torch.no_grad():
            sums = [_sums(sae, part) for part in x.split(CHUNK_TOKENS)]
    finally:
        sae.train(was_training)
    first, *rest = sums
    fvu, fires = first
    for each in rest:
        fvu, fires = fvu + each[0], fires + each[1]
    return Sanity(fvu_compute(fvu), l0_compute(fires))


def _sums(sae: Sae, x: Float[Tensor, "n d_in"]) -> tuple[FvuSums, FireSums]:
    x = x.to(sae.W_dec.device)
    z = sae.encode_sparse(x)
    return fvu_update(x, sae.decode_sparse(z)[-1]), l0_update(z)


def _declared(sae: Sae, meta: Mapping[str, Any]) -> float | None:
    for name in ("source", "metrics"):
        told = meta.get(name)
        if isinstance(told, Mapping) and isinstance(told.get("l0"), int | float):
            return float(told["l0"])
    return sae.config.sparsity.l0_bound


def _is_well(found: Sanity, declared: float | None) -> bool:
    is_near = declared is None or declared / NEAR <= found.l0 <= declared * NEAR
    return math.isfinite(found.fvu) and found.fvu < 1 and is_near


def _likely(
    sae: Sae, x: Float[Tensor, "n d_in"], meta: Mapping[str, Any], declared: float | None
) -> str:
    """What to do, from which change would mend it."""
    source = meta.get("source")
    subtracts = not isinstance(source, Mapping) or source.get("subtract_b_dec") is not False
    other = copy.deepcopy(sae)
    with torch.no_grad():
        other.b_enc.add_((1 if subtracts else -1) * (other.b_dec @ other.W_enc))
    if _is_well(_measure(other, x), declared):
        return f"read it with subtract_b_dec {not subtracts}: then it does"
    scale = math.sqrt(x.shape[1]) / float(x.norm(dim=-1).mean().clamp_min(1e-12))
    if _is_well(_measure(sae, x * scale), declared):
        return f"give input_scale, or activations times {scale:.3g}: of scaled ones it does"
    return (
        "check model, hook and layer (hidden_states[n + 1] is the output of layer n), leave special"
        " tokens out, and check k and threshold"
    )
