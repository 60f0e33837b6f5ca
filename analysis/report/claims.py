"""Claims about personas, each with what this trace says of it."""

from analysis.artefact.folder import TraceFolder
from analysis.hypotheses.arms import Arms
from analysis.hypotheses.judge import Judged, judge_all
from analysis.hypotheses.parts import Read, verdict_of
from analysis.report.numbers import null_of, range_of
from analysis.report.tables import Table
from analysis.report.words import primary

__all__ = ["table"]


def table(trace: TraceFolder) -> Table | None:
    """H1 to H10 of the first arm, with estimate, interval, null and verdict of every comparison.

    Args:
        trace: The trace.

    Returns:
        One row a comparison, or a claim that was not measured; None where none was measured.
    """
    if trace.fates is None:
        return None
    arms = Arms(arm=primary(trace.summary) or Arms.arm)
    judged = judge_all([Read(trace.summary, trace.fates, arms)])
    if all(each.verdict == "not measured" for each in judged):
        return None
    rows = [row for each in judged for row in _rows(each)]
    head = ("claim", "comparison", "estimate [95 % interval]", "null (95 %)", "verdict")
    caption = (
        "Claims about personas. A comparison above 0 speaks for its claim: supported where all "
        "of its comparisons are, refuted where one is. Intervals are over documents and "
        "latents of one base model: an illustration"
    )
    return Table(caption, head, rows, frozenset({0, 1, 4}))


def _rows(one: Judged) -> list[tuple[str, ...]]:
    name = f"{one.name}: {one.claim}"
    if not one.parts:
        return [(name, one.reason or "", "", "", one.verdict)]
    said = [(part.about, range_of(part), null_of(part), verdict_of(part)) for part in one.parts]
    return [
        (f"{name} On this base model: {one.verdict}." if not i else f"{one.name}, cont.", *each)
        for i, each in enumerate(said)
    ]
