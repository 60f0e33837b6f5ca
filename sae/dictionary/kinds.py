"""What each kind of sparsity is to be: frozen configs, checked when made, told apart by `kind`."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from sae.errors import ConfigError

__all__ = [
    "BatchTopKConfig",
    "ReluConfig",
    "SparsityConfig",
    "TopKConfig",
    "kind_of",
    "require_int",
]


def require_int(name: str, value: int, low: int, high: int | None = None) -> None:
    """Refuses an integer out of range.

    Args:
        name: What it is called.
        value: The integer.
        low: The least allowed.
        high: The largest allowed; None for no limit.

    Raises:
        ConfigError: It lies outside.
    """
    if value < low or (high is not None and value > high):
        do = f"give an integer of at least {low}" + ("" if high is None else f" and at most {high}")
        raise ConfigError(f"{name}={value}", "a number out of range", do)


def _require_float(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not low <= value < high:
        do = f"give a finite number of at least {low:g}"
        do += f" and below {high:g}" if high < math.inf else ""
        raise ConfigError(f"{name}={value}", "a number out of range", do)


@dataclass(frozen=True)
class ReluConfig:
    """ReLU with an L1 penalty: every positive pre-activation fires, and firing costs.

    Source: Anthropic, "Circuits updates: April 2024". Differs from it: decoder rows keep norm 1.
    """

    l1: float
    """Weight of the `l1` term, dimensionless, at least 0 (that paper's 5 at width 4096 is 0.08)."""
    kind: Literal["relu"] = "relu"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        _require_float("l1", self.l1, 0.0)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch: none is promised."""
        return None


@dataclass(frozen=True)
class TopKConfig:
    """TopK: the k largest positive pre-activations of each token fire.

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv:2406.04093.
    """

    k: int
    """Most fires a token, from 1 to d_sae."""
    kind: Literal["topk"] = "topk"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        require_int("k", self.k, 1)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token."""
        return float(self.k)


@dataclass(frozen=True)
class BatchTopKConfig:
    """BatchTopK: the n k largest positive pre-activations of a batch of n tokens fire.

    Once fitted, a latent fires above one threshold instead, so that a token's latents do not
    depend on its batch.

    Source: Bussmann et al. 2024, "BatchTopK sparse autoencoders", arXiv:2412.06410.
    """

    k: int
    """Most fires a token, averaged over a training batch, from 1 to d_sae."""
    threshold_beta: float = 0.999
    """Memory of the running threshold, in [0, 1): the weight of its past at each batch."""
    kind: Literal["batch_topk"] = "batch_topk"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        require_int("k", self.k, 1)
        _require_float("threshold_beta", self.threshold_beta, 0.0, 1.0)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch."""
        return float(self.k)


SparsityConfig = ReluConfig | TopKConfig | BatchTopKConfig
"""How pre-activations become latents: a union told apart by `kind`."""


def kind_of(config_class: type) -> str:
    """The `kind` a sparsity config class answers to.

    Args:
        config_class: A member of `SparsityConfig`.

    Returns:
        The value of its `kind` literal.

    Example:
        >>> kind_of(TopKConfig)
        'topk'
    """
    return get_args({each.name: each.type for each in fields(config_class)}["kind"])[0]
