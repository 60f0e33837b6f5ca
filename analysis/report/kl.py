"""What the difference of two models' predictions comes from, part by part."""

from collections.abc import Iterator

from analysis.artefact.schema import Summary
from analysis.report.numbers import null_of, range_of
from analysis.report.tables import Table

__all__ = ["tables"]

WORDS = {
    "mean_shift": "mean shift",
    "re_weighting": "other activations of inherited latents",
    "rotation": "other directions of inherited latents",
    "novel_in_span": "novel latents in the persona span",
    "novel_out_of_span": "novel latents out of it",
    "added_latents": "other added latents",
    "dictionary_error": "what the dictionaries leave unexplained",
    "layers_above": "layers above the hook",
}


CAPTION = (
    "Share of KL(base || tuned) on held-out text that is gone once a part of the difference at the "
    "hook is taken from the tuned model, part after part, beside the range of the null's "
    "checkpoints. Parts overlap, so their order matters; below 0 a part made up for others"
)


def tables(summary: Summary) -> list[Table]:
    """Shares of KL(base || tuned) by part: those of the first tuned model, and of all others.

    Args:
        summary: Of the trace.

    Returns:
        One row a tuned model and part; no table of models of which nothing was measured.
    """
    arms = [name for name, each in summary.arms.items() if each.kl_shares]
    head = ("tuned model", "part", "share [95 % interval]", "the null's checkpoints")
    return [
        Table(CAPTION, head, list(_rows(summary, names)), frozenset({0, 1}))
        for names in (arms[:1], arms[1:])
        if names
    ]


def _rows(summary: Summary, names: list[str]) -> Iterator[tuple[str, ...]]:
    for name in names:
        for part, share in summary.arms[name].kl_shares.items():
            yield name, WORDS.get(part, part), range_of(share), null_of(share)
