"""Llama Scope's folders: `hyperparams.json` with one threshold, or `config.json` with one a latent.

Source: He et al. 2024, "Llama Scope", arXiv:2410.20526, and Language-Model-SAEs of that time, whose
inference first takes the activations' norms out of the weights (`b_enc / s_in`, `b_dec / s_out`,
`W_dec s_in / s_out`, s = sqrt(d_in) / norm), then gives decoder rows norm 1 where sparsity included
it, and then holds pre-activations against the threshold. Here so too: the threshold is in
activation units. `b_dec` is not subtracted. SAELens holds it against scaled pre-activations, which
comes to the same for rows of norm 1 and equal norms at both ends.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sae.dictionary.sae import Sae
from sae.formats import gates
from sae.formats.files import damaged, read_json, read_safetensors
from sae.formats.foreign import Parts, about, checked, sae_of
from sae.formats.given import Given, number_in, settle
from sae.formats.scales import fold_bias, fold_row_norms, fold_scales

__all__ = ["ASKS", "CONFIG", "NAME", "WEIGHTS", "find", "read"]

NAME = "llama_scope"
"""What messages call the format."""
CONFIG = "hyperparams.json"
"""Config of the first kind."""
WEIGHTS = "checkpoints/final.safetensors"
"""Weights of the first kind."""
ASKS = ("input_scale", "threshold", "hook", "model")
"""What of `Given` a file can leave open."""
LATER, LATER_WEIGHTS = "config.json", "sae_weights.safetensors"
LINEAR = {"encoder.weight": "W_enc", "decoder.weight": "W_dec"}
LINEAR |= {"encoder.bias": "b_enc", "decoder.bias": "b_dec"}


def find(path: Path) -> Path | None:
    """The weights file, where `path` is such a folder or its weights; else None.

    Args:
        path: A folder or file.
    """
    if path.is_dir():
        later = path / LATER_WEIGHTS
        path = path / WEIGHTS if (path / WEIGHTS).is_file() else later
    config = _config(path)
    return path if path.is_file() and config is not None and config.is_file() else None


def _config(file: Path) -> Path | None:
    if file.parts[-2:] == tuple(WEIGHTS.split("/")):
        return file.parent.parent / CONFIG
    is_later = file.name == LATER_WEIGHTS and not file.with_name("cfg.json").is_file()
    return file.with_name(LATER) if is_later else None  # SAELens's weights are called the same


def read(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    """A dictionary, and what it says of itself.

    Args:
        file: `checkpoints/final.safetensors` or `sae_weights.safetensors`, its config where it
            belongs.
        given: What the files do not say.

    Returns:
        The dictionary, its latents in activation units.

    Raises:
        InputError: A file is damaged, or is no dictionary of one hook.
    """
    raw = read_json(_config(file) or file)
    if raw.get("hook_point_in") != raw.get("hook_point_out", raw.get("hook_point_in")):
        raise damaged(file, "a map between activations", "give a dictionary of one hook")
    for name, only in (("act_fn", "jumprelu"), ("apply_decoder_bias_to_pre_encoder", False)):
        if raw.get(name, only) != only:
            raise damaged(file, f"{name}={raw[name]!r}", f"give one whose {name} is {only!r}")
    held = read_safetensors(file)
    tensors = {
        LINEAR.get(name, name): each.mT if each.dim() == 2 else each for name, each in held.items()
    }
    tensors = checked(file, tensors, {"d_in": raw.get("d_model"), "d_sae": raw.get("d_sae")})
    logarithm = tensors.pop("log_jumprelu_threshold", None)
    dtype = torch.promote_types(tensors["W_dec"].dtype, torch.float32)
    scale_in, scale_out = _scales(file, raw, given, tensors["W_dec"].shape[1])
    fold_scales(tensors, scale_in, scale_out)
    by_norm = bool(raw.get("sparsity_include_decoder_norm", True))
    if by_norm:
        fold_row_norms(tensors)
    else:  # out of the encoder, and so out of the latents
        tensors["W_enc"], tensors["b_enc"] = (
            tensors[name] / scale_in for name in ("W_enc", "b_enc")
        )
        tensors["W_dec"] = tensors["W_dec"] * scale_in
    fold_bias(tensors)  # last, since the two scales may differ
    if logarithm is None:
        told = number_in(file, raw, "jump_relu_threshold")
        threshold = settle(file, "threshold", told, given.threshold)
        tensors["threshold"] = torch.full((len(tensors["W_dec"]),), threshold)
    else:
        tensors["log_threshold"] = logarithm
    sparsity, own = gates.jump_relu(file, tensors)
    sae = sae_of(file, Parts(tensors | own, sparsity), dtype)
    source = {"format": NAME, "subtract_b_dec": False, "gate": "jumprelu", "config": raw}
    source |= {"input_scale": scale_in, "output_scale": scale_out, "latent_unit": "activation"}
    source |= {"threshold_unit": "activation", "l0": number_in(file, raw, "top_k")}
    return sae, about(given, {"hook": raw.get("hook_point_in")}, source)


def _scales(file: Path, raw: Mapping[str, Any], given: Given, d_in: int) -> tuple[float, float]:
    """What activations are multiplied by before encoding, and reconstructions divided by after."""
    if raw.get("norm_activation", "dataset-wise") in ("inference", "no-norm", "none"):
        return 1.0, 1.0
    if raw.get("norm_activation", "dataset-wise") != "dataset-wise":
        found = f"norm_activation={raw['norm_activation']!r}, which is no linear map"
        raise damaged(file, found, "give a dictionary that is normalised by its data set")
    norms = raw.get("dataset_average_activation_norm") or {}
    if not isinstance(norms, dict):
        raise damaged(file, f"norms of type {type(norms).__name__}")
    found = [number_in(file, norms, name) for name in ("in", "out")]
    if any(each is not None and not each > 0 for each in found):
        raise damaged(file, f"norms {found}", "give norms above 0")
    scale = settle(
        file, "input_scale", math.sqrt(d_in) / found[0] if found[0] else None, given.input_scale
    )
    if not scale > 0:
        raise damaged(file, f"an input scale of {scale:g}", "give one above 0")
    return scale, math.sqrt(d_in) / found[1] if found[1] else scale
