"""From how foreign files say that latents fire to members of `SparsityConfig`, and back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from sae.dictionary.gated import Gated
from sae.dictionary.jump_relu import JumpRelu
from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    SparsityConfig,
    TopKConfig,
)
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats.files import damaged
from sae.formats.foreign import shaped

__all__ = ["Gate", "batch_topk", "gated", "gated_parts", "jump_relu", "named"]
__all__ += ["threshold_of", "thresholds_of", "top_k"]

Tensors = dict[str, Shaped[Tensor, "..."]]
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


def jump_relu(file: Path, tensors: Tensors) -> Gate:
    """Latents that each fire above a threshold of their own, which is taken out of `tensors`.

    Args:
        file: The file, for messages.
        tensors: `threshold` or, where it is fitted so, `log_threshold`, and the weights.

    Raises:
        InputError: There is none for each latent.
    """
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").exp()
    threshold = shaped(file, tensors, "threshold", tensors["W_dec"].shape[:1])
    return JumpReluConfig(), named({"threshold": threshold})


def gated(file: Path, tensors: Tensors, gate: str, magnitude: str) -> Gate:
    """Latents with a gate and a magnitude; their biases are taken out of `tensors`, or renamed.

    Args:
        file: The file, for messages.
        tensors: Biases of both and `r_mag`, and the weights.
        gate: Name of the gate's bias, which becomes `b_enc`.
        magnitude: Name of the magnitude's bias.

    Raises:
        InputError: One is missing.
    """
    wanted = (gate, magnitude, "r_mag")
    shape = tensors["W_dec"].shape[:1]
    b_enc, b_mag, r_mag = (shaped(file, tensors, name, shape).double() for name in wanted)
    tensors["b_enc"] = b_enc
    return GatedConfig(l1=0.0), named({"r_mag": r_mag, "offset": b_mag - r_mag.exp() * b_enc})


def thresholds_of(sae: Sae) -> Float[Tensor, " d_sae"]:
    """The thresholds of a JumpReLU dictionary that is to be written.

    Args:
        sae: The dictionary.

    Returns:
        At least 0, in the type of its weights.
    """
    assert isinstance(sae.sparsity, JumpRelu)
    return sae.sparsity.threshold.detach().clamp_min(0).to(sae.W_dec.dtype)


def gated_parts(sae: Sae) -> Tensors:
    """The three tensors of a gated dictionary, as both libraries that have them name them.

    Args:
        sae: The dictionary.

    Returns:
        `gate`, `magnitude` and `r_mag`.
    """
    assert isinstance(sae.sparsity, Gated)
    b_mag = sae.sparsity.b_mag(sae.b_enc)
    return {"gate": sae.b_enc, "magnitude": b_mag, "r_mag": sae.sparsity.r_mag}
