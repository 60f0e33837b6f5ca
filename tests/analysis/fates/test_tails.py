"""P-values from draws: how many are small where nothing is, and how many tests they amount to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fates.tails import effective_tests, rank_p, tail_p


def test_a_share_of_values_like_the_draws_is_at_most_any_level():
    """At levels between multiples of 1 / (1 + n) too, where ranks alone leave half as many."""
    rng = np.random.default_rng(0)
    hits = {0.0143: 0, 0.05: 0, 0.2: 0}
    for _ in range(400):
        draws, values = rng.normal(size=(2, 128))
        for level in hits:
            hits[level] += int((rank_p(draws, values) <= level).sum())
    for level, n in hits.items():
        assert n / (400 * 128) == pytest.approx(level, rel=0.08)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(0, 2**31))
def test_ranks_fall_and_count_all_equal_draws(draws, seed):
    known = np.array(draws, float)
    values = np.sort(np.random.default_rng(seed).uniform(-7, 7, 40))
    p = rank_p(known, values)
    assert (np.diff(p) <= 1e-12).all() and (p > 0).all() and (p <= 1).all()
    for each in np.unique(known):
        expected = (known >= each).sum() / (1 + len(known))
        assert rank_p(known, np.array([each]))[0] == pytest.approx(expected)
    assert rank_p(known, np.array([9.0]))[0] == pytest.approx(1 / (1 + len(known)))


def test_beyond_all_draws_a_tail_is_a_power_law():
    draws = np.arange(1.0, 201.0)
    p = tail_p(draws, np.array([150.5, 400.0, 800.0]))
    assert p[0] == pytest.approx(50.5 / 201)
    assert 0 < p[2] < p[1] < 1 / 201
    assert p[1] / p[2] == pytest.approx(p[1] * 201 and (1 / 201) / p[1])


def test_a_tail_beyond_the_draws_is_no_smaller_than_it_is():
    """Of normal, exponential and Student's t draws: at levels that 200 draws cannot rank."""
    rng = np.random.default_rng(0)
    kinds = {
        "normal": lambda n: np.abs(rng.normal(size=n)),
        "exponential": lambda n: rng.exponential(size=n),
        "t with 3": lambda n: np.abs(rng.standard_t(3, size=n)),
    }
    for draw in kinds.values():
        p = np.concatenate([tail_p(draw(200), draw(4000)) for _ in range(40)])
        for level in (0.002, 0.0005):
            assert np.mean(p <= level) < 1.3 * level


def test_a_tail_is_one_of_what_lies_above_zero():
    """Most draws may be 0: beyond the others a tail goes on, which ranks alone have none of."""
    draws = np.concatenate([np.zeros(940), np.linspace(1, 2, 60)])
    p = tail_p(draws, np.array([1.5, 2.0, 4.0, 8.0]))
    assert p[1] == pytest.approx(1 / 1001) and p[0] == pytest.approx(30.5 / 1001, rel=0.01)
    assert p[3] < p[2] < 1e-4
    assert tail_p(np.zeros(100), np.array([9.0])) == pytest.approx(1 / 101)  # no tail at all


def test_tests_that_go_together_count_as_one_and_apart_as_many():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(4, 4000))
    bins = np.arange(4000) % 4
    assert effective_tests(np.repeat(own[:1], 4, 0), bins) == 1.0
    assert effective_tests(own, bins) == pytest.approx((1 - 0.95**4) / 0.05, rel=0.03)
    half = np.concatenate([own[:2], own[:2]])
    assert effective_tests(half, bins) == pytest.approx((1 - 0.95**2) / 0.05, rel=0.03)
    own[2:, ::2] = np.nan  # what was not measured is not far
    assert effective_tests(own, bins) < 4


def test_the_smallest_p_value_times_the_tests_it_amounts_to_is_one():
    """Coordinates that are half the same: as many are small as should be."""
    rng = np.random.default_rng(1)
    hits = n = 0
    for _ in range(200):
        draws, values = (
            rng.normal(size=(1, 300)) * 0.8 + rng.normal(size=(4, 300)) * 0.6 for _ in range(2)
        )
        p = np.min([rank_p(d, v) for d, v in zip(draws, values, strict=True)], axis=0)
        p = p * effective_tests(draws, np.zeros(300, int))
        hits, n = hits + int((p <= 0.05).sum()), n + len(p)
    assert hits / n == pytest.approx(0.05, abs=0.012)
