"""What a tuned model's dictionary has that the base model's has not, and where it points.

A latent is novel where the base model's activations do not hold it and no base latent stands for
it, by what both do on the same held-out tokens and never by index. Null latents say how little of
one, and how bad a match, drift alone can make.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.artefact.names import fate_rows
from analysis.fates.nulls import Null
from analysis.fates.tails import standard_errors
from analysis.latents.coordinates import Coordinates
from analysis.personas.span import row_shares
from analysis.statistics.intervals import Interval, false_discovery, share_interval
from sae.errors import InputError

__all__ = ["best_matches", "novel_fates", "novel_latents", "novel_share"]

ABSENT = 0.5
"""Existence in the base model, its interval included, below which something can be novel."""
CARRIED = 0.3
"""Share of its firings, beyond chance, that a base latent may account for."""
DENSE = 0.5
"""Share of all tokens beyond which where a base latent fires tells nothing."""
SAME = 0.7
"""Cosine from which a base latent points where a tuned one does."""


def best_matches(
    coordinates: Coordinates, presence: pd.DataFrame, min_firings: int = 64
) -> pd.DataFrame:
    """The base latent nearest to each tuned latent, by firing and by direction.

    Args:
        coordinates: Of a tuned model, or of a null.
        presence: Of each of its latents, from `analysis.latents.existence.presence`.
        min_firings: Firings in the tuned model below which a latent is left out.

    Returns:
        One row a live tuned latent: latent, n_fires, added (no inherited index), match (the base
        latent that fires most alike), cofiring (Dice with it), carried (the largest share of its
        firings at which one base latent fires, less that latent's own rate, over what is left
        above it: 0 by chance, 1 for all; a base latent that fires on more than half of all tokens
        says nothing of where), cosine (the largest with any base latent), and its existence in the
        base model with _low and _high, times what the median latent gained, since a louder model
        has more of everything.
    """
    live = np.flatnonzero(coordinates.n_fires_tuned >= min_firings)
    dice, n = coordinates.cofiring[:, live], coordinates.n_fires_tuned[live]
    base = coordinates.n_fires_base[:, None]
    rate = base / coordinates.n_tokens
    both, left = dice * (base + n) / 2, np.where(rate <= DENSE, 1 - rate, np.inf)
    gains = coordinates.table["gain"].dropna().to_numpy(float)
    gained = np.exp(np.median(gains)) if len(gains) else 1.0
    table = pd.DataFrame(
        {
            "latent": live,
            "n_fires": n,
            "added": live >= len(coordinates.table),
            "match": dice.argmax(axis=0),
            "cofiring": dice.max(axis=0).astype(float),
            "carried": ((both / np.maximum(n, 1) - rate) / left).max(axis=0),
            "cosine": coordinates.cosine[:, live].max(axis=0).astype(float),
        }
    )
    return pd.concat([table, presence.loc[live].reset_index(drop=True) * gained], axis=1)


def novel_latents(
    matches: pd.DataFrame, nulls: Sequence[pd.DataFrame], q: float = 0.05
) -> pd.DataFrame:
    """Which tuned latents are of something that the base model has not.

    Where a novel latent fires, the base model's activations hold less of its direction than they do
    of any null latent's: its *existence* is significantly low, studentised, at a false discovery
    rate, and surely less than half. Nor may a base latent stand for it: none points its way, and
    none accounts for three tenths of its firings. The last two tell it from a latent that only
    moved its trigger, whose direction is an old one, or only its direction, whose trigger is.

    Args:
        matches: Of the tuned model, from `best_matches`.
        nulls: The same for one or more null pairs.
        q: False discovery rate over all live tuned latents.

    Returns:
        The matches with p_value, q_value and novel.

    Raises:
        InputError: No null latent to compare with.
    """
    null = pd.concat(list(nulls), ignore_index=True) if nulls else pd.DataFrame()
    if len(null):
        null = null.dropna(subset=["existence_low", "existence_high"])  # of too few documents
    if not len(null):
        raise InputError("novel latents", "no null latents", "pass the matches of a null pair")
    values, errors = (
        {"existence": each}
        for each in (null["existence"].to_numpy(float), standard_errors(null, "existence"))
    )
    drawn = Null("", 0.0, np.zeros(0), np.zeros(len(null), int), values, errors)
    out = matches.copy()
    found, own = out["existence"].to_numpy(float), standard_errors(out, "existence")
    found = np.where(np.isnan(own), np.nan, found)  # of too few documents
    out["p_value"] = drawn.p_values("existence", found, np.zeros(len(out)), own)
    out["q_value"] = false_discovery(out["p_value"].to_numpy(float))
    is_new = (out["existence_high"] < ABSENT) & (out["q_value"] <= q)
    is_new &= (out["cosine"] < SAME) & (out["carried"] < CARRIED)
    out["novel"] = is_new.to_numpy(bool)
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
    span: tuple[Float[np.ndarray, "rank d_in"], Float[np.ndarray, "n_null rank d_in"]] | None,
    tuned: str = "tuned",
    alpha: float = 0.05,
) -> pd.DataFrame:
    """The rows of `fates.parquet` for novel latents, inside or outside the persona span.

    A novel latent is in the span where fewer than `alpha` of the random subspaces of the span's
    rank hold as much of its decoder row; otherwise out of it, as all are where there is no span.

    Args:
        found: From `novel_latents`.
        rows: Decoder rows of the tuned dictionary.
        span: Orthonormal basis of the persona span, and covariance-matched random subspaces of the
            same rank; None where no persona latent was confirmed.
        tuned: Name of the tuned model.
        alpha: Level of each comparison.

    Returns:
        One row a novel latent, of origin "tuned".
    """
    novel = found.loc[found["novel"]].reset_index(drop=True)
    is_inside = np.zeros(len(novel), bool)
    if span is not None:
        is_inside = row_shares(rows[novel["latent"].to_numpy(int)].astype(float), *span)[1] <= alpha
    where = np.where(is_inside, "novel_in_span", "novel_out_of_span")
    return fate_rows(novel.assign(tuned=tuned, origin="tuned", fate=where))
