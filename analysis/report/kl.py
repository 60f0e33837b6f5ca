"""What the difference of two models' predictions comes from, part by part."""

from analysis.artefact.schema import Summary
from analysis.report.numbers import null_of, range_of
from analysis.report.tables import Table

__all__ = ["table"]

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


def table(summary: Summary) -> Table | None:
    """Shares of KL(base || tuned) by part, for every tuned model.

    Args:
        summary: Of the trace.

    Returns:
        One row a tuned model and part; None where none was measured.
    """
    arms = {name: each.kl_shares for name, each in summary.arms.items() if each.kl_shares}
    if not arms:
        return None
    rows = [
        (name, WORDS.get(part, part), range_of(share), null_of(share))
        for name, shares in arms.items()
        for part, share in shares.items()
    ]
    head = ("tuned model", "part", "share [95 % interval]", "the null's checkpoints")
    caption = (
        "Share of KL(base || tuned) on held-out text that is gone once a part of the difference at "
        "the hook is taken from the tuned model, part after part, beside the range of the null's "
        "checkpoints. Parts overlap, so their order matters; below 0 a part made up for others"
    )
    return Table(caption, head, rows, frozenset({0, 1}))
