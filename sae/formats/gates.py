"""From how foreign files say that latents fire to members of `SparsityConfig`, and back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from sae.dictionary.config import BatchTopKConfig, SparsityConfig, TopKConfig
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats.files import damaged

__all__ = ["Gate", "batch_topk", "gated", "jump_relu", "named", "threshold_of", "top_k"]

Gate = tuple[SparsityConfig, dict[str, Shaped[Tensor, "..."]]]
"""A sparsity, and the tensors of its own by their names in an `Sae`."""


def top_k(file: Path, k: int) -> Gate:
    """The k largest latents of a token.

    Args:
        file: The file, for messages.
        k: Most fires a token.

    Raises:
        InputError: k is below 1.
    """
    try:
        return TopKConfig(k), {}
    except ConfigError as error:
        raise damaged(file, f"{error.asked}, {error.found}") from error


def batch_topk(file: Path, k: int, threshold: float) -> Gate:
    """Latents that fire above one threshold.

    Args:
        file: The file, for messages.
        k: Mean fires a token it was trained for.
        threshold: What a pre-activation must exceed, in the latents' unit.

    Raises:
        InputError: The threshold is below 0, or k below 1.
    """
    if threshold < 0:
        raise damaged(file, f"a threshold of {threshold:g}", "give one of at least 0")
    try:
        config = BatchTopKConfig(k)
    except ConfigError as error:
        raise damaged(file, f"{error.asked}, {error.found}") from error
    state = {"threshold": torch.tensor(threshold, dtype=torch.float64)}
    state["n_updates"] = torch.tensor(0)
    return config, named(state)


def named(state: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Shaped[Tensor, "..."]]:
    """A sparsity's tensors by their names in an `Sae`.

    Args:
        state: By their own names.
    """
    return {f"sparsity.{name}": each for name, each in state.items()}


def threshold_of(sae: Sae) -> Float64[Tensor, ""]:
    """The threshold of a BatchTopK dictionary that is to be written.

    Args:
        sae: The dictionary.

    Raises:
        ConfigError: No batch has set it.
    """
    threshold = sae.sparsity.get_buffer("threshold")
    if threshold < 0:
        found = "a BatchTopK threshold that no training batch has set"
        raise ConfigError("a dictionary for another library", found, "fit it first")
    return threshold


def jump_relu(file: Path, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> Gate:
    """Latents that each fire above a threshold of their own."""
    raise damaged(file, "a threshold for each latent", "give a dictionary of another kind")


def gated(
    file: Path, tensors: Mapping[str, Shaped[Tensor, "..."]], gate: str, magnitude: str
) -> Gate:
    """Latents with a gate and a magnitude."""
    raise damaged(file, "gated latents", "give a dictionary of another kind")
