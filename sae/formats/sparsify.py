"""sparsify's folder of one hookpoint: `cfg.json` and `sae.safetensors`.

Source: eai-sparsify 1.3.3 (`sparse_coder.py`, `config.py`). Its autoencoders always subtract
`b_dec`, whatever `normalize_decoder` says, and keep the k largest of the positive pre-activations.
Transcoders, skip connections and groupmax are refused: they are no such dictionaries.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from sae.dictionary.kinds import TopKConfig
from sae.dictionary.sae import Sae
from sae.errors import ConfigError
from sae.formats import gates
from sae.formats.files import damaged, json_bytes, put_folder, read_json, read_safetensors
from sae.formats.foreign import Parts, about, checked, laid_out, sae_of
from sae.formats.given import Given, settle, whole_in
from sae.formats.scales import unit_rows_in

__all__ = ["ASKS", "CONFIG", "NAME", "WEIGHTS", "find", "read", "write"]

NAME = "sparsify"
"""What `--to` calls the format."""
CONFIG = "cfg.json"
"""Its config."""
WEIGHTS = "sae.safetensors"
"""Its weights."""
ASKS = ("k", "hook", "model")
"""What of `Given` a file can leave open."""
NAMES = {"encoder.weight": "W_enc", "encoder.bias": "b_enc"}
FOREIGN_TO_US = ("transcode", "skip_connection", "signed")


def find(path: Path) -> Path | None:
    """The weights file, where `path` is such a folder or its weights; else None.

    Args:
        path: A folder or file.
    """
    file = path / WEIGHTS if path.is_dir() else path
    is_one = file.name == WEIGHTS and file.is_file() and file.with_name(CONFIG).is_file()
    return file if is_one else None


def read(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    """A dictionary, and what it says of itself.

    Args:
        file: `sae.safetensors`, its config beside it.
        given: What the files do not say.

    Returns:
        The dictionary; `source` of what it says holds the config as it was.

    Raises:
        InputError: A file is damaged, or holds what is no TopK autoencoder.
    """
    raw = read_json(file.with_name(CONFIG))
    activation = raw.get("activation", "topk")
    if activation != "topk":
        raise damaged(file, f"activation {activation!r}", "give a topk dictionary")
    for name in FOREIGN_TO_US:
        if raw.get(name):
            raise damaged(file, f"{name}={raw[name]!r}", "give an autoencoder without it")
    held = read_safetensors(file)
    tensors = {NAMES.get(name, name): each for name, each in held.items()}
    if "W_enc" in tensors:
        tensors["W_enc"] = tensors["W_enc"].mT if tensors["W_enc"].dim() == 2 else tensors["W_enc"]
    sizes = {"d_in": raw.get("d_in"), "d_sae": raw.get("num_latents") or None}
    tensors = checked(file, tensors, sizes)
    k = settle(file, "k", whole_in(file, raw, "k"), given.k)
    sparsity, own = gates.top_k(file, k)
    dtype = torch.promote_types(tensors["W_dec"].dtype, torch.float32)
    sae = sae_of(file, Parts(tensors | own, sparsity), dtype)
    source = {"format": NAME, "subtract_b_dec": True, "gate": "topk", "input_scale": None}
    source |= {"latent_unit": "activation", "config": raw}
    return sae, about(given, {"hook": _hook(file.parent.name)}, source)


def _hook(folder: str) -> str | None:
    """Folders are named after the module whose output is encoded."""
    place, _, layer = folder.partition(".")
    return f"blocks.{layer}.hook_resid_post" if place == "layers" and layer.isdigit() else None


def write(directory: Path, sae: Sae, meta: Mapping[str, Any]) -> Path:
    """A folder that `SparseCoder.load_from_disk` reads, with the same latents.

    Args:
        directory: Where to; sparsify expects its name to be that of the module, `layers.N`.
        sae: A TopK dictionary; left alone, and written folded.
        meta: Kept in the config under `forelimb`.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: The dictionary is not TopK, which is all sparsify has.
    """
    sparsity = sae.config.sparsity
    if not isinstance(sparsity, TopKConfig):
        do = "write it as saelens or dictionary_learning"
        raise ConfigError(f"a {sparsity.kind} dictionary for sparsify", "a kind it lacks", do)
    folded = sae.folded()
    tensors = {"encoder.weight": folded.W_enc.T, "encoder.bias": folded.b_enc}
    tensors |= {"W_dec": folded.W_dec, "b_dec": folded.b_dec}
    config: dict[str, Any] = {"activation": "topk", "k": sparsity.k, "d_in": folded.config.d_in}
    config |= {"num_latents": folded.config.d_sae, "normalize_decoder": unit_rows_in(folded.W_dec)}
    config["expansion_factor"] = max(1, folded.config.d_sae // folded.config.d_in)
    config |= dict.fromkeys(("multi_topk", "skip_connection", "transcode"), False)
    config["forelimb"] = dict(meta)
    put_folder(directory, {CONFIG: json_bytes(config), WEIGHTS: save(laid_out(tensors))})
    return directory / WEIGHTS
