"""What each kind of sparsity is to be: frozen configs, checked when made, told apart by `kind`."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from sae.errors import ConfigError

__all__ = [
    "BatchTopKConfig",
    "GatedConfig",
    "JumpReluConfig",
    "JumpReluL0Config",
    "JumpReluTanhConfig",
    "ReluConfig",
    "SparsityConfig",
    "TopKConfig",
    "kind_of",
    "require_int",
]


_LEAST = 1e-12  # what "above 0" comes to


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
    per_token: float = 0.0
    """Share of a fit, its first, in which each token's k largest fire instead and no threshold is
    taught, in [0, 1); 0 is BatchTopK as published. See `BatchTopK` for what it is good for."""
    kind: Literal["batch_topk"] = "batch_topk"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        require_int("k", self.k, 1)
        _require_float("threshold_beta", self.threshold_beta, 0.0, 1.0)
        _require_float("per_token", self.per_token, 0.0, 1.0)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch."""
        return float(self.k)


@dataclass(frozen=True)
class JumpReluConfig:
    """JumpReLU with thresholds that are known, and nothing about how they were fitted.

    For finished dictionaries from elsewhere. Fitting one further leaves its thresholds alone and
    lowers the reconstruction error only, so nothing but its thresholds holds its firing down.

    Source: Lieberum et al. 2024, "Gemma Scope", arXiv:2408.05147, for one whose files say no more.
    """

    kind: Literal["jump_relu"] = "jump_relu"
    """The tag that files and command lines spell out."""

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch: none is promised."""
        return None


@dataclass(frozen=True)
class JumpReluTanhConfig:
    """JumpReLU whose latents cost the hyperbolic tangent of their activation.

    Source: Conerly et al. 2025, "Dictionary learning optimization techniques", Anthropic. Differs
    from it: thresholds are fitted as they are, encoder biases start at 0, the learning rate's
    warm-up is the run's, and every term is over d_in, as the squared error is.
    """

    tanh: float
    """Weight of the `tanh` term at the end of the run, dimensionless, at least 0 (that paper's 20
    holds for a wide model: an L0 of 100 then costs 2000 / d_in)."""
    steepness: float = 4.0
    """How fast a latent's cost saturates: it costs tanh(steepness z), z in training units; > 0."""
    pre_act: float = 3e-6
    """Weight of the `pre_act` term, which brings silent latents back, at least 0."""
    bandwidth: float = 2.0
    """Width of the window around a threshold whose entries teach it, in training units, > 0."""
    threshold: float = 0.1
    """Where thresholds start, in training units, at least 0."""
    ramp: float = 1.0
    """Share of a run's tokens over which the weight of `tanh` rises linearly from 0, in [0, 1]."""
    kind: Literal["jump_relu_tanh"] = "jump_relu_tanh"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        for name in ("tanh", "pre_act", "threshold", "ramp"):
            _require_float(name, getattr(self, name), 0.0)
        for name in ("steepness", "bandwidth"):
            _require_float(name, getattr(self, name), _LEAST)
        _require_float("ramp", self.ramp, 0.0, 1.0 + _LEAST)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch: none is promised."""
        return None


@dataclass(frozen=True)
class JumpReluL0Config:
    """JumpReLU held near a number of fires a token: the cost is (L0 / l0 - 1)^2.

    Its thresholds start where each latent fires equally often and `l0` fire on a token.

    Source: Rajamanoharan et al. 2024, arXiv:2407.14435, appendix; its targeted form as
    `dictionary_learning` has it. Differs from both: thresholds are not exponentials of what is
    fitted, and where they start.
    """

    l0: float
    """Fires a token aimed at, averaged over a batch, above 0 and at most d_sae."""
    weight: float = 1.0
    """Weight of the `l0` term, dimensionless, at least 0."""
    bandwidth: float = 0.05
    """Width of the window around a threshold whose entries teach it, in training units, > 0. The
    paper's 0.001 is for inputs of norm 1: times the root of d_in here, 0.05 at a width of 2500."""
    kind: Literal["jump_relu_l0"] = "jump_relu_l0"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        _require_float("l0", self.l0, _LEAST)
        _require_float("weight", self.weight, 0.0)
        _require_float("bandwidth", self.bandwidth, _LEAST)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch: none is promised, one aimed at."""
        return None


@dataclass(frozen=True)
class GatedConfig:
    """Gated: a gate, which the L1 penalty is on, and a magnitude, which it does not shrink.

    Source: Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse
    autoencoders", arXiv:2404.16014.
    """

    l1: float
    """Weight of the `l1` term on positive gates, dimensionless, at least 0."""
    kind: Literal["gated"] = "gated"
    """The tag that files and command lines spell out."""

    def __post_init__(self) -> None:
        _require_float("l1", self.l1, 0.0)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch: none is promised."""
        return None


SparsityConfig = (
    ReluConfig
    | TopKConfig
    | BatchTopKConfig
    | JumpReluConfig
    | JumpReluTanhConfig
    | JumpReluL0Config
    | GatedConfig
)
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
