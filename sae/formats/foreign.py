"""What all foreign formats share: the way from their tensors to an `Sae`, and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from sae.dictionary.config import CrosscoderConfig, SaeConfig, SparsityConfig
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, NumericalError
from sae.formats.files import damaged
from sae.formats.given import Given, whole_in
from sae.formats.native import META_KEYS

__all__ = [
    "Parts",
    "about",
    "checked",
    "laid_out",
    "require_writable",
    "sae_of",
    "scalar",
    "shaped",
    "trainer_hook",
]

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Parts:
    """A foreign dictionary in row orientation, its scales and biases folded."""

    tensors: Mapping[str, Shaped[Tensor, "..."]]
    """`W_enc [d_in, d_sae]`, `b_enc`, `W_dec [d_sae, d_in]`, `b_dec`, and sparsity's own."""
    sparsity: SparsityConfig
    """How its latents fire."""
    prefixes: Sequence[int] = ()
    """Sizes of nested dictionaries, below d_sae."""
    crosscoder: CrosscoderConfig | None = None
    """Several models, whose vectors lie side by side in `tensors`; None for one."""


def checked(
    file: Path,
    tensors: Mapping[str, Shaped[Tensor, "..."]],
    config: Mapping[str, Any] | None = None,
    biases: tuple[str, ...] = ("b_enc",),
) -> dict[str, Shaped[Tensor, "..."]]:
    """A file's tensors in row orientation, once they are seen to fit each other.

    Args:
        file: The file, for messages.
        tensors: At least `W_enc`, `W_dec` and `b_dec`.
        config: What may say `d_in` and `d_sae`.
        biases: Which encoder biases are wanted too, each of `[d_sae]`.

    Returns:
        The same, for a reader to change.

    Raises:
        InputError: One is missing, of a wrong shape or type, or not finite.
    """
    for name in ("W_enc", "W_dec", "b_dec", *biases):
        if name not in tensors:
            raise damaged(file, f"no {name}, but {', '.join(sorted(tensors)[:9]) or 'nothing'}")
    if tensors["W_dec"].dim() != 2 or 0 in tensors["W_dec"].shape:
        raise damaged(file, f"W_dec of shape {list(tensors['W_dec'].shape)}")
    d_sae, d_in = tensors["W_dec"].shape
    for name, found in (("d_in", d_in), ("d_sae", d_sae)):
        told = whole_in(file, config or {}, name)
        if told not in (None, found):
            raise damaged(file, f"tensors of {name} {found}, where its config says {told}")
    shapes = {"W_enc": [d_in, d_sae], "W_dec": [d_sae, d_in], "b_dec": [d_in]}
    shapes |= {name: [d_sae] for name in biases}
    for name, each in tensors.items():
        _check(file, name, each, shapes.get(name))
    return dict(tensors)


def _check(file: Path, name: str, each: Shaped[Tensor, "..."], shape: list[int] | None) -> None:
    if shape is not None and list(each.shape) != shape:
        raise damaged(file, f"{name} of shape {list(each.shape)}, where {shape} is wanted")
    is_wrong = shape is not None and not each.is_floating_point()
    if is_wrong or (each.is_floating_point() and each.dtype not in FLOATS):
        raise damaged(file, f"{name} of type {each.dtype}")
    if not each.isfinite().all():
        raise damaged(file, f"{name} with values that are not finite")


def shaped(
    file: Path, tensors: dict[str, Shaped[Tensor, "..."]], name: str, shape: Sequence[int]
) -> Shaped[Tensor, "..."]:
    """Takes a tensor of floats that a reader needs besides out of a file's.

    Args:
        file: The file, for messages.
        tensors: The file's, which it is taken from.
        name: Its name.
        shape: Its shape.

    Raises:
        InputError: It is missing, of another shape or type, or not finite.
    """
    if name not in tensors:
        raise damaged(file, f"no {name}, but {', '.join(sorted(tensors)[:9]) or 'nothing'}")
    _check(file, name, tensors[name], list(shape))
    return tensors.pop(name)


def scalar(file: Path, tensors: dict[str, Shaped[Tensor, "..."]], name: str) -> float | None:
    """Takes a number out of a file's tensors; None where it is not among them.

    Args:
        file: The file, for messages.
        tensors: The file's, which it is taken from.
        name: Its name.

    Raises:
        InputError: There are several numbers.
    """
    each = tensors.pop(name, None)
    if each is not None and each.numel() != 1:
        raise damaged(file, f"{name} of shape {list(each.shape)}, where one number is wanted")
    return None if each is None else float(each)


def trainer_hook(trainer: Mapping[str, Any]) -> str | None:
    """The hook that a trainer's config of dictionary_learning or of its fork names.

    Args:
        trainer: The config.

    Returns:
        That of a residual stream; None where it is another submodule, whose name says too little.
    """
    layer, place = trainer.get("layer"), str(trainer.get("submodule_name"))
    return f"blocks.{layer}.hook_resid_post" if place == f"resid_post_layer_{layer}" else None


def laid_out(tensors: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Shaped[Tensor, "..."]]:
    """Tensors as other libraries want them in a file: on the CPU, each with memory of its own.

    Args:
        tensors: Any.
    """
    own = torch.contiguous_format
    return {name: each.detach().cpu().clone(memory_format=own) for name, each in tensors.items()}


def sae_of(file: Path, parts: Parts, dtype: torch.dtype = torch.float32) -> Sae:
    """The dictionary that a foreign file describes, in evaluation mode.

    Encodes and decodes as the library that wrote the file does: decoder rows keep their norms.

    Args:
        file: The file, for messages.
        parts: What it holds, `checked`.
        dtype: Of the weights; half precision becomes float32, exactly.

    Raises:
        InputError: Its parts do not fit, such as a k above d_sae.
    """
    d_sae, d_in = parts.tensors["W_dec"].shape
    try:
        prefixes = tuple(parts.prefixes)
        sae = Sae(SaeConfig(d_in, d_sae, parts.sparsity, prefixes, parts.crosscoder))
    except ConfigError as error:
        raise damaged(file, f"{error.asked}, {error.found}") from error
    wanted = sae.state_dict()
    own = {name for name, _ in sae.named_parameters()}
    kept = {"input_scale": wanted["input_scale"]}
    for name, each in parts.tensors.items():
        if name not in wanted:
            raise damaged(file, f"{name}, which no {parts.sparsity.kind} dictionary has")
        if each.shape != wanted[name].shape:
            found = f"{name} of shape {list(each.shape)}"
            raise damaged(file, f"{found}, where {list(wanted[name].shape)} is wanted")
        kept[name] = each.to(dtype if name in own else wanted[name].dtype).contiguous()
    if missing := [name for name in wanted if name not in kept]:
        raise damaged(file, f"no {', '.join(missing)}")
    kept["W_enc"] = kept["W_enc"].T.contiguous().T  # a latent's weights together
    for name, each in kept.items():
        _check(file, name, each, None)  # a fold may have left the numbers of the type
    sae.load_state_dict(kept, assign=True)
    return sae.eval()


def about(given: Given, told: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """What a read dictionary says of itself.

    Args:
        given: Its hook and model come before the file's.
        told: Text under names of `META_KEYS` that the file told; what is no text is left out.
        source: What the file said of its own format, for `source`.

    Returns:
        Every one of `META_KEYS`, and `source`.
    """
    known = dict.fromkeys(META_KEYS) | {
        name: each for name, each in told.items() if isinstance(each, str) and each
    }
    known["hook"] = given.hook or known["hook"]
    known["model"] = given.model or known["model"]
    return known | {"source": dict(source)}


def require_writable(sae: Sae, meta: Mapping[str, Any]) -> None:
    """Makes sure of what every other library's format wants of a dictionary to be written.

    Args:
        sae: The dictionary.
        meta: What it says of itself.

    Raises:
        ConfigError: A value of `meta` is not JSON, or it is one over several models.
        NumericalError: A weight is not finite.
    """
    if sae.config.crosscoder is not None:
        found, do = "a format for dictionaries of one model", "write it as forelimb"
        raise ConfigError("a crosscoder in another library's format", found, do)
    for name, value in meta.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"meta {name!r}", str(error), "give values JSON can hold") from error
    for name, each in sae.state_dict().items():
        if not each.isfinite().all():
            raise NumericalError(f"{name} to write", "values that are not finite", "fit it anew")
