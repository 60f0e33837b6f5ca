"""Cells of the study's tables: a number of several traces, its interval and its null."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.artefact.schema import Measured
from analysis.hypotheses.judge import LEAST_BASES, mean_of
from analysis.hypotheses.parts import Part, Read
from analysis.statistics.intervals import share_interval
from sae.errors import InputError

__all__ = [
    "NONE",
    "Of",
    "Table",
    "Traced",
    "arms_of",
    "counted",
    "inherited",
    "measured",
    "null_of",
    "null_reach",
    "number",
    "refused",
]
__all__ += ["shown", "told", "tracing"]

NONE = "n/a"


@dataclass(frozen=True)
class Traced:
    """One trace, and what it is of."""

    base: str
    """Seed of the organism."""
    dictionary: str
    """Seed of the dictionary."""
    read: Read
    """The trace."""
    commit: str = "unknown"
    """Of the code that made it, with -dirty where files had been changed."""


@dataclass(frozen=True)
class Table:
    """One table of the study."""

    title: str
    """What it shows."""
    head: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    about: str = ""
    """What the columns mean."""


Of = Callable[[Read], Part | None]
"""What a trace says; None where it says nothing."""


def _found(traces: Sequence[Traced], of: Of) -> list[tuple[str, Part]]:
    """Base and number of each trace that says one."""
    found = [(each.base, part) for each in traces if (part := of(each.read)) is not None]
    return [(base, part) for base, part in found if np.isfinite(part.value)]


def shown(found: Sequence[tuple[str, Part]], n_bases: int, is_share: bool = False) -> str:
    """Numbers of base models as one, with its interval where three bases or more say it.

    Args:
        found: Base and number.
        n_bases: How many might have said it.
        is_share: Whether the interval ends at 0 and 1.

    Example:
        >>> shown([(base, Part("", 1.0, 1.0, 1.0)) for base in "abc"], 4)
        '1.000 [1.000, 1.000] (3 of 4 bases)'
    """
    if not found:
        return NONE
    part, n = mean_of(found), len({base for base, _ in found})
    some = f" ({n} of {n_bases} bases)" if n < n_bases else ""
    if n < LEAST_BASES:
        return f"{part.value:.3f}{some}"
    ends = np.clip((part.low, part.high), 0, 1) if is_share else (part.low, part.high)
    return f"{part.value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]{some}"


def told(traces: Sequence[Traced], of: Of, is_share: bool = False) -> str:
    """A number over base models with its interval, where three bases or more say it.

    Args:
        traces: Those in which it may be.
        of: What each says.
        is_share: Whether the interval ends at 0 and 1.

    Example:
        >>> told([], lambda _: None)
        'n/a'
    """
    return shown(_found(traces, of), len({each.base for each in traces}), is_share)


def null_of(traces: Sequence[Traced], of: Of) -> str:
    """The central 95 % of the same number's null, for a mean over as many bases.

    Args:
        traces: As for `told`.
        of: As for `told`.
    """
    found = _found(traces, of)
    mean = mean_of(found) if found else None
    if mean is None or mean.null_low is None or mean.null_high is None:
        return NONE
    return f"{mean.null_low:.3f} to {mean.null_high:.3f}"


def null_reach(traces: Sequence[Traced], of: Of) -> str:
    """From the least to the most of a number's nulls in all traces, where these are a few runs.

    Args:
        traces: As for `told`.
        of: As for `told`.
    """
    parts = [part for _, part in _found(traces, of)]
    nulls = [part.null() for part in parts if None not in (part.null_low, part.null_high)]
    if not nulls:
        return NONE
    return f"{min(low for low, _ in nulls):.3f} to {max(high for _, high in nulls):.3f}"


def arms_of(traces: Sequence[Traced]) -> list[str]:
    """Every arm of some trace, in the order in which they come."""
    return list(dict.fromkeys(arm for each in traces for arm in each.read.summary.arms))


def tracing(traces: Sequence[Traced], arm: str) -> list[Traced]:
    """The traces in which an arm takes part and learned its task."""
    arms = [(each, each.read.summary.arms.get(arm)) for each in traces]
    return [each for each, found in arms if found is not None and found.learned is not False]


def inherited(read: Read, arm: str) -> pd.DataFrame:
    """Fates of the base dictionary's latents in an arm."""
    return read.fates.loc[(read.fates["tuned"] == arm) & (read.fates["origin"] == "base")]


def number(value: float | None) -> Part | None:
    """A number of which a trace gives no interval."""
    return None if value is None else Part("", value, value, value)


def measured(found: Measured | None) -> Part | None:
    """A number with what a trace gives of interval and null."""
    if found is None or found.value is None:
        return None
    low, high = (found.value if each is None else each for each in (found.low, found.high))
    return Part("", found.value, low, high, found.null_low, found.null_high)


def counted(hits: pd.Series) -> Part | None:
    """A share of latents with its exact interval; None of no latent."""
    if not len(hits):
        return None
    return Part("", *map(float, share_interval(int(hits.sum()), len(hits))))


def refused(ask: Callable[[], Part]) -> Part | None:
    """What is asked, or None where the trace lacks something for it."""
    try:
        return replace(ask(), about="")
    except InputError:
        return None
