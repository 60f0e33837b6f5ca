"""The names of the fates and the columns of `fates.parquet`: the one list of each."""

import numpy as np
import pandas as pd

__all__ = ["COLUMNS", "EMITTED", "FATES", "REPURPOSED", "fate_rows"]

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
EMITTED = (
    "preserved",
    "amplified",
    "suppressed",
    "re_gated",
    "re_wired",
    "rotated",
    "lost",
    "split",
    "unstable",
    "undetermined",
)
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
    "n_fires",
)
"""Columns of `fates.parquet`, with the p-value over all coordinates, the reason of an undetermined
or unstable fate and the base firings; `dialect` stands last where an observer tells it."""


def fate_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A table with exactly the columns of `fates.parquet`, null where a column was not measured.

    Args:
        rows: Any of the columns.

    Returns:
        All of them, in order.
    """
    text = {"tuned", "origin", "fate", "persona", "reason"}
    return pd.DataFrame(
        {
            c: rows[c] if c in rows else pd.Series(None if c in text else np.nan, rows.index)
            for c in COLUMNS
        }
    ).reset_index(drop=True)
