"""Which nulls a tuned model is held against, and what pooling them gains."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from analysis.fates.choosing import (
    BY_BULK,
    BY_CHANGE,
    Reach,
    choose,
    choose_by_bulk,
    pooled,
    reach,
    stretched,
)
from analysis.fates.nulls import Null
from analysis.fates.subjects import Seen
from analysis.fates.tails import unrolled
from analysis.latents.coordinates import COORDINATES, Coordinates
from analysis.latents.traces import Firing
from analysis.statistics.intervals import Interval
from sae.change import Change
from sae.errors import ConfigError

MANY = 2000  # latents, whose medians err little


def null(name, change=1.0, n=40, seed=0, edges=()):
    rng = np.random.default_rng(seed)
    values = {c: rng.uniform(size=n) for c in ("direction", "gain", "gating")}
    errors = {c: np.full(n, change) for c in values}
    return Null(name, change, np.array(edges, float), np.zeros(n, int), values, errors)


def chosen(nulls, goal):
    found = choose(nulls, {each.name: each.change for each in nulls}, goal)
    return found and found.names


def test_of_one_run_the_checkpoint_that_moved_least_of_those_that_moved_as_far():
    run = [null(f"a@{i}", change) for i, change in enumerate((3.0, 1.0, 2.0))]
    assert chosen(run, 1.5) == ("a@2",)
    assert chosen(run, 3.0) == ("a@0",)
    assert chosen(run, 3.1) is None
    assert chosen([], 0.0) is None


def test_of_several_runs_one_checkpoint_each():
    runs = [null("a@0", 1.0), null("c@0", 1.1), null("a@1", 1.05), null("c@1", 0.4)]
    assert chosen(runs, 0.5) == ("a@0", "c@0")
    assert chosen(runs, 1.02) == ("a@1", "c@0")
    assert chosen(runs, 1.08) == ("c@0",)


def test_a_run_that_moved_much_further_than_another_is_left_out():
    nulls = [null("a", 1.0), null("b", 1.25), null("c", 1.3)]
    assert chosen(nulls, 1.0) == ("a", "b")
    assert chosen(nulls, 1.28) == ("c",)


def test_a_pool_has_the_draws_of_all_and_moved_as_the_least():
    first, second = null("a", 2.0, 30, seed=1), null("b", 1.0, 40, seed=2)
    both = pooled([first, second])
    assert both.names == ("a", "b") and both.name == "a + b" and both.change == 1.0
    for c, draws in both.values.items():
        assert draws.tolist() == [*first.values[c], *second.values[c]]
    assert both.errors["gain"].tolist() == [2.0] * 30 + [1.0] * 40
    assert both.smallest_p() == pytest.approx(both.n_tests / 71)
    assert pooled([first]) is first


def test_what_another_run_displaced_is_no_draw_and_not_judged():
    """Each run's draws lack what the other displaced, and keep what it displaced itself."""
    first, second = (
        replace(null(*each), displaced=gone)
        for each, gone in (
            (("a", 1.0, 30), np.array([3, 4])),
            (("b", 1.0, 30, 1), np.array([4, 7])),
        )
    )
    both = pooled([first, second])
    assert both.latent.tolist() == [
        *np.delete(np.arange(30), [4, 7]),
        *np.delete(np.arange(30), [3, 4]),
    ]
    assert both.values["gain"][3] == first.values["gain"][3]
    assert both.values["gain"][28 + 5] == second.values["gain"][7]
    assert both.fragile.tolist() == [3, 4, 7]
    assert len(first.fragile) == 0  # one run alone cannot say it of latents that it is a draw of


def test_nulls_of_other_tokens_are_not_pooled():
    with pytest.raises(ConfigError, match="different fire rates"):
        pooled([null("a", edges=[0.1]), null("b", edges=[0.2])])
    with pytest.raises(ConfigError, match="no nulls"):
        pooled([])


def moved(size, n=200, seed=0, n_changed=0):
    """Coordinates of latents that all moved by angles, gains and distances of one size."""
    rng = np.random.default_rng(seed)
    angle, gain, firing = size * np.abs(rng.normal(size=(3, n)))
    gain[:n_changed] += 1.0
    table = pd.DataFrame(
        {"latent": np.arange(n), "n_fires_base": 500, "n_fires_tuned": 500, "fire_rate": 0.05},
        range(n),
    )
    table["direction"], table["gain"] = np.cos(0.2 * angle), 0.1 * gain
    table["gating"], table["steady"] = np.sin(0.2 * firing) ** 2, True
    table["is_split"], table["is_merged"] = False, False
    for c in COORDINATES:
        table[f"{c}_low"], table[f"{c}_high"] = table[c], table[c]
    alike, counts = np.eye(n, dtype=np.float32), np.full(n, 500)
    return Coordinates(table, {}, alike, alike, counts, counts, 10_000)


def of(name, size, **more):
    return Null.of(name, 0.0, moved(size, **more))


def tuned(size, **more):
    firing, none = Firing(sparse.csr_array((1, 1)), np.ones((1, 1))), pd.DataFrame()
    change, fidelity = Change(0.0, 1.0, 0.0), Interval(0.0, 0.0, 0.0)
    found = moved(size, **more)
    return Seen("tuned", change, np.ones((1, 1)), firing, fidelity, found, none, none, fidelity)


def test_a_null_displaces_what_points_or_fires_elsewhere():
    coordinates = moved(0.5)
    table = coordinates.table
    table.loc[[5, 11], "direction"], table.loc[9, "gating"] = 0.69, 0.51
    table.loc[11, "steady"] = False
    found = Null.of("a", 1.0, coordinates)
    assert found.displaced.tolist() == [5, 9]
    assert 11 not in found.latent and len(found.latent) == len(table) - 1


def test_reach_is_how_far_latents_moved_and_how_sure_that_is():
    """Of n latents the median of half a normal distribution errs by 1.17 over the root of n."""
    for size in (0.5, 1.0, 2.0):
        found = reach(of("a", 1.0, n=MANY, seed=1), of("b", size, n=MANY)).values()
        assert [each.ratio for each in found] == pytest.approx([1 / size] * 3, rel=0.08)
        error = 2**0.5 * 1.17 / MANY**0.5
        assert [each.error for each in found] == pytest.approx([error] * 3, rel=0.3)
    spared = reach(of("a", 1.0, n=MANY), of("b", 1.0, n=MANY, n_changed=MANY // 5))
    assert 0.6 < spared["gain"].ratio < 0.85 * spared["direction"].ratio


def test_a_ratio_lies_within_its_standard_error_two_times_in_three():
    """It errs to either side alike, however far the model moved."""
    for size, first in ((0.6, 0), (1.0, 100), (1.6, 200)):
        off = [
            np.log(each.ratio * size) / each.error
            for seed in range(first, first + 100)
            for each in reach(of("a", 1.0, seed=1000 + seed), of("b", size, seed=seed)).values()
        ]
        assert 0.42 < np.mean(np.greater(off, 0)) < 0.58
        assert 0.6 < np.mean(np.abs(off) < 1) < 0.76


@pytest.mark.parametrize("size", [0.6, 1.6])
def test_five_percent_are_five_percent_whatever_the_null_moved(size):
    """Of models that did nothing but move, more or less far than the null."""
    low = []
    for seed in range(1, 81):
        one = tuned(size, n=500, seed=seed)
        held_to = choose_by_bulk([of("a", 1.0, n=500, seed=100 + seed)], one)
        if held_to is not None:
            table = one.coordinates.table
            rate = table["fire_rate"].to_numpy()
            p = [held_to.p_values(c, table[c].to_numpy(), rate) for c in COORDINATES]
            p = held_to.n_tests * np.min(p, axis=0)
            low.append([np.mean(p <= 0.05), np.mean(p <= 0.01)])
    rates = np.mean(low, axis=0)
    assert len(low) == 80 and 0.045 < rates[0] < 0.055 and 0.008 < rates[1] < 0.0115


def test_stretching_moves_every_draw_on_the_scale_of_judgement():
    twice = stretched(of("a", 1.0), dict.fromkeys(COORDINATES, Reach(0.5)))
    for c, draws in of("a", 2.0).values.items():
        assert twice.values[c] == pytest.approx(draws, abs=1e-9)


def test_an_unsure_size_spreads_draws_as_far_as_it_is_unsure():
    """By log-normal factors that tell nothing of the draw, and neighbours get unlike ones."""
    one = of("a", 1.0, n=MANY)
    spread = stretched(one, dict.fromkeys(COORDINATES, Reach(0.5, 0.25)))
    for c, draws in one.values.items():
        far = np.abs(unrolled(c, draws))
        factor = np.log(np.abs(unrolled(c, spread.values[c])) / far)
        assert factor.mean() == pytest.approx(np.log(2), abs=0.01)
        assert factor.std() == pytest.approx(0.25, rel=0.03)
        assert abs(np.corrcoef(factor, far)[0, 1]) < 0.05
        in_order = factor[np.argsort(far)]
        assert np.abs(np.diff(in_order)).min() > 0.05


def test_errors_shrink_with_a_null_and_do_not_grow_with_it():
    one = null("a", 3.0)
    errors = stretched(one, dict.fromkeys(one.values, Reach(0.5)) | {"gain": Reach(2.0)}).errors
    assert errors["direction"].tolist() == one.errors["direction"].tolist()
    assert errors["gain"].tolist() == (0.5 * one.errors["gain"]).tolist()


def still(coordinates, share):
    """The same where some latents fire just where they did."""
    table = coordinates.table
    table.loc[: int(share * len(table)) - 1, "gating"] = 0.0
    table["gating_low"], table["gating_high"] = table["gating"], table["gating"]
    return Null.of("", 0.0, coordinates)


@pytest.mark.parametrize("share", [0.45, 0.5, 0.55, 0.7])
def test_where_half_of_the_latents_did_not_move_the_others_say_how_far(share):
    found = reach(still(moved(1.0, n=MANY), share), still(moved(2.0, n=MANY, seed=1), share))
    assert found["gating"].ratio == pytest.approx(0.5, rel=0.12)
    assert 0.01 < found["gating"].error < 0.12


def test_where_hardly_any_latent_moved_no_size_is_told():
    for one, other in ((0.95, 0.9), (0.95, 0.6), (0.3, 0.95)):
        found = reach(still(moved(1.0, n=MANY), one), still(moved(2.0, n=MANY, seed=1), other))
        assert found["gating"] == Reach(1.0, 0.0, 0.0, 0.0)
        assert found["direction"].ratio == pytest.approx(0.5, rel=0.12)


def test_a_null_of_which_hardly_a_latent_fires_elsewhere_is_none_for_a_model_of_which_most_do():
    quiet = still(moved(1.0), 0.95)
    assert reach(quiet, still(moved(1.0, seed=1), 0.3))["gating"].ratio == 0
    assert choose_by_bulk([quiet], tuned(1.0)) is None
    assert choose_by_bulk([still(moved(1.0), 0.3)], tuned(1.0)) is not None


def offset(size, by, n=500, seed=0):
    """Latents whose gains go up and down, and all of which gained as much besides."""
    coordinates = moved(size, n=n, seed=seed)
    sign = np.random.default_rng(10_000 + seed).choice([-1.0, 1.0], n)
    for name in ("gain", "gain_low", "gain_high"):
        coordinates.table[name] = sign * coordinates.table[name] + by
    return coordinates


@pytest.mark.parametrize(("null_by", "by"), [(0.1, -0.1), (0.0, 0.1), (0.1, 0.1)])
def test_what_all_latents_gained_is_told_of_none(null_by, by):
    """Else nulls and models whose norms went opposite ways would have every latent changed."""
    rates = []
    for seed in range(40):
        one = offset(1.0, by, seed=seed)
        model = replace(tuned(1.0, n=500), coordinates=one)
        held_to = choose_by_bulk([Null.of("a", 0.0, offset(1.3, null_by, seed=500 + seed))], model)
        assert held_to is not None
        rate, gain = (one.table[c].to_numpy() for c in ("fire_rate", "gain"))
        rates.append(np.mean(held_to.p_values("gain", gain, rate) <= 0.05))
        low, high = held_to.band("gain", rate)
        assert ((low + high) / 2).mean() == pytest.approx(by, abs=0.06)
        assert held_to.middle("gain", rate).mean() == pytest.approx(by, abs=0.02)
    assert np.mean(rates) == pytest.approx(0.05, abs=0.008)


def test_a_model_that_fell_silent_is_held_against_nothing():
    one = tuned(1.0)
    one.coordinates.table["n_fires_tuned"] = 3
    assert choose_by_bulk([of("a", 1.0)], one) is None


def test_without_neutral_text_a_null_is_stretched_to_the_tuned_models_bulk():
    def by(nulls):
        """How much further every draw of a null of size 1 went."""
        found = choose_by_bulk(nulls, tuned(1.8, n=MANY))
        assert found is not None
        one = of("a", 1.0, n=MANY).values
        return {c: np.median(unrolled(c, found.values[c]) / unrolled(c, one[c])) for c in one}

    assert list(by([of("a", 1.0, n=MANY)]).values()) == pytest.approx([1.8] * 3, rel=0.02)
    assert choose_by_bulk([of("a", 1.0, n=MANY)], tuned(4.2, n=MANY)) is None
    for size, left in ((3.0, 1.8), (5.0, 2.5)):  # one that moved further shrinks to half at most
        wide = by([of("a", size, n=MANY)])
        assert wide["gating"] == pytest.approx(left, rel=0.03)


def test_among_nulls_of_caches_the_nearest_are_pooled():
    found = choose_by_bulk([of("half", 0.5), of("one", 0.9), of("two", 2.0)], tuned(1.0))
    assert found is not None and found.names == ("one",)
    found = choose_by_bulk([of("half", 0.4), of("one", 0.9), of("more", 1.2)], tuned(1.0))
    assert found is not None and found.names == ("more", "one")


def test_a_held_back_model_is_held_to_the_same_null_at_its_own_size():
    """Else a null that was stretched for a tuned model would spare it."""
    nulls = [of("one", 1.0, n=MANY)]
    wide, held = choose_by_bulk(nulls, tuned(1.8, n=MANY)), tuned(1.0, n=MANY, seed=2)
    assert wide is not None
    again = BY_BULK.resize(wide, nulls, held)
    assert again is not None and again.names == wide.names
    assert np.std(again.values["gain"]) < 0.7 * np.std(wide.values["gain"])
    assert BY_BULK.resize(wide, nulls, tuned(4.2, n=MANY)) is None
    assert BY_CHANGE.resize(wide, nulls, held) is wide
