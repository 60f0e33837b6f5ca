"""What a tuned model's dictionary has that the base model's has not, and where it points.

Latents are matched by what they do on the same held-out tokens, never by index. How badly a latent
of a null's dictionary can be matched says how bad a match must be to mean anything.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.coordinates import Coordinates
from analysis.intervals import Interval, false_discovery, share_interval
from analysis.names import fate_rows
from analysis.span import row_shares
from sae.errors import InputError

__all__ = ["best_matches", "novel_fates", "novel_latents", "novel_share"]

MIN_STRATUM = 20


def best_matches(coordinates: Coordinates, min_firings: int = 64) -> pd.DataFrame:
    """The base latent nearest to each tuned latent, by firing and by direction.

    Args:
        coordinates: Of a tuned model, or of a null.
        min_firings: Firings in the tuned model below which a latent is left out.

    Returns:
        One row a live tuned latent: latent, n_fires, added (no inherited index), match (the base
        latent that fires most alike), cofiring (Dice with it), cosine (the largest with any base
        latent).
    """
    dice, cosine = coordinates.cofiring, coordinates.cosine
    live = np.flatnonzero(coordinates.n_fires_tuned >= min_firings)
    return pd.DataFrame(
        {
            "latent": live,
            "n_fires": coordinates.n_fires_tuned[live],
            "added": live >= len(coordinates.table),
            "match": dice[:, live].argmax(axis=0),
            "cofiring": dice[:, live].max(axis=0).astype(float),
            "cosine": cosine[:, live].max(axis=0).astype(float),
        }
    )


def _worse_rank(matches: pd.DataFrame, null: pd.DataFrame) -> np.ndarray:
    """Share of null latents matched as badly, by the measure in which the match is better."""
    ranks = [
        np.searchsorted(np.sort(null[c].to_numpy(float)), matches[c].to_numpy(float), "right")
        for c in ("cofiring", "cosine")
    ]
    return np.maximum(*ranks)


def novel_latents(
    matches: pd.DataFrame, nulls: Sequence[pd.DataFrame], q: float = 0.05, quantile: float = 0.01
) -> pd.DataFrame:
    """Which tuned latents no base latent matches, in firing or in direction.

    A latent's novelty is how few null latents are matched as badly, in the measure in which it is
    matched better, so that both matches have to be bad; its p-value is the rank of that novelty
    among the null latents' own, which makes it exact for the pair of measures. Inherited and added
    latents are held against their own kind, for an added latent is matched badly wherever its seed
    fell; added latents without 20 null ones go against all.

    Args:
        matches: Of the tuned model, from `best_matches`.
        nulls: The same for one or more null pairs. The smallest p-value is 1 / (1 + n null
            latents), so more nulls find fewer novel latents.
        q: False discovery rate over all live tuned latents.
        quantile: Both measures must also lie below this quantile of the null.

    Returns:
        The matches with p_value, q_value and novel.

    Raises:
        InputError: No null latent to compare with.
    """
    null = pd.concat(list(nulls), ignore_index=True) if nulls else pd.DataFrame()
    if not len(null):
        raise InputError("novel latents", "no null latents", "pass the matches of a null pair")
    out = matches.copy()
    out["p_value"], below = np.nan, np.zeros(len(out), bool)
    for kind in (False, True):
        mine = (out["added"] == kind).to_numpy()
        own = null.loc[null["added"] == kind]
        own = own if len(own) >= MIN_STRATUM else null
        drawn, found = _worse_rank(own, own), _worse_rank(out.loc[mine], own)
        as_extreme = np.searchsorted(np.sort(drawn), found, "right")
        out.loc[mine, "p_value"] = (1 + as_extreme) / (1 + len(own))
        limits = own[["cofiring", "cosine"]].quantile(quantile)
        below[mine] = (out.loc[mine, ["cofiring", "cosine"]] <= limits).all(axis=1)
    out["q_value"] = false_discovery(out["p_value"].to_numpy(float))
    out["novel"] = below & (out["q_value"] <= q).to_numpy()
    return out


def novel_share(found: pd.DataFrame) -> Interval:
    """Share of the live tuned latents that are novel, with its exact binomial interval.

    Args:
        found: From `novel_latents`.

    Returns:
        The interval, over latents.
    """
    return share_interval(int(found["novel"].to_numpy().sum()), len(found))


def novel_fates(
    found: pd.DataFrame,
    rows: Float[np.ndarray, "d_sae d_in"],
    basis: Float[np.ndarray, "rank d_in"],
    null_bases: Float[np.ndarray, "n_null rank d_in"],
    tuned: str = "tuned",
    alpha: float = 0.05,
) -> pd.DataFrame:
    """The rows of `fates.parquet` for novel latents, inside or outside the persona span.

    A novel latent is in the span where fewer than `alpha` of the random subspaces of the span's
    rank hold as much of its decoder row; otherwise out of it.

    Args:
        found: From `novel_latents`.
        rows: Decoder rows of the tuned dictionary.
        basis: Orthonormal basis of the persona span.
        null_bases: Covariance-matched random subspaces of the same rank.
        tuned: Name of the tuned model.
        alpha: Level of each comparison.

    Returns:
        One row a novel latent, of origin "tuned".
    """
    novel = found.loc[found["novel"]].reset_index(drop=True)
    p_value = row_shares(rows[novel["latent"].to_numpy(int)].astype(float), basis, null_bases)[1]
    where = np.where(p_value <= alpha, "novel_in_span", "novel_out_of_span")
    return fate_rows(novel.assign(tuned=tuned, origin="tuned", fate=where))
