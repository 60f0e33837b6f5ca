"""This project's own dictionary folder: weights that explain themselves, and plain JSON beside.

`dictionary.safetensors` is enough alone: its header holds config, provenance, units, metrics and a
digest of all that and the weights. `config.json`, `eval.json` and `provenance.json` repeat it for
readers without a tensor library.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sae.dictionary.config import SaeConfig, config_to_dict, sae_config_from_dict
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError, NumericalError

__all__ = ["META_KEYS", "SCHEMA", "WEIGHTS", "own_words", "read", "write"]

SCHEMA = "forelimb.dictionary/1"
"""What the header calls the format."""
WEIGHTS = "dictionary.safetensors"
"""Name of the one file that is enough alone."""
META_KEYS = (
    "hook",
    "model",
    "revision",
    "tokenizer_sha256",
    "n_tokens",
    "git_commit",
    "metrics",
)
"""What a dictionary says of itself: null where the writer left it out; other keys are kept too."""
_OWN_KEYS = ("schema", "config", "units", "is_folded", "trained_input_scale", "sha256")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def write(directory: str | Path, sae: Sae, meta: Mapping[str, Any]) -> Path:
    """The folder of a dictionary, folded; each file appears whole or not at all.

    Args:
        directory: Where to; made where missing, its other files left alone.
        sae: The dictionary; left alone.
        meta: Values JSON can hold, under `META_KEYS` (`hook` by its TransformerLens name, `metrics`
            a mapping of held-out numbers) and any other name the format does not use itself.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: A name in `meta` belongs to the format, or a value is not JSON.
        NumericalError: A weight is not finite.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from sae.dictionary.config import TopKConfig
        >>> with TemporaryDirectory() as folder:
        ...     _ = write(folder, Sae(SaeConfig(2, 4, TopKConfig(k=1))), {"model": "tiny"})
        ...     read(folder)[1]["model"]
        'tiny'
    """
    folder = Path(directory)
    known = dict.fromkeys(META_KEYS) | _checked_meta(meta)
    tensors = {name: each.detach().cpu().contiguous() for name, each in _state(sae).items()}
    for name, each in tensors.items():
        if not each.isfinite().all():
            raise NumericalError(f"{name} to write", "values that are not finite", "fit it anew")
    own = {"schema": SCHEMA, "config": config_to_dict(sae.config), "units": "activation"}
    own |= {"is_folded": True, "trained_input_scale": sae.input_scale.item()}
    header = {name: json.dumps(value) for name, value in (own | known).items()}
    header["sha256"] = json.dumps(_digest(header, tensors))
    folder.mkdir(parents=True, exist_ok=True)
    beside = {name: value for name, value in known.items() if name != "metrics"}
    beside["sha256"] = json.loads(header["sha256"])
    _replace(folder / "config.json", _json_bytes(own["config"]))
    _replace(folder / "eval.json", _json_bytes(known["metrics"] or {}))
    _replace(folder / "provenance.json", _json_bytes(beside))
    _replace(folder / WEIGHTS, _ordered(save(tensors, metadata=header)))
    return folder / WEIGHTS


def read(path: str | Path) -> tuple[Sae, dict[str, Any]]:
    """A dictionary from its folder or weights file, in evaluation mode, and what it says of itself.

    Args:
        path: A folder holding `dictionary.safetensors`, or such a file.

    Returns:
        The dictionary, folded, and the header's values (see `META_KEYS`; also `units`, `is_folded`
        and `trained_input_scale`).

    Raises:
        InputError: The file is missing, damaged, of another format or version, or its config and
            tensors disagree. Nothing is ever unpickled.
    """
    file = Path(path)
    file = file / WEIGHTS if file.is_dir() else file
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            config = _config(file, header)
            _require_width(file, config, list(opened.get_slice("W_dec").get_shape()))
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    _require_digest(file, header, tensors)
    return _filled(file, Sae(config), tensors), _told(file, header)


def own_words(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a read dictionary says of itself, without what its format says: ready to be written.

    Args:
        meta: As `read` gave it.
    """
    return {name: value for name, value in meta.items() if name not in _OWN_KEYS}


def _damaged(file: Path, found: str) -> InputError:
    do = "give a dictionary this version wrote, or write or copy it again"
    return InputError(f"dictionary {file}", found, do)


def _checked_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in meta.items():
        if name in _OWN_KEYS:
            raise ConfigError(f"meta {name!r}", "a name the format uses itself", "rename it")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"meta {name!r}", str(error), "give values JSON can hold") from error
    return dict(meta)


def _state(sae: Sae) -> dict[str, Shaped[Tensor, "..."]]:
    return dict(sae.folded().state_dict())


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _ordered(raw: bytes) -> bytes:
    """The same safetensors with its header's keys in order: the library's own order is random."""
    stop = 8 + int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:stop]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + raw[stop:]


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _digest(header: Mapping[str, str], tensors: Mapping[str, Shaped[Tensor, "..."]]) -> str:
    told = {name: header[name] for name in sorted(header) if name != "sha256"}
    digest = hashlib.sha256(json.dumps(told).encode())
    for name in sorted(tensors):
        each = tensors[name]
        digest.update(f"{name} {each.dtype} {tuple(each.shape)}".encode())
        digest.update(each.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _config(file: Path, header: Mapping[str, str]) -> SaeConfig:
    schema = header.get("schema", "null")
    if schema != json.dumps(SCHEMA):
        found = "another format's safetensors" if schema == "null" else f"schema {schema[:80]}"
        raise _damaged(file, f"{found}, not {SCHEMA}")
    try:
        return sae_config_from_dict(json.loads(header["config"]))
    except (ConfigError, KeyError, ValueError, RecursionError) as error:
        raise _damaged(file, f"no usable config ({error})") from error


def _require_width(file: Path, config: SaeConfig, shape: list[int]) -> None:
    """Before anything is made in the config's size, so that a false config costs no memory."""
    if shape != [config.d_sae, config.d_in]:
        told = [config.d_sae, config.d_in]
        raise _damaged(file, f"W_dec of shape {shape}, where its config says {told}")


def _require_digest(
    file: Path, header: Mapping[str, str], tensors: Mapping[str, Shaped[Tensor, "..."]]
) -> None:
    if header.get("sha256") != json.dumps(_digest(header, tensors)):
        raise _damaged(file, "content that does not match its own sha256")


def _told(file: Path, header: Mapping[str, str]) -> dict[str, Any]:
    own = ("schema", "config", "sha256")
    try:
        return {name: json.loads(header[name]) for name in sorted(header) if name not in own}
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"a header that is not JSON ({error})") from error


def _filled(file: Path, sae: Sae, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> Sae:
    wanted = {name: tuple(each.shape) for name, each in sae.state_dict().items()}
    given = {name: tuple(each.shape) for name, each in tensors.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            found = f"{name} of shape {given.get(name)}, where its config says {wanted.get(name)}"
            raise _damaged(file, found)
        fresh = sae.state_dict()[name].dtype
        if tensors[name].dtype not in (_FLOATS if fresh.is_floating_point else (fresh,)):
            raise _damaged(file, f"{name} of type {tensors[name].dtype}")
        if not tensors[name].isfinite().all():
            raise _damaged(file, f"{name} with values that are not finite")
    laid_out = {"W_enc": tensors["W_enc"].T.contiguous().T}  # a latent's weights together
    sae.load_state_dict(dict(tensors) | laid_out, assign=True)
    # A sparsity's own numbers may be wider: thresholds in bfloat16 would be too coarse.
    if len(types := {each.dtype for each in sae.parameters(recurse=False)}) > 1:
        raise _damaged(file, f"parameters of different types: {sorted(map(str, types))}")
    if not bool((sae.scale > 0).all()):
        raise _damaged(file, "layout.balance with values that are not above 0")
    if sae.input_scale != 1:
        raise _damaged(file, f"input_scale {sae.input_scale.item():g}, so not folded")
    return sae.eval()
