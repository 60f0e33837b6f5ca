"""What a file does not say and its reader asks for; and what it does say, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from sae.errors import ConfigError
from sae.formats.files import damaged

__all__ = ["Given", "number_in", "settle", "whole_in"]

Value = TypeVar("Value")
FLAGS = "give it: sae.read(path, Given({name}=…)), or --given.{name}"


@dataclass(frozen=True)
class Given:
    """What a dictionary's file does not say: asked for where it is needed, never guessed.

    Example:
        >>> Given(k=32).named()
        {'k': 32}
    """

    k: int | None = None
    """Most fires a token, on average for a batch kind."""
    threshold: float | None = None
    """What a pre-activation must exceed, in the latents' unit."""
    input_scale: float | None = None
    """What activations are multiplied by before they are encoded, where it was not folded."""
    subtract_b_dec: bool | None = None
    """Whether the decoder's bias is taken off before encoding."""
    dict_class: str | None = None
    """Class of a dictionary_learning file without a config."""
    hook: str | None = None
    """Where the activations are from, by its TransformerLens name."""
    model: str | None = None
    """Model the activations are from."""

    def named(self) -> dict[str, Any]:
        """What was given, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def settle(file: Path, name: str, told: Value | None, given: Value | None) -> Value:
    """What the file says, or what was given where it says nothing.

    Args:
        file: The file, for messages.
        name: A field of `Given`.
        told: What the file says; None for nothing.
        given: What was given; None for nothing.

    Raises:
        InputError: Neither says it.
        ConfigError: They differ.

    Example:
        >>> settle(Path("f"), "k", None, 3)
        3
    """
    if told is None and given is None:
        raise damaged(file, f"no {name} in it", FLAGS.format(name=name))
    if told is not None and given is not None and told != given:
        raise ConfigError(f"{name}={given} for {file}", f"{told} in the file", f"leave out {name}")
    return told if told is not None else given  # pyright: ignore[reportReturnType]


def number_in(file: Path, config: Mapping[str, Any], name: str) -> float | None:
    """A number in a foreign config; None where it is absent or null.

    Args:
        file: The file, for messages.
        config: The config.
        name: Its key.

    Raises:
        InputError: It is something else, or not finite.
    """
    value = config.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise damaged(file, f"{name}={value!r}, where a number is wanted")
    return float(value)


def whole_in(file: Path, config: Mapping[str, Any], name: str) -> int | None:
    """A whole number in a foreign config; None where it is absent or null.

    Args:
        file: The file, for messages.
        config: The config.
        name: Its key.

    Raises:
        InputError: It is something else.
    """
    value = number_in(file, config, name)
    if value is not None and value != int(value):
        raise damaged(file, f"{name}={value!r}, where a whole number is wanted")
    return None if value is None else int(value)
