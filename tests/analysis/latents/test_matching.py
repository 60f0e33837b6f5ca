"""Which tuned latent stands for which base latent, and what is left of the index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from analysis.latents.matching import merges, splits, standing, steady, swaps
from analysis.latents.pairs import Pair
from analysis.latents.traces import Firing


def firing(z, rows=None):
    z = np.asarray(z, np.float32)
    rows = np.eye(z.shape[1], 6) if rows is None else np.asarray(rows)
    return Firing(sparse.csr_array(z), rows.astype(np.float32))


def test_a_latent_whose_place_was_taken_stands_where_it_was():
    base = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 0]])
    tuned = np.array([[0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    pair = standing(firing(base), firing(tuned), 2)
    found = pair.tuned
    assert found.z.toarray().tolist() == tuned[:, [2, 1, 0]].tolist()
    assert found.rows.tolist() == np.eye(3, 6)[[2, 1, 0]].tolist()


@pytest.mark.parametrize(
    "dice",
    [
        [[0.9, 0.95], [0.0, 0.99]],  # more like the base latent of its own index
        [[0.0, 0.49], [0.0, 0.0]],  # too little in common
        [[0.6, 0.6], [0.0, 0.0]],  # no more like than at its own index
    ],
)
def test_otherwise_the_index_stays(dice):
    other = np.array([[0.5, 0.9], [0.1, 0.2]])  # the other points more alike: only firing decides
    assert swaps(np.array(dice), other).tolist() == [0, 1]


def test_of_latents_that_fire_on_the_same_tokens_direction_tells_which_is_which():
    """In a drifted model one overlap is by chance larger than that of the index."""
    dice = np.array([[0.99, 1.0], [0.97, 0.96]])
    apart, crossed = np.array([[0.95, 0.1], [0.1, 0.95]]), np.array([[0.1, 0.95], [0.95, 0.1]])
    assert swaps(dice, apart).tolist() == [0, 1]
    assert swaps(dice, crossed).tolist() == [1, 0]
    silent = np.array([[0.0, 0.99], [0.0, 0.97]])  # the first fires no more, the second still does
    assert swaps(silent, apart).tolist() == [0, 1]
    assert swaps(silent, crossed).tolist() == [1, 0]
    base = np.array([[2, 1], [1, 2], [2, 2], [1, 0]])
    tuned = np.array([[2, 1], [1, 2], [2, 2], [0, 1]])
    pair = standing(firing(base), firing(tuned), 2)
    assert pair.dice[0, 1] > pair.dice[0, 0]  # else nothing is shown
    assert pair.tuned.z.toarray().tolist() == tuned.tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**31))
def test_every_latent_keeps_one_place_and_no_pair_gets_less_alike(n, n_added, seed):
    dice = np.random.default_rng(seed).random((n, n + n_added))
    order = swaps(dice, np.random.default_rng(seed + 1).uniform(-1, 1, dice.shape))
    assert sorted(order) == list(range(n + n_added))
    assert (dice[np.arange(n), order[:n]].sum()) >= np.trace(dice[:, :n]) - 1e-12


def test_what_another_run_makes_differently_is_not_steady():
    z = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1]])
    again = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]])
    turned = np.eye(3, 6)
    turned[2] = [0, 0, 0.6, 0.8, 0, 0]
    found = steady(firing(z), firing(again, turned), 3)
    assert found.tolist() == [True, False, False]  # the same, elsewhere, turned


def fired(*spans):
    """Latents each firing on one span of 4,000 tokens, or on several."""
    z = np.zeros((4000, len(spans)), int)
    for latent, span in enumerate(spans):
        for first, last in span:
            z[first:last, latent] = 1
    return firing(z)


@pytest.mark.parametrize(
    ("parts", "is_split"),
    [
        ([[(0, 50), (200, 210)], [(50, 95), (210, 215)]], True),
        ([[(0, 30)], [(30, 60), (200, 210)], [(60, 90)]], True),
        ([[(0, 50), (200, 210)], [(50, 60)]], False),  # the second part is too small
        ([[(0, 50), (200, 210)], [(50, 95), (210, 365)]], False),  # here mostly something else
        ([[(0, 90), (200, 205)], [(60, 100), (205, 210)]], False),  # the first is still the whole
        ([[(0, 35), (200, 225)], [(35, 65), (225, 265)]], True),  # as of two halves that drifted
        ([[(0, 20)], [(20, 40)]], False),  # much of the whole is gone
        ([[(0, 30)], [(0, 30)]], False),  # and likewise where both parts have the same
        ([[(0, 40)], [(20, 60)]], True),  # these overlap, and have enough
    ],
)
def test_a_latent_is_split_where_several_share_what_it_did(parts, is_split):
    pair = Pair(fired([(0, 100)]), fired(*parts), 1)
    assert splits(pair).tolist() == [is_split]


def test_a_part_that_stands_for_another_base_latent_is_none():
    base = fired([(0, 100)], [(50, 110)])
    assert splits(Pair(base, fired([(0, 50)], [(50, 100)]), 2)).tolist() == [False, False]
    assert splits(Pair(base, fired([(0, 50)], [], [(50, 100)]), 2)).tolist() == [True, False]


def test_latents_are_merged_where_one_does_what_both_did():
    """The first two base latents fire where the first tuned one does; the third has its own."""
    base = np.zeros((900, 3), int)
    base[:30, 0], base[30:60, 1], base[60:90, 2] = 1, 1, 1
    tuned = np.zeros((900, 4), int)
    tuned[:60, 0], tuned[60:90, 2] = 1, 1
    pair = standing(firing(base), firing(tuned), 3)
    assert merges(pair).tolist() == [True, True, False]
    assert not splits(pair).any()
    tuned[30:60, 1] = 1  # the second goes on beside it
    pair = standing(firing(base), firing(tuned), 3)
    assert not merges(pair).any()
    tuned[:, 0], tuned[:45, 0] = 0, 1  # half of the second's firings are the first's,
    tuned[:, 1], tuned[30:34, 1] = 0, 1  # and few its own
    pair = standing(firing(base), firing(tuned), 3)
    assert merges(pair).tolist() == [True, True, False]


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.6])
def test_latents_that_have_nothing_to_do_with_each_other_are_no_parts(rate):
    """Those of a dense latent fire mostly where it fires, and it on many of their tokens."""
    rng = np.random.default_rng(0)
    whole, parts = rng.random((4000, 1)) < rate, rng.random((4000, 3)) < 0.2
    kept = whole & (rng.random((4000, 1)) < 0.7)
    pair = Pair(firing(whole), firing(np.hstack([kept, parts])), 1)
    assert not splits(pair).any()
    assert not merges(Pair(firing(np.hstack([kept, parts])), firing(whole), 4)).any()


def test_a_dense_latent_is_split_by_those_that_have_its_tokens():
    whole = np.arange(4000)[:, None] < 1600
    halves = np.hstack([whole & (np.arange(4000)[:, None] % 2 == i) for i in range(2)])
    pair = Pair(firing(whole), firing(halves), 1)
    assert splits(pair).tolist() == [True]
