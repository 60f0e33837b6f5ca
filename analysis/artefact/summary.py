"""The file `summary.json`: what every number is, checked when written and when read.

The dataclasses of `analysis.artefact.schema` are its keys. What was not measured is null, never 0;
an interval holds its value; a wrong or missing key is an error that names it. More keys may be
added.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.artefact.keys import Kind, read_json, read_record, refuse
from analysis.artefact.names import FATES
from analysis.artefact.schema import (
    Arm,
    Base,
    Context,
    ControlRates,
    Dictionary,
    ErrorRate,
    Measured,
    Persona,
    Power,
    Size,
    SpanDifference,
    Spread,
    Summary,
)

__all__ = [
    "SCHEMA",
    "Arm",
    "Base",
    "Context",
    "ControlRates",
    "Dictionary",
    "ErrorRate",
    "Measured",
    "Persona",
    "Power",
    "Size",
    "SpanDifference",
    "Spread",
    "Summary",
    "error_rates_of",
    "parse",
    "power_of",
    "read",
    "to_json",
    "write",
]

SCHEMA = "forelimb.summary/1"
"""What the file calls itself."""
FILE = "summary.json"
"""Its name in a trace folder."""
KINDS = ("arm", "null", "pole")


def parse(data: Mapping[str, Any]) -> Summary:
    """Check the content of a `summary.json` and give it types.

    Args:
        data: The parsed file, or one about to be written.

    Returns:
        The summary; keys that are not in the schema are left out.

    Raises:
        InputError: A key is missing, of the wrong type or out of range; the message names it.
    """
    if data.get("schema") != SCHEMA:
        raise refuse("schema", repr(data.get("schema")), f"write {SCHEMA!r}")
    summary = read_record(Kind(Summary), data, "")
    for name, arm in summary.arms.items():
        unknown = sorted(set(arm.fates) - set(FATES))
        if unknown:
            raise refuse(f"arms.{name}.fates.{unknown[0]}", "no fate", "see artefact/names.py")
        if arm.kind not in KINDS:
            raise refuse(f"arms.{name}.kind", repr(arm.kind), f"write one of {', '.join(KINDS)}")
    for name in summary.reuse_index:
        if name not in summary.arms:
            known = f"arms are {', '.join(summary.arms) or 'none'}"
            raise refuse(f"reuse_index.{name}", known, "give it among `arms`, or leave it out")
    for place, row in enumerate(summary.span):
        _check_difference(row, f"span.{place}")
    return summary


def _check_difference(row: SpanDifference, key: str) -> None:
    if len(row.pair) != 2:
        raise refuse(f"{key}.pair", f"{len(row.pair)} arms", "write two")
    if row.low is None or row.high is None or row.excludes_zero is None:
        return
    if row.excludes_zero != (row.low > 0 or row.high < 0):
        raise refuse(f"{key}.excludes_zero", f"{row.excludes_zero}", "agree with the interval")


def to_json(value: Any) -> Any:
    """A summary as JSON can hold it: not a number becomes null, numpy numbers become plain ones.

    Args:
        value: A summary, or any part of one.

    Returns:
        Dictionaries, lists and plain values.
    """
    if isinstance(value, Summary):
        return {"schema": SCHEMA, **to_json(asdict(value))}
    if isinstance(value, Mapping):
        return {str(name): to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(directory: str | Path, summary: Summary | Mapping[str, Any]) -> Path:
    """Write `summary.json`, whole or not at all.

    Args:
        directory: Trace folder; made where missing.
        summary: The summary, or its content as a mapping, whose further keys are kept.

    Returns:
        Path of the file.

    Raises:
        InputError: The content breaks the schema; nothing is written.
    """
    data = {"schema": SCHEMA, **to_json(summary)}
    parse(data)
    path = Path(directory) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)
    return path


def read(directory: str | Path) -> Summary:
    """Read and check the `summary.json` of a trace folder.

    Args:
        directory: Trace folder.

    Returns:
        The summary.

    Raises:
        InputError: The file is missing, is not JSON, or breaks the schema.
    """
    do = "give the folder that `python -m scripts.trace_personas` wrote"
    return parse(read_json(Path(directory) / FILE, do))


def error_rates_of(table: pd.DataFrame) -> dict[str, ErrorRate]:
    """One held-back null's entry under `error_rates`.

    Args:
        table: What `analysis.fates.error_rates` returns: family, call, n, share, share_low,
            share_high.

    Returns:
        By family.
    """
    found: dict[str, ErrorRate] = {}
    for family, rows in table.groupby("family", sort=False):
        calls = {row["call"]: row for row in rows.to_dict("records")}
        measured = {
            call: Measured(*(to_json(row[c]) for c in ("share", "share_low", "share_high")))
            for call, row in calls.items()
        }
        n = int(calls["changed"]["n"])
        found[str(family)] = ErrorRate(n, measured["changed"], measured.get("preserved"))
    return found


def power_of(table: pd.DataFrame, smallest_p: float) -> Power:
    """One arm's entry under `power`: what the null allows in its least sensitive bin.

    Args:
        table: What `analysis.fates.nulls.Null.power` returns.
        smallest_p: What its `smallest_p` returns.

    Returns:
        The power.
    """
    columns = {column: table[column].to_numpy(float) for column in table}
    return Power(
        n_null=int(columns["n_latents"].min()),
        smallest_p=float(smallest_p),
        direction=float(columns["direction"].min()),
        gain=float(max(-columns["gain_low"].min(), columns["gain_high"].max())),
        gating=float(columns["gating"].max()),
        profile=float(columns["profile"].max()) if "profile" in columns else None,
        effect=float(columns["effect"].min()) if "effect" in columns else None,
    )
