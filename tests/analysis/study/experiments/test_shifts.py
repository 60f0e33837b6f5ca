"""Two shifts beside each other, by hand and where nothing is to be found."""

import numpy as np
import pytest

from analysis.personas.contrasts import Span
from analysis.personas.span import random_subspaces
from analysis.statistics.intervals import Blocks, resample_weights
from analysis.study.experiments.shifts import alike, left_over

D = 8
BLOCKS = Blocks(np.arange(160) % 16, 16)
WEIGHTS = resample_weights(16, n=400)


def span(rank=2, n=200):
    return Span(np.eye(D)[:rank], random_subspaces(np.eye(D), rank, n))


def rows(rng, mean, noise=0.1):
    return np.asarray(mean, float) + noise * rng.normal(size=(160, D))


def test_a_cosine_is_of_the_means_inside_the_span_alone():
    """(3, 4) and (4, 3) have cosine .96, whatever the six other dimensions hold."""
    rng = np.random.default_rng(0)
    one = rows(rng, [3, 4, 9, 0, 0, 0, 0, 0])
    other = rows(rng, [4, 3, -9, 0, 0, 0, 0, 0])
    found = alike((one, BLOCKS), (other, BLOCKS), span(), WEIGHTS)
    assert found.value == pytest.approx(0.96, abs=0.01)
    assert found.low < 0.96 < found.high < 1
    assert found.high - found.low < 0.05
    assert -1 <= found.null_low < found.null_high <= 1
    assert found.null_low < -0.5  # most of either lies outside, where they are opposed


def test_shifts_on_other_tokens_are_compared_by_their_documents():
    rng = np.random.default_rng(1)
    few = Blocks(np.repeat(np.arange(8), 5), 16)
    one = rows(rng, [1, 0, 0, 0, 0, 0, 0, 0])[:40]
    found = alike((one, few), (rows(rng, [1, 0, 0, 0, 0, 0, 0, 0]), BLOCKS), span(), WEIGHTS)
    assert found.value == pytest.approx(1, abs=0.01)


def left(before, after, other):
    return left_over(before, after, other, span(), (BLOCKS, WEIGHTS))


def test_what_is_left_is_told_inside_and_outside():
    """A fifth of what lay inside is left and nine tenths of the rest: .7."""
    rng = np.random.default_rng(2)
    before = rows(rng, np.ones(D), noise=1.0)
    after = before * np.array([0.2, 0.2, *[0.9] * 6])
    found = left(before, after, before)
    assert found.value == pytest.approx(0.7, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((0.7, 0.7), abs=1e-9)
    assert found.null_high < 0.7
    noisy = left(before, after, before + rng.normal(size=before.shape))
    assert noisy.value == pytest.approx(0.7, abs=0.15)


def test_noise_of_its_own_does_not_count_as_left():
    """Unlike energy: what is new after tuning back has nothing to do with the shift before."""
    rng = np.random.default_rng(3)
    before = rows(rng, np.ones(D), noise=1.0)
    after = 0.5 * before + rng.normal(size=before.shape) * np.array([3, 3, *[0] * 6])
    found = left(before, after, before)
    assert found.low < 0 < found.high


def test_noise_that_both_shifts_share_does_not_count_as_left():
    """Of a signal, strong inside alone, .3 is left everywhere; the model subtracted is noisy."""
    rng = np.random.default_rng(5)
    strength = np.array([2.0, 2.0, *[0.3] * 6])
    signal, shared = (rng.normal(size=(160, D)) for _ in range(2))
    signal = signal * strength
    before, after = signal - shared, 0.3 * signal - shared
    other = signal + 0.3 * rng.normal(size=signal.shape)
    assert left(before, after, before).low > 0.2  # a plain regression is fooled
    found = left(before, after, other)
    assert found.low < 0 < found.high


def test_where_all_goes_alike_the_null_holds_what_is_found():
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(20):
        before = rows(rng, np.zeros(D), noise=1.0)
        after = 0.5 * before + 0.3 * rng.normal(size=before.shape)
        found = left(before, after, before)
        inside += found.null_low <= found.value <= found.null_high
    assert inside >= 16
