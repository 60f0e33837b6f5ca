"""A planted pair is what its truth says, and the same for the same seed."""

import numpy as np
import pytest

from analysis.planted import Pairs, PairsConfig, activity
from analysis.planted.pairs import SIZES
from sae.errors import ConfigError

SMALL = PairsConfig(
    n_features=64, d_in=96, n_documents=40, document_length=50, l0=5.0, n_rare=12,
    n_personas=4, per_persona=2, n_changed=4, n_novel=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return Pairs(SMALL)


@pytest.fixture(scope="module")
def tuned(world):
    return world.tuned(0, drift=0.0)


def test_every_change_is_planted_as_often_as_asked(tuned):
    counts = tuned.truth["fate"].value_counts()
    assert {fate: counts[fate] for fate in SIZES} == dict.fromkeys(SIZES, SMALL.n_changed + 1)
    assert counts["re_encoded"] == counts["merged"] == SMALL.n_changed // 2
    assert counts["novel_in_span"] == counts["novel_out_of_span"] == SMALL.n_novel
    for fate, (low, high) in SIZES.items():
        sizes = tuned.truth.loc[tuned.truth["fate"] == fate, "size"].astype(float)
        assert sizes.between(low, high).all()
    rare = tuned.truth.loc[tuned.truth["is_rare"], "fate"]
    assert all((rare == fate).sum() == 1 for fate in SIZES)
    assert (tuned.truth.query("fate == 're_gated'")["persona"] >= 0).sum() >= SMALL.n_changed // 2


def test_what_has_no_fate_of_its_own_is_planted(world, tuned):
    """A feature that is re-encoded keeps its trigger alone; merged ones have one direction."""
    fate = tuned.truth["fate"]
    merged = np.flatnonzero(fate == "merged")
    assert np.array_equal(*tuned.rows[merged])
    assert tuned.rows[merged[0]] @ world.rows[merged[0]] > 0.5
    z = (tuned.x - np.median(tuned.x, axis=0)) @ np.linalg.pinv(np.delete(tuned.rows, merged[0], 0))
    for feature in np.flatnonzero(fate == "re_encoded"):
        assert abs(tuned.rows[feature] @ world.rows[feature]) < 0.4
        own = world.z[:, feature]
        column = feature - (feature > merged[0])
        assert np.corrcoef(z[:, column], own)[0, 1] > 0.9


def test_a_persona_s_feature_is_moved_to_another_persona(world, tuned):
    moved = tuned.truth.query("fate == 're_gated' and persona >= 0").nlargest(1, "size")
    feature, persona = int(moved.index[0]), int(moved["persona"].iloc[0])
    rng = np.random.default_rng(0)
    z = world.activity.moved(rng, world.z[:, [feature]], np.ones(1), np.array([feature]), 1)
    speaks = world.activity.speaks
    there = [float((z[speaks == (persona + k) % 4] > 0).mean()) for k in (0, 1)]
    assert there[1] > 2 * there[0]


def test_activity_changes_as_the_truth_says(world, tuned):
    z = (tuned.x - np.median(tuned.x, axis=0)) @ np.linalg.pinv(tuned.rows)
    away: dict[str, list[float]] = {}
    for feature, fate, size in tuned.truth[["feature", "fate", "size"]].iloc[:64].to_numpy():
        factor = {"lost": 0.0, "preserved": 1.0, "amplified": size, "suppressed": size}.get(fate)
        own = world.z[:, feature] * (world.z[:, feature] > 0)
        if not own.any():
            continue
        slope = (z[:, feature] * own).sum() / (own**2).sum()
        if factor is not None:
            away.setdefault(fate, []).append(slope - factor)
        if fate == "rotated":
            assert tuned.rows[feature] @ world.rows[feature] == pytest.approx(size, abs=1e-6)
        if fate == "re_gated":
            assert slope == pytest.approx(1 - size, abs=0.25)
    assert {fate: np.median(each) for fate, each in away.items()} == pytest.approx(
        dict.fromkeys(("preserved", "amplified", "suppressed", "lost"), 0.0), abs=0.1
    )


def test_novel_features_lie_where_they_should(world, tuned):
    own = world.rows[world.activity.persona[:64] >= 0]
    basis = np.linalg.qr(own.T)[0]
    inside = np.linalg.norm(tuned.rows[64:] @ basis, axis=1)
    assert inside[: SMALL.n_novel] == pytest.approx(1, abs=0.2)
    assert inside[SMALL.n_novel :] == pytest.approx(0, abs=1e-6)


def test_personas_fire_more_where_they_speak(world):
    for feature in np.flatnonzero(world.activity.persona >= 0):
        mine = world.activity.speaks == world.activity.persona[feature]
        fires = world.z[:, feature] > 0
        assert fires[mine].mean() > 2 * fires[~mine].mean()


def test_the_same_seed_gives_the_same_bits_and_another_others(world, tuned):
    again = Pairs(SMALL).tuned(0, drift=0.0)
    assert np.array_equal(again.x, tuned.x)
    assert not np.array_equal(world.tuned(1, drift=0.0).x, tuned.x)
    moved = [np.linalg.norm(world.drifted(1, d).x - world.base().x) for d in (0.5, 1.0, 2.0)]
    assert moved[0] < moved[1] < moved[2]


def test_more_changes_than_features_are_refused():
    with pytest.raises(ConfigError, match="plant fewer"):
        Pairs(PairsConfig(n_features=60))


def test_parts_draw_what_all_tokens_at_once_do(world, tuned, monkeypatch):
    monkeypatch.setattr(activity, "PART", 700)
    again = Pairs(SMALL)
    assert np.array_equal(again.z, world.z)
    assert np.array_equal(again.tuned(0, drift=0.0).x, tuned.x)
    assert np.array_equal(again.drifted(1).x, world.drifted(1).x)
