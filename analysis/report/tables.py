"""The report's tables: rows of ready text out of a trace."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.artefact.schema import Measured, Summary
from analysis.hypotheses.parts import MATCHED, is_matched
from analysis.report.marks import three
from analysis.report.numbers import null_of, percent_of, range_of

__all__ = [
    "Table",
    "behaviour",
    "differences",
    "error_rates",
    "flat",
    "from_frame",
    "key_numbers",
    "power",
    "provenance",
    "sizes",
]


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first cell of a row is its heading."""

    caption: str
    """What it holds."""
    head: tuple[str, ...]
    """Headings of the columns."""
    rows: list[tuple[Any, ...]]
    """Cells: text, or markup."""
    words: frozenset[int] = frozenset({0})
    """Columns of words; the others are numbers."""


def from_frame(frame: pd.DataFrame, caption: str) -> Table:
    """A figure's twin.

    Args:
        frame: What is drawn.
        caption: What it holds.

    Returns:
        The table; numbers with three significant digits, what is missing "n/a".
    """
    words = frozenset(
        place
        for place, c in enumerate(frame)
        if frame[c].dtype == bool or not pd.api.types.is_numeric_dtype(frame[c])
    )
    rows = [
        tuple(
            _word(value) if place in words else _numeric(value) for place, value in enumerate(row)
        )
        for row in frame.itertuples(index=False)
    ]
    return Table(caption, tuple(str(c).replace("_", " ") for c in frame), rows, words | {0})


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else "n/a"


def _numeric(value: Any) -> str:
    if pd.isna(value):
        return "n/a"
    return three(int(value) if float(value).is_integer() else float(value))


def key_numbers(summary: Summary) -> list[Table]:
    """Every arm's numbers with interval and null.

    Args:
        summary: Of the trace.

    Returns:
        Where the change lies, and what became of the latents; one row an arm.
    """
    place, rest = [], []
    for name, arm in summary.arms.items():
        latents, contrasts = arm.in_span_share, arm.in_contrast_span_share
        cells = [range_of(latents), null_of(latents), null_of(arm.in_span_share_likes)]
        cells += [range_of(contrasts), null_of(contrasts)]
        place.append((name, arm.no_verdict or "given", *cells))
        index = summary.reuse_index.get(name)
        told = (index, arm.repurposed_share, arm.novel_share, arm.fidelity_fvu)
        rest.append((name, *map(range_of, told), null_of(arm.fidelity_fvu)))
    head = (
        "tuned model",
        "verdict",
        "share in latent span",
        "random spans",
        "other latents' spans",
    )
    head += ("share in contrast span", "random spans")
    caption = "Where the change lies: value [95 % interval] beside its null; n/a was not measured"
    second = ("tuned model", "reuse index", "persona latents repurposed", "live latents novel")
    second += ("FVU of the base dictionary", "null")
    said = "What became of the latents, and how well the base dictionary still fits"
    return [Table(caption, head, place, frozenset({0, 1})), Table(said, second, rest)]


def differences(summary: Summary) -> Table:
    """Differences of in-span share between arms.

    Args:
        summary: Of the trace.

    Returns:
        One row a pair and text.
    """
    rows = []
    for row in summary.span:
        far, at = (", ".join(each) or "n/a" for each in (map(three, row.kl), row.checkpoints))
        far += "" if is_matched(row) else " (not matched)"
        pair = f"{row.pair[0]} − {row.pair[1]}"
        rows.append((pair, row.text, range_of(row), null_of(row), far, at))
    head = ("pair", "text", "difference [95 % interval]", "null", "KL", "checkpoints")
    caption = (
        "In-span share less random subspaces', first minus second, at the nearest KL from what "
        f"each was tuned from; matched up to a ratio of {MATCHED}"
    )
    return Table(caption, head, rows, frozenset({0, 1, 5}))


def error_rates(summary: Summary) -> Table:
    """False calls on null models that no threshold was set on.

    Args:
        summary: Of the trace.

    Returns:
        One row a null and family.
    """
    rows = [
        (null, family, three(rate.n), percent_of(rate.changed), percent_of(rate.preserved))
        for null, families in summary.error_rates.items()
        for family, rate in families.items()
        if rate.n
    ]
    head = ("held-back null", "latents", "n", "called changed (false)", "called preserved (right)")
    return Table(
        "Measured error of the fates; exact binomial 95 % intervals", head, rows, frozenset({0, 1})
    )


def power(summary: Summary) -> Table:
    """The smallest change that could have been seen in every arm.

    Args:
        summary: Of the trace.

    Returns:
        One row an arm.
    """
    limits = ("direction", "gain", "gating", "profile", "effect", "n_null", "smallest_p")
    rows = [
        (name, *(three(getattr(each, limit)) for limit in limits))
        for name, each in summary.power.items()
    ]
    head = (
        "tuned model",
        "cosine below",
        "|log gain| above",
        "gating distance above",
        "profile distance above",
        "effect below",
        "null latents a bin",
        "smallest p",
    )
    caption = (
        "Power in the least sensitive bin of firing rates: there a change can be called only beyond"
        " these. Each latent's own limits are on its card"
    )
    return Table(caption, head, rows)


def sizes(summary: Summary) -> Table:
    """How far every arm moved.

    Args:
        summary: Of the trace.

    Returns:
        One row an arm.
    """
    rows = [
        (
            name,
            arm.about or "n/a",
            three(arm.size.weights),
            three(arm.size.activations),
            range_of(arm.mean_shift),
            three(arm.mean_shift and arm.mean_shift.null_high),
            three(arm.size.kl),
            arm.null or "n/a",
        )
        for name, arm in summary.arms.items()
    ]
    head = (
        "tuned model",
        "tuned on",
        "weights",
        "activations",
        "constant part",
        "the null's, up to",
        "KL, nats a token",
        "null it is held against",
    )
    return Table(
        "Size of every change from base; weights over their norm, activations (of neutral text, or "
        "of all held-out tokens where caches were traced) over their distance from their mean; "
        "constant part: share of the squared shift on held-out tokens that is one vector",
        head,
        rows,
        frozenset({0, 1, 7}),
    )


def behaviour(summary: Summary) -> Table | None:
    """What every arm does.

    Args:
        summary: Of the trace.

    Returns:
        One row a measure, one column an arm; None where no arm has any.
    """
    arms = list(summary.arms)
    flattened = {name: dict(flat(summary.arms[name].behaviour)) for name in arms}
    measures = list(dict.fromkeys(key for each in flattened.values() for key in each))
    rows = [
        (measure.replace("_", " "), *(flattened[name].get(measure, "n/a") for name in arms))
        for measure in measures
    ]
    caption = "Behaviour of every arm on held-out documents"
    return Table(caption, ("measure", *arms), rows) if rows else None


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as names with dots and text.

    Args:
        value: Parsed JSON.
        prefix: Put in front of every name.

    Yields:
        Name and text; a measured value is one line with its interval.
    """
    for name, each in value.items():
        key = f"{prefix}{name}"
        if isinstance(each, Mapping) and _is_measured(each):
            yield key, range_of(Measured(*(each[end] for end in ("value", "low", "high"))))
        elif isinstance(each, Mapping) and each:
            yield from flat(each, f"{key}.")
        else:
            yield key, _cell(each)


def _is_measured(found: Mapping[str, Any]) -> bool:
    """Whether it is a number with its interval; of anything else its parts are shown."""
    ends = [found.get(end, "") for end in ("value", "low", "high")]
    return all(each is None or isinstance(each, int | float) for each in ends)


def _cell(value: Any) -> str:
    if value is None or value == {}:
        return "n/a" if value is None else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return three(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_cell(each) for each in value) or "none"
    return str(value)


def provenance(found: Mapping[str, Any] | None) -> Table | None:
    """Where the numbers come from.

    Args:
        found: `provenance.json`.

    Returns:
        One row a field; None where there is no such file.
    """
    if not found:
        return None
    rows = [(key, text) for key, text in flat(found)]
    return Table("What was run on what", ("field", "value"), rows, frozenset({0, 1}))
