"""Dictionaries on disk."""

from pathlib import Path
from typing import Any

from sae.dictionary.sae import Sae
from sae.errors import InputError
from sae.formats import native
from sae.formats.native import write

__all__ = ["read", "write"]

_PICKLE_HEADS = (b"\x80", b"PK")


def read(path: str | Path) -> tuple[Sae, dict[str, Any]]:
    """A finished dictionary, folded and in evaluation mode, and what it says of itself.

    Args:
        path: A dictionary's folder or its safetensors file.

    Returns:
        The dictionary and its header's values, such as `hook`, `model` and `metrics`.

    Raises:
        InputError: There is nothing there, or it is damaged, of a format that is not known, or a
            pickle, which is never opened.
    """
    file = Path(path)
    asked = f"dictionary {file}"
    do = f"give a folder holding {native.WEIGHTS}, or that file"
    if file.is_dir() and not (file / native.WEIGHTS).is_file():
        held = sorted(each.name for each in file.iterdir())[:5]
        raise InputError(asked, f"a folder holding {', '.join(held) or 'nothing'}", do)
    file = file / native.WEIGHTS if file.is_dir() else file
    try:
        with file.open("rb") as stream:
            head = stream.read(2)
    except (OSError, ValueError) as error:
        raise InputError(asked, f"{type(error).__name__}: {error}", do) from error
    if any(head.startswith(each) for each in _PICKLE_HEADS):
        raise InputError(asked, "a pickle or a zip archive, which is never opened", do)
    return native.read(file)
