"""Strangers' files, read without trust: JSON, safetensors, torch archives and npz; and folders put.

Whatever is wrong with a file is one `InputError`. Sizes are checked before anything is made in
them, and no code from a file ever runs.
"""

import json
import math
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sae.errors import InputError

__all__ = [
    "damaged",
    "json_bytes",
    "put_folder",
    "read_json",
    "read_npz",
    "read_pt",
    "read_safetensors",
]

MOST_JSON_BYTES = 1 << 24
MOST_EXPANSION = 16
NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
BROKEN_ARCHIVE = (OSError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, MemoryError)
BROKEN_ARCHIVE += (OverflowError, SyntaxError, KeyError, zipfile.LargeZipFile)
BROKEN_PICKLE = (*BROKEN_ARCHIVE, pickle.UnpicklingError, AttributeError, TypeError, LookupError)
BROKEN_PICKLE += (ImportError, AssertionError)

Tensors = dict[str, Shaped[Tensor, "..."]]


def damaged(file: Path, found: str, do: str = "copy or download it again") -> InputError:
    """An error about a foreign dictionary file.

    Args:
        file: The file or folder.
        found: What is wrong with it.
        do: What mends it.
    """
    return InputError(f"dictionary {file}", " ".join(found.split())[:400], do)


def _why(error: Exception) -> str:
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first}"


def json_bytes(value: object) -> bytes:
    """A value as indented JSON.

    Args:
        value: Whatever JSON can hold.
    """
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; NaN and infinities, which JSON has not, count as null.

    Args:
        file: At most 16 MiB.

    Raises:
        InputError: It is missing, too long, no JSON or no object.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(MOST_JSON_BYTES + 1)
        if len(text) > MOST_JSON_BYTES:
            raise damaged(file, f"more than {MOST_JSON_BYTES} bytes of JSON")
        value = json.loads(text, parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(file, f"no JSON ({_why(error)})") from error
    if not isinstance(value, dict):
        raise damaged(file, f"a {type(value).__name__}, where an object is wanted")
    return value


def read_safetensors(file: Path) -> Tensors:
    """Every tensor of a safetensors file.

    Args:
        file: Whatever its size: the library checks its header against that.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(file, f"no whole safetensors ({_why(error)})") from error


def read_pt(file: Path) -> Tensors:
    """The state dict in an archive that `torch.save` wrote: tensors by name, and nothing else.

    `torch._dynamo` puts `_orig_mod.` before names, which is taken off.

    Args:
        file: A zip archive without compression, whose checksums hold.

    Raises:
        InputError: It is missing, damaged or an older bare pickle, or holds anything but tensors.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            for each in archive.infolist():
                if each.compress_type != zipfile.ZIP_STORED or each.file_size != each.compress_size:
                    raise damaged(file, f"{each.filename}, which is compressed")
            if (wrong := archive.testzip()) is not None:
                raise damaged(file, f"{wrong}, whose checksum is wrong")
    except BROKEN_ARCHIVE as error:
        do = "give an archive that torch.save wrote; bare pickles are never opened"
        raise damaged(file, f"no whole archive ({_why(error)})", do) from error
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except BROKEN_PICKLE as error:
        do = "give a state dict of tensors alone; nothing else is ever unpickled"
        raise damaged(file, f"more than tensors, or damage ({_why(error)})", do) from error
    if not isinstance(held, dict):
        raise damaged(file, f"a {type(held).__name__}, where a state dict is wanted")
    return {_name(file, name): _dense(file, name, each) for name, each in held.items()}


def _name(file: Path, name: object) -> str:
    if not isinstance(name, str):
        raise damaged(file, f"a {type(name).__name__} as the name of a tensor")
    return name.removeprefix("_orig_mod.")


def _dense(file: Path, name: object, each: object) -> Shaped[Tensor, "..."]:
    """A tensor that is no larger than its file: strides can make much of little."""
    if not isinstance(each, Tensor) or each.layout != torch.strided or each.is_quantized:
        raise damaged(file, f"{name} of type {type(each).__name__}, where a tensor is wanted")
    if each.numel() * each.element_size() > file.stat().st_size:
        raise damaged(file, f"{name} of shape {list(each.shape)}, larger than its file")
    return each.detach()


def read_npz(file: Path) -> Tensors:
    """Every array of an npz archive; read here, since numpy's own reader trusts what arrays say.

    Args:
        file: Arrays of floats or integers.

    Raises:
        InputError: It is missing or damaged, an array is not what it says, holds objects, or
            unpacks to far more than the file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            whole, packed = sum(each.file_size for each in entries), file.stat().st_size
            if whole > MOST_EXPANSION * packed:
                raise damaged(file, f"{packed} bytes that unpack to {whole}")
            arrays = {}
            for each in entries:
                with archive.open(each) as stream:
                    arrays[each.filename.removesuffix(".npy")] = _array(file, each, stream)
    except BROKEN_ARCHIVE as error:
        raise damaged(file, f"no whole npz archive ({_why(error)})") from error
    return arrays


def _array(file: Path, entry: zipfile.ZipInfo, stream: Any) -> Shaped[Tensor, "..."]:
    version = npy.read_magic(stream)
    if version not in NPY_HEADERS:
        raise damaged(file, f"{entry.filename} of numpy's format {version}")
    shape, is_fortran, dtype = NPY_HEADERS[version](stream)
    if dtype.kind not in "fiu":
        raise damaged(file, f"{entry.filename} of type {dtype}, where numbers are wanted")
    left = entry.file_size - stream.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise damaged(file, f"{entry.filename} of shape {list(shape)} in {left} bytes")
    flat = np.frombuffer(stream.read(), dtype).astype(dtype.newbyteorder("="))
    return torch.from_numpy(flat.reshape(shape, order="F" if is_fortran else "C").copy())


def put_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """A folder of files: whole where it is new, and each file whole where it is not.

    Everything is written into a draft beside it first, and renamed.

    Args:
        directory: Where to; made where missing, its other files left alone.
        files: Content by plain name; the last one is put last.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    draft.mkdir()
    try:
        for name, content in files.items():
            with (draft / name).open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
        if not directory.exists():
            draft.rename(directory)
            return
        for name in files:
            (draft / name).replace(directory / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
