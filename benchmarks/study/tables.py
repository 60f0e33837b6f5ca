"""What traces of several base models show together: arms, pairs of arms, claims.

A number of one base model is the mean over its dictionaries. Intervals are Student's over base
models, since what differs most from organism to organism is the base; with fewer than three there
is none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.hypotheses import LEAST_BASES, judge_all
from analysis.intervals import Interval
from analysis.parts import Read
from analysis.schema import Measured
from scripts._judging import lines_of

__all__ = ["Table", "Traced", "markdown", "over_bases", "tables"]

CONSISTENT, SEEN = ("assistant", "cipher"), ("assistant", "piston_seen")
SQUARE = ("assistant", "cipher", "piston_seen", "piston")
"""Arms that say what a persona says, those that say it in words of the text, and all four."""


@dataclass(frozen=True)
class Traced:
    """One trace, and what it is of."""

    base: str
    """Seed of the organism."""
    dictionary: str
    """Seed of the dictionary."""
    read: Read
    """The trace."""


@dataclass(frozen=True)
class Table:
    """One table of the study."""

    title: str
    """What it shows."""
    head: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""


def over_bases(values: Iterable[tuple[str, float | None]]) -> Interval | None:
    """Mean over base models of the means over their dictionaries, with Student's 95 % interval.

    Args:
        values: Base model and number of each trace; None where it was not measured.

    Returns:
        The interval, its limits not a number with fewer than three bases; None without a number.

    Example:
        >>> over_bases([("0", 1.0), ("0", 3.0), ("1", 4.0)]).value
        3.0
    """
    means = defaultdict[str, list[float]](list)
    for base, value in values:
        if value is not None and np.isfinite(value):
            means[base].append(float(value))
    if not means:
        return None
    own = [float(np.mean(each)) for each in means.values()]
    n, value = len(own), float(np.mean(own))
    if n < LEAST_BASES:
        return Interval(value, float("nan"), float("nan"))
    reach = float(stats.t.ppf(0.975, n - 1) * np.std(own, ddof=1) / n**0.5)
    return Interval(value, value - reach, value + reach)


def tables(traces: Sequence[Traced]) -> dict[str, Table]:
    """Every table of the study.

    Args:
        traces: At least one.
    """
    return {
        "arms": _arms(traces),
        "differences": _differences(traces),
        "dialects": _dialects(traces),
        "square": _square(traces),
        "errors": _errors(traces),
        "claims": _claims(traces),
    }


def markdown(shown: Mapping[str, Table], commit: str) -> str:
    """The tables as a page.

    Args:
        shown: From `tables`.
        commit: Of the code that made the traces.
    """
    lines = ["# The study", "", f"Commit {commit}.", ""]
    for each in shown.values():
        lines += [f"## {each.title}", "", _row(each.head), _row(["---"] * len(each.head))]
        lines += [*(_row(row) for row in each.rows), ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(found: Interval | None) -> str:
    if found is None:
        return "n/a"
    if np.isnan(found.low):
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _each(traces: Sequence[Traced], of: Callable[[Read], float | None]) -> str:
    return _cell(over_bases((each.base, of(each.read)) for each in traces))


def _tracing(traces: Sequence[Traced], arm: str) -> list[Traced]:
    """The traces in which an arm takes part."""
    return [each for each in traces if arm in each.read.summary.arms]


def _value(found: Measured | None) -> float | None:
    return None if found is None else found.value


def _called(read: Read, arm: str, persona: bool) -> pd.Series:
    """Fates of the arm's inherited latents that have one, undetermined ones too."""
    mine = read.fates.loc[(read.fates["tuned"] == arm) & (read.fates["origin"] == "base")]
    mine = mine.loc[mine["q_value"].notna() & (mine["persona"].notna() == persona)]
    return mine["fate"]


def _share(read: Read, arm: str, persona: bool, fates: Sequence[str]) -> float | None:
    found = _called(read, arm, persona)
    return float(found.isin(fates).mean()) if len(found) else None


def _carrying(read: Read, arm: str, label: str) -> pd.DataFrame:
    """Inherited latents of an arm that carry a persona, or a dialect and no persona."""
    mine = read.fates.loc[(read.fates["tuned"] == arm) & (read.fates["origin"] == "base")]
    mine = mine.loc[mine["q_value"].notna()]
    if label not in mine:
        return mine.head(0)
    alone = mine["persona"].isna() if label == "dialect" else True
    return mine.loc[mine[label].notna() & alone]


def _dialect_share(read: Read, arm: str, fates: Sequence[str]) -> float | None:
    found = _carrying(read, arm, "dialect")["fate"]
    return float(found.isin(fates).mean()) if len(found) else None


def _median(read: Read, arm: str, label: str) -> float | None:
    """Median share of activation in other kinds of text than in the base."""
    found = _carrying(read, arm, label)
    known = found["profile"].dropna() if "profile" in found else found.head(0)
    return float(known.median()) if len(known) else None


STILL = ("preserved", "undetermined", "unstable")


def _changed(read: Read, arm: str, persona: bool) -> float | None:
    same = _share(read, arm, persona, STILL)
    return None if same is None else 1 - same


def _arms(traces: Sequence[Traced]) -> Table:
    names = list(traces[0].read.summary.arms)
    rows = []
    for arm in names:
        mine = _tracing(traces, arm)
        learned = [each.read.summary.arms[arm].learned for each in mine]
        rows.append(
            (
                arm,
                f"{sum(one is True for one in learned)} of {len(learned)}",
                _each(mine, lambda r, a=arm: r.summary.arms[a].size.activations),
                _each(mine, lambda r, a=arm: _share(r, a, True, ["preserved"])),
                _each(mine, lambda r, a=arm: _share(r, a, False, ["preserved"])),
                _each(mine, lambda r, a=arm: _dialect_share(r, a, ["preserved"])),
                _each(mine, lambda r, a=arm: _median(r, a, "persona")),
                _each(mine, lambda r, a=arm: _median(r, a, "dialect")),
                _each(mine, lambda r, a=arm: _changed(r, a, True)),
                _each(mine, lambda r, a=arm: _changed(r, a, False)),
                _each(mine, lambda r, a=arm: _value(r.summary.arms[a].novel_share)),
                _each(mine, lambda r, a=arm: _value(r.summary.arms[a].in_span_share)),
                _each(mine, lambda r, a=arm: _kl(r, a, "re_weighting")),
                _each(mine, lambda r, a=arm: _value(r.summary.reuse_index.get(a))),
            )
        )
    head = ("arm", "learned", "change", "persona latents preserved", "others preserved")
    head += ("dialect latents preserved", "persona latents' profile", "dialect latents' profile")
    head += ("persona latents changed", "others changed", "novel", "share within the span")
    head += ("KL by re-weighting", "reuse index")
    return Table("Arms", head, tuple(rows))


def _kl(read: Read, arm: str, part: str) -> float | None:
    return _value(read.summary.arms[arm].kl_shares.get(part))


def _differences(traces: Sequence[Traced]) -> Table:
    """Span share of the first arm less that of each other, at matched KL."""
    found = defaultdict[tuple[str, str], list[tuple[str, float | None]]](list)
    for each in traces:
        for row in each.read.summary.span:
            found[" less ".join(row.pair), row.text].append((each.base, row.value))
    rows = tuple((pair, text, _cell(over_bases(each))) for (pair, text), each in found.items())
    return Table("Share within the span of persona latents, at matched KL", _PAIR, rows)


_PAIR = ("arms", "text", "difference")


def _dialects(traces: Sequence[Traced]) -> Table:
    """Share within the span of personas and of dialects, beside what random spans hold."""
    rows = []
    for arm in traces[0].read.summary.arms:
        row = [arm]
        for key in ("in_contrast_span_share", "in_dialect_span_share"):

            def beyond(read: Read, arm: str = arm, key: str = key) -> float | None:
                found: Measured | None = getattr(read.summary.arms[arm], key)
                if found is None or found.value is None or found.null_high is None:
                    return None
                return found.value - found.null_high

            def share(read: Read, arm: str = arm, key: str = key) -> float | None:
                return _value(getattr(read.summary.arms[arm], key))

            mine = _tracing(traces, arm)
            row += [_each(mine, share), _each(mine, beyond)]
        rows.append(tuple(row))
    head = ("arm", "within personas", "beyond random spans", "within dialects")
    title = "Shift within the span of mean activations of personas, and of dialects"
    return Table(title, (*head, "beyond random spans"), tuple(rows))


def _square(traces: Sequence[Traced]) -> Table:
    """Main effects of consistency with a persona and of seen words, on shares within the span."""
    rows = []
    for about, high in (("says what a persona says", CONSISTENT), ("in words of the text", SEEN)):

        def effect(read: Read, high: Sequence[str] = high) -> float | None:
            arms = read.summary.arms
            shares = {a: _value(arms[a].in_span_share) if a in arms else None for a in SQUARE}
            if any(each is None for each in shares.values()):
                return None
            known = {a: float(each or 0.0) for a, each in shares.items()}
            rest = [a for a in SQUARE if a not in high]
            return float(np.mean([known[a] for a in high]) - np.mean([known[a] for a in rest]))

        rows.append((about, _each(traces, effect)))
    return Table("Consistency by seen words: main effects on the span share", _EFFECT, tuple(rows))


_EFFECT = ("what differs", "effect")


def _errors(traces: Sequence[Traced]) -> Table:
    """What is called on held-back nulls, in which nothing happened."""
    rows = []
    for family in ("persona", "all"):
        rows.append(
            (
                family,
                _each(traces, lambda r, f=family: _rate(r, f, "changed")),
                _each(traces, lambda r, f=family: _rate(r, f, "preserved")),
            )
        )
    return Table("Held-back nulls", ("latents", "called changed", "called preserved"), tuple(rows))


def _rate(read: Read, family: str, call: str) -> float | None:
    found = [rates.get(family) for rates in read.summary.error_rates.values()]
    values = [_value(getattr(each, call)) for each in found if each is not None]
    known = [each for each in values if each is not None]
    return float(np.mean(known)) if known else None


def _claims(traces: Sequence[Traced]) -> Table:
    rows = []
    for each in judge_all([one.read for one in traces]):
        _, *said = lines_of(each)
        rows.append((each.name, each.claim, each.verdict, " ".join(line.strip() for line in said)))
    return Table("Claims", ("", "claim", "verdict", "what was compared"), tuple(rows))
