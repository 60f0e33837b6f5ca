"""What a dictionary is to be: a frozen config, and configs as plain values and back."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, get_args

from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    SparsityConfig,
    TopKConfig,
    kind_of,
    require_int,
)
from sae.dictionary.sides import CrosscoderConfig, SharedConfig, require_sides
from sae.errors import ConfigError

__all__ = [
    "BatchTopKConfig",
    "CrosscoderConfig",
    "GatedConfig",
    "JumpReluConfig",
    "JumpReluL0Config",
    "JumpReluTanhConfig",
    "ReluConfig",
    "SaeConfig",
    "SharedConfig",
    "TopKConfig",
    "config_to_dict",
    "kind_of",
    "sae_config_from_dict",
    "sparsity_from_dict",
]


@dataclass(frozen=True)
class SaeConfig:
    """Shape and sparsity of one sparse autoencoder.

    Example:
        >>> config = SaeConfig(d_in=64, d_sae=512, sparsity=TopKConfig(k=8), prefixes=(64, 128))
        >>> sae_config_from_dict(config_to_dict(config)) == config
        True
    """

    d_in: int
    """Width of the vectors encoded; with several models, of their vectors side by side."""
    d_sae: int
    """Number of latents."""
    sparsity: SparsityConfig
    """How pre-activations become latents."""
    prefixes: tuple[int, ...] = ()
    """Sizes of nested Matryoshka dictionaries, rising, below d_sae; the whole always counts."""
    crosscoder: CrosscoderConfig | None = None
    """Several models, whose vectors lie side by side; None for one."""

    def __post_init__(self) -> None:
        require_int("d_in", self.d_in, 1)
        require_int("d_sae", self.d_sae, 1)
        if self.sparsity.l0_bound is not None:
            require_int("k", getattr(self.sparsity, "k", 1), 1, self.d_sae)
        if isinstance(self.sparsity, JumpReluL0Config) and self.sparsity.l0 > self.d_sae:
            do = f"give at most d_sae, {self.d_sae}"
            raise ConfigError(f"l0={self.sparsity.l0:g}", "more fires than latents", do)
        low = 1
        for prefix in self.prefixes:
            require_int("prefixes: each", prefix, low, self.d_sae - 1)
            low = prefix + 1
        if self.crosscoder is not None:
            require_sides(self.crosscoder, self.d_in, self.d_sae, self.sparsity)


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
        >>> raw = {"d_in": 2, "d_sae": 4, "sparsity": {"kind": "relu", "l1": 0.1}}
        >>> sae_config_from_dict(raw) == SaeConfig(2, 4, ReluConfig(l1=0.1))
        True
    """
    values = _fields_of(SaeConfig, raw, "dictionary config")
    return SaeConfig(
        d_in=values["d_in"],
        d_sae=values["d_sae"],
        sparsity=sparsity_from_dict(values["sparsity"]),
        prefixes=_integers("prefixes", values.get("prefixes", ())),
        crosscoder=_crosscoder(values.get("crosscoder")),
    )


def _integers(name: str, given: object) -> tuple[int, ...]:
    if not isinstance(given, (list, tuple)):
        raise ConfigError(f"{name}={given!r}", f"a {type(given).__name__}", "give a list")
    return tuple(_number(f"{name}: each", each, int) for each in given)


def _crosscoder(raw: object) -> CrosscoderConfig | None:
    if raw is None:
        return None
    values = _fields_of(CrosscoderConfig, raw, "crosscoder")
    shared = values.get("shared")
    if shared is not None:
        of_shared = _fields_of(SharedConfig, shared, "shared")
        price = of_shared.get("price")
        price = None if price is None else _number("shared: price", price, float)
        shared = SharedConfig(of_shared["n"], price)
    return CrosscoderConfig(values["n_models"], shared, _integers("n_own", values.get("n_own", ())))


def config_to_dict(config: SaeConfig | SparsityConfig) -> dict[str, Any]:
    """A config as plain values that JSON and YAML can hold; `kind` is always among them.

    Args:
        config: A dictionary's config, or only its sparsity's.

    Returns:
        What `sae_config_from_dict` or `sparsity_from_dict` reads back.

    Example:
        >>> config_to_dict(BatchTopKConfig(k=4))
        {'k': 4, 'threshold_beta': 0.999, 'per_token': 0.0, 'kind': 'batch_topk'}
    """
    plain = asdict(config)
    if "prefixes" in plain:
        plain["prefixes"] = list(plain["prefixes"])
    if plain.get("crosscoder") is None:  # dictionaries of one model say nothing of others
        plain.pop("crosscoder", None)
    else:
        plain["crosscoder"]["n_own"] = list(plain["crosscoder"]["n_own"])
    return plain
