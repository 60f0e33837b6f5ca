"""What a dictionary over several models is to be: frozen configs, checked when made."""

from dataclasses import dataclass
from itertools import accumulate

from sae.dictionary.kinds import (
    GatedConfig,
    JumpReluTanhConfig,
    ReluConfig,
    SparsityConfig,
    require_int,
)
from sae.errors import ConfigError

__all__ = ["CrosscoderConfig", "SharedConfig", "require_sides"]

PRICE = 0.15
_PRICED = (ReluConfig, GatedConfig, JumpReluTanhConfig)


@dataclass(frozen=True)
class SharedConfig:
    """Designated shared latents: the first ones, whose decoder rows are the same in every model.

    Source: Anthropic, "Insights on crosscoder model diffing", 2025. Differs from it: rows are the
    same where every model's vectors have one mean square, which is where models are compared.
    """

    n: int
    """How many, from 1 to d_sae."""
    price: float | None = None
    """What firing costs them where it costs another latent 1, above 0 and at most 1. None: 0.15, of
    the 0.1 to 0.2 in use. Only for kinds whose firing has a price: relu, gated, jump_relu_tanh."""

    def __post_init__(self) -> None:
        require_int("shared: n", self.n, 1)
        if self.price is not None and not 0 < self.price <= 1:
            do = "give a number above 0 and at most 1"
            raise ConfigError(f"shared: price={self.price}", "a number out of range", do)


@dataclass(frozen=True)
class CrosscoderConfig:
    """Several models' vectors side by side, `x = [x_1 … x_M]`, for one latent space over all.

    Latents come in this order: the shared ones, those of each model alone, all others.

    Source: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing";
    for latents of one model alone, Jiralerspong and Bricken 2026, "Dedicated feature crosscoder",
    arXiv:2602.11729. Differs from the latter: of the other models such latents read nothing either.

    Example:
        >>> CrosscoderConfig(2, SharedConfig(8), n_own=(4, 4)).own
        (slice(8, 12, None), slice(12, 16, None))
    """

    n_models: int
    """Number of models, at least 2; each has the width d_in / n_models."""
    shared: SharedConfig | None = None
    """Designated shared latents; None for none."""
    n_own: tuple[int, ...] = ()
    """Latents that read and write one model alone, a number for every model; () for none."""

    def __post_init__(self) -> None:
        require_int("n_models", self.n_models, 2)
        if self.n_own and len(self.n_own) != self.n_models:
            do = f"give {self.n_models} numbers, or none"
            raise ConfigError(f"n_own={self.n_own}", f"{len(self.n_own)} of them", do)
        for each in self.n_own:
            require_int("n_own: each", each, 0)

    @property
    def n_shared(self) -> int:
        """Designated shared latents."""
        return 0 if self.shared is None else self.shared.n

    @property
    def own(self) -> tuple[slice, ...]:
        """Where the latents of each model alone are; none where there are none."""
        edges = list(accumulate(self.n_own, initial=self.n_shared))
        return tuple(slice(*pair) for pair in zip(edges[:-1], edges[1:], strict=True))


def require_sides(sides: CrosscoderConfig, d_in: int, d_sae: int, sparsity: SparsityConfig) -> None:
    """Refuses several models that do not fit a dictionary's shape or sparsity.

    Args:
        sides: The models.
        d_in: Width of their vectors side by side.
        d_sae: Number of latents.
        sparsity: Of the dictionary.

    Raises:
        ConfigError: The width is not a multiple of the number of models, more latents are shared or
            owned than there are, or firing has no price that shared latents could have less of.
    """
    if d_in % sides.n_models:
        found = f"no multiple of n_models={sides.n_models}"
        raise ConfigError(f"d_in={d_in}", found, "give n_models times the width of one model")
    taken = sides.n_shared + sum(sides.n_own)
    if taken > d_sae:
        asked = f"{sides.n_shared} shared latents and {sides.n_own or 'none'} of single models"
        raise ConfigError(asked, f"a dictionary of {d_sae}", "raise d_sae, or ask for fewer")
    priced = sides.shared is not None and sides.shared.price is not None
    if priced and not isinstance(sparsity, _PRICED):
        asked, found = "shared: price", f"{sparsity.kind}, in which firing has no price"
        raise ConfigError(asked, found, "leave it out, or choose relu, gated or jump_relu_tanh")
