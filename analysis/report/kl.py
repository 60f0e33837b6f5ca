"""What the difference of two models' predictions comes from, part by part."""

from analysis.marks import three
from analysis.report.tables import Table
from analysis.schema import Measured, Summary

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
        One row a part; None where none was measured.
    """
    arms = {name: each.kl_shares for name, each in summary.arms.items() if each.kl_shares}
    if not arms:
        return None
    rows = [
        (word, *(_cell(shares.get(part)) for shares in arms.values()))
        for part, word in WORDS.items()
    ]
    caption = (
        "Share of KL(base || tuned) on held-out text that is gone once a part of the difference at "
        "the hook is taken from the tuned model, part after part, with its 95 % interval; in "
        "brackets the range of the null's checkpoints. Parts overlap, so their order matters; "
        "below 0 a part made up for others"
    )
    return Table(caption, ("part", *arms), rows)


def _cell(share: Measured | None) -> str:
    if share is None or share.value is None:
        return "n/a"
    null = f" [{three(share.null_low)} to {three(share.null_high)}]"
    return f"{three(share.value)} ({three(share.low)} to {three(share.high)}){null}"
