"""Every fate that can be emitted is emitted where it was planted, and each has one meaning."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.artefact.names import COLUMNS, EMITTED, FATES, REPURPOSED, fate_rows
from analysis.fates.decide import decide
from analysis.fates.nulls import Null
from analysis.fates.power import power
from analysis.latents.coordinates import Coordinates

N_NULL = 1200
POINTS = {
    "preserved": {},
    "amplified": {"gain": 0.9, "kept": 2.4},
    "suppressed": {"gain": -0.9, "kept": 0.4},
    "re_gated": {"gating": 0.6, "kept": 0.5},
    "re_wired": {"effect": 0.2},
    "rotated": {"direction": 0.5},
    "lost": {"gating": 1.0, "kept": 0.01, "n_fires_tuned": 0, "rate_ratio": 0.0},
    "split": {"gating": 0.5, "kept": 0.5, "is_split": True},
    "unstable": {"steady": False},
    "undetermined": {"n_fires_base": 10},
}


def _table(n, rng):
    table = pd.DataFrame({"latent": np.arange(n), "n_fires_base": 500, "n_fires_tuned": 500})
    table["fire_rate"] = 0.05
    table["direction"] = np.cos(np.abs(rng.normal(0, 0.05, n)))
    table["gain"] = rng.normal(0, 0.05, n)
    table["gating"] = rng.uniform(0.02, 0.08, n)
    table["kept"], table["chance_cofiring"], table["chance_cosine"] = 1.0, 0.1, 0.3
    table["effect"] = np.cos(np.abs(rng.normal(0, 0.1, n)))
    table["rate_ratio"], table["steady"] = 1.0, True
    table["is_split"], table["is_merged"] = False, False
    return table


def _coordinates(table):
    n = len(table)
    names = ("direction", "gain", "gating", "effect", "kept")
    table["n_fires_base"] = table["n_fires_base"].astype(int)
    for c in names:
        reach = table.get("reach", 1e-4)
        table[f"{c}_low"], table[f"{c}_high"] = table[c] - reach, table[c] + reach
    replicates = {c: np.tile(table[c].to_numpy(float), (10, 1)) for c in names}
    apart = np.eye(n, dtype=np.float32)
    n_fires = table["n_fires_tuned"].to_numpy(int)
    counts = table["n_fires_base"].to_numpy(int), n_fires
    return Coordinates(table, replicates, apart, apart, *counts, 10_000)


def _decided(point):
    rng = np.random.default_rng(0)
    null = Null.of("drift", 1.0, _coordinates(_table(N_NULL, rng)))
    middle = {"direction": 0.999, "gain": 0.0, "gating": 0.05, "effect": 0.99, "reach": 1e-4}
    table = _table(20, rng)
    for column, value in {**middle, **point}.items():
        if table.get(column, pd.Series(0.0)).dtype != bool:
            table[column] = table[column].astype(float) if column in table else 1e-4
        table.loc[0, column] = value
    return decide(_coordinates(table), null, tuned="arm").iloc[0]


def test_every_emitted_fate_has_a_case():
    assert set(POINTS) == set(EMITTED)
    assert set(EMITTED) <= set(FATES)
    assert set(REPURPOSED) < set(FATES)
    assert len(set(FATES)) == len(FATES) == 12


@pytest.mark.parametrize("fate", EMITTED)
def test_a_planted_point_gets_its_fate(fate):
    row = _decided(POINTS[fate])
    assert row["fate"] == fate
    assert (row["tuned"], row["origin"]) == ("arm", "base")
    if fate in ("undetermined", "unstable"):
        assert row["reason"] == ("too few firings" if fate == "undetermined" else None)
        assert np.isnan(row["confidence"])
    else:
        assert row["confidence"] == 1
        assert row["reason"] is None
        assert (row["q_value"] <= 0.05) == (fate != "preserved")


CONTESTED = {
    "stronger and far elsewhere is elsewhere": ({"gain": 0.3, "gating": 0.9}, "re_gated"),
    "far stronger and a little elsewhere is stronger": ({"gain": 0.9, "gating": 0.2}, "amplified"),
    "weak where it fired, firing elsewhere, is not lost": (
        {**POINTS["lost"], "n_fires_tuned": 450, "rate_ratio": 0.9},
        "re_gated",
    ),
    "as loud as ever, but elsewhere alone, is elsewhere": (
        {"gain": np.nan, "gating": 0.98, "kept": 0.05, "rate_ratio": 1.0},
        "re_gated",
    ),
    "turned and gated, yet recognisable, is rotated": (
        {"direction": 0.5, "gating": 0.6},
        "rotated",
    ),
    "turned beyond recognition is no fate": ({"direction": 0.2}, "undetermined"),
    "turned and firing elsewhere is no fate": (
        {"direction": 0.5, "gating": 0.95},
        "undetermined",
    ),
    "weaker, not surely lost": ({**POINTS["lost"], "kept": 0.1, "reach": 0.15}, "undetermined"),
    "weak below the threshold is not lost": (
        {"gain": -1.2, "kept": 0.3, "n_fires_tuned": 0},
        "suppressed",
    ),
    "another effect of what else has changed has no name of its own": (
        {"gain": 0.9, "kept": 2.4, "effect": 0.2},
        "amplified",
    ),
    "without a measured effect the others decide": ({"effect": np.nan}, "preserved"),
    "what shares a tuned latent with another is no fate": (
        {"gain": 0.9, "kept": 2.4, "is_merged": True},
        "undetermined",
    ),
    "a split that changed nothing is preserved": ({"is_split": True}, "preserved"),
    "turned, of few tuned firings": ({"direction": 0.5, "n_fires_tuned": 12}, "undetermined"),
}


@pytest.mark.parametrize("case", CONTESTED)
def test_contested_points(case):
    point, fate = CONTESTED[case]
    assert _decided(point)["fate"] == fate


def test_effects_count_only_where_the_null_has_them():
    rng = np.random.default_rng(0)
    drift = _coordinates(_table(N_NULL, rng))
    without = [name for name in drift.table if name.startswith("effect")]
    bare = Null.of("drift", 1.0, replace(drift, table=drift.table.drop(columns=without)))
    whole = Null.of("drift", 1.0, drift)
    table = _table(20, rng)
    table["reach"], table.loc[0, "effect"] = 1e-4, 0.2
    found = _coordinates(table)
    assert decide(found, whole).loc[0, "fate"] == "re_wired"
    row = decide(found, bare).loc[0]
    assert (row["fate"], row["effect"]) == ("preserved", 0.2)
    assert 1 <= bare.n_tests < whole.n_tests <= 4
    n = int((~np.isnan(whole.values["direction"])).sum())
    assert whole.smallest_p() == pytest.approx(whole.n_tests / (1 + n))
    assert "effect" in power(whole) and "effect" not in power(bare)


def test_what_does_something_else_is_not_preserved_however_wide_the_null():
    """The null reaches to effects with nothing in common, so that none can lie beyond it."""
    rng = np.random.default_rng(0)
    drift, table = _table(N_NULL, rng), _table(20, rng)
    drift["effect"] = rng.uniform(-0.1, 1.0, N_NULL)
    for column, value in {"direction": 0.999, "gain": 0.0, "gating": 0.05, "effect": 0.9}.items():
        table[column] = value
    table.loc[[0, 1], "effect"] = 0.1, 0.5
    null = Null.of("drift", 1.0, _coordinates(drift))
    fates = decide(_coordinates(table), null)["fate"].tolist()
    assert fates == ["undetermined"] + ["preserved"] * 19


def test_rows_have_the_promised_columns_and_nothing_invented():
    rows = fate_rows(pd.DataFrame({"latent": [3], "fate": ["novel_in_span"]}))
    assert tuple(rows.columns) == COLUMNS
    assert rows.drop(columns=["latent", "fate"]).isna().all(axis=None)


def test_a_profile_is_part_of_gating_and_its_interval_may_reach_a_twentieth():
    """Elsewhere by half: re-gated. Within the null: preserved, unless its interval is wide."""
    rng = np.random.default_rng(0)

    def measured(n, profile, high):
        found = _coordinates(_table(n, rng))
        columns = {"profile": profile, "profile_low": 0.0, "profile_high": high}
        replicates = {**found.replicates, "profile": np.tile(profile, (10, 1))}
        return replace(found, table=found.table.assign(**columns), replicates=replicates)

    drift = rng.uniform(0.005, 0.02, N_NULL)
    null = Null.of("drift", 1.0, measured(N_NULL, drift, drift))
    profile = np.full(20, 0.012)
    high = profile + 1e-3
    profile[0], high[0], high[1], high[2] = 0.5, 0.51, 0.045, 0.06
    found = measured(20, profile, high)
    for c, value in (("direction", 0.999), ("gain", 0.0), ("gating", 0.05), ("effect", 0.999)):
        found.table[c] = value
        found.table[f"{c}_low"], found.table[f"{c}_high"] = value - 1e-4, value + 1e-4
    fates = decide(found, null)["fate"].tolist()
    assert fates[0] == "re_gated"
    assert fates[1:3] == ["preserved", "undetermined"]
    assert fates[3:] == ["preserved"] * 17


@pytest.mark.parametrize(
    ("point", "fate"),
    [
        ({"gating": 0.03}, "preserved"),
        ({"gain": 0.04}, "preserved"),
        ({"direction": 0.995}, "preserved"),
        ({"gating": 0.3}, "re_gated"),
        ({"gain": 0.3, "kept": 1.4}, "amplified"),
        ({"direction": 0.8}, "rotated"),
    ],
)
def test_beside_a_null_that_did_not_move_trifles_are_no_change(point, fate):
    """The same weights run twice: any difference at all is beyond what their latents do."""
    rng = np.random.default_rng(0)
    still = {"direction": 1.0, "gain": 0.0, "gating": 0.0, "effect": 1.0, "kept": 1.0}
    null = Null.of("twice", 0.0, _coordinates(_table(N_NULL, rng).assign(**still, reach=0.0)))
    table = _table(20, rng).assign(**still, reach=1e-4)
    for column, value in point.items():
        table.loc[0, column] = value
    fates = decide(_coordinates(table), null, tuned="arm")
    assert fates.loc[0, "fate"] == fate
    assert (fates.loc[1:, "fate"] == "preserved").all()


def test_a_trifle_lends_its_significance_to_no_other_coordinate():
    """All latents gate a little more than the null's, and are else like them: none has changed."""
    rng = np.random.default_rng(0)

    def gated(low, high, n):
        return _table(n, rng).assign(gating=rng.uniform(low, high, n))

    null = Null.of("quiet", 1.0, _coordinates(gated(0.001, 0.006, N_NULL)))
    fates = decide(_coordinates(gated(0.02, 0.045, N_NULL)), null, tuned="arm")["fate"]
    assert set(fates) <= {"preserved", "undetermined"} and (fates == "preserved").mean() > 0.5


@pytest.mark.parametrize("louder", [0.113, 0.4])
def test_a_latent_that_stayed_where_all_others_grew_louder_is_no_trifle(louder):
    rng = np.random.default_rng(0)
    grown = _table(N_NULL, rng).assign(gain=rng.normal(louder, 0.01, N_NULL))
    null = Null.of("louder", 1.0, _coordinates(grown))
    table = _table(200, rng).assign(gain=rng.normal(louder, 0.01, 200))
    table.loc[:19, "gain"] = 0.0
    fates = decide(_coordinates(table), null, tuned="arm")["fate"]
    assert (fates[:20] == "suppressed").all()
    assert (fates[20:] == "preserved").mean() > 0.8
