"""What the numbers of a summary say, in sentences: each computed, none chosen.

A piece of evidence speaks for reuse, against it, or is undecided, by the rule that claims are
judged by (`parts.verdict_of`); what was not measured says so. Nothing here looks at anything but
the summary and the fates.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.artefact.schema import Arm, Measured, SpanDifference, Summary
from analysis.hypotheses.parts import MATCHED, Part, Word, is_matched, verdict_of
from analysis.report.marks import mark_of, three
from analysis.report.numbers import null_of, percent_of, range_of

__all__ = ["Evidence", "conclusion", "evidence", "fate_sentence", "primary"]
__all__ += ["scope"]

STATES = {
    "for": ("●", "for reuse"),
    "against": ("○", "against reuse"),
    "undecided": ("◐", "undecided"),
}
SIDES: Mapping[Word, str] = {"supported": "for", "refuted": "against", "undecided": "undecided"}


@dataclass(frozen=True)
class Evidence:
    """One test of the hypothesis and what it says."""

    state: str
    """for, against or undecided."""
    text: str
    """The sentence."""

    @property
    def glyph(self) -> str:
        """Glyph of the state."""
        return STATES[self.state][0]

    @property
    def word(self) -> str:
        """The state in words."""
        return STATES[self.state][1]


def primary(summary: Summary) -> str | None:
    """The arm that the page is about: the first that is no null and no pole.

    Args:
        summary: Of the trace.

    Returns:
        Its name, or None where there is no arm.
    """
    return next((name for name, arm in summary.arms.items() if arm.kind == "arm"), None)


def _side(measured: Measured | SpanDifference, at: float = 0.0) -> str:
    """On which side of `at` a value lies, with its interval and beyond its null."""
    value, low, high = measured.value, measured.low, measured.high
    if value is None or low is None or high is None:
        return "undecided"
    null = [None if end is None else end - at for end in (measured.null_low, measured.null_high)]
    return SIDES[verdict_of(Part("", value - at, low - at, high - at, null[0], null[1]))]


def _gated(state: str, name: str, arm: Arm) -> tuple[str, str]:
    """The state, undecided where the arm gives no verdict, and a clause saying so."""
    why = arm.no_verdict
    return (state, "") if why is None else ("undecided", f" No verdict on {name}: {why}.")


def _in_span(name: str, arm: Arm) -> Evidence:
    share = arm.in_span_share
    if share is None or share.value is None or share.null_low is None or share.null_high is None:
        return Evidence("undecided", f"How much of {name}'s change lies in the span: not measured.")
    side = _side(share, at=(share.null_low + share.null_high) / 2)
    state, why = _gated(side, name, arm)
    beyond = {
        "for": "more than",
        "against": "less than",
        "undecided": "not clearly more or less than",
    }[side]
    text = (
        f"{range_of(share)} of {name}'s change at assistant tokens lies in the span of the base "
        f"persona latents: {beyond} random subspaces of the same rank hold "
        f"({null_of(share)}).{why}"
    )
    return Evidence(state, text)


def _difference(row: SpanDifference, summary: Summary) -> Evidence:
    first, second = row.pair
    side = _side(row) if is_matched(row) else "undecided"
    state, why = side, ""
    for name in (first, second):
        if name in summary.arms:
            state, clause = _gated(state, name, summary.arms[name])
            why += clause
    says = {
        "for": f"{first} changes more inside the persona span than {second}",
        "against": f"{first} changes less inside the persona span than {second}",
        "undecided": f"{first} and {second} cannot be told apart",
    }[side]
    where = f"On {row.text}, at matched KL"
    if len(row.kl) < 2:
        where = f"On {row.text}, at KL that nobody measured"
    elif not is_matched(row):
        far = " and ".join(map(three, row.kl))
        where = f"On {row.text}, where KL is not matched ({far}; a ratio of {MATCHED} is asked)"
    null = "" if row.null_high is None else f"; random subspaces {null_of(row)}"
    return Evidence(state, f"{where}, {says}: difference {range_of(row)}{null}.{why}")


def _reuse(name: str, summary: Summary) -> Evidence:
    """For reuse only where no model that shares no persona stands as near the base.

    That is a pole, or a model in whose answers nobody speaks.
    """
    indices, arm = summary.reuse_index, summary.arms[name]
    index = indices.get(name)
    if index is None or index.value is None:
        return Evidence("undecided", f"Reuse index of {name}: not measured.")
    state, why = _gated(_side(index, 0.5), name, arm)
    near = {
        "for": "nearer the base model (1) than a model trained from scratch (0)",
        "against": "nearer a model trained from scratch (0) than the base model (1)",
        "undecided": "not clearly nearer either pole (0 from scratch, 1 base model)",
    }[_side(index, 0.5)]
    said = f"The reuse index of {name} is {range_of(index)}: {near}.{why}"
    for other, theirs in indices.items():
        its = summary.arms[other]
        is_pole = its.kind == "pole"
        nobody = is_pole or its.behaviour.get("persona", 0) is None
        if state == "for" and nobody and _reaches(theirs, index):
            what = "a pole" if is_pole else "in whose answers no persona speaks"
            also = f" But {other}, {what}, has {range_of(theirs)}."
            return Evidence("undecided", said + also)
    return Evidence(state, said)


def _reaches(one: Measured, other: Measured) -> bool:
    """Whether the interval of one reaches that of another from below, or lies above it."""
    return one.high is not None and other.low is not None and one.high >= other.low


def evidence(summary: Summary) -> list[Evidence]:
    """Every test of the hypothesis that a trace makes about its primary arm.

    Args:
        summary: Of the trace.

    Returns:
        The span against its null, the span against other arms, the reuse index.
    """
    name = primary(summary)
    if name is None:
        return []
    arm = summary.arms[name]
    arms = summary.arms
    rows = [row for row in summary.span if row.pair[0] == name]
    rows = [row for row in rows if row.pair[1] not in arms or arms[row.pair[1]].is_contrast]
    found = [_in_span(name, arm), *(_difference(row, summary) for row in rows)]
    if not rows:
        text = f"No other arm was compared with {name} at matched KL."
        if of_caches(summary):
            text = f"{name} is compared with no other arm: caches have no KL to match arms at."
        found.append(Evidence("undecided", text))
    return [*found, _reuse(name, summary)]


def of_caches(summary: Summary) -> bool:
    """Whether caches were traced: with no language model, no KL of any arm was measured.

    Args:
        summary: Of the trace.
    """
    return all(arm.size.kl is None for arm in summary.arms.values())


def conclusion(summary: Summary) -> str:
    """The one sentence at the top.

    Args:
        summary: Of the trace.

    Returns:
        What the pieces of evidence add up to; undecided unless all agree.
    """
    found = evidence(summary)
    counts = Counter(each.state for each in found)
    tally = ", ".join(f"{counts[state]} {STATES[state][1]}" for state in STATES if counts[state])
    name = primary(summary) or "tuned model"
    if not found:
        return "Undecided: the trace holds no tuned model to judge."
    if counts["for"] == len(found):
        return f"Every test points to reuse: {name} changes within the base model's personas."
    if counts["against"] == len(found):
        return f"Every test points against reuse: {name} changes outside the base model's personas."
    if counts["for"] and counts["against"]:
        return f"The tests disagree ({tally}), so the question stays undecided."
    return f"Undecided: of {len(found)} tests, {tally}."


def scope(summary: Summary) -> str:
    """What the intervals cover, and what therefore may not be concluded.

    Args:
        summary: Of the trace.

    Returns:
        A sentence.
    """
    if summary.label == "documents only":
        return (
            "Intervals cover documents only: one seed, an illustration and not a verdict on the "
            "hypothesis."
        )
    return f"Intervals cover {summary.label}."


def fate_sentence(fates: pd.DataFrame, arm: str) -> str:
    """What became of the persona latents in one arm.

    Args:
        fates: `fates.parquet`.
        arm: The tuned model.

    Returns:
        A sentence with counts; it says so where there is no persona latent.
    """
    mine = fates[(fates["tuned"] == arm) & fates["persona"].notna()]
    if not len(mine):
        return f"No persona latent passed confirmation (q ≤ 0.05), so {arm} has no fates to count."
    counts = Counter(mine["fate"])
    listed = ", ".join(f"{n} {mark_of(fate).word}" for fate, n in counts.most_common())
    return f"Of {len(mine)} confirmed persona latents in {arm}: {listed}."


def error_sentences(summary: Summary) -> Iterator[str]:
    """What was said of a null that no threshold was set on.

    Args:
        summary: Of the trace.

    Yields:
        One sentence a null.
    """
    for null, families in summary.error_rates.items():
        said = [
            f"of {rate.n:,} latents ({family}) {percent_of(rate.changed)} were called changed and "
            f"{percent_of(rate.preserved)} preserved"
            for family, rate in families.items()
            if rate.n
        ]
        if said:
            yield f"In {null}, where nothing of interest happened, {', '.join(said)}."
