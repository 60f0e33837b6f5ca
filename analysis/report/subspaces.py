"""What became of the latents that another run would make differently, taken together."""

from analysis.artefact.schema import Measured, Summary
from analysis.fates.subspaces import told
from analysis.report.marks import three
from analysis.report.numbers import range_of
from analysis.report.tables import Table

__all__ = ["table"]


def table(summary: Summary) -> Table | None:
    """The subspace of unstable latents, for every tuned model that has one.

    Args:
        summary: Of the trace.

    Returns:
        One row a tuned model; None where no subspace was judged.
    """
    rows = [
        (name, three(arm.fates.get("unstable")), *_row(arm.unstable_subspace))
        for name, arm in summary.arms.items()
        if {"agreement", "gain"} <= set(arm.unstable_subspace)
    ]
    if not rows:
        return None
    head = ("tuned model", "latents", "agreement [95 % interval]", "the null's, from")
    head = (*head, "gain, nats [95 % interval]", "the null's, up to", "subspace")
    caption = (
        "Unstable latents, judged as the one subspace that they span: cosine, over all tokens on "
        "which any of them fires, of what the two models have there, and log ratio of its size, "
        "beside the ends of what one more null would have"
    )
    return Table(caption, head, rows, frozenset({0, 6}))


def _row(found: dict[str, Measured]) -> tuple[str, ...]:
    both = found["agreement"], found["gain"]
    parts = [(each.value, each.low, each.high) for each in both]
    ends = both[0].null_low, both[1].null_high
    known = [part for each in parts for part in each if part is not None]
    if len(known) < 6:
        said = "n/a"
    elif ends[0] is None or ends[1] is None:
        said = "undetermined"
    else:
        said = told(known[:3], known[3:], (ends[0], ends[1]))
    ranges = [(range_of(each), three(end)) for each, end in zip(both, ends, strict=True)]
    return (*ranges[0], *ranges[1], said)
