"""What a dictionary is to be: frozen configs, checked when made, told apart by `kind`."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, get_args

from sae.errors import ConfigError

__all__ = [
    "BatchTopKConfig",
    "ReluConfig",
    "SaeConfig",
    "SparsityConfig",
    "TopKConfig",
    "config_to_dict",
    "sae_config_from_dict",
    "sparsity_from_dict",
]


def _require_int(name: str, value: int, low: int, high: int | None = None) -> None:
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
        _require_int("k", self.k, 1)

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
        _require_int("k", self.k, 1)
        _require_float("threshold_beta", self.threshold_beta, 0.0, 1.0)

    @property
    def l0_bound(self) -> float | None:
        """Most fires a token, averaged over a training batch."""
        return float(self.k)


SparsityConfig = ReluConfig | TopKConfig | BatchTopKConfig
"""How pre-activations become latents: a union told apart by `kind`."""


@dataclass(frozen=True)
class SaeConfig:
    """Shape and sparsity of one sparse autoencoder.

    Example:
        >>> config = SaeConfig(d_in=64, d_sae=512, sparsity=TopKConfig(k=8), prefixes=(64, 128))
        >>> sae_config_from_dict(config_to_dict(config)) == config
        True
    """

    d_in: int
    """Width of the vectors encoded."""
    d_sae: int
    """Number of latents."""
    sparsity: SparsityConfig
    """How pre-activations become latents."""
    prefixes: tuple[int, ...] = ()
    """Sizes of nested Matryoshka dictionaries, rising, below d_sae; the whole always counts."""

    def __post_init__(self) -> None:
        _require_int("d_in", self.d_in, 1)
        _require_int("d_sae", self.d_sae, 1)
        if self.sparsity.l0_bound is not None:
            _require_int("k", getattr(self.sparsity, "k", 1), 1, self.d_sae)
        low = 1
        for prefix in self.prefixes:
            _require_int("prefixes: each", prefix, low, self.d_sae - 1)
            low = prefix + 1


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


def _nearest(word: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(known)}"


def _number(name: str, value: Any, wanted: object) -> Any:
    if wanted not in (int, float):
        return value
    right = isinstance(value, int) or (wanted is float and isinstance(value, float))
    if not right or isinstance(value, bool):
        kind = "an integer" if wanted is int else "a number"
        raise ConfigError(f"{name}={value!r}", f"a {type(value).__name__}", f"give {kind}")
    return float(value) if wanted is float else value


def _fields_of(cls: type, raw: object, where: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError(where, f"a {type(raw).__name__}", "give a mapping of keys to values")
    known = [each.name for each in fields(cls)]
    needed = [each.name for each in fields(cls) if each.default is MISSING]
    for key in raw:
        if key not in known:
            raise ConfigError(f"{where}: {key}", "an unknown key", _nearest(key, known))
    for key in needed:
        if key not in raw:
            raise ConfigError(f"{where}: {key}", "no value", f"give {', '.join(needed)}")
    types = {each.name: each.type for each in fields(cls)}
    return {key: _number(key, value, types[key]) for key, value in raw.items()}


def sparsity_from_dict(raw: object) -> SparsityConfig:
    """The sparsity config that a mapping from YAML, JSON or a command line describes.

    Args:
        raw: A mapping; its `kind` is required and alone decides which config it is.

    Returns:
        The config, checked.

    Raises:
        ConfigError: `kind` is missing or unknown, or a key is unknown, missing, of the wrong type
            or out of range.

    Example:
        >>> sparsity_from_dict({"kind": "topk", "k": 32})
        TopKConfig(k=32, kind='topk')
    """
    classes = {kind_of(each): each for each in get_args(SparsityConfig)}
    if not isinstance(raw, Mapping):
        raise ConfigError("sparsity", f"a {type(raw).__name__}", "give a mapping with a kind")
    if "kind" not in raw:
        raise ConfigError("sparsity", "no kind", f"add kind: one of {', '.join(classes)}")
    if raw["kind"] not in list(classes):
        do = _nearest(raw["kind"], list(classes))
        raise ConfigError(f"sparsity: kind={raw['kind']!r}", "an unknown kind", do)
    chosen = classes[str(raw["kind"])]
    return chosen(**_fields_of(chosen, raw, f"sparsity of kind {raw['kind']!r}"))


def sae_config_from_dict(raw: object) -> SaeConfig:
    """The `SaeConfig` that a mapping from YAML, JSON or a file header describes.

    Args:
        raw: A mapping, in which `sparsity` is one with a `kind`.

    Returns:
        The config, checked.

    Raises:
        ConfigError: A key is unknown, missing, of the wrong type or out of range.

    Example:
        >>> sae_config_from_dict({"d_in": 2, "d_sae": 4, "sparsity": {"kind": "relu", "l1": 0.1}})
        SaeConfig(d_in=2, d_sae=4, sparsity=ReluConfig(l1=0.1, kind='relu'), prefixes=())
    """
    values = _fields_of(SaeConfig, raw, "dictionary config")
    prefixes = values.get("prefixes", ())
    if not isinstance(prefixes, (list, tuple)):
        raise ConfigError(f"prefixes={prefixes!r}", f"a {type(prefixes).__name__}", "give a list")
    return SaeConfig(
        d_in=values["d_in"],
        d_sae=values["d_sae"],
        sparsity=sparsity_from_dict(values["sparsity"]),
        prefixes=tuple(_number("prefixes: each", each, int) for each in prefixes),
    )


def config_to_dict(config: SaeConfig | SparsityConfig) -> dict[str, Any]:
    """A config as plain values that JSON and YAML can hold; `kind` is always among them.

    Args:
        config: A dictionary's config, or only its sparsity's.

    Returns:
        What `sae_config_from_dict` or `sparsity_from_dict` reads back.

    Example:
        >>> config_to_dict(BatchTopKConfig(k=4))
        {'k': 4, 'threshold_beta': 0.999, 'kind': 'batch_topk'}
    """
    plain = asdict(config)
    if "prefixes" in plain:
        plain["prefixes"] = list(plain["prefixes"])
    return plain
