"""The names of fates, of groups of snippets and of columns: the one list of each."""

import numpy as np
import pandas as pd

__all__ = [
    "ALONG",
    "COLUMNS",
    "EMITTED",
    "EXAMPLE_COLUMNS",
    "FATES",
    "GROUPS",
    "REPURPOSED",
    "UNCHANGED",
    "fate_rows",
]

FATES = (
    "preserved",
    "amplified",
    "suppressed",
    "re_gated",
    "re_wired",
    "rotated",
    "split",
    "lost",
    "novel_in_span",
    "novel_out_of_span",
    "unstable",
    "undetermined",
)
"""Every fate a latent can have."""
REPURPOSED = ("re_gated", "re_wired", "rotated")
"""Fates in which a latent of the base model is put to another use."""
ALONG = ("amplified", "suppressed", *REPURPOSED)
"""Changes along a coordinate, of a latent that is still one."""
UNCHANGED = ("preserved", "undetermined", "unstable")
"""What a base latent is called of which no change is claimed."""
EMITTED = tuple(fate for fate in FATES if not fate.startswith("novel_"))
"""Fates that `decide` can give; `re_wired` only where effects were measured."""
_MEASURED = ("direction", "gain", "gating", "profile", "effect", "existence")
COLUMNS = (
    "tuned",
    "latent",
    "origin",
    "fate",
    "p_value",
    "q_value",
    "confidence",
    "persona",
    "selectivity_auroc",
    *(f"{c}{limit}" for c in _MEASURED for limit in ("", "_low", "_high")),
    "nu_reconstruction",
    "nu_error",
    "information",
    "reason",
    "read_by",
    "n_fires",
)
"""Columns of `fates.parquet`, with the p-value over all coordinates, the reason of an undetermined
or unstable fate, by which dictionary the tuned model was read for the coordinates (`continued`, or
`base`'s own where the continued one let the latent go) and the base firings; `dialect` stands last
where an observer tells it."""

EXAMPLE_COLUMNS = (
    "tuned",
    "latent",
    "rank",
    "which",
    "doc",
    "pos",
    "start",
    "tokens",
    "z_base",
    "z_tuned",
    "role",
    "context",
    "persona",
)
"""Columns of `examples.parquet`; `rank` counts from 0, `pos` less `start` is how many tokens
are shown before the peak."""
GROUPS = ("base", "tuned", "near", "silent")
"""Groups of snippets (`which`): top by the base model, top by the tuned model, weakest firings in
the base model, persona tokens on which neither fires."""


def fate_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A table with exactly the columns of `fates.parquet`, null where a column was not measured.

    Args:
        rows: Any of the columns.

    Returns:
        All of them, in order.
    """
    text = {"tuned", "origin", "fate", "persona", "reason", "read_by"}
    return pd.DataFrame(
        {
            c: rows[c] if c in rows else pd.Series(None if c in text else np.nan, rows.index)
            for c in COLUMNS
        }
    ).reset_index(drop=True)
