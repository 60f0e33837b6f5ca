"""How often a null in which nothing happened is called changed, and how often preserved."""

import numpy as np
import pandas as pd
from jaxtyping import Bool

from analysis.artefact.names import UNCHANGED
from analysis.statistics.intervals import share_interval
from sae.errors import InputError

__all__ = ["error_rates"]


def error_rates(
    fates: pd.DataFrame, persona: Bool[np.ndarray, " latents"] | None = None
) -> pd.DataFrame:
    """How often a held-back null, in which nothing happened, is called changed or preserved.

    Args:
        fates: What `decide` says of a null pair that it was not calibrated on.
        persona: Which latents are persona latents; those with a persona where absent.

    Returns:
        One row a family (persona, all) and call (changed, preserved, undetermined): n latents with
        enough firings, n_called, share, share_low, share_high (exact binomial, 95 %).

    Raises:
        InputError: The mask is not one value a row.
    """
    is_persona = fates["persona"].notna().to_numpy() if persona is None else persona
    if len(is_persona) != len(fates):
        raise InputError(
            "which latents are persona latents",
            f"{len(is_persona)} values for {len(fates)} rows",
            "give one a row",
        )
    tested = fates["q_value"].notna().to_numpy()
    still = fates["fate"].isin(UNCHANGED)
    rows = []
    for family, member in (("persona", is_persona & tested), ("all", tested)):
        for call, hit in (
            ("changed", ~still),
            ("preserved", fates["fate"] == "preserved"),
            ("undetermined", fates["fate"] == "undetermined"),
        ):
            n, n_called = int(member.sum()), int((hit.to_numpy() & member).sum())
            rows.append((family, call, n, n_called, *share_interval(n_called, n)))
    columns = ["family", "call", "n", "n_called", "share", "share_low", "share_high"]
    return pd.DataFrame(rows, columns=columns)
