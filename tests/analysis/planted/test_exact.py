"""The whole way from activations to fates, in worlds where the fates are known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.artefact.names import COLUMNS
from analysis.fates.decide import Rule, decide
from analysis.fates.error_rates import error_rates
from analysis.fates.nulls import Null
from analysis.latents.coordinates import COORDINATES, measure
from analysis.latents.pairs import Pair
from analysis.latents.readings import reading
from analysis.latents.traces import firing
from analysis.planted import PLANTABLE, World, WorldConfig
from analysis.statistics.intervals import assign_blocks, resample_weights
from sae.errors import ConfigError, InputError

N = WorldConfig().n_features
CHANGES = {i * 7: PLANTABLE[i % len(PLANTABLE)] for i in range(30)}


def _fired(model, blocks):
    found = firing(model.sae, model.x.split(4096), blocks)
    return dataclasses.replace(found, reading=reading(model.sae, model.x.numpy()))


def _measured(world, models):
    blocks = assign_blocks(world.doc)
    weights = resample_weights(blocks.n_blocks, 400)
    base, *others = [_fired(m, blocks) for m in (world.base(), *models)]
    n = world.config.n_features
    return [measure(Pair(base, each, n), blocks, weights) for each in others]


@pytest.fixture(scope="module")
def adequate():
    world = World()
    models = [world.tuned(1), world.tuned(2), world.tuned(3, CHANGES)]
    return dict(zip(("null", "held", "arm"), _measured(world, models), strict=True))


@pytest.fixture(scope="module")
def null(adequate):
    return Null.of("null", 1.0, adequate["null"])


@pytest.fixture(scope="module")
def fates(adequate, null):
    return decide(adequate["arm"], null, tuned="arm").set_index("latent")


@pytest.mark.parametrize("change", PLANTABLE)
def test_planted_fates_come_out(fates, change):
    planted = [latent for latent, each in CHANGES.items() if each == change]
    found = fates.loc[planted, "fate"]
    assert set(found) <= {change, "undetermined"}
    assert (found == change).mean() >= 0.6


def test_unchanged_latents_are_not_called_changed(fates):
    rest = fates.drop(index=list(CHANGES))
    assert (~rest["fate"].isin(["preserved", "undetermined"])).mean() <= 0.05
    assert (rest["fate"] == "preserved").mean() >= 0.75


def test_a_held_back_null_is_preserved_and_not_called_changed(adequate, null):
    rates = error_rates(decide(adequate["held"], null)).set_index(["family", "call"])["share"]
    assert rates[("all", "changed")] <= 0.05
    assert rates[("all", "preserved")] >= 0.8


def test_the_null_called_on_itself_has_no_changes(adequate, null):
    found = decide(adequate["null"], null)
    assert found["fate"].isin(["preserved", "undetermined"]).all()


def test_measured_coordinates_are_the_planted_ones(adequate):
    table = adequate["arm"].table
    of = {c: table.loc[[i for i, e in CHANGES.items() if e == c]] for c in PLANTABLE}
    assert of["rotated"]["direction"].mean() == pytest.approx(0.6, abs=0.1)
    assert of["amplified"]["gain"].between(0.6, 1.05).all()
    assert of["suppressed"]["gain"].between(-1.0, -0.5).all()
    assert of["re_gated"]["gating"].mean() == pytest.approx(0.5, abs=0.1)
    assert (of["lost"]["gating"] > 0.99).all()
    assert (of["lost"]["rate_ratio"] == 0).all()
    assert of["lost"]["kept"].max() < 0.05


def test_intervals_hold_their_estimates(adequate):
    for coordinates in adequate.values():
        table = coordinates.table
        for c in COORDINATES:
            seen = table[table[c].notna() & table[f"{c}_low"].notna()]
            assert (seen[f"{c}_low"] <= seen[c]).all()
            assert (seen[c] <= seen[f"{c}_high"]).all()


def test_persona_latents_are_a_family_of_their_own(adequate, null):
    chosen = [0, 7, 14, 21, 28, 1, 2, 3]
    personas = pd.DataFrame(
        {"persona": "p", "latent": chosen + [5], "auroc": 0.8, "confirmed": [True] * 8 + [False]}
    )
    found = decide(adequate["arm"], null, personas, "arm")
    assert found.loc[found["persona"].notna(), "latent"].tolist() == sorted(chosen)
    apart = decide(adequate["arm"], null, None, "arm")
    both = found["q_value"].notna() & (found["latent"].isin(chosen))
    assert (found.loc[both, "q_value"] <= apart.loc[both, "q_value"] + 1e-12).all()
    assert (found.loc[both, "q_value"] < apart.loc[both, "q_value"]).any()  # of fewer tests


def test_columns_are_those_promised_and_unmeasured_ones_are_null(fates):
    assert list(fates.reset_index().columns.sort_values()) == sorted(COLUMNS)
    unmeasured = ["effect", "existence", "effect_low", "existence_high", "nu_error"]
    assert fates[unmeasured].isna().all(axis=None)
    called = fates["fate"] != "undetermined"
    assert fates.loc[called, "confidence"].between(0.3, 1).all()
    assert fates.loc[~called, "reason"].notna().all()
    assert fates.loc[called, "reason"].isna().all()


def test_without_a_null_that_moved_as_far_nothing_is_called(adequate):
    found = decide(adequate["arm"], None)
    assert (found["fate"] == "undetermined").all()
    assert set(found["reason"]) == {"no null moved as far"}


def test_little_data_is_undetermined_and_not_a_call():
    world = World(WorldConfig(n_documents=10, document_length=60, n_features=120, d_in=180))
    null, arm = _measured(world, [world.tuned(1), world.tuned(2, {0: "rotated"})])
    calibration = Null.of("null", 1.0, null, min_firings=5)
    found = decide(arm, calibration)
    rare = found["n_fires"] < Rule().min_firings
    assert (found.loc[rare, "reason"] == "too few firings").all()
    assert (found["fate"] == "preserved").mean() < 0.3
    assert (~found["fate"].isin(["preserved", "undetermined"])).sum() <= 2


def test_preservation_is_not_won_by_a_wild_null():
    """Where the null itself rotates features away, nothing can be called preserved for it."""
    world = World(WorldConfig(turn=2.0, n_documents=60))
    null, arm = _measured(world, [world.tuned(1), world.tuned(2)])
    found = decide(arm, Null.of("wild", 1.0, null))
    turned = arm.table["direction"] < Rule().min_direction
    assert turned.mean() > 0.5
    assert not (found["fate"][turned] == "preserved").any()


def test_preservation_is_not_won_by_abstaining(adequate, null):
    """Wider intervals, as fewer documents would give, can only lose preserved calls."""
    arm = adequate["held"]
    before = (decide(arm, null)["fate"] == "preserved").sum()
    for c in COORDINATES:
        table = arm.table.copy()
        table[f"{c}_low"] -= 1
        table[f"{c}_high"] += 1
        wide = dataclasses.replace(arm, table=table)
        assert (decide(wide, null)["fate"] == "preserved").sum() == 0
        blank = arm.table.assign(**{f"{c}_low": np.nan})
        unknown = dataclasses.replace(arm, table=blank)
        assert (decide(unknown, null)["fate"] == "preserved").sum() == 0
    assert before > 0


def test_a_base_latent_found_at_another_index_is_not_lost(null):
    """Two features change places in the tuned dictionary: carried elsewhere, not lost or turned."""
    world = World()
    model = world.tuned(4)
    rows = model.sae.W_dec.detach().numpy().copy()
    encoder = model.sae.W_enc.detach().numpy().copy()
    model.sae.W_dec.data[[10, 11]] = model.sae.W_dec.data[[11, 10]]
    model.sae.W_enc.data[:, [10, 11]] = model.sae.W_enc.data[:, [11, 10]]
    assert not np.allclose(rows, model.sae.W_dec.detach().numpy()) and encoder.shape
    found = decide(_measured(world, [model])[0], null)
    assert set(found.loc[[10, 11], "fate"]) == {"undetermined"}


def test_what_cannot_be_planted_or_measured_is_refused(adequate):
    world = World(WorldConfig(n_features=20, d_in=30, n_documents=8, document_length=5))
    with pytest.raises(ConfigError, match="no such change"):
        world.tuned(1, {0: "promoted"})
    blocks = assign_blocks(world.doc)
    model = world.base()
    bare = firing(model.sae, [model.x])
    with pytest.raises(InputError, match="same blocks"):
        measure(Pair(bare, bare, 20), blocks)
    with pytest.raises(InputError, match="has an interval and that fire 64 times"):
        few = dataclasses.replace(adequate["null"], table=adequate["null"].table.head(5))
        Null.of("few", 1.0, few)
