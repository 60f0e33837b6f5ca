"""What controls say of the fates, and which nulls a trace goes without."""

from collections.abc import Iterator, Mapping

from analysis.artefact.schema import ControlRates, ErrorRate, Summary
from analysis.report.marks import percent, three
from analysis.report.numbers import percent_of
from analysis.report.tables import Table

__all__ = ["missing", "sentences", "table"]


def sentences(summary: Summary) -> Iterator[str]:
    """What was called changed where only the dictionary is another.

    Args:
        summary: Of the trace.

    Yields:
        One line a control.
    """
    for name, control in summary.controls.items():
        yield f"{name}: {_said(control)}"


def _said(control: ControlRates) -> str:
    judged = [
        f"{_families(families)} (null {null})" for null, families in control.error_rates.items()
    ]
    if not judged:
        return "not judged, for no null sets thresholds"
    said = "; ".join(judged)
    if control.matched:
        said += (
            "; those called changed are unstable across dictionary seeds, and the undetermined "
            "not shown to be stable"
        )
    return said


def _families(families: Mapping[str, ErrorRate]) -> str:
    everything, persona = families.get("all"), families.get("persona")
    if everything is None or not everything.n:
        return "no latent fires often enough"
    said = _called(everything, "latents")
    if persona is not None and persona.n:
        said += f", and {_called(persona, 'persona latents')}"
    return said


def _called(rate: ErrorRate, what: str) -> str:
    """For example "0 of 500 latents called changed (upper limit 0.735 %), 97 % preserved"."""
    changed, preserved = rate.changed, rate.preserved
    n_changed = round((changed.value or 0) * rate.n)
    share = percent_of(changed) if n_changed else f"upper limit {percent(changed.high)}"
    kept = percent(preserved.value if preserved else None)
    return f"{n_changed:,} of {rate.n:,} {what} called changed ({share}), {kept} preserved"


def table(summary: Summary) -> Table:
    """False calls on dictionaries of the base model itself.

    Args:
        summary: Of the trace.

    Returns:
        One row a control and family.
    """
    rows = [
        (
            name,
            "by firing" if control.matched else "by index",
            null,
            family,
            three(rate.n),
            percent_of(rate.changed),
            percent_of(rate.preserved),
        )
        for name, control in summary.controls.items()
        for null, families in control.error_rates.items()
        for family, rate in families.items()
        if rate.n
    ]
    head = (
        "control",
        "latents matched",
        "held against",
        "latents",
        "n",
        "called changed (by the dictionary)",
        "called preserved",
    )
    caption = "Controls: other dictionaries of the base model; exact binomial 95 % intervals"
    return Table(caption, head, rows, frozenset({0, 1, 2, 3}))


def missing(summary: Summary) -> list[str]:
    """The nulls that a trace goes without, and what that leaves unproven.

    Args:
        summary: Of the trace.

    Returns:
        One sentence for each that is missing.
    """
    arms = summary.arms.values()
    matched = {each.matched for each in summary.controls.values()}
    has_pole = bool(summary.reuse_index) or any(arm.kind == "pole" for arm in arms)
    there = {
        "No null sets thresholds: what drift alone does to a latent is not known, and nothing can "
        "be called changed or preserved.": any(arm.null for arm in arms),
        "No held-back continued pre-training was judged: how often drift alone is called a change "
        "is unproven.": bool(summary.error_rates),
        "The dictionary was not continued twice on the same weights: that no more training of a "
        "dictionary passes for a change of the model is unproven.": False in matched,
        "No dictionary of another seed was compared: that the fates belong to the model, and not "
        "to this one dictionary, is unproven.": True in matched,
        "No model trained from scratch stands at the other pole: how small a reuse index comes of "
        "learning the task alone is unproven.": has_pole,
        "No second tuned model stands beside the first: that what is seen is peculiar to it, and "
        "not what any tuning does, is unproven.": sum(arm.kind == "arm" for arm in arms) > 1,
    }
    return [sentence for sentence, found in there.items() if not found]
