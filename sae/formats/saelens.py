"""SAELens's folder: an inference folder or a training checkpoint, of version 6 or before.

Source: sae-lens 6.54 (`saes/*.py`, `loading/pretrained_sae_loaders.py`, `activation_scaler.py`).
Latents are those of SAELens's own inference: in the unit of the scaled activations where a scale
was folded into the weights or lies beside a checkpoint, unless they count by decoder norm.
Differences: a checkpoint is read as the inference folder that SAELens would make of it, its scale
and whitening folded rather than passed over, and a threshold by decoder norm divided by the scale,
which SAELens 6.54.0 forgets; `scaling_factor` of old finetunings is folded into the decoder; and
normalisations that are no linear map are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from sae.dictionary.kinds import (
    ReluConfig,
)
from sae.dictionary.sae import Sae
from sae.formats import gates
from sae.formats.files import damaged, read_json, read_safetensors
from sae.formats.foreign import Parts, about, checked, sae_of, shaped
from sae.formats.given import Given, number_in, settle, whole_in
from sae.formats.saelens_writing import BATCH, CONFIG, WEIGHTS, write
from sae.formats.scales import fold_bias, fold_row_norms, fold_scales, fold_whitening

__all__ = ["ASKS", "NAME", "find", "read", "write"]

NAME = "saelens"
"""What `--to` calls the format."""
ASKS = ("k", "threshold", "input_scale", "subtract_b_dec", "hook", "model")
"""What of `Given` a file can leave open."""
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
LINEAR = ("none", "expected_average_only_in", "covariance_whitening")

Tensors = dict[str, Shaped[Tensor, "..."]]


def find(path: Path) -> Path | None:
    """The weights file, where `path` is such a folder or its weights; else None.

    Args:
        path: A folder or file.
    """
    file = path / WEIGHTS if path.is_dir() else path
    is_one = file.name == WEIGHTS and file.is_file() and file.with_name(CONFIG).is_file()
    return file if is_one else None


def read(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    """A dictionary as SAELens's inference has it, and what it says of itself.

    Args:
        file: `sae_weights.safetensors`, its config beside it.
        given: What the files do not say.

    Returns:
        The dictionary; `source` of what it says holds the config as it was.

    Raises:
        InputError: A file is damaged, the architecture is none of standard, topk, batchtopk,
            matryoshka_batchtopk, jumprelu and gated, or activations are not scaled linearly.
    """
    raw = read_json(file.with_name(CONFIG))
    config = _modern(file, raw)
    biases = () if config["architecture"] == "gated" else ("b_enc",)
    tensors = checked(file, read_safetensors(file), config, biases)
    subtract = _subtracts(file, config, given)
    gate, tensors, prefixes = _gate(file, config, tensors, given)
    dtype = torch.promote_types(tensors["W_dec"].dtype, torch.float32)
    if not subtract:
        fold_bias(tensors)
    is_by_norm = bool(config.get("rescale_acts_by_decoder_norm"))
    if is_by_norm and config["normalize_activations"] == "covariance_whitening":
        fold_row_norms(tensors)  # which whitening would change
        is_by_norm = False
    scale = _folded_scale(file, config, tensors, given)
    if is_by_norm:  # by the norms of the scaled rows, so latents and threshold lose the scale
        fold_row_norms(tensors)
        if "sparsity.threshold" in gate[1]:
            gate[1]["sparsity.threshold"] /= scale or 1.0
    sae = sae_of(file, Parts(tensors | gate[1], gate[0], prefixes), dtype)
    source = {"format": NAME, "subtract_b_dec": subtract, "gate": config["architecture"]}
    source |= {"input_scale": scale, "latent_unit": "as SAELens's inference has it"}
    told = {"hook": config["hook_name"], "model": config["model_name"]}
    return sae, about(given, told, source | {"config": raw})


def _modern(file: Path, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The config under the names of version 6."""
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise damaged(file, f"metadata of type {type(metadata).__name__}")
    version = str(raw.get("sae_lens_version") or metadata.get("sae_lens_version") or "0")
    major = version.partition(".")[0]
    is_old = not major.isdecimal() or int(major[:9]) < 6
    config = {**raw, "metadata": metadata, "is_old": is_old}
    config["hook_name"] = metadata.get("hook_name", raw.get("hook_name", raw.get("hook_point")))
    config["model_name"] = metadata.get("model_name", raw.get("model_name"))
    if is_old:
        activation = raw.get("activation_fn", raw.get("activation_fn_str", "relu"))
        config["architecture"] = raw.get("architecture", "standard")
        if activation == "topk":
            kwargs = raw.get("activation_fn_kwargs")
            told = kwargs.get("k") if isinstance(kwargs, dict) else None
            config |= {"architecture": "topk", "k": raw.get("k", told)}
        elif activation != "relu":
            raise damaged(file, f"activation {activation!r}", "relu and topk can be read")
    scaling = config.get("normalize_activations")
    if isinstance(scaling, bool):
        scaling = "expected_average_only_in" if scaling else "none"
    config["normalize_activations"] = scaling or "none"
    if config["normalize_activations"] not in LINEAR:
        found = f"normalize_activations {scaling!r}, which is no linear map of the activations"
        raise damaged(file, found, "normalise them yourself and use the other library's dictionary")
    if "architecture" not in config:
        raise damaged(file, f"no architecture in {CONFIG}")
    return config


def _subtracts(file: Path, config: Mapping[str, Any], given: Given) -> bool:
    told = config.get("apply_b_dec_to_input")
    if told is None and config["is_old"] and given.subtract_b_dec is None:
        return True  # before there was a choice
    if told is not None and not isinstance(told, bool):
        raise damaged(file, f"apply_b_dec_to_input={told!r}, where true or false is wanted")
    return settle(file, "subtract_b_dec", told, given.subtract_b_dec)


def _gate(
    file: Path, config: Mapping[str, Any], tensors: Tensors, given: Given
) -> tuple[gates.Gate, Tensors, list[int]]:
    """How latents fire, the tensors that are left, and prefixes."""
    left = dict(tensors)
    architecture = config["architecture"]
    if "scaling_factor" in left:  # of old finetunings, on the way out
        scaling = shaped(file, left, "scaling_factor", left["W_dec"].shape[:1])
        left["W_dec"] = left["W_dec"] * scaling.unsqueeze(-1)
    match architecture:
        case "standard":
            return (ReluConfig(_l1(file, config)), {}), left, []
        case "topk":
            k = settle(file, "k", whole_in(file, config, "k"), given.k)
            return gates.top_k(file, k), left, []
        case "batchtopk" | "matryoshka_batchtopk":
            told = _scalar(file, left.pop("topk_threshold", None))
            threshold = settle(file, "threshold", told or None, given.threshold)
            details = config
        case "jumprelu":
            details = _trained(file, config, left)
            if details is None:
                return gates.jump_relu(file, left), left, []
            threshold = float(left.pop("threshold")[0])
        case "gated":
            return gates.gated(file, left, "b_gate", "b_mag"), left, []
        case _:
            found = f"architecture {architecture!r}"
            known = "standard, topk, batchtopk, matryoshka_batchtopk, jumprelu or gated"
            raise damaged(file, found, f"give one of {known}")
    k = settle(file, "k", _near(number_in(file, details, "k")), given.k)
    return gates.batch_topk(file, k, threshold), left, _prefixes(file, config, details)


def _trained(file: Path, config: Mapping[str, Any], tensors: Tensors) -> Mapping[str, Any] | None:
    """What a BatchTopK dictionary that was saved as JumpReLU was trained with; else None."""
    metadata = config["metadata"]
    details = metadata.get("training_architecture_details")
    threshold = tensors.get("threshold")
    if metadata.get("training_architecture") not in BATCH or not isinstance(details, dict):
        return None
    if threshold is None or threshold.dim() != 1 or len(threshold) == 0:
        return None
    is_one = bool((threshold == threshold[0]).all()) and bool(threshold[0] >= 0)
    return details if is_one and number_in(file, details, "k") is not None else None


def _near(k: float | None) -> int | None:
    """A whole k: SAELens's may be broken, and counts in training alone."""
    return None if k is None else max(1, round(k))


def _prefixes(file: Path, config: Mapping[str, Any], details: Mapping[str, Any]) -> list[int]:
    widths = details.get("matryoshka_widths") or []
    whole = isinstance(widths, list) and all(type(each) is int for each in widths)
    if not whole:
        raise damaged(file, f"matryoshka_widths={widths!r}, where whole numbers are wanted")
    return [each for each in widths if each != whole_in(file, config, "d_sae")]


def _l1(file: Path, config: Mapping[str, Any]) -> float:
    return max(0.0, number_in(file, config, "l1_coefficient") or 0.0)


def _scalar(file: Path, tensor: Shaped[Tensor, "..."] | None) -> float | None:
    if tensor is None or tensor.numel() != 1:
        raise damaged(file, "no single topk_threshold")
    return float(tensor)


def _folded_scale(
    file: Path, config: Mapping[str, Any], tensors: Tensors, given: Given
) -> float | None:
    """Puts a checkpoint's scale or whitening into its weights; the scale, for what is told."""
    kind = config["normalize_activations"]
    if kind == "none":
        return None
    if kind == "covariance_whitening":
        beside = file.with_name(WHITENING)
        found = read_safetensors(beside)
        square = list(tensors["W_enc"].shape[:1]) * 2
        shapes = {"mean": square[:1], "matrix": square, "inverse_matrix": square}
        fold_whitening(tensors, *(shaped(beside, found, name, shapes[name]) for name in shapes))
        return None
    scaler = file.with_name(SCALER)
    told = number_in(scaler, read_json(scaler), "scaling_factor") if scaler.is_file() else None
    scale = settle(file, "input_scale", told, given.input_scale)
    if not scale > 0:
        raise damaged(file, f"an input scale of {scale:g}", "give one above 0")
    fold_scales(tensors, scale, scale)
    return scale
