"""Coordinates and a null -> one fate a latent, or "undetermined" with the reason.

A fate is a claim of either kind, and each has to be earned. *Changed* needs a coordinate that
null latents do not reach, at a false discovery rate. *Preserved* needs every interval to lie where
null latents lie. What earns neither stays undetermined.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.artefact.names import ALONG, fate_rows
from analysis.artefact.names import FATES as FATES
from analysis.artefact.names import REPURPOSED as REPURPOSED
from analysis.fates.nulls import Null
from analysis.fates.rule import Rule as Rule
from analysis.fates.tails import standard_errors
from analysis.latents.coordinates import EFFECT, PROFILE, Coordinates
from analysis.personas.carriers import confirmed_latents
from analysis.statistics.intervals import false_discovery

__all__ = ["Rule", "decide"]

ELSEWHERE = "another latent carries it"
MERGED = "merged with another"
NOT_SIGNIFICANT = "beyond the null, but not at the false discovery rate"
WIDE = "intervals leave the null's band"
TOO_FEW_DOCUMENTS = "too few documents"


@dataclass(frozen=True, eq=False)
class _Held:
    """Latents held against a null."""

    null: Null
    """The null."""
    rate: np.ndarray
    """Fire rate of every latent."""
    errors: dict[str, np.ndarray]
    """Standard error of every coordinate."""
    rule: Rule
    """Thresholds."""
    limits: dict[str, tuple[np.ndarray, np.ndarray]]
    """Where null latents of like fire rate lie."""

    @classmethod
    def of(cls, table: pd.DataFrame, null: Null, rule: Rule) -> "_Held":
        rate = table["fire_rate"].to_numpy(float)
        measured = [c for c in null.values if c in table]
        null = null.of_coordinates(measured)
        errors = {c: standard_errors(table, c) for c in measured}
        limits = {c: null.band(c, rate, rule.level) for c in measured}
        return cls(null, rate, errors, rule, limits)

    def beyond(self, coordinate: str, values: np.ndarray) -> np.ndarray:
        own = self.errors[coordinate]
        far = self.null.beyond(coordinate, values, self.rate, own, self.rule.level)
        return far & ~self.is_small(coordinate, values)

    def standard(self, coordinate: str, values: np.ndarray) -> np.ndarray:
        return self.null.standard(coordinate, values, self.rate, self.errors[coordinate])

    def p_values(self, coordinate: str, values: np.ndarray) -> np.ndarray:
        return self.null.p_values(coordinate, values, self.rate, self.errors[coordinate])

    def is_small(self, coordinate: str, values: np.ndarray) -> np.ndarray:
        return self.rule.is_small(coordinate, values, self.middle(coordinate))

    def middle(self, coordinate: str) -> np.ndarray | float:
        return self.null.middle("gain", self.rate) if coordinate == "gain" else 0.0

    def hold(self, table: pd.DataFrame) -> np.ndarray:
        """Whether all intervals lie inside the bands, cut where a change has a name.

        A latent whose effect could not be measured is held to the others.
        """
        inside = np.ones(len(table), bool)
        for c, band in self.limits.items():
            low, high = self.rule.allowed(c, band, self.middle(c))
            within = table[f"{c}_low"].to_numpy() >= low
            within &= table[f"{c}_high"].to_numpy() <= high
            inside &= within | (table[c].isna().to_numpy() if c == EFFECT else False)
        return inside


def _point_fates(values: dict[str, np.ndarray], held: _Held) -> np.ndarray:
    """The change that the measured point names, or "preserved" where it lies inside every band.

    The values are coordinates, kept and rate_ratio, each [..., latents]. An effect names a change
    only of a latent that is what it was otherwise: whatever else moves may move its effect too.
    """
    beyond = {c: held.beyond(c, values[c]) for c in held.limits}
    direction, gain, gating = (beyond[c] for c in ("direction", "gain", "gating"))
    effect, profile = (beyond.get(c, np.zeros_like(gain)) for c in (EFFECT, PROFILE))
    # Of a latent that differs in both, what lies farther out among null latents names it.
    far = {c: held.standard(c, values[c]) for c in held.limits}
    moved = np.fmax(far["gating"], far.get(PROFILE, far["gating"]))
    elsewhere = (gating | profile) & ~(gain & (far["gain"] > moved))
    with np.errstate(invalid="ignore"):
        lost = (values["kept"] < held.rule.lost_ratio) & (values["rate_ratio"] < held.rule.rare)
        louder = values["gain"] > held.null.middle("gain", held.rate)
    return np.select(
        [lost, direction, elsewhere, gain & louder, gain, effect],
        ["lost", "rotated", "re_gated", "amplified", "suppressed", "re_wired"],
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

    A latent is *changed* where its smallest p-value over the coordinates that differ by more than a
    trifle, times the number of tests that all of them amount to, has a Benjamini-Hochberg q-value
    at most q within its family, and its point lies beyond the null's band. (`p_value` is over all
    coordinates, trifles too.) Which coordinate lies beyond names the change. It is
    *preserved* where all 95 % intervals lie inside the band, or differ too little for a change and
    too little to be another latent (`Rule.allowed`). Effects count where model and null
    have them. A latent that drift alone replaces (`Null.fragile`) is unstable.

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
    if "frozen" in table:
        table["read_by"] = np.where(table["frozen"], "base", "continued")
    table = table.merge(_carriers(personas), on="latent", how="left")
    table["fate"], table["q_value"], table["confidence"] = "undetermined", np.nan, np.nan
    often = (table["n_fires_base"] >= rule.min_firings).to_numpy()
    unstable = often & ~table["steady"].to_numpy(bool)
    if null is not None:
        unstable |= often & np.isin(table["latent"], null.fragile)
    spread = table["gating"].notna().to_numpy()  # over documents enough for an interval
    enough = often & spread & ~unstable
    few = np.where(often, TOO_FEW_DOCUMENTS, "too few firings")
    both = enough & (table["n_fires_tuned"] >= rule.min_firings).to_numpy()
    table["reason"] = np.where(enough, "no null moved as far", few)
    if null is None:
        return fate_rows(_set_apart(table, unstable))
    held = _Held.of(table, null, rule)
    table["p_value"], of_changes = _p_values(table, held, enough, both)
    table["q_value"] = _q_values(table, of_changes)
    named = (*held.limits, "kept", "rate_ratio")
    point = _point_fates({c: table[c].to_numpy(float) for c in named}, held)
    fate, reason = _called(coordinates, table, point, held, both)
    fate = np.where(enough, fate, "undetermined")
    table["fate"] = fate
    reason = np.where(enough, reason, few)
    table["reason"] = pd.Series(reason, dtype=object).where(fate == "undetermined", None)
    drawn = {**coordinates.replicates, "rate_ratio": table["rate_ratio"].to_numpy(float)}
    again = _point_fates(drawn, held)
    # That a latent is split is told from all documents at once.
    share = np.where(fate == "split", again != "preserved", again == fate).mean(axis=0)
    table["confidence"] = np.where(fate == "undetermined", np.nan, share)
    return fate_rows(_set_apart(table, unstable))


def _set_apart(table: pd.DataFrame, unstable: np.ndarray) -> pd.DataFrame:
    """Latents that another run would not find again, whatever became of them."""
    table.loc[unstable, "fate"] = "unstable"
    table["reason"] = table["reason"].astype(object).mask(unstable, None)
    return table


def _carriers(personas: pd.DataFrame | None) -> pd.DataFrame:
    """Each confirmed latent with the persona it tells apart best."""
    columns = ["latent", "persona", "selectivity_auroc"]
    if personas is None:
        return pd.DataFrame(columns=columns).astype({"latent": int, "selectivity_auroc": float})
    best = confirmed_latents(personas).rename(columns={"auroc": "selectivity_auroc"})
    return pd.DataFrame(best[columns])


def _p_values(
    table: pd.DataFrame, held: _Held, enough: np.ndarray, both: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest p-value of the coordinates times the tests they amount to; that of no trifle.

    Of latents with firings. Where the tuned model fires too rarely to say along what, gain and
    gating can speak. In the second a coordinate that is too small for a change has a p-value of 1:
    a latent may differ by it beyond all chance, and must not be called by another that lies beyond
    the null by chance.
    """
    smallest, of_changes = np.full((2, len(table)), np.inf)
    for c in held.limits:
        values = table[c].to_numpy(float)
        p = held.p_values(c, np.where(both | (c != "direction"), values, np.nan))
        smallest = np.fmin(smallest, p)
        of_changes = np.fmin(of_changes, np.where(held.is_small(c, values), 1.0, p))
    both_p = np.minimum(held.null.n_tests * np.stack([smallest, of_changes]), 1.0)
    first, second = np.where(enough, both_p, np.nan)
    return first, second


def _q_values(table: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg within persona latents and within the others."""
    out = np.full(len(table), np.nan)
    is_persona = table["persona"].notna().to_numpy()
    for family in (is_persona, ~is_persona):
        out[family] = false_discovery(p[family])
    return out


def _called(
    coordinates: Coordinates,
    table: pd.DataFrame,
    point: np.ndarray,
    held: _Held,
    both: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The fate each latent has earned, and why one has earned none."""
    q, rule = table["q_value"].to_numpy(float), held.rule
    significant = np.nan_to_num(q, nan=1.0) <= rule.q
    gone = (point == "lost") & (table["kept_high"].to_numpy() < rule.lost_ratio)
    points_alike = table["direction"] > table["chance_cosine"]
    fires_alike = 1 - table["gating"] > table["chance_cofiring"]
    own = np.diagonal(coordinates.cofiring)[: len(table)] > table["chance_cofiring"]
    let_go = table["read_by"] == "base" if "read_by" in table else False
    fires_alike &= own | let_go  # of those the index has gone to another latent
    met = (points_alike & fires_alike).to_numpy()
    carrier = _carried_elsewhere(coordinates, held)
    moved = carrier >= 0
    changed = (point != "preserved") & significant
    split, merged = (table[name].to_numpy(bool) for name in ("is_split", "is_merged"))
    called = [
        (changed & split, "split", ""),
        (changed & merged, "undetermined", MERGED),
        (changed & gone & moved, "undetermined", ELSEWHERE),
        (changed & gone, "lost", ""),
        (gone & ~significant & (point == "lost"), "undetermined", NOT_SIGNIFICANT),
        (point == "lost", "undetermined", "weaker, but not surely lost"),
        (~both & (point == "rotated"), "undetermined", "too few firings"),
        (
            changed & (point == "rotated") & moved & ~met,
            "undetermined",
            ELSEWHERE,
        ),
        (changed & (point == "rotated") & ~met, "undetermined", "re-encoded"),
        *((changed & (point == name), name, "") for name in ALONG),
        (
            point != "preserved",
            "undetermined",
            NOT_SIGNIFICANT,
        ),
        (held.hold(table), "preserved", ""),
    ]
    fate = np.select([c[0] for c in called], [c[1] for c in called], "undetermined")
    why = np.select([c[0] for c in called], [c[2] for c in called], WIDE)
    return fate, why


def _carried_elsewhere(coordinates: Coordinates, held: _Held) -> np.ndarray:
    """The tuned latent of another index that fires and points as the base latent does, or -1.

    On more than half of its tokens, for co-firing is a count of tokens and has no band of its own.
    """
    n = len(coordinates.table)
    dice, cosine = coordinates.cofiring[:n], coordinates.cosine[:n]
    fits = 1 - dice <= held.rule.max_gating
    fits &= cosine >= held.limits["direction"][0][:, None]
    fits &= dice > coordinates.table["chance_cofiring"].to_numpy()[:, None]
    fits[np.arange(n), np.arange(n)] = False
    return np.where(fits.any(axis=1), fits.argmax(axis=1), -1)
