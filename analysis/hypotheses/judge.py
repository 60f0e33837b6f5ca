"""What traces say of the claims made about personas: an estimate, an interval, a null, a verdict.

The claims are in `claims.py`; here several traces become one, and comparisons become words.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from analysis.hypotheses.claims import CLAIMS
from analysis.hypotheses.parts import Part, Read, Word, is_refuted, verdict_of
from sae.errors import InputError

__all__ = ["LEAST_BASES", "Judged", "judge_all", "mean_of", "together"]

LEAST_BASES = 3
"""Base models from which an interval is one over base models."""


@dataclass(frozen=True)
class Judged:
    """What is said of one claim."""

    name: str
    """H1 to H10."""
    claim: str
    """In one sentence."""
    verdict: Word | Literal["not measured"]
    """Supported where every part is, refuted where one is, over bases corrected for how many parts
    there are; undecided where it was told on fewer bases than three of a study that has three."""
    parts: tuple[Part, ...] = ()
    """What was compared."""
    reason: str | None = None
    """Why nothing was measured, or not in all traces."""
    over: str = "documents and latents of one base model"
    """What the intervals are over."""
    p_value: float | None = None
    """Largest of the comparisons' (an intersection-union test); None without enough bases."""
    holm: float | None = None
    """The same corrected for how many claims there are, told or not (Holm 1979)."""


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
    judged, n_bases = list[Judged](), len({each.summary.seeds.get("organism") for each in traces})
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
        n = _least_bases(found)
        over = f"{n} base models" if n >= LEAST_BASES else Judged.over
        if 1 < n < LEAST_BASES:
            over = f"documents and latents, the hull of {n} base models"
        if len(found) < len(traces):
            over += f", {len(found)} of {len(traces)} traces"
        few = n < LEAST_BASES <= n_bases
        word = "undecided" if few else _overall(parts)
        known = [p for part in parts if (p := part.p_value) is not None]
        p = max(known) if len(known) == len(parts) else None
        judged.append(Judged(name, claim, word, tuple(parts), reason or None, over, p))
    return _holm(judged)


def _least_bases(found: Sequence[tuple[str, Sequence[Part]]]) -> int:
    """How many base models tell the comparison that fewest do."""
    bases = defaultdict[str, set[str]](set)
    for base, parts in found:
        for part in parts:
            bases[part.about].add(base)
    return min(map(len, bases.values()))


def _holm(judged: Sequence[Judged]) -> list[Judged]:
    """Step-down correction of the p-values for all claims; one that has none counts as one of 1."""
    order = sorted((each for each in judged if each.p_value is not None), key=_p)
    found, least = dict[str, float](), 0.0
    for i, each in enumerate(order):
        least = max(least, min(1.0, _p(each) * (len(judged) - i)))
        found[each.name] = least
    return [replace(each, holm=found.get(each.name)) for each in judged]


def _p(one: Judged) -> float:
    return 1.0 if one.p_value is None else one.p_value


def together(found: Sequence[tuple[str, Sequence[Part]]]) -> list[Part]:
    """The same comparisons of several traces as one.

    With three base models or more the interval is Student's over their means, and no narrower than
    what the intervals within them give for their mean; with fewer it is the hull of all intervals,
    which cover documents and latents alone. A null is that of the mean: of several bases its
    distance from its middle shrinks as that of a mean of independent draws, over bases that have
    one in all their traces.

    Args:
        found: Base model and comparisons of each trace.

    Returns:
        Every comparison that some trace has, each of those that have it.

    Example:
        >>> one, other = Part("a", 1.0, 0.5, 1.5), Part("a", 2.0, 1.5, 2.5)
        >>> together([("0", [one]), ("1", [other])])[0].low
        0.5
    """
    named = defaultdict[str, list[tuple[str, Part]]](list)
    for base, parts in found:
        for part in parts:
            named[part.about].append((base, part))
    return [mean_of(each) for each in named.values()]


def mean_of(found: Sequence[tuple[str, Part]]) -> Part:
    """One comparison over base models, each the mean over its traces; see `together`.

    Args:
        found: Base model and comparison of each trace.
    """
    rows = defaultdict[str, list[list[float]]](list)
    for base, part in found:
        ends = (part.value, part.low, part.high, part.null_low, part.null_high)
        rows[base].append([np.nan if each is None else float(each) for each in ends])
    own = np.array([np.mean(each, axis=0) for each in rows.values()])  # [bases, 5]
    n, value, df = len(own), float(own[:, 0].mean()), None
    low, high = min(part.low for _, part in found), max(part.high for _, part in found)
    if n >= LEAST_BASES:
        df = n - 1
        student = stats.t.ppf(0.975, df) * np.std(own[:, 0], ddof=1) / n**0.5
        low = value - float(max(student, _of_mean(own[:, 0] - own[:, 1])))
        high = value + float(max(student, _of_mean(own[:, 2] - own[:, 0])))
    null: tuple[float | None, float | None] = (None, None)
    known = own[~np.isnan(own).any(axis=1)]
    if len(known):
        middle, reach = known[:, 3:].mean(), _of_mean((known[:, 4] - known[:, 3]) / 2)
        null = (float(middle - reach), float(middle + reach))
    return Part(found[0][1].about, value, low, high, *null, df)


def _of_mean(reach: np.ndarray) -> float:
    """How far a mean of independent numbers reaches, from how far each does."""
    return float(np.sqrt((reach**2).sum()) / len(reach))


def _overall(parts: Sequence[Part]) -> Word:
    if any(is_refuted(each, len(parts)) for each in parts):
        return "refuted"
    words = [verdict_of(each) for each in parts]
    return "supported" if all(word == "supported" for word in words) else "undecided"
