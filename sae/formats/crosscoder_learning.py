"""Crosscoders of science-of-finetuning: `config.json` and `model.safetensors` or `model_final.pt`.

Source: Minder et al. 2025, "Overcoming sparsity artifacts in crosscoders", arXiv:2504.02922, and
the layout of their fork of dictionary_learning (`CrossCoder`, `BatchTopKCrossCoder`): models are
normalised to `(x - mean) scale`, f is the relu of what their encoders add up to, and decoders are
taken back to `x / (scale + 1e-8) + mean`. `decoder.bias` is not subtracted.

A latent here is `f sum_m ||d^m||`, f times the summed norms of its rows in normalised space: what
their `get_activations` gives, what their threshold is held against and what numbers are published
of. Their `encode` gives f itself, which is this divided by `code_norms`. The models' scales become
those of the dictionary's layout, so that rows stay comparable over models in normalised space.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from sae.dictionary.config import CrosscoderConfig
from sae.dictionary.kinds import ReluConfig
from sae.dictionary.sae import Sae
from sae.formats import gates
from sae.formats.files import damaged, read_json, read_pt, read_safetensors
from sae.formats.foreign import Parts, about, checked, sae_of, scalar, shaped, trainer_hook
from sae.formats.given import Given, settle, whole_in
from sae.formats.scales import fold_bias, fold_lengths
from sae.formats.subject import of_several

__all__ = ["ASKS", "CONFIG", "NAME", "WEIGHTS", "code_norms", "find", "read"]

NAME = "crosscoder_learning"
"""What messages call the format."""
CONFIG = "config.json"
"""Its config."""
WEIGHTS = "model.safetensors"
"""Its weights, as they are shared; those of a run are `model_final.pt`."""
ASKS = ("k", "threshold", "hook")
"""What of `Given` a file can leave open."""
LOCAL, TRAINER = "model_final.pt", "trainer_config.json"
LINEAR = {"decoder.weight": "W_dec", "encoder.weight": "W_enc"}
LINEAR |= {"encoder.bias": "b_enc", "decoder.bias": "b_dec"}
CLASSES = ("CrossCoder", "BatchTopKCrossCoder")
NORMALISATIONS = ("CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")
STATISTICS = ("activation_mean", "activation_std")
LEAST = 1e-8  # what their decoder adds to a scale before it divides by it
MOST_CONFIG_BYTES = 1 << 20

Tensors = dict[str, Shaped[Tensor, "..."]]


def find(path: Path) -> Path | None:
    """The weights file, where `path` is such a folder or its weights; else None.

    Args:
        path: A folder or file; a torch archive may have any name. `config.json` lies beside it.
    """
    files = (path / WEIGHTS, path / LOCAL) if path.is_dir() else (path,)
    for file in files:
        is_named = file.name == WEIGHTS or file.suffix in (".pt", ".pth")
        if is_named and file.is_file() and _tells(file.with_name(CONFIG)):
            return file
    return None


def _tells(config: Path) -> bool:
    """Whether a config is a crosscoder's: those of language models and of SAEs are named alike."""
    if not config.is_file():
        return False
    with config.open("rb") as stream:
        text = stream.read(MOST_CONFIG_BYTES)
    return b'"dict_size"' in text and (b'CrossCoder"' in text or b'"num_layers"' in text)


def read(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    """A dictionary over several models, and what it says of itself.

    Args:
        file: `model.safetensors`, or a torch archive, its configs beside it.
        given: What the files do not say.

    Returns:
        The dictionary, its latents norm-weighted; its inputs are the models' vectors side by side,
        in the file's order, which has the base model first. `source` of what it says holds the
        configs as they were and the models' scales.

    Raises:
        InputError: A file is damaged, or holds what cannot be had exactly: another normalisation
            of the code than by summed norms, activations normalised dimension by dimension, an
            encoder of some models only.
    """
    raw, trainer = _configs(file)
    told = trainer | raw
    held = _held(file)
    n_models, d_model = _sides(file, held, told)
    _require_exact(file, held, (raw, trainer), n_models)
    name = told.get("dict_class") or CLASSES["threshold" in held]
    if name not in CLASSES:
        raise damaged(file, f"class {name!r}", f"give one of {' and '.join(CLASSES)}")
    normaliser = _normaliser(file, held, n_models, d_model)
    tensors = checked(file, _in_rows(held))
    sparsity, own = ReluConfig(l1=0.0), {}
    if name == "BatchTopKCrossCoder":
        sparsity, own = _batch_topk(file, tensors, told, given)
    dtype = torch.promote_types(tensors["W_dec"].dtype, torch.float32)
    own["layout.balance"] = _fold(tensors, n_models, normaliser)
    parts = Parts(tensors | own, sparsity, crosscoder=CrosscoderConfig(n_models))
    sae = sae_of(file, parts, dtype)
    source = {"format": NAME, "subtract_b_dec": False, "gate": name, "config": raw}
    source |= {"trainer": trainer, "latent_unit": "norm-weighted", "threshold_unit": "the latents'"}
    source["input_scale"] = own["layout.balance"].tolist()
    known = about(given, {"hook": trainer_hook(told)}, source)
    return sae, known | of_several("crosscoder", [{"model": None}] * n_models)


def code_norms(path: str | Path) -> Float64[Tensor, " d_sae"]:
    """The summed norms of each latent's decoder rows, as the file has them.

    Latents as `read` gives them, divided by these, are what the fork's own `encode` gives.

    Args:
        path: Its folder or weights file.

    Returns:
        At least 0; unit: normalised activation of every model.

    Raises:
        InputError: There is no such crosscoder, or it is damaged.
    """
    file = find(Path(path))
    if file is None:
        raise damaged(Path(path), "no crosscoder of this format", f"give a folder with {WEIGHTS}")
    held = _held(file)
    _sides(file, held, {})
    return held["decoder.weight"].double().norm(dim=-1).sum(0)


def _held(file: Path) -> Tensors:
    held = read_safetensors(file) if file.suffix == ".safetensors" else read_pt(file)
    return {name.removeprefix("_orig_mod."): each for name, each in held.items()}


def _configs(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The constructor's arguments and the trainer's; a run of one's own has only the latter."""
    raw, beside = read_json(file.with_name(CONFIG)), file.with_name(TRAINER)
    both = read_json(beside) if beside.is_file() else raw
    trainer = both.get("trainer") or {}
    if not isinstance(trainer, dict):
        raise damaged(file, f"trainer of type {type(trainer).__name__} in its config")
    return {name: each for name, each in raw.items() if name != "trainer"}, trainer


def _sides(file: Path, held: Tensors, told: Mapping[str, Any]) -> tuple[int, int]:
    """Number of models and their width, once shapes are seen to fit each other and the config."""
    for name, own in LINEAR.items():
        if name not in held:
            raise damaged(file, f"no {own} ({name}), but {', '.join(sorted(held)[:9])}")
    shape = list(held["decoder.weight"].shape)
    if len(shape) != 3 or 0 in shape or shape[0] < 2:
        do = "give one over two models or more"
        raise damaged(file, f"W_dec (decoder.weight) of shape {shape}, no three sizes", do)
    n_models, d_sae, d_model = shape
    wanted = {"encoder.weight": [n_models, d_model, d_sae], "encoder.bias": [d_sae]}
    wanted["decoder.bias"] = [n_models, d_model]
    for name, each in wanted.items():
        if list(held[name].shape) != each:
            raise damaged(file, f"{name} of shape {list(held[name].shape)}, where {each} is wanted")
    sizes = {"num_layers": n_models, "dict_size": d_sae, "activation_dim": d_model}
    for name, found in sizes.items():
        said = whole_in(file, told, name)
        if said not in (None, found):
            raise damaged(file, f"tensors of {name} {found}, where its config says {said}")
    return n_models, d_model


def _require_exact(
    file: Path, held: Tensors, configs: tuple[Mapping[str, Any], ...], n_models: int
) -> None:
    """Refuses what would be another dictionary here."""
    number = scalar(file, held, "code_normalization_id")
    for told in configs:
        name = told.get("code_normalization")
        if name is not None and str(name).upper() != NORMALISATIONS[0]:
            raise _normalised_otherwise(file, str(name).upper())
        only = {"encoder_layers": list(range(n_models)), "num_decoder_layers": n_models}
        only |= {"keep_relative_variance": True, "latent_processor": None}
        for key, each in only.items():
            if told.get(key) not in (None, each):
                raise damaged(file, f"{key}={told[key]!r}", f"give one whose {key} is {each!r}")
    if number is not None and number != 1:
        names = {float(each): name for each, name in enumerate(NORMALISATIONS, start=1)}
        raise _normalised_otherwise(file, names.get(number, f"{number:g}"))


def _normalised_otherwise(file: Path, name: str) -> Exception:
    do = "give one of code_normalization CROSSCODER; others have no such latents here"
    return damaged(file, f"code_normalization {name}", do)


Normaliser = tuple[Float64[Tensor, " n_models"], Float64[Tensor, "n_models d_model"]]
"""What each model's vectors are multiplied by, and what is taken off before."""


def _normaliser(file: Path, held: Tensors, n_models: int, d_model: int) -> Normaliser | None:
    """Taken out of a file's tensors; None where statistics are missing or all NaN, so unused."""
    held.pop("target_rms", None)
    if all(name not in held or _is_unset(held[name]) for name in STATISTICS):
        for name in (*STATISTICS, "activation_global_scale"):
            held.pop(name, None)
        return None
    mean, _ = (shaped(file, held, name, (n_models, d_model)).double() for name in STATISTICS)
    scale = shaped(file, held, "activation_global_scale", (n_models,)).double()
    if not bool((scale > 0).all()):
        raise damaged(file, f"activation_global_scale {scale.tolist()}", "give scales above 0")
    return scale, mean


def _is_unset(each: Shaped[Tensor, "..."]) -> bool:
    return each.is_floating_point() and bool(each.isnan().all())


def _in_rows(held: Tensors) -> Tensors:
    """Row orientation, the models side by side."""
    tensors = {LINEAR.get(name, name): each for name, each in held.items()}
    tensors["W_enc"] = tensors["W_enc"].flatten(0, 1)
    tensors["W_dec"] = tensors["W_dec"].transpose(0, 1).flatten(1)
    tensors["b_dec"] = tensors["b_dec"].flatten()
    return tensors


def _batch_topk(file: Path, tensors: Tensors, told: Mapping[str, Any], given: Given) -> gates.Gate:
    """How latents fire; k and threshold are taken out of the tensors."""
    held, threshold = (scalar(file, tensors, name) for name in ("k", "threshold"))
    k = settle(file, "k", whole_in(file, told if held is None else {"k": held}, "k"), given.k)
    is_set = threshold is not None and threshold >= 0
    threshold = settle(file, "threshold", threshold if is_set else None, given.threshold)
    return gates.batch_topk(file, k, threshold)


def _fold(
    tensors: Tensors, n_models: int, normaliser: Normaliser | None
) -> Float[Tensor, " n_models"]:
    """Means and summed norms into the weights; what is left of scales is returned."""
    fold_lengths(tensors, n_models)
    scale = torch.ones(n_models, dtype=torch.float64)
    sides = (n_models, -1)
    blocks = {name: tensors[name].double().unflatten(-1, sides) for name in ("W_dec", "b_dec")}
    centre = torch.zeros_like(blocks["b_dec"])
    if normaliser is not None:
        scale, mean = normaliser
        centre = scale.unsqueeze(-1) * mean
        back = (scale / (scale + LEAST)).unsqueeze(-1)
        blocks = {name: each * back for name, each in blocks.items()}
    tensors |= {name: each.flatten(-2) for name, each in blocks.items()}
    fold_bias(tensors)  # before the mean, which is subtracted there too
    tensors["b_dec"] = tensors["b_dec"] + centre.flatten()
    return scale
