"""Frozen dataclasses as the schema of a JSON file: what a key may hold, checked by one reader."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from sae.errors import InputError

__all__ = ["Kind", "holds", "read_json", "read_record", "refuse"]

TYPES = {"flag": bool, "text": str, "count": int, "number": (int, float)}
LARGEST = {"number": sys.float_info.max, "count": 2**63 - 1}
DEEPEST = 100
"""Objects and arrays within one another; none that is written here is half as deep."""
ORDERED = (
    ("low", "value"),
    ("value", "high"),
    ("low", "high"),
    ("null_low", "null_high"),
    ("auroc_low", "auroc"),
    ("auroc", "auroc_high"),
)


@dataclass(frozen=True)
class Kind:
    """What a key may hold."""

    form: Any
    """A dataclass, another kind, or "number", "count", "text", "flag" or "any"."""
    low: float = -math.inf
    """Least value of the number, or of every number in the dataclass."""
    high: float = math.inf
    """Greatest value likewise."""
    many: str = ""
    """Empty for one, "map" for an object of such values, "list" for an array of them."""


def holds(
    form: Any,
    low: float | int = -math.inf,
    high: float | int = math.inf,
    many: str = "",
    **default: Any,
) -> Any:
    """A dataclass field that says what its key may hold.

    Args:
        form: As in `Kind`.
        low: Least number.
        high: Greatest number.
        many: As in `Kind`.
        default: `default` or `default_factory`; without either the key is required.

    Returns:
        The field.
    """
    return field(metadata={"kind": Kind(form, float(low), float(high), many)}, **default)


def refuse(key: str, found: str, do: str) -> InputError:
    """The error about one key.

    Args:
        key: Its path, with dots.
        found: What it holds.
        do: What it should hold.

    Returns:
        The error, to be raised.
    """
    return InputError(f"key {key!r} of the summary", found, do)


def read_json(path: Path, do: str) -> dict[str, Any]:
    """A file that holds a JSON object, whose numbers are numbers that can be reckoned with.

    Args:
        path: The file.
        do: What mends one that is broken.

    Returns:
        The object.

    Raises:
        InputError: The file is missing, is not JSON or no object, holds a number that is larger
            than any float or none at all, or is nested more than 100 deep.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_float=_finite, parse_int=_whole, parse_constant=_none)
    except OSError as error:
        raise InputError(f"{path}", error.strerror or "nothing readable", do) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"JSON in {path}", str(error), do) from error
    if not isinstance(data, dict):
        raise InputError(f"an object in {path}", type(data).__name__, do)
    level: list[Any] = [data]
    for _ in range(DEEPEST):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [one for each in inner for one in each if isinstance(one, dict | list)]
    if level:
        raise InputError(f"JSON in {path}", f"nested more than {DEEPEST} deep", do)
    return data


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits:.20}, larger than any float")
    return value


def _none(name: str) -> float:
    raise ValueError(f"{name}, which is no number")


def _whole(digits: str) -> int:
    _finite(digits)
    return int(digits)


def read_record(kind: Kind, data: Any, key: str) -> Any:
    """A dataclass from parsed JSON.

    Args:
        kind: Its `form` is the dataclass.
        data: Parsed JSON; keys that are no field are left out.
        key: Path of the record, for messages.

    Returns:
        An instance of the dataclass.

    Raises:
        InputError: A key is missing, of the wrong type, out of range, or out of order.
    """
    if not isinstance(data, Mapping):
        raise refuse(key or "summary", f"{data!r:.60}", "write an object")
    values = {}
    for each in fields(kind.form):
        path = f"{key}.{each.name}".lstrip(".")
        if each.name in data:
            values[each.name] = _read(
                _within(each.metadata["kind"], kind), data[each.name], path, _is_optional(each)
            )
        elif each.default is MISSING and each.default_factory is MISSING:
            raise refuse(path, "no such key", "write it, null where it was not measured")
    for low, high in ORDERED:
        least, most = values.get(low), values.get(high)
        if least is not None and most is not None and least > most:
            raise refuse(f"{key}.{low}", f"{least} above {high} {most}", "write low <= high")
    return kind.form(**values)


def _within(inner: Kind, outer: Kind) -> Kind:
    if inner.form != "number":
        return inner
    return replace(inner, low=max(inner.low, outer.low), high=min(inner.high, outer.high))


def _is_optional(each: Any) -> bool:
    return "None" in str(each.type)


def _read(kind: Kind, value: Any, key: str, optional: bool = False) -> Any:
    if value is None and (optional or kind.form == "any"):
        return None
    one = replace(kind, many="")
    if kind.many == "map":
        if not isinstance(value, Mapping):
            raise refuse(key, f"{value!r:.60}", "write an object")
        return {str(name): _read(one, each, f"{key}.{name}") for name, each in value.items()}
    if kind.many == "list":
        if not isinstance(value, list | tuple):
            raise refuse(key, f"{value!r:.60}", "write an array")
        return [_read(one, each, f"{key}.{place}") for place, each in enumerate(value)]
    if isinstance(kind.form, Kind):
        return _read(kind.form, value, key)
    return read_record(kind, value, key) if is_dataclass(kind.form) else _plain(kind, value, key)


def _plain(kind: Kind, value: Any, key: str) -> Any:
    if kind.form == "any":
        return value
    is_flag = isinstance(value, bool)
    if not isinstance(value, TYPES[kind.form]) or is_flag != (kind.form == "flag"):
        raise refuse(key, f"{value!r:.60}", f"write a {kind.form}")
    if kind.form in LARGEST:
        low, high = max(kind.low, -LARGEST[kind.form]), min(kind.high, LARGEST[kind.form])
        if not low <= value <= high:
            raise refuse(key, f"{value!r:.60}", f"write a number from {low:g} to {high:g}")
    return float(value) if kind.form == "number" else value
