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
    there are. In a study of three bases or more a part without an interval over bases, since
    fewer tell it or all are at the limit of what there can be, says nothing."""
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
    against: float | None = None
    """Smallest p of a comparison's lying below 0, corrected for how many it has (Bonferroni)."""
    holm_against: float | None = None
    """The same corrected for how many claims there are."""


def judge_all(traces: Sequence[Read]) -> list[Judged]:
    """Every claim, over one trace or several.

    Args:
        traces: At least one; those of one base model are averaged first, and one in which a claim
            was not measured says nothing of it.

    Returns:
        H1 to H10 in order.

    Raises:
        InputError: There is no trace.
    """
    if not traces:
        raise InputError("traces to judge from", "none", "give at least one")
    judged, n_bases = list[Judged](), len({each.base for each in traces})
    for name, (claim, ask) in CLAIMS.items():
        found, reason = list[tuple[str, list[Part]]](), ""
        for each in traces:
            try:
                found.append((each.base, ask(each)))
            except InputError as error:
                reason = str(error)
        if not found:
            judged.append(Judged(name, claim, "not measured", reason=reason))
            continue
        parts = together(found)
        over_bases = [part for part in parts if part.df is not None]
        short = n_bases >= LEAST_BASES and len(over_bases) < len(parts)
        word = _overall(over_bases if short else parts, len(parts))
        over, p = _over(found, parts), _largest([part.p_value for part in parts])
        if len(found) < len(traces):
            over += f", {len(found)} of {len(traces)} traces"
        against = _smallest([part.p_against for part in parts])
        judged.append(
            Judged(name, claim, word, tuple(parts), reason or None, over, p, against=against)
        )
    of_support, of_refutal = _holm([j.p_value for j in judged]), _holm([j.against for j in judged])
    each = zip(judged, of_support, of_refutal, strict=True)
    return [replace(one, holm=p, holm_against=against) for one, p, against in each]


def _over(found: Sequence[tuple[str, Sequence[Part]]], parts: Sequence[Part]) -> str:
    """What the intervals of a claim are over."""
    n = _least_bases(found)
    at_limit = sum(part.df is None for part in parts)
    if n >= LEAST_BASES and at_limit == len(parts):
        return f"documents and latents of {n} base models, at the limit of what there can be"
    if n >= LEAST_BASES:
        return f"{n} base models{', but for what is at its limit' if at_limit else ''}"
    return Judged.over if n == 1 else f"documents and latents, the hull of {n} base models"


def _largest(p: Sequence[float | None]) -> float | None:
    known = [each for each in p if each is not None]
    return max(known) if len(known) == len(p) else None


def _smallest(p: Sequence[float | None]) -> float | None:
    known = [each for each in p if each is not None]
    return min(1.0, min(known) * len(p)) if known else None


def _least_bases(found: Sequence[tuple[str, Sequence[Part]]]) -> int:
    """How many base models tell the comparison that fewest do."""
    bases = defaultdict[str, set[str]](set)
    for base, parts in found:
        for part in parts:
            bases[part.about].add(base)
    return min(map(len, bases.values()))


def _holm(p: Sequence[float | None]) -> list[float | None]:
    """Step-down correction of the p-values for all claims; one that has none counts as one of 1."""
    known = [(each, i) for i, each in enumerate(p) if each is not None]
    found, least = list[float | None]([None] * len(p)), 0.0
    for rank, (each, i) in enumerate(sorted(known)):
        least = max(least, min(1.0, each * (len(p) - rank)))
        found[i] = least
    return found


def together(found: Sequence[tuple[str, Sequence[Part]]]) -> list[Part]:
    """The same comparisons of several traces as one.

    With three base models or more the interval is Student's over their means, and no narrower than
    what the intervals within them give for their mean; with fewer it is the hull of all intervals,
    which cover documents and latents alone. So it is where bases reach the limit of what there can
    be and differ less than documents within them do, for that hides how much bases differ. A null
    is that of the mean: of several bases its distance from its middle shrinks as that of a mean of
    independent draws, over bases that have one in all their traces.

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
    most, within = found[0][1].most, _of_mean(own[:, 0] - own[:, 1])
    student = stats.t.ppf(0.975, n - 1) * np.std(own[:, 0], ddof=1) / n**0.5 if n > 1 else np.nan
    at_limit = most is not None and own[:, 2].max() >= most - 1e-9 and student < within
    if n >= LEAST_BASES and not at_limit:
        df = n - 1
        low = value - float(max(student, within))
        high = value + float(max(student, _of_mean(own[:, 2] - own[:, 0])))
    null: tuple[float | None, float | None] = (None, None)
    known = own[~np.isnan(own).any(axis=1)]
    if len(known):
        middle, reach = known[:, 3:].mean(), _of_mean((known[:, 4] - known[:, 3]) / 2)
        null = (float(middle - reach), float(middle + reach))
    return Part(found[0][1].about, value, low, high, *null, df, most)


def _of_mean(reach: np.ndarray) -> float:
    """How far a mean of independent numbers reaches, from how far each does."""
    return float(np.sqrt((reach**2).sum()) / len(reach))


def _overall(parts: Sequence[Part], n_parts: int) -> Word:
    """Of the parts that can tell, and how many the claim has."""
    if any(is_refuted(each, n_parts) for each in parts):
        return "refuted"
    told = len(parts) == n_parts and all(verdict_of(each) == "supported" for each in parts)
    return "supported" if told else "undecided"
