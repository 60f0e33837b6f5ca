"""The tables behind the figures: what each one draws, which is also its twin in words and numbers.

Each takes the parts of a trace and returns a plain table, which `analysis.report.figures` draws.
"""

from collections import Counter

import numpy as np
import pandas as pd

from analysis.artefact.schema import Measured, Summary
from analysis.report.marks import FATE_CLASSES, mark_of

__all__ = ["drift_table", "fate_table", "fire_rates_table", "personas_table", "poles_table"]

FAMILIES = ("persona", "other", "novel")
POLES_COLUMNS = (
    "arm",
    "verdict",
    "in_span_share",
    "in_span_share_low",
    "in_span_share_high",
    "null_low",
    "null_high",
    "reuse_index",
    "reuse_index_low",
    "reuse_index_high",
)


def _cells(measured: Measured | None, stem: str) -> dict[str, float | None]:
    found = measured or Measured(None)
    return {stem: found.value, f"{stem}_low": found.low, f"{stem}_high": found.high}


def poles_table(summary: Summary) -> pd.DataFrame:
    """What `poles` draws.

    Args:
        summary: Of the trace.

    Returns:
        One row an arm: arm, verdict ("yes" or why none is given), in_span_share and reuse_index,
        each with `_low` and `_high`, and null_low and null_high of the share.
    """
    rows = []
    for name, arm in summary.arms.items():
        null = arm.in_span_share or Measured(None)
        rows.append(
            {
                "arm": name,
                "verdict": arm.no_verdict or "yes",
                **_cells(arm.in_span_share, "in_span_share"),
                "null_low": null.null_low,
                "null_high": null.null_high,
                **_cells(summary.reuse_index.get(name), "reuse_index"),
            }
        )
    table = pd.DataFrame(rows, columns=list(POLES_COLUMNS))
    return table.astype(dict.fromkeys(POLES_COLUMNS[2:], float))


def drift_table(summary: Summary) -> pd.DataFrame:
    """What `drift` draws.

    Args:
        summary: Of the trace.

    Returns:
        The table of `poles_table` without the null, and kl: mean KL from base on neutral text, in
        nats a token.
    """
    table = poles_table(summary).drop(columns=["null_low", "null_high"])
    kl = [np.nan if arm.size.kl is None else arm.size.kl for arm in summary.arms.values()]
    table.insert(2, "kl", np.array(kl, float))
    return table


def fate_table(fates: pd.DataFrame) -> pd.DataFrame:
    """What `fate_bars` draws, and the counts behind it.

    Args:
        fates: `fates.parquet`.

    Returns:
        One row an arm, family and fate that occurs: tuned, family, fate, n, share of the family.
        Families: "persona", "other", and "novel" for latents that the base dictionary lacks.
    """
    is_persona, is_new = fates["persona"].notna(), fates["origin"] == "tuned"
    family = np.select([is_new, is_persona], ["novel", "persona"], "other")
    counts = Counter(zip(fates["tuned"], family, fates["fate"], strict=True))
    totals = Counter()
    for (tuned, member, _), n in counts.items():
        totals[tuned, member] += n
    arms, classes = list(dict.fromkeys(fates["tuned"])), list(FATE_CLASSES)

    def order(key: tuple[str, str, str]) -> tuple[int, int, int, str]:
        tuned, member, fate = key
        place = classes.index(mark_of(fate).css)
        return arms.index(tuned), FAMILIES.index(member), place, fate

    rows = [(*key, counts[key], counts[key] / totals[key[:2]]) for key in sorted(counts, key=order)]
    return pd.DataFrame(rows, columns=["tuned", "family", "fate", "n", "share"])


def personas_table(summary: Summary) -> pd.DataFrame:
    """What `personas` draws.

    Args:
        summary: Of the trace.

    Returns:
        One row a persona, best latent first: persona, latent, auroc, auroc_low, auroc_high, probe,
        ideal, q_value, confirmed.
    """
    rows = [
        (
            name,
            each.latent,
            each.auroc,
            each.auroc_low,
            each.auroc_high,
            each.probe_auroc,
            each.ideal_auroc,
            each.q_value,
            each.confirmed,
        )
        for name, each in summary.personas.items()
    ]
    rows.sort(key=lambda row: -1.0 if row[2] is None else row[2], reverse=True)
    numbers = ["auroc", "auroc_low", "auroc_high", "probe", "ideal", "q_value"]
    table = pd.DataFrame(rows, columns=["persona", "latent", *numbers, "confirmed"])
    return table.astype({"latent": "Int64", **dict.fromkeys(numbers, float)})


def fire_rates_table(traces: pd.DataFrame, fates: pd.DataFrame, arm: str) -> pd.DataFrame:
    """What `fire_rates` draws: firing at assistant tokens, before and after tuning.

    Args:
        traces: `traces.parquet`.
        fates: `fates.parquet`.
        arm: The tuned model.

    Returns:
        One row a persona latent, largest change first: persona, latent, fate, n_tokens, base and
        tuned (firings a token).
    """
    at = traces[(traces["tuned"] == arm) & (traces["role"] == "assistant")]
    counts = ("n_tokens", "n_fires_base", "n_fires_tuned")
    sums: dict[int, np.ndarray] = {}
    for latent, *found in zip(at["latent"], *(at[c] for c in counts), strict=True):
        sums[latent] = sums.get(latent, np.zeros(3, np.int64)) + np.array(found)
    mine = fates[(fates["tuned"] == arm) & fates["persona"].notna() & (fates["origin"] == "base")]
    rows = []
    for persona, latent, fate in zip(mine["persona"], mine["latent"], mine["fate"], strict=True):
        n, base, tuned = sums.get(latent, np.zeros(3)).tolist()
        if n:
            rows.append((persona, latent, fate, int(n), base / n, tuned / n))
    rows.sort(key=lambda row: abs(row[5] - row[4]), reverse=True)
    return pd.DataFrame(rows, columns=["persona", "latent", "fate", "n_tokens", "base", "tuned"])
