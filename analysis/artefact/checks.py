"""What the files beside `summary.json` must hold, checked once where a trace is read.

Whoever asks a trace for a number may then take it as it stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api import types

from analysis.artefact.keys import Kind, holds, read_record
from analysis.artefact.names import COLUMNS, EXAMPLE_COLUMNS, fate_rows
from sae.errors import InputError

__all__ = ["REQUIRED", "check_nulls", "check_table", "read_table"]

REQUIRED = {
    "fates": ("tuned", "latent", "origin", "fate", "q_value", "persona"),
    "traces": ("tuned", "latent", "context", "role", "n_tokens", "n_fires_base", "n_fires_tuned"),
    "examples": EXAMPLE_COLUMNS[: EXAMPLE_COLUMNS.index("z_tuned") + 1],
}
"""Columns that must be there, by table; further ones are used where they are, and those of
`fates.parquet` are null where they are not: what asks for them is not measured."""
_TEXT = {"fates": ("tuned", "origin", "fate"), "traces": ("tuned",), "examples": ("tuned", "which")}
_WHOLE = {
    "fates": ("latent",),
    "traces": ("latent", "n_tokens", "n_fires_base", "n_fires_tuned"),
    "examples": ("latent", "rank", "pos", "start"),
}
_WORDS = ("tuned", "latent", "origin", "fate", "persona", "reason", "read_by")
_NUMBERS = {"fates": tuple(column for column in COLUMNS if column not in _WORDS)}
AGAIN = "delete provenance.json beside it and trace again"


def read_table(path: Path, do: str, columns: Sequence[str], further: bool) -> pd.DataFrame:
    """A parquet table, once it is seen to be one and to have its columns.

    Args:
        path: The file.
        do: What mends a file that is none.
        columns: Which it must have.
        further: Whether those that it has beside them are read as well.

    Raises:
        InputError: It is missing, damaged or lacks a column.
    """
    try:
        there = pq.read_schema(path).names
        missing = [column for column in columns if column not in there]
        if not missing:
            return pd.read_parquet(path, columns=None if further else list(columns))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"a parquet table in {path}", f"{error}", do) from error
    raise InputError(f"column {missing[0]!r} in {path}", ", ".join(there), do)


def check_table(name: str, path: Path) -> pd.DataFrame:
    """A table of a trace folder, with whole numbers and texts where it must have them.

    Args:
        name: "fates", "traces" or "examples".
        path: The file.

    Raises:
        InputError: As `read_table`; or a column holds something else than it must, or a snippet's
            tokens, activations and peak do not belong together.
    """
    table = read_table(path, AGAIN, REQUIRED[name], further=True)
    if name == "fates":
        more = [column for column in table if column not in COLUMNS]
        table = pd.concat([fate_rows(table), table[more].reset_index(drop=True)], axis=1)
    if not len(table):
        return table
    columns = {str(column): pd.Series(table[column]) for column in table}
    for column in _TEXT[name]:
        found = types.infer_dtype(columns[column], skipna=False)
        if found not in ("string", "categorical") or bool(columns[column].isna().any()):
            raise InputError(f"names in column {column!r} of {path}", f"{found} values", AGAIN)
    for column in _NUMBERS.get(name, ()):
        if column in columns and not _is_number(columns[column]):
            found = f"{columns[column].dtype} values"
            raise InputError(f"numbers in column {column!r} of {path}", found, AGAIN)
    table = table.assign(**{column: _whole(columns[column], path) for column in _WHOLE[name]})
    if name == "examples":
        _check_snippets(table, path)
    return table


def _is_number(values: pd.Series) -> bool:
    """Whether a column is one of numbers, some of which may be missing, or all."""
    is_number = types.is_numeric_dtype(values) and not types.is_bool_dtype(values)
    return is_number or bool(values.isna().all())


def _whole(values: pd.Series, path: Path) -> pd.Series:
    asked = f"whole numbers in column {values.name!r} of {path}"
    if not types.is_numeric_dtype(values) or types.is_bool_dtype(values):
        raise InputError(asked, f"{values.dtype} values", AGAIN)
    numbers = values.to_numpy(float, na_value=np.nan)
    wrong = np.flatnonzero((numbers != np.floor(numbers)) | (np.abs(numbers) >= 2**53))
    if len(wrong):
        raise InputError(asked, f"{numbers[wrong[0]]:g} in row {wrong[0]}", AGAIN)
    return values.astype(np.int64)


def _check_snippets(table: pd.DataFrame, path: Path) -> None:
    peaks = table["pos"] - table["start"]
    columns = (table[column] for column in ("tokens", "z_base", "z_tuned"))
    for place, (tokens, base, tuned, at) in enumerate(zip(*columns, peaks, strict=True)):
        if why := _snippet_lacks(tokens, (base, tuned), int(at)):
            raise InputError(f"a snippet in row {place} of {path}", why, AGAIN)


def _snippet_lacks(tokens: Any, pair: tuple[Any, Any], at: int) -> str:
    """Why a row is no snippet, empty where it is one."""
    if not all(isinstance(each, np.ndarray | list) for each in (tokens, *pair)):
        return "no lists of tokens and activations"
    for z in pair:
        if len(z) != len(tokens):
            return f"{len(z)} activations of {len(tokens)} tokens"
        try:
            known = np.isfinite(np.asarray(z, float))
        except (TypeError, ValueError):
            return "activations that are no numbers"
        if not known.all():
            return "activations that are not finite"
    return "" if 0 <= at < len(tokens) else f"its peak at token {at} of {len(tokens)}"


@dataclass(frozen=True)
class _Bin:
    """What the null lets one see of latents that fire as often; null where it says nothing."""

    fire_rate_from: float = holds("number", 0)
    direction: float | None = holds("number")
    gain_low: float | None = holds("number")
    gain_high: float | None = holds("number")
    gating: float | None = holds("number")
    profile: float | None = holds("number", default=None)
    effect: float | None = holds("number", default=None)


@dataclass(frozen=True)
class _Held:
    power: list[_Bin] | None = holds(_Bin, many="list", default=None)


@dataclass(frozen=True)
class _Nulls:
    arms: dict[str, _Held] = holds(_Held, many="map", default_factory=dict)


def check_nulls(found: Mapping[str, Any], path: Path) -> None:
    """Refuses the content of a `nulls.json` that cards could not be drawn from.

    Args:
        found: Parsed JSON; an arm without a null is null.
        path: The file.

    Raises:
        InputError: A bin lacks a limit, or a key holds something else than it must.
    """
    arms = found.get("arms", {})
    if isinstance(arms, Mapping):
        arms = {name: each for name, each in arms.items() if each is not None}
    try:
        read_record(Kind(_Nulls), {"arms": arms}, "")
    except InputError as error:
        asked = error.asked.replace("the summary", str(path))
        raise InputError(asked, error.found, AGAIN) from error
