"""what a cache says of itself, every field checked, and its files, which lie in its folder."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sae.errors import InputError

__all__ = ["SCHEMA", "read_manifest", "read_member", "require_said"]

SCHEMA = "forelimb.activations/1"
"""What a manifest calls itself; another name or number is refused."""
Kind = tuple[Callable[[Any], bool], str]
AGAIN = "delete provenance.json beside it and harvest it again"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0  # a bool is no count


def _is_bare(value: Any) -> bool:
    """Whether a file of this name can lie nowhere but in the folder, on any system."""
    return _is_text(value) and value not in (".", "..") and not set(value) & set("/\\:\0")


TEXT: Kind = (_is_text, "a non-empty string")
COUNT: Kind = (_is_count, "a whole number, 0 or more")
SAID: Mapping[str, Kind] = {"model": TEXT, "hook": TEXT}
FIELDS: Mapping[str, Kind] = {
    **SAID,
    "d_in": (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
    "dtype": TEXT,
    "n_tokens": COUNT,
    "table_sha256": TEXT,
    "shards": (lambda value: isinstance(value, list), "a list"),
}
SHARD: Mapping[str, Kind] = {
    "file": (_is_bare, "the bare name of a file in the folder"),
    "n": COUNT,
    "sha256": TEXT,
}
ENTRY: Kind = (lambda value: isinstance(value, dict), f"an entry of {', '.join(SHARD)}")


def read_manifest(path: Path) -> Mapping[str, Any]:
    """What the ``manifest.json`` of a cache says, once it is seen to hold what it must.

    Raises:
        InputError: There is none, it is damaged or of another schema, or a field is missing or not
            what it must be; the message names the manifest and the field.
    """
    asked = f"activation cache {path.parent}"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(asked, "no manifest.json", "harvest one or check the path") from error
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(asked, f"a damaged {path} ({error})", AGAIN) from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise InputError(asked, f"schema {schema} in {path}", f"harvest it as {SCHEMA}")
    _require(asked, str(path), manifest, FIELDS, AGAIN)
    for number, entry in enumerate(manifest["shards"]):
        shard = f"shard {number}"
        _require(asked, str(path), {shard: entry}, {shard: ENTRY}, AGAIN)
        _require(asked, f"{shard} of {path}", entry, SHARD, AGAIN)
    return manifest


def require_said(asked: str, said: Mapping[str, Any]) -> None:
    """What is to be said in a manifest must be what `read_manifest` takes.

    Args:
        asked: Of which cache it is to be said, for the message.
        said: What is to be said.

    Raises:
        InputError: It lacks model or hook, one is no string or empty, or JSON cannot hold a value.
    """
    _require(asked, "said", said, SAID, "give said model and hook")
    try:
        json.dumps(dict(said))
    except (TypeError, ValueError) as error:
        do = "give said what JSON can hold"
        raise InputError(asked, f"a value in said that JSON cannot hold ({error})", do) from error


def read_member(folder: Path, name: str, sha256: str) -> bytes:
    """Content of a file of a cache.

    Args:
        folder: The cache.
        name: Bare name of the file.
        sha256: The hash it must have.

    Raises:
        InputError: It is missing, or not what was written. A link is followed, for downloads from
            a hub are links, and what it leads to must have the hash.
    """
    path, do = folder / name, AGAIN
    try:
        data = path.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names no file has
        raise InputError(f"file {path}", str(error), do) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"file {path}", "not what was written", do)
    return data


def _require(
    asked: str, where: str, said: Mapping[str, Any], kinds: Mapping[str, Kind], do: str
) -> None:
    if missing := kinds.keys() - said.keys():
        raise InputError(asked, f"{where} without {', '.join(sorted(missing))}", do)
    for name, (is_kind, kind) in kinds.items():
        if not is_kind(said[name]):
            raise InputError(asked, f"{where} with {name} {said[name]!r:.60}, not {kind}", do)
