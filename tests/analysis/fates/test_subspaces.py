"""Unstable latents are told by what both models have where they point, whoever writes it."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from analysis.fates.subspaces import _one_more, judge_subspace, told
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


def model(bench, by=SAME, noise=0.05, seed=1, shift=0.0):
    """What a model has: the base's vectors turned or scaled, and noise."""
    drawn = np.random.default_rng(seed).normal(size=bench.x.shape)
    return (bench.x @ by + noise * drawn + shift).astype(np.float32)


def drifted(bench, n=3, noise=0.05):
    return [model(bench, noise=noise, seed=100 + i) for i in range(n)]


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
    found = judge_subspace(bench, continued, UNSTABLE, model(bench, by, noise), drifted(bench))
    assert (found.n_latents, found.rank, found.fate) == (2, 2, fate)


def test_numbers_by_hand(base):
    """Twice as much in one of two directions: cosine (1 + 2) / sqrt(2 * 5), gain log(5 / 2) / 2."""
    bench, continued = base
    twice = model(bench, scaled(2), 0.0)
    same = model(bench, noise=0.0)
    found = judge_subspace(bench, continued, UNSTABLE, twice, [same, same])
    assert found.agreement.value == pytest.approx(3 / 10**0.5, abs=0.01)
    assert found.gain.value == pytest.approx(np.log(2.5) / 2, abs=0.05)
    assert (found.least_agreement, found.most_gain) == pytest.approx((1, 0), abs=1e-6)
    for each in (found.agreement, found.gain):
        assert each.low < each.value < each.high


def test_of_a_few_nulls_one_more_has_students_range(base):
    """Of gains g the root mean square times t with as many degrees of freedom, and one more."""
    bench, continued = base
    nulls = [model(bench, scaled(by, by), 0.0) for by in (1.1, 0.95, 1.05)]
    found = judge_subspace(bench, continued, UNSTABLE, model(bench), nulls)
    gains = np.log([1.1, 0.95, 1.05])
    t = stats.t.ppf(0.9875, 3)
    moves = [x - bench.x for x in (model(bench), *nulls)]
    far, *each = (np.linalg.norm(move - move.mean(axis=0)) for move in moves)
    by = far / np.array(each)
    expected = t * np.mean((np.maximum(by, 1) * gains) ** 2) ** 0.5
    assert found.most_gain == pytest.approx(expected, rel=0.01)


def test_one_more_null_lies_beyond_as_often_as_said(base):
    """Of 2,000 drawn like those that set the range; a third of them lies beyond two draws."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 6):
        drawn, gains = rng.lognormal(-3, 0.4, size=(2000, n + 1)), rng.normal(size=(2000, n + 1))
        ends = [_one_more(m[1:], g[1:]) for m, g in zip(drawn, gains, strict=True)]
        least, most = np.array(ends).T
        assert np.mean(1 - drawn[:, 0] < least) == pytest.approx(0.025, abs=0.01)
        assert np.mean(np.abs(gains[:, 0]) > most) == pytest.approx(0.025, abs=0.01)


def test_a_null_that_moved_half_as_far_is_stretched(base):
    """Four times what it lacks of agreement, twice its gain, as soon as the model moved twice."""
    bench, continued = base
    nulls, one = [model(bench, noise=0.1, seed=i) for i in (5, 6)], model(bench, noise=0.1)
    near = judge_subspace(bench, continued, UNSTABLE, one, nulls)
    far = judge_subspace(bench, continued, UNSTABLE, model(bench, noise=0.2), nulls)
    assert 1 - far.least_agreement == pytest.approx(4 * (1 - near.least_agreement), rel=0.02)
    assert far.most_gain == pytest.approx(2 * near.most_gain, rel=0.02)
    less = model(bench, noise=0.02)
    assert judge_subspace(bench, continued, UNSTABLE, less, nulls).most_gain < 1.02 * near.most_gain


def test_a_constant_shift_stretches_no_null(base):
    """A subspace turned by 45 degrees stays changed, however large a constant is beside it."""
    bench, continued = base
    turned = np.eye(D)
    turned[0, [0, 7]] = turned[1, [1, 8]] = (0.5**0.5, 0.5**0.5)
    for shift in (0.0, 5.0):
        one = model(bench, turned, shift=shift)
        found = judge_subspace(bench, continued, UNSTABLE, one, drifted(bench, noise=0.2))
        assert found.fate == "changed"


def test_however_wide_the_null_half_of_a_subspace_is_not_preserved():
    assert told((0.65, 0.6, 0.68), (0.0, -0.1, 0.1), (-0.5, 2.0)) == "undetermined"
    assert told((0.9, 0.8, 0.95), (0.6, 0.5, 0.75), (-0.5, 2.0)) == "undetermined"


def test_nothing_is_said_of_one_latent_without_a_null_or_where_none_fires(base):
    bench, continued = base
    one, *nulls = drifted(bench)
    silent = Firing(sparse.csr_array((TOKENS, D)), continued.rows)
    assert judge_subspace(bench, continued, UNSTABLE[:1], one, nulls) is None
    assert judge_subspace(bench, continued, UNSTABLE, one, []) is None
    assert judge_subspace(bench, silent, UNSTABLE, one, nulls) is None


def test_a_null_that_cannot_be_measured_calls_nothing_changed(base):
    bench, continued = base
    gone = model(bench, 0 * SAME, 0.0)  # nothing there at all
    found = judge_subspace(bench, continued, UNSTABLE, model(bench, scaled(2, 2)), [gone, gone])
    assert np.isnan(found.least_agreement) and found.fate == "undetermined"


def test_one_null_is_no_range(base):
    bench, continued = base
    found = judge_subspace(bench, continued, UNSTABLE, model(bench, OTHER), drifted(bench, 1))
    assert np.isnan(found.least_agreement) and found.fate == "undetermined"


def test_between_the_two_it_is_undetermined():
    assert told((0.9, 0.7, 0.95), (0.0, -0.1, 0.1), (0.8, 0.2)) == "undetermined"
    assert told((0.9, 0.85, 0.95), (0.2, 0.1, 0.3), (0.8, 0.2)) == "undetermined"
    assert told((0.9, 0.85, 0.95), (-0.3, -0.4, -0.25), (0.8, 0.2)) == "changed"


def test_drift_alone_changes_no_subspace_more_often_than_asked(base):
    bench, continued = base
    fates = [
        judge_subspace(bench, continued, UNSTABLE, model(bench, seed=k), drifted(bench, 2)).fate
        for k in range(20)
    ]
    assert fates.count("changed") <= 1
