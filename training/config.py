"""How long, how fast and how carefully a dictionary is fitted; every duration is in tokens."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from sae.errors import ConfigError

__all__ = ["TrainConfig", "require"]

ENCODER_DTYPES = ("float32", "bfloat16")
RETIRED = (("k_aux", None),)  # options of earlier files, with the value that is the rule now


@dataclass(frozen=True)
class TrainConfig:
    """Everything `training.loop.fit` needs besides the dictionary and its batches.

    The clock is tokens: nothing here is counted in steps, so a run with another batch size warms
    up, decays and declares latents dead after the same amount of text.

    Raises:
        ConfigError: A value lies outside the range its sentence gives.

    Example:
        >>> TrainConfig(n_tokens=10_000, batch_tokens=4096).n_steps
        3
    """

    n_tokens: int
    """Tokens to fit on, at least 1; the last step may go past it by less than one batch."""

    batch_tokens: int = 4096
    """Tokens in one step, at least 1; the buffer must emit batches of this size."""

    lr: float | None = None
    """Peak learning rate of Adam; None derives it from the width (`training.optim.width_lr`)."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two moments, each in [0, 1)."""

    warmup: float = 0.05
    """Share of `n_tokens` over which the rate rises linearly from 0, in [0, 1]."""

    decay: float = 0.2
    """Share of `n_tokens`, the last, over which the rate falls linearly to 0, in [0, 1]."""

    aux_weight: float = 1 / 32
    """Weight of the auxiliary loss of dead latents (Gao et al. 2024, arXiv:2406.04093); 0: off."""

    relative_error: bool = False
    """Whether a token's error counts relative to its size (`sae.dictionary.losses.relative`), so
    that a few long vectors do not drown the rest."""

    dead_after_tokens: int = 1_000_000
    """A latent is dead when it has not fired in this many tokens, at least 1."""

    grad_clip: float = 1.0
    """Largest norm of the gradient over all parameters, above 0."""

    encoder_dtype: str = "float32"
    """Type of the encoder's product: float32, or bfloat16, which is faster where the processor
    multiplies it (CUDA, AMX). Weights, gradients and Adam stay in float32."""

    seed: int = 0
    """Seed of everything drawn for the run: initial rows, added latents; 0 or more."""

    def __post_init__(self) -> None:
        """Checks every range, so that a run cannot fail on one an hour later."""
        for name in ("n_tokens", "batch_tokens", "dead_after_tokens"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "choose at least 1")
        for name in ("warmup", "decay"):
            share = getattr(self, name)
            require(0 <= share <= 1, name, share, "choose a share between 0 and 1")
        held = self.encoder_dtype in ENCODER_DTYPES
        require(held, "encoder_dtype", self.encoder_dtype, f"choose {' or '.join(ENCODER_DTYPES)}")
        for beta in self.betas:
            require(0 <= beta < 1, "betas", self.betas, "choose both in [0, 1)")
        require(self.lr is None or self.lr > 0, "lr", self.lr, "choose a positive rate or None")
        for name in ("aux_weight", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "choose 0 or more")
        require(self.grad_clip > 0, "grad_clip", self.grad_clip, "choose a positive norm")

    @property
    def n_steps(self) -> int:
        """Steps it takes to see `n_tokens`, the last one counted whole."""
        return -(-self.n_tokens // self.batch_tokens)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return {**asdict(self), "betas": list(self.betas)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """The configuration `to_dict` wrote.

        Args:
            values: Field names with their values; a missing one takes its default.

        Returns:
            The configuration.

        Raises:
            ConfigError: A key is unknown, or a value out of range.
        """
        known = [f.name for f in fields(cls)]
        values = {key: value for key, value in values.items() if (key, value) not in RETIRED}
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(
                f"training option {unknown[0]!r}", "no such option", f"choose from {known}"
            )
        betas = tuple(values.get("betas", cls.betas))
        return cls(**{**values, "betas": betas})

    def differences(self, other: "TrainConfig") -> dict[str, tuple[Any, Any]]:
        """The fields in which two configurations differ, each with both values."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}


def require(holds: bool, name: str, value: Any, do: str) -> None:
    """Refuses the value of a config's field unless its condition holds.

    Args:
        holds: The condition.
        name: Of the field.
        value: Of the field.
        do: What to choose instead.

    Raises:
        ConfigError: It does not hold.
    """
    if not holds:
        raise ConfigError(f"{name} in its range", f"{name}={value}", do)
