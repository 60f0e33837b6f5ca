import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.intervals import (
    Interval,
    assign_blocks,
    bounds,
    false_discovery,
    interval,
    ratio_interval,
    resample_weights,
    share_interval,
)
from sae.errors import ConfigError


@given(st.integers(8, 200), st.integers(2, 64), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_document_is_never_divided_and_blocks_are_even(n_documents, n_blocks, seed):
    documents = np.repeat(np.arange(n_documents), 3)
    blocks = assign_blocks(documents, n_blocks, seed)
    assert blocks.n_blocks == min(n_blocks, n_documents)
    assert (blocks.of_token.reshape(-1, 3) == blocks.of_token[::3, None]).all()
    sizes = blocks.sums(np.ones(len(documents)))
    assert sizes.max() - sizes.min() <= 3
    assert sizes.sum() == len(documents)


def test_few_documents_are_not_measurable():
    with pytest.raises(ConfigError, match="at least 8 documents"):
        assign_blocks(np.arange(7))


def test_indicator_and_sums_are_the_same_sum():
    blocks = assign_blocks(np.arange(20), 8, 1)
    values = np.random.default_rng(0).normal(size=(20, 3))
    assert np.allclose(blocks.indicator() @ values, blocks.sums(values))
    keep = np.arange(20) % 2 == 0
    assert np.allclose(blocks.select(keep).sums(values[keep]), blocks.sums(values * keep[:, None]))


def _clustered(rng, n_documents):
    """A rate with strong document effects: tokens of a document agree."""
    n = rng.integers(5, 60, n_documents)
    rate = rng.beta(1, 3, n_documents)
    return rng.binomial(n, rate).astype(float), n.astype(float)


@pytest.mark.parametrize("n_documents", [12, 64, 300])
def test_intervals_cover_clustered_documents(n_documents):
    rng = np.random.default_rng(n_documents)
    n_worlds, hits = 400, 0
    for world in range(n_worlds):
        top, bottom = _clustered(rng, n_documents)
        blocks = assign_blocks(np.arange(n_documents), 64, world)
        weights = resample_weights(blocks.n_blocks, 400, world)
        found = ratio_interval(blocks.sums(top), blocks.sums(bottom), weights)
        hits += found.low <= 0.25 <= found.high
    coverage = hits / n_worlds
    assert 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / n_worlds) <= coverage <= 0.99


def test_resampling_tokens_would_not_cover():
    """The bug that blocks prevent: a binomial interval over tokens covers far too rarely."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        top, bottom = _clustered(rng, 64)
        found = share_interval(int(top.sum()), int(bottom.sum()))
        hits += found.low <= 0.25 <= found.high
    assert hits / 200 < 0.7


def test_hand_worked_numbers():
    assert ratio_interval(np.arange(8.0), np.ones(8)).value == 3.5
    weights = resample_weights(8, 5)
    assert weights.shape == (5, 8)
    assert (weights.sum(axis=1) == 8).all()
    assert (resample_weights(8, 5) == weights).all()
    replicates = np.linspace(0, 1, 1001)
    low, high = bounds(replicates, 1_000_000)
    assert (low, high) == (pytest.approx(0.025, abs=1e-4), pytest.approx(0.975, abs=1e-4))
    wider = interval(0.5, replicates, 8)
    assert wider.low < 0.01 and wider.high > 0.99
    assert isinstance(wider, Interval)


def test_undefined_resamples_make_the_interval_undefined():
    replicates = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 1.0]])
    low, high = bounds(replicates, 8)
    assert np.isfinite(low[0]) and np.isnan(low[1]) and np.isnan(high[1])


def test_share_interval_is_the_papers_number():
    """Zero hits in ten null runs leave 31 % possible."""
    assert share_interval(0, 10).high == pytest.approx(0.3085, abs=1e-4)
    assert np.isnan(share_interval(0, 0).value)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_false_discovery_is_benjamini_hochberg(p_values):
    p = np.array(p_values)
    q = false_discovery(np.append(p, np.nan))
    assert np.isnan(q[-1])
    order = np.argsort(p)
    by_hand = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    assert np.allclose(q[:-1][order], np.minimum(by_hand, 1))


def test_false_discovery_keeps_its_rate():
    rng = np.random.default_rng(0)
    false_calls = 0
    for _ in range(300):
        p = np.append(rng.uniform(size=50), stats.beta.rvs(0.05, 5, size=10, random_state=rng))
        called = false_discovery(p) <= 0.1
        false_calls += called[:50].sum() / max(called.sum(), 1)
    assert false_calls / 300 < 0.12


def test_quantiles_are_those_of_numpy_with_undefined_resamples_left_out():
    rng = np.random.default_rng(0)
    replicates = rng.normal(size=(1000, 6))
    replicates[rng.random(replicates.shape) < 0.004] = np.nan
    replicates[:200, 2], replicates[:, 3], replicates[5, 4] = np.nan, np.nan, np.inf
    tail = bounds(np.linspace(0, 1, 10001), 12)[0].item()
    low, high = bounds(replicates, 12)
    usable = [0, 1, 4, 5]
    wanted = np.nanquantile(replicates[:, usable], [tail, 1 - tail], axis=0)
    assert np.allclose([low[usable], high[usable]], wanted, atol=1e-12)
    assert np.isnan([low[[2, 3]], high[[2, 3]]]).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 9.0, np.nan])
def test_an_interval_holds_its_value(value):
    """Resampling can push a statistic to one side, as it does the length of a mean near 0."""
    found = interval(value, np.linspace(1, 2, 200), 8)
    plain = interval(1.5, np.linspace(1, 2, 200), 8)
    if np.isnan(value):
        assert (found.low, found.high) == (plain.low, plain.high)
    else:
        assert found.low == min(value, plain.low)
        assert found.high == max(value, plain.high)
