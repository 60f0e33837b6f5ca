"""Every fate that can be emitted is emitted where it was planted, and each has one meaning."""

import numpy as np
import pandas as pd
import pytest

from analysis.coordinates import Coordinates
from analysis.fates import decide
from analysis.names import COLUMNS, EMITTED, FATES, REPURPOSED, fate_rows
from analysis.nulls import Null

N_NULL = 1200
POINTS = {
    "preserved": {},
    "amplified": {"gain": 0.9, "gating": 0.4, "rate_ratio": 1.5},
    "suppressed": {"gain": -0.9},
    "re_gated": {"gating": 0.6, "gating_matched": 0.55},
    "rotated": {"direction": 0.5},
    "lost": {"gating": 1.0, "rate_ratio": 0.0, "rate_ratio_high": 0.01, "n_fires_tuned": 0},
    "undetermined": {"n_fires_base": 10},
}


def _table(n, rng):
    table = pd.DataFrame({"latent": np.arange(n), "n_fires_base": 500, "n_fires_tuned": 500})
    table["fire_rate"] = 0.05
    table["direction"] = np.cos(np.abs(rng.normal(0, 0.05, n)))
    table["gain"] = rng.normal(0, 0.05, n)
    table["gating"] = rng.uniform(0.02, 0.08, n)
    table["gating_matched"], table["rate_ratio"] = table["gating"] / 2, 1.0
    table["rate_ratio_high"], table["chance_cofiring"], table["chance_cosine"] = 1.2, 0.1, 0.3
    return table


def _coordinates(table):
    n = len(table)
    for c in ("direction", "gain", "gating"):
        table[f"{c}_low"], table[f"{c}_high"] = table[c] - 1e-4, table[c] + 1e-4
    names = ("direction", "gain", "gating", "gating_matched", "rate_ratio")
    replicates = {c: np.tile(table[c].to_numpy(float), (10, 1)) for c in names}
    apart = np.eye(n, dtype=np.float32)
    return Coordinates(table, replicates, apart, apart, table["n_fires_tuned"].to_numpy())


def _decided(point):
    rng = np.random.default_rng(0)
    null = Null.of("drift", 1.0, _coordinates(_table(N_NULL, rng)))
    middle = {"direction": 0.999, "gain": 0.0, "gating": 0.05, "gating_matched": 0.02}
    table = _table(20, rng)
    for column, value in {**middle, **point}.items():
        table[column] = table[column].astype(float)
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
    if fate == "undetermined":
        assert row["reason"] == "too few firings"
        assert np.isnan(row["confidence"])
    else:
        assert row["confidence"] == 1
        assert row["reason"] is None
        assert (row["q_value"] <= 0.05) == (fate != "preserved")


CONTESTED = {
    "gating that gain explains is gain": (POINTS["amplified"], "amplified"),
    "gating that gain does not explain is gating": (
        {"gain": 0.9, "gating": 0.6, "gating_matched": 0.5},
        "re_gated",
    ),
    "more firings at equal strength is gating": (
        {"gating": 0.4, "gating_matched": 0.02, "rate_ratio": 2.0},
        "re_gated",
    ),
    "turned and gated, yet recognisable, is rotated": (
        {"direction": 0.5, "gating": 0.6, "gating_matched": 0.6},
        "rotated",
    ),
    "turned beyond recognition is no fate": ({"direction": 0.2}, "undetermined"),
    "turned and firing elsewhere is no fate": (
        {"direction": 0.5, "gating": 0.95, "gating_matched": 0.95},
        "undetermined",
    ),
    "rarer, not surely lost": (
        {**POINTS["lost"], "rate_ratio": 0.05, "rate_ratio_high": 0.2},
        "undetermined",
    ),
    "few tuned firings": ({"n_fires_tuned": 12, "rate_ratio": 0.3}, "undetermined"),
}


@pytest.mark.parametrize("case", CONTESTED)
def test_contested_points(case):
    point, fate = CONTESTED[case]
    assert _decided(point)["fate"] == fate


def test_rows_have_the_promised_columns_and_nothing_invented():
    rows = fate_rows(pd.DataFrame({"latent": [3], "fate": ["novel_in_span"]}))
    assert tuple(rows.columns) == COLUMNS
    assert rows.drop(columns=["latent", "fate"]).isna().all(axis=None)
