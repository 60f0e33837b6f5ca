"""Fates over a series of checkpoints: when a change set in, for how long, and if it went back.

At every checkpoint a latent has the fate that `decide` gives it there. Undetermined says nothing
and ends nothing: a change lasts until the latent is called preserved, or called something else.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.statistics.intervals import false_discovery
from sae.errors import InputError

__all__ = ["lineage"]

SILENT = ("undetermined", "unstable")


def lineage(fates: pd.DataFrame, checkpoints: Sequence[str], q: float = 0.05) -> pd.DataFrame:
    """What became of every latent along a training run.

    A latent that is looked at several times is called changed more easily. So its smallest p-value
    is multiplied by the number of checkpoints at which it has one (Bonferroni), and latents whose
    q-value over the whole series is above `q` have no onset.

    Args:
        fates: Rows of `fates.parquet` of origin "base" of every checkpoint.
        checkpoints: Their names, as `tuned` has them, in order of training.
        q: False discovery rate of latents with an onset, within persona latents and within others.

    Returns:
        One row a latent: latent, persona, p_value and q_value (of the series), fate (the first
        change that was called), last_before (the last checkpoint before the onset at which it was
        called preserved; null where none was), onset (the first at which it was called changed),
        n_lasting (checkpoints from the onset up to the last at which that change was called),
        reversal (the first later one at which it was called preserved), last (its fate at the last
        checkpoint). All but latent, persona, p_value, q_value and last are null without an onset.

    Raises:
        InputError: A checkpoint has no rows, or one latent has two at a checkpoint.
    """
    fates = fates.loc[(fates["origin"] == "base") & fates["tuned"].isin(checkpoints)]
    missing = [name for name in checkpoints if name not in set(fates["tuned"])]
    if missing or not checkpoints:
        do = "trace every checkpoint as a tuned model"
        raise InputError("a lineage", f"no fates of {', '.join(missing) or 'anything'}", do)
    if bool(fates.duplicated(["tuned", "latent"]).to_numpy().any()):
        raise InputError("a lineage", "a latent twice at one checkpoint", "give one trace")
    called = fates.pivot(index="latent", columns="tuned", values="fate")[list(checkpoints)]
    called = called.fillna("undetermined")  # of a checkpoint that says nothing of a latent
    p = fates.pivot(index="latent", columns="tuned", values="p_value")
    table = pd.DataFrame({"latent": called.index.to_numpy()})
    persona = fates.drop_duplicates("latent").set_index("latent")["persona"]
    table["persona"] = persona.reindex(called.index).to_numpy(object)
    smallest = p.min(axis=1) * p.notna().sum(axis=1)
    table["p_value"] = smallest.clip(upper=1).to_numpy(float)
    table["q_value"] = np.nan
    carries = table["persona"].notna()
    for family in (carries, ~carries):
        own = table.loc[family, "p_value"].to_numpy(float)
        table.loc[family, "q_value"] = false_discovery(own)
    told = [
        _story(row.astype(str).tolist(), checkpoints, is_sure)
        for row, is_sure in zip(called.to_numpy(), table["q_value"] <= q, strict=True)
    ]
    columns = ["fate", "last_before", "onset", "n_lasting", "reversal"]
    story = pd.DataFrame(told, columns=columns).astype({"n_lasting": "Int64"})
    return pd.concat([table, story, pd.DataFrame({"last": called.iloc[:, -1].to_numpy()})], axis=1)


_Story = tuple[str | None, str | None, str | None, int | None, str | None]


def _story(calls: list[str], names: Sequence[str], is_sure: bool) -> _Story:
    """Fate, last checkpoint before it, onset, length and reversal of a latent's first change."""
    changed = [i for i, fate in enumerate(calls) if fate not in (*SILENT, "preserved")]
    if not is_sure or not changed:
        return None, None, None, None, None
    onset, fate = changed[0], calls[changed[0]]
    before = [i for i in range(onset) if calls[i] == "preserved"]
    other = [i for i in range(onset, len(calls)) if calls[i] not in (*SILENT, fate)]
    end = other[0] if other else len(calls)
    last = max(i for i in range(onset, end) if calls[i] == fate)
    back = [i for i in range(onset, len(calls)) if calls[i] == "preserved"]
    return (
        fate,
        names[before[-1]] if before else None,
        names[onset],
        last - onset + 1,
        names[back[0]] if back else None,
    )
