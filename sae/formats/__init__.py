"""Dictionaries on disk: this project's own format, and other libraries'."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.formats import (
    crosscoder_learning,
    dictionary_learning,
    gemma_scope,
    llama_scope,
    native,
    saelens,
    sparsify,
)
from sae.formats.check import Sanity, sanity_check
from sae.formats.foreign import require_writable
from sae.formats.given import Given
from sae.formats.hub import located

__all__ = [
    "FORMATS",
    "Format",
    "Given",
    "Sanity",
    "located",
    "read",
    "recognise",
    "sanity_check",
    "writable",
    "write",
]

_PICKLE_HEADS = (b"\x80", b"PK")


class Format(NamedTuple):
    """A format: how it is recognised, read and written."""

    name: str
    """What `--to` calls it."""
    weights: str
    """Name of the file by which a folder of it that is written can be told."""
    asks: tuple[str, ...]
    """What of `Given` its files can leave open."""
    find: Callable[[Path], Path | None]
    """The file to read, where a folder or file is of this format."""
    read: Callable[[Path, Given], tuple[Sae, dict[str, Any]]]
    """Reads what `find` found."""
    write: Callable[[Path, Sae, Mapping[str, Any]], Path] | None
    """Writes a folder; None where the format is read only."""


def _find_native(path: Path) -> Path | None:
    file = path / native.WEIGHTS if path.is_dir() else path
    return file if file.is_file() else None


def _read_native(file: Path, given: Given) -> tuple[Sae, dict[str, Any]]:
    sae, meta = native.read(file)
    return sae, meta | {name: each for name, each in given.named().items()}


def _foreign(module: Any) -> Format:
    write = getattr(module, "write", None)
    return Format(module.NAME, module.WEIGHTS, module.ASKS, module.find, module.read, write)


_NATIVE = Format(
    "forelimb", native.WEIGHTS, ("hook", "model"), _find_native, _read_native, native.write
)
_FOREIGN = (saelens, dictionary_learning, sparsify, gemma_scope, llama_scope)
_FOREIGN += (crosscoder_learning,)
FORMATS: dict[str, Format] = {each.name: each for each in (_NATIVE, *map(_foreign, _FOREIGN))}
"""Every format by name; this project's own first."""


def read(path: str | Path, given: Given | None = None) -> tuple[Sae, dict[str, Any]]:
    """A finished dictionary of any format, in evaluation mode, and what it says of itself.

    Other libraries' dictionaries encode and decode as those libraries do; their scales are folded
    into the weights, and `source` of what is returned says what their files said.

    Args:
        path: A dictionary's folder or weights file, or `hf://org/repo/folder@revision`, which is
            downloaded.
        given: What a file does not say and its reader asked for.

    Returns:
        The dictionary and what it says of itself, such as `hook`, `model` and `metrics`.

    Raises:
        InputError: There is nothing there, it is damaged or of a format that is not known, it is a
            bare pickle, which is never opened, or it leaves open what was not given.
        ConfigError: Something was given that the file says otherwise, or that is not asked.
    """
    place, given = located(path), given or Given()
    found, file = recognise(place)
    for name, value in given.named().items():
        if name not in found.asks:
            asked = f"{name}={value} for {place}"
            raise ConfigError(asked, f"a {found.name} file, which says so itself", "leave it out")
    return found.read(file, given)


def recognise(path: Path) -> tuple[Format, Path]:
    """The format of a dictionary, and its weights file.

    Args:
        path: A folder or file.

    Raises:
        InputError: It is of none, or of several.
    """
    asked = f"dictionary {path}"
    do = f"give a folder holding {native.WEIGHTS}, that file, or another library's folder"
    try:
        matches = {each: file for each in FORMATS.values() if (file := each.find(path))}
        heads = {file: _head(file) for file in matches.values()}
    except (OSError, ValueError) as error:
        raise InputError(asked, f"{type(error).__name__}: {error}", do) from error
    foreign = {each: file for each, file in matches.items() if each is not _NATIVE}
    own = matches.get(_NATIVE)
    if own is not None and (path.is_dir() or not foreign):
        foreign[_NATIVE] = own
    if len(foreign) > 1:
        names = " and ".join(sorted(str(file.name) for file in foreign.values()))
        raise InputError(asked, f"several formats: {names}", "give the file that is meant")
    if not foreign:
        if not path.is_dir():
            raise InputError(asked, "FileNotFoundError: nothing there", do)
        held = sorted(each.name for each in path.iterdir())[:5]
        raise InputError(asked, f"a folder holding {', '.join(held) or 'nothing'}", do)
    found, file = next(iter(foreign.items()))
    if found is _NATIVE and heads[file].startswith(_PICKLE_HEADS):
        raise InputError(asked, "a pickle or a zip archive, which is never opened", do)
    return found, file


def _head(file: Path) -> bytes:
    """How a file begins, unless it may be a safetensors: eight bytes, then JSON."""
    with file.open("rb") as stream:
        head = stream.read(9)
    return b"" if head[8:] == b"{" else head


def writable(form: str) -> Format:
    """A format by name that can be written.

    Args:
        form: Its name.

    Raises:
        ConfigError: There is no such format, or it is read only.
    """
    if form not in FORMATS or FORMATS[form].write is None:
        known = ", ".join(name for name, each in FORMATS.items() if each.write is not None)
        raise ConfigError(f"a dictionary as {form!r}", "no format to write", f"choose {known}")
    return FORMATS[form]


def write(
    directory: str | Path, sae: Sae, meta: Mapping[str, Any], form: str = _NATIVE.name
) -> Path:
    """The folder of a dictionary.

    Args:
        directory: Where to; made where missing, its other files left alone.
        sae: The dictionary; left alone.
        meta: Values JSON can hold; see `sae.formats.native.META_KEYS`.
        form: Name of the format, one of `FORMATS` that can be written.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: There is no such format, it cannot hold such a dictionary, or `meta` does not
            fit it.
        NumericalError: A weight is not finite.
    """
    found = writable(form)
    if found is not _NATIVE:
        require_writable(sae, meta)
    assert found.write is not None
    return found.write(Path(directory), sae, meta)
