"""How well personas are told apart, kind of document by kind of document."""

from analysis.artefact.schema import Spread, Summary
from analysis.report.marks import three
from analysis.report.tables import Table

__all__ = ["table"]


def table(summary: Summary) -> Table:
    """How well personas are told apart, by kind of document.

    Args:
        summary: Of the trace.

    Returns:
        One row a kind.
    """
    rows = [
        (
            name,
            "yes" if each.chosen_here else "no",
            three(each.n_tokens),
            three(each.n_personas),
            *map(_spread, (each.latent, each.probe, each.ideal)),
        )
        for name, each in summary.contexts.items()
    ]
    head = (
        "kind of document",
        "chosen on it",
        "labelled tokens",
        "personas",
        "best latent",
        "linear probe",
        "ideal observer",
    )
    caption = (
        "AUROC by kind of held-out document: median over personas (least to greatest), no "
        "interval; 0.5 is chance; latents and probe are the same in every row"
    )
    return Table(caption, head, rows, frozenset({0, 1}))


def _spread(spread: Spread | None) -> str:
    if spread is None or spread.value is None:
        return "n/a"
    return f"{three(spread.value)} ({three(spread.low)} to {three(spread.high)})"
