"""Unstable latents are told by what both models have where they point, whoever writes it."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from analysis.fates.subspaces import judge_subspace, told
from analysis.latents.bench import lay_vectors
from analysis.latents.traces import Firing

TOKENS, D = 3000, 10
UNSTABLE = np.array([0, 1])
SAME = np.eye(D)


@pytest.fixture(scope="module")
def base():
    rng = np.random.default_rng(0)
    z = rng.exponential(size=(TOKENS, D)) * (rng.random((TOKENS, D)) < 0.2)
    table = pd.DataFrame({"doc": np.arange(TOKENS) // 30, "is_special": False, "role": "narrator"})
    table["persona"], table["context"], table["split"] = None, "story", "confirm"
    bench = lay_vectors(table, z.astype(np.float32), np.zeros(TOKENS, bool))
    return bench, Firing(sparse.csr_array(z.astype(np.float32)), np.eye(D, dtype=np.float32))


def model(bench, by=SAME, noise=0.05, seed=1, size=1.0):
    """What a model has: the base's vectors turned or scaled, and noise."""
    drawn = np.random.default_rng(seed).normal(size=bench.x.shape)
    x = bench.x @ by + noise * drawn
    return x.astype(np.float32), size


def scaled(*factors):
    by = np.eye(D)
    by[range(len(factors)), range(len(factors))] = factors
    return by


OTHER = np.eye(D)
OTHER[[0, 7]] = OTHER[[7, 0]]  # one direction of the subspace carries what another did


@pytest.mark.parametrize(
    ("by", "noise", "fate"),
    [
        (SAME, 0.03, "preserved"),
        (scaled(1, 1, 3, 0), 0.03, "preserved"),  # what lies outside does not matter
        (scaled(2, 2), 0.05, "changed"),
        (scaled(0.4, 0.4), 0.05, "changed"),
        (OTHER, 0.05, "changed"),
    ],
)
def test_what_became_of_a_subspace(base, by, noise, fate):
    bench, continued = base
    found = judge_subspace(bench, continued, UNSTABLE, model(bench, by, noise), [model(bench)])
    assert (found.n_latents, found.rank, found.fate) == (2, 2, fate)


def test_numbers_by_hand(base):
    """Twice as much in one of two directions: cosine (1 + 2) / sqrt(2 * 5), gain log(5 / 2) / 2."""
    bench, continued = base
    twice = model(bench, scaled(2), 0.0)
    found = judge_subspace(bench, continued, UNSTABLE, twice, [model(bench, noise=0.0)])
    assert found.agreement.value == pytest.approx(3 / 10**0.5, abs=0.01)
    assert found.gain.value == pytest.approx(np.log(2.5) / 2, abs=0.05)
    assert (found.least_agreement, found.most_gain) == pytest.approx((1, 0), abs=1e-6)
    for each in (found.agreement, found.gain):
        assert each.low < each.value < each.high


def test_a_null_that_moved_half_as_far_is_stretched(base):
    """Four times what it lacks of agreement, twice its gain."""
    bench, continued = base
    null = model(bench, scaled(1.1, 1.1), 0.1)
    near = judge_subspace(bench, continued, UNSTABLE, model(bench), [null])
    far = judge_subspace(bench, continued, UNSTABLE, model(bench, size=2.0), [null])
    assert 1 - far.least_agreement == pytest.approx(4 * (1 - near.least_agreement))
    assert far.most_gain == pytest.approx(2 * near.most_gain)
    less = model(bench, scaled(1.1, 1.1), 0.1, size=5.0)
    assert judge_subspace(bench, continued, UNSTABLE, model(bench), [less]) == near


def test_nothing_is_said_of_one_latent_without_a_null_or_where_none_fires(base):
    bench, continued = base
    one, silent = model(bench), Firing(sparse.csr_array((TOKENS, D)), continued.rows)
    assert judge_subspace(bench, continued, UNSTABLE[:1], one, [one]) is None
    assert judge_subspace(bench, continued, UNSTABLE, one, []) is None
    assert judge_subspace(bench, silent, UNSTABLE, one, [one]) is None


def test_a_null_that_cannot_be_measured_calls_nothing_changed(base):
    bench, continued = base
    gone = model(bench, 0 * SAME, 0.0)  # nothing there at all
    found = judge_subspace(bench, continued, UNSTABLE, model(bench, scaled(2, 2)), [gone])
    assert np.isnan(found.least_agreement) and found.fate == "undetermined"


def test_between_the_two_it_is_undetermined():
    assert told((0.9, 0.7, 0.95), (0.0, -0.1, 0.1), (0.8, 0.2)) == "undetermined"
    assert told((0.9, 0.85, 0.95), (0.2, 0.1, 0.3), (0.8, 0.2)) == "undetermined"
    assert told((0.9, 0.85, 0.95), (-0.3, -0.4, -0.25), (0.8, 0.2)) == "changed"


def test_drift_alone_changes_no_subspace_more_often_than_asked(base):
    bench, continued = base
    fates = [
        judge_subspace(
            bench, continued, UNSTABLE, model(bench, seed=2 * k), [model(bench, seed=2 * k + 1)]
        ).fate
        for k in range(20)
    ]
    assert fates.count("changed") <= 1
