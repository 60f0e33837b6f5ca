"""A recipe and what is to differ from it, as flags of the doors that fit."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from sae.dictionary.config import SaeConfig, SparsityConfig
from sae.errors import ConfigError
from training.config import TrainConfig
from training.recipes import recipe

__all__ = ["SaeChanges", "TrainChanges", "changed", "continued_train", "run_of"]

Config = TypeVar("Config", SaeConfig, TrainConfig)


@dataclass(frozen=True)
class SaeChanges:
    """What differs from the recipe's dictionary; its width is the model's."""

    d_sae: int | None = None
    """Number of latents."""
    sparsity: SparsityConfig | None = None
    """How pre-activations become latents."""
    prefixes: tuple[int, ...] | None = None
    """Sizes of nested Matryoshka dictionaries, [] for none."""


@dataclass(frozen=True)
class TrainChanges:
    """What differs from the recipe's run; None stands for what the recipe says."""

    n_tokens: int | None = None
    """Tokens to fit on; they come round again when the text is shorter."""
    batch_tokens: int | None = None
    """Tokens in one step."""
    lr: float | None = None
    """Peak learning rate of Adam."""
    betas: tuple[float, float] | None = None
    """Decay rates of Adam's two moments."""
    warmup: float | None = None
    """Share of the run over which the rate rises."""
    decay: float | None = None
    """Share of the run, the last, over which the rate falls."""
    aux_weight: float | None = None
    """Weight of the auxiliary loss of dead latents, 0 for off."""
    relative_error: bool | None = None
    """Whether a token's error counts relative to its size."""
    dead_after_tokens: int | None = None
    """A latent is dead when it has not fired in this many tokens."""
    grad_clip: float | None = None
    """Largest norm of the gradient."""
    seed: int | None = None
    """Seed of all that is drawn: first directions, order of the activations."""


def changed(config: Config, changes: SaeChanges | TrainChanges) -> Config:
    """A config with those fields replaced that `changes` has a value for.

    Example:
        >>> changed(TrainConfig(n_tokens=10), TrainChanges(lr=0.1)).lr
        0.1
    """
    given: dict[str, Any] = {each.name: getattr(changes, each.name) for each in fields(changes)}
    return replace(config, **{name: each for name, each in given.items() if each is not None})


def run_of(
    name: str, d_in: int, sae: SaeChanges, train: TrainChanges
) -> tuple[SaeConfig, TrainConfig]:
    """The recipe of a name for activations of a width, with its changes.

    Raises:
        ConfigError: There is no such recipe, it is for another width, or a value is out of range.
    """
    shape, run = recipe(name, d_in)
    return changed(shape, sae), changed(run, train)


def continued_train(recorded: dict[str, Any] | None, train: TrainChanges) -> TrainConfig:
    """The run that goes on with a dictionary: the one that fitted it, with its changes.

    Args:
        recorded: `TrainConfig.to_dict` of that run; None where the dictionary does not say.
        train: The changes.

    Raises:
        ConfigError: Nothing says how many tokens to fit on, or a value is out of range.
    """
    if recorded is not None:
        return changed(TrainConfig.from_dict(recorded), train)
    if train.n_tokens is None:
        found = "a dictionary that does not say how it was fitted"
        raise ConfigError("--train.n_tokens", found, "give the number of tokens")
    return changed(TrainConfig(train.n_tokens), train)
