"""Gemma Scope's folders: `params.npz` of the first, `params.safetensors` of the second.

Source: Lieberum et al. 2024, "Gemma Scope", arXiv:2408.05147, and the repositories' own tutorials.
JumpReLU with a threshold a latent, `b_dec` not subtracted, activations as the model gives them. The
first kind has no config, so that its hook is known by its folder alone. Transcoders and skip
connections are refused where they can be told; embedding dictionaries are of the embedding as
Hugging Face has it, which TransformerLens scales.
"""

import re
from pathlib import Path
from typing import Any

import torch

from sae.dictionary.sae import Sae
from sae.formats import gates
from sae.formats.files import damaged, read_json, read_npz, read_safetensors
from sae.formats.foreign import Parts, about, checked, sae_of
from sae.formats.given import Given, number_in
from sae.formats.scales import fold_bias

__all__ = ["ASKS", "CONFIG", "NAME", "WEIGHTS", "find", "read"]

NAME = "gemma_scope"
"""What messages call the format."""
CONFIG = "config.json"
"""Config of the second kind."""
WEIGHTS = "params.safetensors"
"""Weights of the second kind."""
ASKS = ("hook", "model")
"""What of `Given` a file can leave open."""
NPZ = "params.npz"
SITES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
OUTPUT = re.compile(r"model\.layers\.(\d+)\.output")
OTHERS = re.compile(r"(^|/)(transcoder|crosscoder|clt)(_all)?(/|$)|gemma-scope-[^/]*transcoders")


def find(path: Path) -> Path | None:
    """The weights file, where `path` is such a folder or its weights; else None.

    Args:
        path: A folder or file.
    """
    files = [path / NPZ, path / WEIGHTS] if path.is_dir() else [path]
    known = [file for file in files if file.name in (NPZ, WEIGHTS) and file.is_file()]
    return known[0] if known else None


def read(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    """A dictionary, and what it says of itself.

    Args:
        file: `params.npz`, or `params.safetensors` with `config.json` beside.
        given: What the files do not say.

    Returns:
        The dictionary; `source` of what it says holds the declared L0 as `l0`.

    Raises:
        InputError: A file is damaged, or maps one kind of activation to another.
    """
    where = "/".join(file.parts[-8:-1])
    config = file.with_name(CONFIG)
    raw = read_json(config) if file.name == WEIGHTS and config.is_file() else {}
    into = raw.get("hf_hook_point_out", raw.get("hf_hook_point_in"))
    if OTHERS.search(where) or into != raw.get("hf_hook_point_in") or raw.get("affine_connection"):
        raise damaged(file, "a map between activations", "give a dictionary of one hook")
    if raw.get("architecture", "jump_relu") != "jump_relu":
        raise damaged(file, f"architecture {raw['architecture']!r}", "give a jump_relu one")
    held = read_npz(file) if file.name == NPZ else read_safetensors(file)
    tensors = {re.sub("^w_", "W_", name): each for name, each in held.items()}
    tensors = checked(file, tensors, {"d_sae": raw.get("width")})
    sparsity, own = gates.jump_relu(file, tensors)
    dtype = torch.promote_types(tensors["W_dec"].dtype, torch.float32)
    fold_bias(tensors)
    sae = sae_of(file, Parts(tensors | own, sparsity), dtype)
    declared = re.search(r"average_l0_(\d+)", where)
    l0 = float(declared[1]) if declared else number_in(file, raw, "l0")
    source = {"format": NAME, "subtract_b_dec": False, "gate": "jumprelu", "input_scale": None}
    source |= {"latent_unit": "activation", "l0": l0, "config": raw}
    return sae, about(given, _origin(where, raw), source)


def _origin(where: str, raw: dict[str, Any]) -> dict[str, str | None]:
    """Hook and model, from the config or from the names of repository and folder."""
    output = OUTPUT.fullmatch(str(raw.get("hf_hook_point_in")))
    hook = f"blocks.{output[1]}.hook_resid_post" if output else None
    model = raw.get("model_name")
    repository = re.search(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att)\b", where)
    layer = re.search(r"\blayer_(\d+)\b", where)
    if repository and layer:
        size, tuned, site = repository.groups()
        hook = f"blocks.{layer[1]}.{SITES[site]}"
        model = f"google/gemma-2-{size}" + ("-it" if tuned == "it" else "")
    return {"hook": hook, "model": model if isinstance(model, str) else None}
