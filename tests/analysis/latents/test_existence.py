"""Latent scaling and information, on activations made by hand."""

import numpy as np
import pytest
from scipy import sparse

from analysis.latents.existence import information, latent_scaling, presence, scaling
from analysis.latents.traces import Firing
from analysis.statistics.intervals import Blocks, assign_blocks, bounds, resample_weights
from sae.errors import InputError

N, D = 4000, 6


@pytest.fixture
def world():
    """Four features with orthonormal directions, the first three known to a dictionary."""
    rng = np.random.default_rng(0)
    z = rng.exponential(size=(N, 4)) * (rng.random((N, 4)) < [0.3, 0.1, 0.05, 0.2])
    rows = np.linalg.qr(rng.normal(size=(D, D)))[0][:4]
    blocks = assign_blocks(np.repeat(np.arange(40), 100))
    return z, rows, blocks, resample_weights(blocks.n_blocks)


def firing(z, rows):
    return Firing(sparse.csr_array(z.astype(np.float64)), rows)


def scaled(world, factors, known, partner):
    """The other model has every feature by a factor; its dictionary knows some of them."""
    z, rows, blocks, weights = world
    shift = np.full(D, 3.0)
    own = z @ rows, firing(z[:, :3], rows[:3])
    other = (
        (z * factors) @ rows + shift,
        firing(z[:, known] * np.array(factors)[known], rows[known]),
    )
    return latent_scaling(own, other, np.array(partner), blocks, weights)


def test_known_factors_come_back_to_1e_5(world):
    """Features 0 and 1 are in the other's error, 2 in its reconstruction."""
    found = scaled(world, [0.4, 0.0, 1.5, 1.0], [2], [-1, -1, 0])

    assert found["beta_error_own"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-5)
    assert found["beta_error_other"].to_numpy() == pytest.approx([0.4, 0.0, 1.5], abs=1e-5)
    assert found["nu_error"].to_numpy() == pytest.approx([0.4, 0.0, 1.5], abs=1e-5)
    assert found["beta_reconstruction_own"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-5)
    assert found["beta_reconstruction_other"].to_numpy() == pytest.approx([0, 0, 1.5], abs=1e-5)
    assert found["nu_reconstruction"].to_numpy() == pytest.approx([0, 0, 1.5], abs=1e-5)


def test_without_its_partners_part_put_back_the_error_holds_nothing(world):
    found = scaled(world, [1, 1, 1, 1], [0, 1, 2, 3], [-1, -1, -1])
    assert found["nu_error"].to_numpy() == pytest.approx([0, 0, 0], abs=1e-5)
    assert found["nu_reconstruction"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-5)


def test_it_is_the_least_squares_fit(world):
    z, _, blocks, _ = world
    rng = np.random.default_rng(1)
    rows, target = rng.normal(size=(4, D)), rng.normal(size=(N, D)) + z @ rng.normal(size=(4, D))
    target -= target.mean(axis=0)
    top = scaling(sparse.csr_array(z), rows, [target], blocks)[0].sum(axis=0)
    for j, row in enumerate(rows):
        part = np.outer(z[:, j] - z[:, j].mean(), row).ravel()
        best = np.linalg.lstsq(part[:, None], target.ravel(), rcond=None)[0][0]
        spread = np.square(z[:, j] - z[:, j].mean()).sum() * (row @ row)
        assert top[j] / spread == pytest.approx(best, rel=1e-9)


def test_intervals_cover_and_narrow(world):
    z, rows, blocks, weights = world
    rng = np.random.default_rng(2)
    noisy = (z * 0.5) @ rows + 0.5 * rng.normal(size=(N, D))
    own = z @ rows, firing(z, rows)
    found = latent_scaling(
        own, (noisy, firing(z[:, :0], rows[:0])), np.full(4, -1), blocks, weights
    )
    assert (found["nu_error_low"] <= 0.5).all() and (found["nu_error_high"] >= 0.5).all()
    width = found["nu_error_high"] - found["nu_error_low"]
    assert ((width > 0) & (width < 0.3)).all()


def test_presence_asks_no_second_dictionary(world):
    """What the other model has by a factor, at a shift of the mean, and what it has not."""
    z, rows, blocks, weights = world
    own = z @ rows, firing(z[:, :3], rows[:3])
    found = presence(own, (z * [0.4, 0.0, 1.5, 1.0]) @ rows + 3.0, blocks, weights)
    assert found["existence"].to_numpy() == pytest.approx([0.4, 0.0, 1.5], abs=1e-5)
    noisy = z @ rows + np.random.default_rng(5).normal(size=(N, D))
    found = presence(own, noisy, blocks, weights)
    assert (found["existence_low"] <= 1).all() and (found["existence_high"] >= 1).all()


def test_what_never_fires_has_no_scaling(world):
    z, rows, blocks, weights = world
    z[:, 0] = 0
    own = z @ rows, firing(z, rows)
    found = latent_scaling(own, own, np.arange(4), blocks, weights)
    assert np.isnan(found["nu_error"][0]) and found["nu_error"][1:].to_numpy() == pytest.approx(1)


def test_models_of_other_tokens_are_refused(world):
    z, rows, blocks, weights = world
    own = z @ rows, firing(z, rows)
    short = own[0][1:], firing(z[1:], rows)
    with pytest.raises(InputError, match="latent scaling"):
        latent_scaling(own, short, np.arange(4), blocks, weights)
    with pytest.raises(InputError, match="3 partners"):
        latent_scaling(own, own, np.arange(3), blocks, weights)


def test_information_is_what_a_linear_map_predicts(world):
    z, rows, _, _ = world
    rng = np.random.default_rng(3)
    first = np.arange(N) % 2 == 0
    alone = rng.exponential(size=(N, 1)) * (rng.random((N, 1)) < 0.1)
    both = sparse.csr_array(np.hstack([z, alone]))
    found = information(both, z @ rows + 5.0, (first, ~first))
    assert found[:4] == pytest.approx(1, abs=1e-3)
    assert abs(found[4]) < 0.02


def test_information_agrees_with_a_regression_by_hand(world):
    z, rows, _, _ = world
    rng = np.random.default_rng(4)
    x = z @ rows + rng.normal(size=(N, D))
    first = np.arange(N) < N // 2
    found = information(sparse.csr_array(z), x, (first, ~first))
    design = np.column_stack([x, np.ones(N)])
    for j in range(4):
        fit = np.linalg.lstsq(design[first], z[first, j], rcond=None)[0]
        left = np.square(z[~first, j] - design[~first] @ fit).sum()
        assert found[j] == pytest.approx(
            1 - left / np.square(z[~first, j] - z[~first, j].mean()).sum(), abs=1e-3
        )


def test_information_of_a_silent_latent_or_no_tokens(world):
    z, rows, _, _ = world
    z[:, 1] = 0
    first = np.arange(N) < N // 2
    assert np.isnan(information(sparse.csr_array(z), z @ rows, (first, ~first))[1])
    with pytest.raises(InputError, match="no tokens"):
        information(sparse.csr_array(z), z @ rows, (first, np.zeros(N, bool)))


def test_information_bears_a_dimension_that_lies_far_out(world):
    """As those of residual streams do, in single precision."""
    z, rows, _, _ = world
    first = np.arange(N) % 2 == 0
    x = (z @ rows).astype(np.float32)
    x[:, 0] += np.float32(3000)
    found = information(sparse.csr_array(z), x, (first, ~first))
    assert found == pytest.approx(1, abs=1e-2)


def test_an_interval_is_that_of_targets_centred_anew_in_every_resample():
    """Blocks differ in their mean; a latent that fires nearly always would carry it along."""
    rng = np.random.default_rng(3)
    n, n_blocks = 3200, 32
    block = np.arange(n) % n_blocks
    blocks, weights = Blocks(block, n_blocks), resample_weights(n_blocks, 400)
    row = np.eye(1, D)
    z = rng.gamma(4, 1, (n, 1)) * (rng.random((n, 1)) < 0.9)
    theirs = 0.3 * z @ row + rng.normal(size=(n_blocks, D))[block]
    own = (z @ row, firing(z, row))
    found = presence(own, theirs, blocks, weights)

    def by_hand(w):
        each = w[block][:, None]
        mean = lambda a: (each * a).sum(axis=0) / each.sum()  # noqa: E731
        top, bottom = (
            ((z - mean(z)) * each * ((t - mean(t)) @ row.T)).sum() for t in (theirs, own[0])
        )
        return top / bottom

    drawn = np.array([by_hand(w) for w in weights])
    low, high = bounds(drawn[:, None], n_blocks)
    width = float(found["existence_high"][0] - found["existence_low"][0])
    assert width == pytest.approx(float(high[0] - low[0]), rel=0.1)
