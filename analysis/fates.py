"""Coordinates and a null -> one fate a latent, or "undetermined" with the reason.

A fate is a claim of either kind, and each has to be earned. *Changed* needs a coordinate that
null latents do not reach, at a false discovery rate. *Preserved* needs every interval to lie where
null latents lie. What earns neither stays undetermined.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from analysis.coordinates import COORDINATES, Coordinates
from analysis.intervals import false_discovery, share_interval
from analysis.names import EMITTED, fate_rows
from analysis.names import FATES as FATES
from analysis.names import REPURPOSED as REPURPOSED
from analysis.nulls import Null
from sae.errors import InputError

__all__ = ["Rule", "decide", "error_rates"]

ELSEWHERE = "another latent carries it"
NOT_SIGNIFICANT = "beyond the null, but not at the false discovery rate"
WIDE = "intervals leave the null's band"


@dataclass(frozen=True)
class Rule:
    """The thresholds of the fates, fixed before any tuned model is looked at."""

    min_firings: int = 30
    """Firings on the held-out tokens, in either model, below which a latent has no fate."""
    q: float = 0.05
    """False discovery rate of changes, within persona latents and within the others."""
    level: float = 0.95
    """Share of null latents inside the bands of all coordinates at once."""
    lost_ratio: float = 0.1
    """Share of the base model's firings below which a latent counts as lost."""
    min_direction: float = 0.7
    """Cosine that preservation needs, however far the null drifts."""
    max_gain: float = float(np.log(2))
    """Absolute gain, in nats, that preservation allows, however far the null drifts."""
    max_gating: float = 0.5
    """Dice distance that preservation allows, however far the null drifts."""


@dataclass(frozen=True)
class _Bands:
    """Limits of every latent's null, for `beyond` (what null latents reach) as drawn."""

    limits: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, null: Null, fire_rate: np.ndarray, level: float) -> "_Bands":
        return cls({c: null.band(c, fire_rate, level) for c in COORDINATES})

    def beyond(self, coordinate: str, values: np.ndarray) -> np.ndarray:
        low, high = self.limits[coordinate]
        return (values < low) | (values > high)

    def hold(self, table: pd.DataFrame, rule: Rule) -> np.ndarray:
        """Whether all three intervals lie inside the bands, cut where a change has a name."""
        named = {
            "direction": (rule.min_direction, np.inf),
            "gain": (-rule.max_gain, rule.max_gain),
            "gating": (-np.inf, rule.max_gating),
        }
        inside = np.ones(len(table), bool)
        for c in COORDINATES:
            low, high = self.limits[c]
            inside &= table[f"{c}_low"].to_numpy() >= np.maximum(low, named[c][0])
            inside &= table[f"{c}_high"].to_numpy() <= np.minimum(high, named[c][1])
        return inside


def _point_fates(values: dict[str, np.ndarray], bands: _Bands, rule: Rule) -> np.ndarray:
    """The change that the measured point names, or "preserved" where it lies inside every band.

    The values are coordinates, gating_matched and rate_ratio, each [..., latents].
    """
    direction = bands.beyond("direction", values["direction"])
    gating = bands.beyond("gating", values["gating"])
    gain = bands.beyond("gain", values["gain"])
    # At equal rates the same tokens fire: what moved across the threshold is the gain's doing.
    elsewhere = gating & ~(gain & ~bands.beyond("gating", values["gating_matched"]))
    with np.errstate(invalid="ignore"):
        lost = values["rate_ratio"] < rule.lost_ratio
        louder = values["gain"] > 0
    return np.select(
        [lost, direction, elsewhere, gain & louder, gain],
        ["lost", "rotated", "re_gated", "amplified", "suppressed"],
        "preserved",
    )


def decide(
    coordinates: Coordinates,
    null: Null | None,
    personas: pd.DataFrame | None = None,
    tuned: str = "tuned",
    rule: Rule | None = None,
) -> pd.DataFrame:
    """The fate of every inherited latent of the base dictionary in one tuned model.

    A latent is *changed* where its smallest p-value over the coordinates, times three, has a
    Benjamini-Hochberg q-value at most q within its family, and its point lies beyond the null's
    band. Which coordinate lies beyond names the change. It is *preserved* where all three 95 %
    intervals lie inside the band.

    Args:
        coordinates: Of this tuned model.
        null: The null chosen for it; None where no null moved as far.
        personas: The selected personas: persona, latent, auroc, confirmed. Confirmed latents are
            one family of tests; all other live latents are the other.
        tuned: Name of the tuned model.
        rule: Thresholds; the default ones where absent.

    Returns:
        `fates.parquet` rows of origin "base", one a latent. `confidence` is the share of document
        resamples whose point names the same fate, null where undetermined.
    """
    rule = rule or Rule()
    table = coordinates.table.copy()
    table["tuned"], table["origin"], table["n_fires"] = tuned, "base", table["n_fires_base"]
    table = table.merge(_carriers(personas), on="latent", how="left")
    table["fate"], table["q_value"], table["confidence"] = "undetermined", np.nan, np.nan
    enough = (table["n_fires_base"] >= rule.min_firings).to_numpy()
    both = enough & (table["n_fires_tuned"] >= rule.min_firings).to_numpy()
    table["reason"] = np.where(enough, "no null moved as far", "too few firings")
    if null is None:
        return fate_rows(table)
    rate = table["fire_rate"].to_numpy(float)
    bands = _Bands.of(null, rate, rule.level)
    table["q_value"] = _q_values(table, null, enough, both)
    named = ("direction", "gain", "gating", "gating_matched", "rate_ratio")
    point = _point_fates({c: table[c].to_numpy(float) for c in named}, bands, rule)
    fate, reason = _called(coordinates, table, point, bands, rule, both)
    fate = np.where(enough, fate, "undetermined")
    table["fate"] = fate
    reason = np.where(enough, reason, "too few firings")
    table["reason"] = pd.Series(reason, dtype=object).where(fate == "undetermined", None)
    again = _point_fates(dict(coordinates.replicates), bands, rule)
    share = (again == fate).mean(axis=0)
    table["confidence"] = np.where(fate == "undetermined", np.nan, share)
    return fate_rows(table)


def _carriers(personas: pd.DataFrame | None) -> pd.DataFrame:
    """Each confirmed latent with the persona it tells apart best."""
    columns = ["latent", "persona", "selectivity_auroc"]
    if personas is None:
        return pd.DataFrame(columns=columns).astype({"latent": int, "selectivity_auroc": float})
    confirmed = personas.loc[personas["confirmed"].astype(bool)]
    best = confirmed.iloc[np.argsort(-confirmed["auroc"].to_numpy(float), kind="stable")]
    best = best.drop_duplicates("latent").rename(columns={"auroc": "selectivity_auroc"})
    return pd.DataFrame(best[columns])


def _q_values(table: pd.DataFrame, null: Null, enough: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg within persona latents and within the others, over latents with firings.

    Where the tuned model fires too rarely to say how or along what, only gating can speak.
    """
    rate = table["fire_rate"].to_numpy(float)
    smallest = np.full(len(table), np.inf)
    for c in COORDINATES:
        values = table[c].to_numpy(float)
        p = null.p_values(c, np.where(both | (c == "gating"), values, np.nan), rate)
        smallest = np.fmin(smallest, p)
    p = np.where(enough, np.minimum(len(COORDINATES) * smallest, 1.0), np.nan)
    out = np.full(len(table), np.nan)
    is_persona = table["persona"].notna().to_numpy()
    for family in (is_persona, ~is_persona):
        out[family] = false_discovery(p[family])
    return out


def _called(
    coordinates: Coordinates,
    table: pd.DataFrame,
    point: np.ndarray,
    bands: _Bands,
    rule: Rule,
    both: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The fate each latent has earned, and why one has earned none."""
    q = table["q_value"].to_numpy(float)
    significant = np.nan_to_num(q, nan=1.0) <= rule.q
    gone = (point == "lost") & (table["rate_ratio_high"].to_numpy() < rule.lost_ratio)
    points_alike = table["direction"] > table["chance_cosine"]
    fires_alike = 1 - table["gating"] > table["chance_cofiring"]
    met = (points_alike & fires_alike).to_numpy()
    carrier = _carried_elsewhere(coordinates, bands)
    moved = carrier >= 0
    changed = (point != "preserved") & significant
    called = [
        (changed & gone & moved, "undetermined", ELSEWHERE),
        (changed & gone, "lost", ""),
        (point == "lost", "undetermined", "rarer, but not surely lost"),
        (~both, "undetermined", "too few firings"),
        (
            changed & (point == "rotated") & moved & ~met,
            "undetermined",
            ELSEWHERE,
        ),
        (changed & (point == "rotated") & ~met, "undetermined", "re-encoded"),
        *((changed & (point == name), name, "") for name in EMITTED[1:5]),
        (
            point != "preserved",
            "undetermined",
            NOT_SIGNIFICANT,
        ),
        (bands.hold(table, rule), "preserved", ""),
    ]
    fate = np.select([c[0] for c in called], [c[1] for c in called], "undetermined")
    why = np.select([c[0] for c in called], [c[2] for c in called], WIDE)
    return fate, why


def _carried_elsewhere(coordinates: Coordinates, bands: _Bands) -> np.ndarray:
    """The tuned latent of another index that fires and points as the base latent does, or -1."""
    n = len(coordinates.table)
    dice, cosine = coordinates.cofiring[:n], coordinates.cosine[:n]
    fits = 1 - dice <= bands.limits["gating"][1][:, None]
    fits &= cosine >= bands.limits["direction"][0][:, None]
    fits &= dice > coordinates.table["chance_cofiring"].to_numpy()[:, None]
    fits[np.arange(n), np.arange(n)] = False
    return np.where(fits.any(axis=1), fits.argmax(axis=1), -1)


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
    still = fates["fate"].isin(["preserved", "undetermined"])
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
