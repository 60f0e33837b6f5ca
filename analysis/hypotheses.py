"""What traces say of the claims made about personas: an estimate, an interval, a null, a verdict.

The claims are in `claims.py`; here several traces become one, and comparisons become words.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from analysis.claims import CLAIMS, Part, Read
from sae.errors import InputError

__all__ = ["LEAST_BASES", "Judged", "judge_all", "together", "verdict_of"]

Word = Literal["supported", "refuted", "undecided", "not measured"]

LEAST_BASES = 3
"""Base models from which an interval is one over base models."""


@dataclass(frozen=True)
class Judged:
    """What is said of one claim."""

    name: str
    """H1 to H10."""
    claim: str
    """In one sentence."""
    verdict: Word
    """Supported where every part is, refuted where one is."""
    parts: tuple[Part, ...] = ()
    """What was compared."""
    reason: str | None = None
    """Why nothing was measured."""
    over: str = "documents and latents of one base model"
    """What the intervals are over."""


def judge_all(traces: Sequence[Read]) -> list[Judged]:
    """Every claim, over one trace or several.

    Args:
        traces: At least one; those of one base model (`seeds.organism`) are averaged first, and one
            in which a claim was not measured says nothing of it.

    Returns:
        H1 to H10 in order.

    Raises:
        InputError: There is no trace.
    """
    if not traces:
        raise InputError("traces to judge from", "none", "give at least one")
    judged = []
    for name, (claim, ask) in CLAIMS.items():
        found, reason = list[tuple[str, list[Part]]](), ""
        for each in traces:
            try:
                found.append((str(each.summary.seeds.get("organism")), ask(each)))
            except InputError as error:
                reason = str(error)
        if not found:
            judged.append(Judged(name, claim, "not measured", reason=reason))
            continue
        parts = together(found)
        n = len({base for base, _ in found})
        over = f"{n} base models" if n >= LEAST_BASES else Judged.over
        if len(found) < len(traces):
            over += f", {len(found)} of {len(traces)} traces ({reason})"
        judged.append(Judged(name, claim, _overall(parts), tuple(parts), over=over))
    return judged


def together(found: Sequence[tuple[str, Sequence[Part]]]) -> list[Part]:
    """The same comparisons of several traces as one.

    With three base models or more the interval is Student's over their means; with fewer it is the
    hull of all intervals, which cover documents and latents alone.

    Args:
        found: Base model and comparisons of each trace.

    Example:
        >>> one, other = Part("a", 1.0, 0.5, 1.5), Part("a", 2.0, 1.5, 2.5)
        >>> together([("0", [one]), ("1", [other])])[0].low
        0.5
    """
    out = []
    for each in zip(*(parts for _, parts in found), strict=True):
        means = defaultdict[str, list[float]](list)
        for (base, _), part in zip(found, each, strict=True):
            means[base].append(part.value)
        own = [float(np.mean(values)) for values in means.values()]
        value = float(np.mean(own))
        low, high = min(part.low for part in each), max(part.high for part in each)
        if len(own) >= LEAST_BASES:
            reach = stats.t.ppf(0.975, len(own) - 1) * np.std(own, ddof=1) / len(own) ** 0.5
            low, high = value - float(reach), value + float(reach)
        ends = [part.null_low for part in each], [part.null_high for part in each]
        lows, highs = ([end for end in side if end is not None] for side in ends)
        null = (min(lows, default=None), max(highs, default=None))
        out.append(Part(each[0].about, value, low, high, *null))
    return out


def verdict_of(part: Part) -> Word:
    """Whether the interval lies on one side of 0, and the estimate beyond the null there.

    Args:
        part: The comparison.

    Example:
        >>> verdict_of(Part("a", 0.2, 0.1, 0.3, -0.05, 0.25))
        'undecided'
    """
    low = -np.inf if part.null_high is None else part.null_high
    high = np.inf if part.null_low is None else part.null_low
    if part.low > 0 and part.value > low:
        return "supported"
    return "refuted" if part.high < 0 and part.value < high else "undecided"


def _overall(parts: Sequence[Part]) -> Word:
    words = [verdict_of(each) for each in parts]
    if "refuted" in words:
        return "refuted"
    return "supported" if all(word == "supported" for word in words) else "undecided"
