"""dictionary_learning's `ae.pt` and `config.json`: all seven classes of its dictionaries.

Source: dictionary-learning 0.1.0 (`dictionary.py`, `trainers/top_k.py`, `batch_top_k.py`,
`matryoshka_batch_top_k.py`). Latents are those its `encode` gives, in activation units, with a
BatchTopK dictionary's threshold in use. Differences: its reader gives the decoder rows of an
`AutoEncoder` norm 1, and this one leaves them; a threshold of -1, which it takes for none at all,
is asked for.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    TopKConfig,
)
from sae.dictionary.sae import Sae
from sae.formats import crosscoder_learning, gates
from sae.formats.files import damaged, json_bytes, put_folder, read_json, read_pt
from sae.formats.foreign import (
    Parts,
    about,
    checked,
    laid_out,
    sae_of,
    scalar,
    trainer_hook,
)
from sae.formats.given import Given, settle, whole_in
from sae.formats.scales import fold_bias, unit_rows_in

__all__ = ["ASKS", "CONFIG", "NAME", "WEIGHTS", "find", "read", "write"]

NAME = "dictionary_learning"
"""What `--to` calls the format."""
CONFIG = "config.json"
"""Its config."""
WEIGHTS = "ae.pt"
"""Its weights."""
ASKS = ("k", "threshold", "subtract_b_dec", "dict_class", "hook", "model")
"""What of `Given` a file can leave open."""
LINEAR = {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "encoder.bias": "b_enc"}
BIASES = {"bias": "b_dec", "decoder.bias": "b_dec", "decoder_bias": "b_dec"}
CLASSES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
)

Tensors = dict[str, Shaped[Tensor, "..."]]


def find(path: Path) -> Path | None:
    """The weights file, where `path` is such a folder or any torch archive; else None.

    Args:
        path: A folder or file; one that `crosscoder_learning` knows is its.
    """
    file = path / WEIGHTS if path.is_dir() else path
    is_one = file.suffix in (".pt", ".pth") and file.is_file()
    return file if is_one and crosscoder_learning.find(file) is None else None


def read(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    """A dictionary, and what it says of itself.

    Args:
        file: `ae.pt`, or a checkpoint of it, with `config.json` beside or one folder above it.
        given: What the files do not say.

    Returns:
        The dictionary; `source` of what it says holds the config as it was.

    Raises:
        InputError: A file is damaged, or the class is none that can be read.
    """
    raw = _config(file)
    trainer = raw.get("trainer", {})
    if not isinstance(trainer, dict):
        raise damaged(file, f"trainer of type {type(trainer).__name__} in {CONFIG}")
    held = read_pt(file)
    told = trainer.get("dict_class")
    name = settle(file, "dict_class", told if told else _class_by_keys(held), given.dict_class)
    if name not in CLASSES:
        raise damaged(file, f"class {name!r}", f"give one of {', '.join(CLASSES)}")
    tensors = _in_rows(held)
    sizes = {"d_in": trainer.get("activation_dim"), "d_sae": trainer.get("dict_size")}
    biases = ("gate_bias", "mag_bias", "r_mag") if name == "GatedAutoEncoder" else ("b_enc",)
    tensors = checked(file, tensors, sizes, biases)
    subtract = name not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    if given.subtract_b_dec is not None:
        told_by_class = None if name == "JumpReluAutoEncoder" else subtract
        subtract = settle(file, "subtract_b_dec", told_by_class, given.subtract_b_dec)
    prefixes = _prefixes(file, tensors)
    (sparsity, own), tensors = _gate(file, name, tensors, trainer, given)
    dtype = torch.promote_types(tensors["W_dec"].dtype, torch.float32)
    if not subtract:
        fold_bias(tensors)
    sae = sae_of(file, Parts(tensors | own, sparsity, prefixes), dtype)
    source = {"format": NAME, "subtract_b_dec": subtract, "gate": name, "input_scale": None}
    source |= {"latent_unit": "activation", "config": raw}
    told = {"hook": trainer_hook(trainer), "model": trainer.get("lm_name")}
    return sae, about(given, told, source)


def _config(file: Path) -> dict[str, Any]:
    for folder in (file.parent, file.parent.parent):
        if (folder / CONFIG).is_file():
            return read_json(folder / CONFIG)
        if file.parent.name != "checkpoints":
            break
    return {}


def _class_by_keys(held: Tensors) -> str | None:
    """The class that alone has such keys; TopK and BatchTopK share theirs."""
    names = set(held)
    signs = {
        "group_sizes": "MatryoshkaBatchTopKSAE",
        "r_mag": "GatedAutoEncoder",
        "decoder.bias": "AutoEncoderNew",
    }
    for sign, name in signs.items():
        if sign in names:
            return name
    if {"W_enc", "threshold"} <= names:
        return "JumpReluAutoEncoder"
    return "AutoEncoder" if "bias" in names else None


def _in_rows(held: Tensors) -> Tensors:
    """Row orientation: `nn.Linear` holds its weights the other way round."""
    renamed = {(LINEAR | BIASES).get(name, name): each for name, each in held.items()}
    for name in ("encoder.weight", "decoder.weight"):
        if name in held and held[name].dim() == 2:
            renamed[LINEAR[name]] = held[name].T
    return renamed


def _prefixes(file: Path, tensors: Tensors) -> list[int]:
    sizes = tensors.pop("group_sizes", None)
    if sizes is None:
        return []
    if sizes.dim() != 1 or sizes.is_floating_point() or len(sizes) > len(tensors["W_dec"]):
        raise damaged(file, f"group_sizes of shape {list(sizes.shape)} and type {sizes.dtype}")
    ends = sizes.cumsum(0).tolist()
    if not ends or ends[-1] != len(tensors["W_dec"]):
        raise damaged(file, f"group_sizes that add up to {ends[-1:]}")
    return ends[:-1]


def _gate(
    file: Path, name: str, tensors: Tensors, trainer: Mapping[str, Any], given: Given
) -> tuple[gates.Gate, Tensors]:
    """How latents fire, and the tensors that are left."""
    left = dict(tensors)
    if name in ("AutoEncoder", "AutoEncoderNew"):
        return (ReluConfig(l1=0.0), {}), left
    if name == "GatedAutoEncoder":
        return gates.gated(file, left, "gate_bias", "mag_bias"), left
    if name == "JumpReluAutoEncoder":
        return gates.jump_relu(file, left), left
    threshold = scalar(file, left, "threshold")
    held = scalar(file, left, "k")
    told = whole_in(file, trainer, "k") if held is None else int(held)
    k = settle(file, "k", told, given.k)
    if name == "AutoEncoderTopK":
        return gates.top_k(file, k), left
    is_set = threshold is not None and threshold >= 0
    threshold = settle(file, "threshold", threshold if is_set else None, given.threshold)
    return gates.batch_topk(file, k, threshold), left


def write(directory: Path, sae: Sae, meta: Mapping[str, Any]) -> Path:
    """A folder that `load_dictionary` reads, with the same latents.

    Its `AutoEncoder` is given rows of norm 1 when it is read, so a ReLU dictionary with other rows
    is written as an `AutoEncoderNew`.

    Args:
        directory: Where to.
        sae: The dictionary; left alone, and written folded.
        meta: Its `model` and the layer of its `hook`; all of it is kept in the config under
            `forelimb`.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: A BatchTopK threshold was never set.
    """
    folded = sae.folded()
    tensors = {name: each.detach() for name, each in folded.state_dict().items()}
    name, renamed = _class_of(folded, tensors)
    trainer: dict[str, Any] = {"dict_class": name, "activation_dim": folded.config.d_in}
    trainer |= {"dict_size": folded.config.d_sae, "lm_name": meta.get("model")}
    hook = str(meta.get("hook")).split(".")
    if len(hook) == 3 and hook[2] == "hook_resid_post" and hook[1].isdigit():
        trainer |= {"layer": int(hook[1]), "submodule_name": f"resid_post_layer_{hook[1]}"}
    if "k" in renamed:
        trainer["k"] = int(renamed["k"])
    stream = io.BytesIO()
    torch.save(laid_out(renamed), stream)
    config = {"trainer": trainer, "buffer": {}, "forelimb": dict(meta)}
    put_folder(directory, {CONFIG: json_bytes(config), WEIGHTS: stream.getvalue()})
    return directory / WEIGHTS


def _class_of(sae: Sae, tensors: Tensors) -> tuple[str, Tensors]:
    """The class that has such latents, and tensors under its names."""
    rows = {name: tensors[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    linear = {name: rows[own] for name, own in LINEAR.items()}
    linear |= {name: linear[name].T for name in ("encoder.weight", "decoder.weight")}
    match sae.config.sparsity:
        case ReluConfig():
            if unit_rows_in(rows["W_dec"]):
                return "AutoEncoder", linear | {"bias": rows["b_dec"]}
            fold_bias(rows, -1)
            shifted = {"encoder.bias": rows["b_enc"].to(sae.W_dec.dtype)}
            return "AutoEncoderNew", linear | shifted | {"decoder.bias": rows["b_dec"]}
        case TopKConfig(k=k):
            own = {"k": torch.tensor(k, dtype=torch.int32), "threshold": torch.tensor(-1.0)}
            return "AutoEncoderTopK", linear | own | {"b_dec": rows["b_dec"]}
        case BatchTopKConfig(k=k):
            own = {"k": torch.tensor(k, dtype=torch.int32)}
            own["threshold"] = gates.threshold_of(sae).float()
            if not sae.config.prefixes:
                return "BatchTopKSAE", linear | own | {"b_dec": rows["b_dec"]}
            ends = torch.tensor([0, *sae.config.prefixes, sae.config.d_sae])
            return "MatryoshkaBatchTopKSAE", rows | own | {"group_sizes": ends.diff()}
        case JumpReluConfig() | JumpReluTanhConfig() | JumpReluL0Config():
            fold_bias(rows, -1)
            rows["b_enc"] = rows["b_enc"].to(sae.W_dec.dtype)
            return "JumpReluAutoEncoder", rows | {"threshold": gates.thresholds_of(sae)}
        case GatedConfig():
            found = gates.gated_parts(sae)
            linear.pop("encoder.bias")
            own = {"gate_bias": found["gate"], "mag_bias": found["magnitude"]}
            own |= {"r_mag": found["r_mag"], "decoder_bias": rows["b_dec"]}
            return "GatedAutoEncoder", linear | own
