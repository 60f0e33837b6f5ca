"""How often a null in which nothing happened is called changed, and how often preserved."""

import pandas as pd

from analysis.artefact.names import UNCHANGED
from analysis.statistics.intervals import share_interval

__all__ = ["error_rates"]


def error_rates(fates: pd.DataFrame) -> pd.DataFrame:
    """How often a held-back null, in which nothing happened, is called changed or preserved.

    Args:
        fates: What `decide` says of a null pair that it was not calibrated on.

    Returns:
        One row a family (persona, all) and call (changed, preserved, undetermined): n latents with
        enough firings, n_called, share, share_low, share_high (exact binomial, 95 %).
    """
    is_persona = fates["persona"].notna().to_numpy()
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
