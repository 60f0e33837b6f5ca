"""Fates that were called beside those that were planted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from safetensors.numpy import load_file
from scipy import stats
from scipy.optimize import linear_sum_assignment

from analysis.planted.pairs import UNTOLD

__all__ = ["CALLED", "DETECTABLE", "calibration", "laid_out", "matched", "novel_counts"]
__all__ += ["of_fates", "of_firings", "of_untold", "power", "spread"]

CALLED = ("preserved", "amplified", "suppressed", "re_gated", "rotated", "split", "lost")
"""Fates of base features that are scored."""
DETECTABLE = {
    "amplified": (1.5, np.inf),
    "suppressed": (0.3, 0.67),
    "re_gated": (0.4, np.inf),
    "rotated": (-np.inf, 0.8),
}
"""Sizes of a planted change that are called detectable, where not all are."""
"""Fates that claim no change."""
NOMINAL = (0.01, 0.05, 0.1, 0.2)  # false-discovery rates that are asked for
FIRINGS = (0, 50, 100, 200, 500, 1000, np.inf)
SAME = 0.9  # cosine from which a latent has found a feature


def matched(rows: Float[np.ndarray, "d_sae d_in"], truth: Float[np.ndarray, "n d_in"]) -> pd.Series:
    """The latent that found each feature, one to one, at a cosine of at least 0.9.

    Args:
        rows: Decoder rows.
        truth: Directions.

    Returns:
        Latent by feature; features that were not found are left out.
    """
    cosine = rows @ truth.T / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    latent, feature = linear_sum_assignment(cosine, maximize=True)
    found = cosine[latent, feature] >= SAME
    return pd.Series(latent[found], index=feature[found]).sort_index()


def laid_out(
    trace: Path, tuned: str, truth: pd.DataFrame, rows: Float[np.ndarray, "n d_in"]
) -> pd.DataFrame:
    """What was said of every base feature that the dictionary found.

    Args:
        trace: A trace folder.
        tuned: The tuned model.
        truth: What was planted.
        rows: Directions of the base model's features.

    Returns:
        The truth's rows with latent, called, reason, p_value and q_value, and whether the change
        is detectable; that of a rare feature is not, and what has no fate of its own counts. The
        latent is -1 where the feature was not found.
    """
    fates = pd.read_parquet(trace / "fates.parquet").query("tuned == @tuned and origin == 'base'")
    fates = fates.set_index("latent")
    base = load_file(trace / "directions.safetensors")["base"]
    latent = matched(base[: len(fates)], rows)  # later ones were added for the reference alone
    table = truth.iloc[: len(rows)].copy()
    table["latent"] = latent.reindex(table["feature"], fill_value=-1).to_numpy()
    table["called"] = fates["fate"].reindex(table["latent"]).to_numpy()
    for name in ("reason", "p_value", "q_value"):
        table[name] = fates[name].reindex(table["latent"]).to_numpy()
    low = table["fate"].map(lambda fate: DETECTABLE.get(fate, (-np.inf, np.inf))[0])
    high = table["fate"].map(lambda fate: DETECTABLE.get(fate, (-np.inf, np.inf))[1])
    always = table["fate"].isin(["preserved", *UNTOLD])
    table["detectable"] = always | (table["size"].between(low, high) & ~table["is_rare"])
    return table


def of_fates(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of every fate, and their mean F1 as `macro`.

    Args:
        table: Rows of `laid_out` that count; what was not found counts as undetermined.
    """
    found: dict[str, dict[str, float]] = {}
    for fate in CALLED:
        true, called = table["fate"] == fate, table["called"] == fate
        hit = float((true & called).sum())
        precision, recall = hit / max(1, int(called.sum())), hit / max(1, int(true.sum()))
        f1 = 2 * precision * recall / max(precision + recall, 1e-12)
        found[fate] = {"precision": precision, "recall": recall, "f1": f1, "n": int(true.sum())}
    found["macro"] = {"f1": float(np.mean([found[fate]["f1"] for fate in CALLED]))}
    return found


def calibration(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Realised share of false discoveries at nominal rates: calls of change on preserved features.

    Args:
        table: Rows of `laid_out`, of one world or several.
    """
    found = {}
    for nominal in NOMINAL:
        called = table.loc[table["q_value"] <= nominal, "fate"]
        wrong = int((called == "preserved").sum())
        share = round(wrong / max(1, len(called)), 4)
        found[str(nominal)] = {"n": len(called), "false": wrong, "realised": share}
    return found


def power(table: pd.DataFrame) -> pd.DataFrame:
    """Share of planted changes that are called by their name, by size and by firings.

    Args:
        table: Rows of `laid_out`, with a column n_fires.

    Returns:
        For every fate with a size, and each third of its sizes: what these are, how many, and the
        share called of those above and below the median number of firings.
    """
    rows = list[dict[str, object]]()
    sized = table.loc[table["size"].notna() & (table["fate"] != "lost")]
    for fate, part in sized.groupby("fate"):
        third = pd.qcut(part["size"], 3, labels=False, duplicates="drop")
        for _, some in part.groupby(third):
            hit = some["called"] == some["fate"]
            often = some["n_fires"] >= part["n_fires"].median()
            sizes = some["size"].min().round(2), some["size"].max().round(2)
            shares = hit.mean(), hit[often].mean(), hit[~often].mean()
            named = dict(zip(("called", "often", "seldom"), np.round(shares, 3), strict=True))
            rows.append({"fate": fate, "from": sizes[0], "to": sizes[1], "n": len(some), **named})
    return pd.DataFrame(rows)


def of_firings(table: pd.DataFrame) -> pd.DataFrame:
    """Share of features recovered, and called by their name, by how often they fire.

    Args:
        table: Rows of `laid_out`, with a column n_fires.
    """
    bins = pd.cut(table["n_fires"], list(FIRINGS), right=False)
    hit = table.assign(found=table["latent"] >= 0, right=table["called"] == table["fate"])
    grouped = hit.groupby(bins, observed=True)
    return grouped.agg(n=("found", "size"), recovered=("found", "mean"), right=("right", "mean"))


def of_untold(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """What is called of found features whose change has no fate of its own, and with what reason.

    Args:
        table: Rows of `laid_out`.
    """
    found = {}
    for fate in UNTOLD:
        own = table.loc[(table["fate"] == fate) & (table["latent"] >= 0)]
        said = own["reason"].where(own["called"] == "undetermined", own["called"])
        found[fate] = {str(name): int(n) for name, n in said.value_counts().items()}
    return found


def novel_counts(
    trace: Path, tuned: str, truth: pd.DataFrame, rows: Float[np.ndarray, "n d_in"]
) -> dict[str, float]:
    """Novel features that were called so, where they lie, and rows that were called so wrongly.

    A direction that is new and has a lost one's trigger is not called wrongly; how often it is
    called is beside it.

    Args:
        trace: A trace folder.
        tuned: The tuned model.
        truth: What was planted.
        rows: Directions of the tuned model's features, the novel ones last.
    """
    held = load_file(trace / "directions.safetensors")
    own = held["tuned"] if "tuned" in held else held[f"tuned.{tuned}"]
    fates = pd.read_parquet(trace / "fates.parquet").query("tuned == @tuned and origin == 'tuned'")
    called = fates.set_index("latent")["fate"]
    latent = matched(own, rows)
    novel = truth.loc[truth["fate"].str.startswith("novel")]
    mine = latent.reindex(novel["feature"]).dropna().astype(int)
    again = latent.reindex(truth.loc[truth["fate"] == "re_encoded", "feature"]).dropna()
    said = called.reindex(mine)
    place = novel.set_index("feature").loc[mine.index, "fate"]
    return {
        "n": len(novel),
        "found": len(mine),
        "called": int(said.notna().sum()),
        "placed": int((said.to_numpy() == place.to_numpy()).sum()),
        "re_encoded": int(called.index.isin(again).sum()),
        "false_rows": int((~called.index.isin([*mine, *again])).sum()),
    }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over seeds, and its 95 % interval by Student's t; of one seed None.

    Args:
        values: One a seed.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": round(mean, 4), "low": None, "high": None}
    reach = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5)
    return {"mean": round(mean, 4), "low": round(mean - reach, 4), "high": round(mean + reach, 4)}
