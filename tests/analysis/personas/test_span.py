import numpy as np
import pytest
from scipy import stats

from analysis.personas.span import (
    contrast_span,
    covariance_within_tokens,
    null_shares,
    paired_span_difference,
    persona_span,
    random_subspaces,
    row_shares,
    span_share,
)
from analysis.statistics.intervals import assign_blocks
from sae.errors import InputError

D = 40


@pytest.fixture(scope="module")
def blocks():
    return assign_blocks(np.repeat(np.arange(100), 20))


def test_rank_is_the_smallest_that_holds_the_energy():
    rows = np.repeat(np.eye(3, D), [9, 9, 2], axis=0)
    assert persona_span(rows).shape == (2, D)
    assert persona_span(rows, energy=0.91).shape == (3, D)
    assert persona_span(7.0 * rows[:1]).shape == (1, D)
    basis = persona_span(np.random.default_rng(0).normal(size=(5, D)))
    assert np.allclose(basis @ basis.T, np.eye(len(basis)))
    with pytest.raises(InputError, match="1 rows, 1 of them zero"):
        persona_span(np.zeros((1, D)))


def test_share_by_hand_and_the_constant_apart(blocks):
    rng = np.random.default_rng(0)
    shift = np.zeros((2000, D))
    shift[:, 0], shift[:, 1] = rng.choice([-2.0, 2.0], 2000), rng.choice([-1.0, 1.0], 2000)
    shift -= shift.mean(axis=0)
    basis, null = np.eye(1, D), random_subspaces(np.eye(D), 1)
    plain = span_share(shift, basis, blocks, null)
    assert plain.share.value == pytest.approx(0.8, abs=0.002)
    assert plain.share.low <= plain.share.value <= plain.share.high
    offset = shift + 3 * np.eye(D)[5]
    moved = span_share(offset, basis, blocks, null)
    assert moved.share.value == pytest.approx(plain.share.value)


def test_random_subspaces_hold_their_rank_of_white_noise(blocks):
    shift = np.random.default_rng(1).normal(size=(2000, D))
    found = span_share(shift, np.eye(4, D), blocks, random_subspaces(np.eye(D), 4))
    assert np.mean(found.null) == pytest.approx(4 / D, abs=0.01)
    assert found.p_value > 0.01


def test_a_random_span_is_not_significant_though_shifts_are_low_rank(blocks):
    """Shifts and spans both lie where residuals lie; only the matched null knows."""
    rng = np.random.default_rng(2)
    scale = 1 / np.arange(1, D + 1)
    covariance = np.diag(scale**2)
    p_matched, p_white = [], []
    for seed in range(60):
        shift = rng.normal(size=(2000, D)) * scale
        basis = random_subspaces(covariance, 3, 1, seed=1000 + seed)[0]
        for p, null in (
            (p_matched, random_subspaces(covariance, 3, seed=seed)),
            (p_white, random_subspaces(np.eye(D), 3, seed=seed)),
        ):
            p.append(span_share(shift, basis, blocks, null).p_value)
    assert stats.kstest(p_matched, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_white) <= 0.05) > 0.8


def test_planted_shift_in_span_is_found_and_arms_differ(blocks):
    rng = np.random.default_rng(3)
    basis, null = np.eye(3, D), random_subspaces(np.eye(D), 3)
    inside = rng.normal(size=(2000, 3)) @ basis + 0.1 * rng.normal(size=(2000, D))
    outside = 0.5 * rng.normal(size=(2000, D))
    assert span_share(inside, basis, blocks, null).p_value <= 1 / 100
    for each in (None, null):
        difference, random = paired_span_difference(inside, outside, basis, blocks, each)
        assert difference.low > 0.5
        same, none = paired_span_difference(inside, inside, basis, blocks, each)
        assert same.value == 0 and same.low == 0 and same.high == 0
        assert (random, none) == (None, None) if each is None else none == (0, 0)


def test_null_means_are_those_of_the_subspaces(blocks):
    rng = np.random.default_rng(4)
    basis, null = np.eye(2, D), random_subspaces(np.eye(D), 2, 30)
    first, second = rng.normal(size=(2000, D)), rng.normal(size=(2000, D)) * np.arange(D)
    by_hand = [span_share(s, basis, blocks, null) for s in (first, second)]
    means = [null_shares(s, null).mean() for s in (first, second)]
    expected = [each.share.value - mean for each, mean in zip(by_hand, means, strict=True)]
    found, random = paired_span_difference(first, second, basis, blocks, null)
    assert found.value == pytest.approx(expected[0] - expected[1])
    each = [
        span_share(first, one, blocks, null).share.value
        - span_share(second, one, blocks, null).share.value
        for one in null
    ]
    assert random == pytest.approx(np.quantile(each - np.mean(each), [0.025, 0.975]))


def test_contrast_span_ignores_words_and_finds_personas():
    rng = np.random.default_rng(5)
    persona = rng.integers(0, 3, 6000)
    word = np.where(rng.random(6000) < 0.6, persona, rng.integers(0, 3, 6000))
    x = 5 * np.eye(D)[10 + word] + np.eye(D)[persona] + 0.1 * rng.normal(size=(6000, D))
    basis = contrast_span(x, persona.astype(str), word)
    assert basis.shape == (2, D)
    assert (basis[:, :3] ** 2).sum() == pytest.approx(2, abs=0.05)
    with pytest.raises(InputError, match="two or more"):
        contrast_span(x, np.full(6000, "one"), word)


def test_covariance_is_within_words():
    x = np.array([[1.0, 0], [3, 0], [100, 7]])
    assert np.allclose(covariance_within_tokens(x, np.array([4, 4, 9])), [[2 / 3, 0], [0, 0]])


def test_row_shares_and_mistakes(blocks):
    null = random_subspaces(np.eye(D), 2, 99)
    share, p_value = row_shares(np.array([np.eye(D)[0] * 3, np.eye(D)[9]]), np.eye(2, D), null)
    assert share.tolist() == [1, 0]
    assert p_value.tolist() == [0.01, 1]
    with pytest.raises(InputError, match="rank"):
        span_share(np.ones((2000, D)), np.eye(3, D), blocks, null)
    for constant in (1.0, 0.1):  # of the second the mean is not exact
        with pytest.raises(InputError, match="does not vary"):
            span_share(np.full((2000, D), constant), np.eye(2, D), blocks, null)
