import numpy as np
import pytest

from analysis.fates.nulls import Null, _bin_edges
from analysis.fates.power import power
from sae.errors import ConfigError


def _null(values, rates, change=1.0):
    edges = np.quantile(rates, [0.25, 0.5, 0.75]) if len(rates) >= 400 else np.zeros(0)
    return Null("drift", change, edges, np.searchsorted(edges, rates), values)


def _draws(rng, n, shape):
    """Null coordinates whose spread falls with the fire rate."""
    rates = np.exp(rng.uniform(-5, -2, n))
    wide = 0.3 / np.sqrt(rates / rates.min())
    noise = {
        "normal": rng.normal(size=n),
        "student": rng.standard_t(3, size=n),
        "lognormal": rng.lognormal(0, 1, size=n) * rng.choice([-1, 1], n),
    }[shape]
    angle = np.abs(wide * 0.5 * noise)
    values = {
        "gain": wide * noise,
        "direction": np.cos(np.minimum(angle, 3)),
        "gating": np.sin(np.minimum(angle, 1.5)) ** 2,
    }
    return values, rates


@pytest.mark.parametrize("shape", ["normal", "student", "lognormal"])
@pytest.mark.parametrize("coordinate", ["gain", "direction", "gating"])
def test_p_values_are_uniform_under_the_null_out_into_the_tail(shape, coordinate):
    rng = np.random.default_rng(0)
    p = []
    for _ in range(40):
        null = _null(*_draws(rng, 600, shape))
        values, rates = _draws(rng, 600, shape)
        p.append(null.p_values(coordinate, values[coordinate], rates))
    p = np.concatenate(p)
    for level in (0.5, 0.2, 0.1, 0.05, 0.01, 0.003):
        error = np.sqrt(level / len(p)) * 5 + 0.15 * level
        assert np.mean(p <= level) <= level + error, level
    assert np.mean(p <= 1e-4) <= 6e-4
    assert np.mean(p <= 0.2) >= 0.15


def test_hand_worked_p_values():
    values = {
        "direction": np.linspace(0.9, 1.0, 19),
        "gain": np.append(np.linspace(-0.9, -0.1, 9), np.linspace(0.05, 0.95, 10)),
        "gating": np.linspace(0.0, 0.18, 19),
    }
    null = _null(values, np.full(19, 0.1))
    rate = np.array([0.1])
    # Of 19 draws, 0.08 and the ten above it are at least as far out.
    assert null.p_values("gating", np.array([0.08]), rate)[0] == pytest.approx(11 / 20)
    # Two-sided about the median 0.05, at distances 0.95, 0.9, 0.85 and so on: between the last two.
    assert null.p_values("gain", np.array([0.925]), rate)[0] == pytest.approx(2.5 / 20)
    assert null.p_values("gain", np.array([-0.825]), rate)[0] == pytest.approx(2.5 / 20)
    assert null.p_values("direction", np.array([1.0]), rate)[0] == pytest.approx(19 / 20)
    assert np.isnan(null.p_values("gain", np.array([np.nan]), rate)[0])
    # Direction's farthest three are one end, gating's the other, and gain's one of either.
    assert null.n_tests == 6 / 3
    assert null.smallest_p() == pytest.approx(null.n_tests / 20)
    assert null.p_values("gain", np.array([50.0]), rate)[0] <= 1 / 20


def test_far_values_have_smaller_p_values_without_end():
    null = _null(*_draws(np.random.default_rng(1), 600, "normal"))
    p = null.p_values("gain", np.array([3.0, 6.0, 12.0]), np.full(3, 0.1))
    assert p[0] > p[1] > p[2] > 0
    assert p[0] < 1e-3


def test_bands_hold_the_null_jointly():
    rng = np.random.default_rng(2)
    values, rates = _draws(rng, 800, "normal")
    null = _null(values, rates)
    new, new_rates = _draws(rng, 4000, "normal")
    inside = np.ones(4000, bool)
    for c, v in new.items():
        low, high = null.band(c, new_rates)
        inside &= (v >= low) & (v <= high)
    assert inside.mean() >= 0.93
    assert (null.band("direction", new_rates)[1] == np.inf).all()
    assert (null.band("gating", new_rates)[0] == -np.inf).all()


def test_power_is_the_band_of_each_bin():
    values, rates = _draws(np.random.default_rng(3), 800, "normal")
    null = _null(values, rates)
    found = power(null)
    assert found["n_latents"].tolist() == [200] * 4
    assert found["gain_high"].is_monotonic_decreasing
    for b, start in enumerate(found["fire_rate_from"]):
        low, high = null.band("gain", np.array([start + 1e-12]))
        assert (found["gain_low"][b], found["gain_high"][b]) == (low[0], high[0])


def _gains(rng, shape, n):
    return rng.normal(size=n) if shape == "normal" else rng.standard_t(5, size=n)


def _of_gains(rng, shape, measured=400):
    """A null of 400 latents in four bins, of which some have a gain in each."""
    rates = np.sort(rng.uniform(0.01, 0.1, 400))
    edges = np.quantile(rates, [0.25, 0.5, 0.75])
    bins, gains = np.searchsorted(edges, rates), _gains(rng, shape, 400)
    for b in range(4):
        gains[np.flatnonzero(bins == b)[measured:]] = np.nan
    return Null("a", 0.0, edges, bins, {"gain": gains})


@pytest.mark.parametrize(("shape", "measured"), [("normal", 400), ("t5", 400), ("normal", 15)])
def test_p_values_beyond_a_bins_draws_are_as_small_as_they_say(shape, measured):
    """Out where the false discovery rate of hundreds of latents is decided."""
    found = []
    for seed in range(5000, 5400):
        rng = np.random.default_rng(seed)
        null = _of_gains(rng, shape, measured)
        found.append(null.p_values("gain", _gains(rng, shape, 400), rng.uniform(0.01, 0.1, 400)))
    for level in (0.005, 0.002, 0.001) if measured == 400 else (0.05, 0.02, 0.005):
        assert 0.3 * level < np.mean(np.array(found) <= level) < 1.3 * level


def test_an_unknown_coordinate_is_refused():
    values, rates = _draws(np.random.default_rng(5), 50, "normal")
    null = _null({**values, "colour": values["gain"]}, rates)
    with pytest.raises(ConfigError, match="choose among direction"):
        null.p_values("colour", values["gain"], rates)


def test_equal_fire_rates_make_one_bin():
    assert len(_bin_edges(np.full(1000, 0.05))) == 0
    assert len(_bin_edges(np.append(np.full(900, 0.05), np.linspace(0.06, 0.1, 100)))) == 1
    assert len(_bin_edges(np.linspace(0, 1, 1000))) == 3


def test_a_bin_without_measured_draws_borrows_from_all():
    values, rates = _draws(np.random.default_rng(6), 800, "normal")
    values["gain"] = np.where(rates < np.quantile(rates, 0.25), np.nan, values["gain"])
    null = _null(values, rates)
    assert np.isfinite(null.band("gain", np.array([rates.min()]))).all()
    assert np.isfinite(null.p_values("gain", np.array([0.1]), np.array([rates.min()]))).all()


def _quiet(rng, n=400, share=0.06):
    """Dice distances of draws of which most are none at all."""
    some = rng.random(n) < share
    return np.where(some, np.sin(np.abs(rng.normal(0, 0.1, n))) ** 2, 0.0)


def test_a_bin_of_draws_that_are_all_alike_leaves_the_others_their_tail():
    rng = np.random.default_rng(0)
    values, rates = _draws(rng, 800, "normal")
    rates = np.sort(rates)
    quiet = rates < np.quantile(rates, 0.25)
    far = np.sin(np.minimum(np.abs(rng.normal(0, 0.15, 800)), 1.5)) ** 2
    mixed = np.where(quiet, _quiet(rng, 800), far)
    rate, much = rates[-1:], np.array([0.9])
    alone = _null({**values, "gating": far}, rates).p_values("gating", much, rate)
    beside = _null({**values, "gating": mixed}, rates).p_values("gating", much, rate)
    assert alone[0] < 1e-4 and beside[0] < 3 * alone[0] + 1e-5


def test_what_fell_silent_is_far_beside_draws_that_hardly_moved():
    rng = np.random.default_rng(1)
    values, rates = _draws(rng, 400, "normal")
    null = _null({**values, "gating": _quiet(rng)}, rates)
    p = null.p_values("gating", np.array([1.0, 0.001, 0.0]), np.full(3, np.median(rates)))
    assert p[0] < 1e-4 and p[1] > 0.01 and p[2] == pytest.approx(1, abs=0.01)


def test_coordinates_that_a_model_was_not_measured_by_are_no_tests():
    values, rates = _draws(np.random.default_rng(2), 400, "normal")
    effect = np.cos(np.abs(np.random.default_rng(3).normal(0, 0.3, 400)))
    null = _null({**values, "effect": effect}, rates)
    some = null.of_coordinates(["direction", "gain", "gating"])
    assert set(some.values) == {"direction", "gain", "gating"}
    assert some.n_tests == _null(values, rates).n_tests < null.n_tests
    assert null.of_coordinates(list(null.values)) is null
