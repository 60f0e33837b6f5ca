"""Files that appear whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["write_json", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8: a draft beside it first, which then takes its place.

    Whatever ends this meanwhile leaves what was there before, or nothing.

    Args:
        path: File to write, in a folder that exists; an existing file is replaced.
        text: Its content.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(
    path: Path,
    content: object,
    indent: int | None = 2,
    default: Callable[[Any], Any] | None = None,
) -> None:
    r"""As `write_text`, of JSON with a line break at its end.

    Args:
        path: File to write, in a folder that exists; an existing file is replaced.
        content: What JSON holds, or `default` makes of it.
        indent: Spaces a level; None for all on one line.
        default: Called with what JSON does not hold; None refuses it.

    Raises:
        TypeError: JSON does not hold the content; nothing was written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / "a.json", {"n": 1}, indent=None)
        ...     (Path(folder) / "a.json").read_text()
        '{"n": 1}\n'
    """
    write_text(path, json.dumps(content, indent=indent, default=default) + "\n")
