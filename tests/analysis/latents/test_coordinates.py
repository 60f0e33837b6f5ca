from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from analysis.latents import coordinates
from analysis.latents.coordinates import CHANCE, _chance, _row_cosines, measure
from analysis.latents.pairs import Pair
from analysis.latents.readings import Reading
from analysis.latents.traces import Firing
from analysis.statistics.intervals import assign_blocks, resample_weights


def _firing(z, rows, x, blocks):
    z = sparse.csr_array(np.asarray(z, np.float32))
    left = x - z @ rows
    moments = np.stack(
        [z.toarray()[m].T @ left[m] for m in blocks.of_token == np.arange(blocks.n_blocks)[:, None]]
    )
    return Firing(z, rows.astype(np.float32), moments.astype(np.float32))


def _exact(z, rows, blocks):
    return _firing(z, rows, np.asarray(z) @ rows, blocks)


def test_every_coordinate_by_hand(monkeypatch):
    monkeypatch.setattr(coordinates, "MIN_BOTH", 1)
    blocks = assign_blocks(np.arange(32))
    base = np.zeros((8, 3))
    tuned = np.zeros((8, 3))
    base[:4, 0], tuned[2:8, 0] = 1, 2  # both fire on two tokens
    base[:, 1], tuned[:, 1] = 1, 0.5
    base[:2, 2] = 1  # never fires in the tuned model
    base, tuned = (np.tile(each, (4, 1)) for each in (base, tuned))
    rows = np.eye(3, 4)
    turned = np.array([[0.6, 0.8, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    found = measure(Pair(_exact(base, rows, blocks), _exact(tuned, turned, blocks), 3), blocks)
    table = found.table
    assert table["direction"].tolist() == pytest.approx([0.6, 1, np.nan], nan_ok=True)
    assert table["gain"].tolist() == pytest.approx([np.log(2), np.log(0.5), np.nan], nan_ok=True)
    assert table["gating"].tolist() == pytest.approx([1 - 4 / 10, 0, 1])
    assert table["kept"].tolist() == pytest.approx([2 * 2 / 4, 0.5, 0])
    assert table["rate_ratio"].tolist() == [1.5, 1, 0]
    assert table["fire_rate"].tolist() == [0.5, 1, 0.25]
    assert table["n_fires_tuned"].tolist() == [24, 32, 0]
    assert found.cofiring.shape == found.cosine.shape == (3, 3)


def test_where_no_interval_can_be_put_up_nothing_is_said():
    """A latent of two documents among 32 is in none of many resamples; one of all 32 is in all."""
    blocks = assign_blocks(np.arange(32))
    base = np.ones((32, 2))
    base[2:, 0] = 0
    table = measure(Pair(*[_exact(base, np.eye(2, 4), blocks)] * 2, 2), blocks).table
    for name in ("direction", "gain", "gating", "kept"):
        assert np.isnan(table[name][0]) and not np.isnan(table[name][1])


def _read(drive, threshold, factor, rows, blocks):
    """A latent that reads `factor` times a drive, and fires where that exceeds a threshold."""
    z = np.where(factor * drive > threshold, factor * drive, 0)
    reading = Reading(drive.astype(np.float32), np.full((1, 1), factor, np.float32), np.zeros(1))
    return replace(_exact(z, rows, blocks), reading=reading)


@pytest.mark.parametrize("factor", [2.0, 0.5, 0.2])
def test_growth_across_the_threshold_is_not_gating(factor):
    """A latent crosses its threshold on other tokens, and reads the same drive on all."""
    rng = np.random.default_rng(0)
    blocks = assign_blocks(np.repeat(np.arange(40), 500))
    drive = rng.exponential(size=(20000, 1))
    rows = np.eye(1, 4)
    base, tuned = (_read(drive, 4.0, by, rows, blocks) for by in (1.0, factor))
    table = measure(Pair(base, tuned, 1), blocks).table
    assert not 0.6 < table["rate_ratio"][0] < 1.7
    assert table["gating"][0] == pytest.approx(0, abs=0.01)
    assert table["gain"][0] == pytest.approx(np.log(factor), abs=0.1)
    assert table["kept"][0] == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("factor", [3.0, 12.0, 100.0])
def test_a_latent_however_much_stronger_fires_on_its_tokens(factor):
    rng = np.random.default_rng(1)
    blocks = assign_blocks(np.repeat(np.arange(40), 100))
    drive = rng.gamma(4, 1, (4000, 1)) * (rng.random((4000, 1)) < 0.05)
    base, tuned = (_read(drive, 0.5, by, np.eye(1, 4), blocks) for by in (1.0, factor))
    table = measure(Pair(base, tuned, 1), blocks).table
    assert table["gating"][0] == pytest.approx(0, abs=0.01)
    assert table["gain"][0] == pytest.approx(np.log(factor), abs=0.01)


def test_a_firing_that_moved_is_gating_and_not_gain():
    """Half of the tokens go, as many come, and strength stays."""
    blocks = assign_blocks(np.repeat(np.arange(40), 50))
    drive = np.zeros((2000, 2))
    drive[::4, 0], drive[1::4, 1] = 1, 1
    drive[::8, 1] = 1
    rows = np.eye(1, 4)
    base, tuned = (_read(drive[:, [i]], 0.5, 1.0, rows, blocks) for i in (0, 1))
    table = measure(Pair(base, tuned, 1), blocks).table
    n_base, n_tuned, n_both = 500, 750, 250
    assert table["gating"][0] == pytest.approx(1 - 2 * n_both / (n_base + n_tuned))
    assert table["gain"][0] == pytest.approx(0, abs=1e-6)
    assert table["kept"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("moves", "n_both", "gain"),
    [(400, 13, np.nan), (300, 13, np.nan), (100, 13, "kept"), (0, 28, "kept"), (400, 40, 0.0)],
)
def test_how_loud_a_latent_is_where_it_no_longer_fires_is_no_gain(moves, n_both, gain):
    """It fires elsewhere, as loud as ever; of one that only fell silent what is kept tells."""
    blocks = assign_blocks(np.repeat(np.arange(40), 50))
    base, tuned = np.zeros((2000, 1)), np.zeros((2000, 1))
    base[::4] = 1  # 500 firings
    there = np.linspace(0, 499, n_both).astype(int)  # in many documents
    tuned[4 * there], tuned[1 : 4 * moves : 4] = 1, 1
    rows = np.eye(1, 4)
    table = measure(Pair(_exact(base, rows, blocks), _exact(tuned, rows, blocks), 1), blocks).table
    expected = np.log(table["kept"][0]) if gain == "kept" else gain
    assert table["kept"][0] == pytest.approx(n_both / 500)
    assert table["gain"][0] == pytest.approx(expected, nan_ok=True)


def test_a_silent_tuned_latent_has_kept_nothing():
    blocks = assign_blocks(np.repeat(np.arange(20), 10))
    base = np.ones((200, 2))
    tuned = base * [[1, 0]]
    rows = np.eye(2, 4)
    table = measure(Pair(_exact(base, rows, blocks), _exact(tuned, rows, blocks), 2), blocks).table
    assert np.isnan(table["gain"][1]) and np.isnan(table["gain_low"][1])
    assert table["gating_low"][1] == 1
    assert table["kept_high"][1] == 0


@pytest.mark.parametrize("n_documents", [20, 200])
def test_direction_intervals_cover_and_widen_with_few_documents(n_documents):
    """Rows estimated on one sample, intervals from another: the true cosine is covered."""
    rng = np.random.default_rng(n_documents)
    d, length, hits, widths = 24, 20, 0, []
    true = np.zeros((2, d))
    true[0, 0], true[1, :2] = 1, (0.9, np.sqrt(1 - 0.81))
    for world in range(60):
        document = np.repeat(np.arange(n_documents), length)
        blocks = assign_blocks(document, 64, world)
        sides = []
        for side in range(2):
            z = rng.exponential(size=(len(document), 1)) * (rng.random((len(document), 1)) < 0.3)

            def sample(z=z, side=side, document=document):
                shared = rng.normal(size=(n_documents, d))[document]
                return z @ true[[side]] + 0.2 * shared + 0.3 * rng.normal(size=(len(z), d))

            fitted, held = sample(), sample()
            row = (z.T @ fitted) / (z**2).sum()
            sides.append(_firing(z, row / np.linalg.norm(row), held, blocks))
        weights = resample_weights(blocks.n_blocks, 300, world)
        row = measure(Pair(*sides, 1), blocks, weights).table.iloc[0]
        hits += row["direction_low"] <= 0.9 <= row["direction_high"]
        widths.append(row["direction_high"] - row["direction_low"])
    assert hits / 60 >= 0.9
    assert (np.mean(widths) > 0.05) == (n_documents == 20)


def test_resampled_directions_are_those_of_rows_refitted_one_by_one():
    """The cosines come from inner products alone; here every resample's row is formed."""
    rng = np.random.default_rng(0)
    blocks = assign_blocks(np.repeat(np.arange(12), 20))
    weights = resample_weights(12, n=50)
    sides = []
    for _ in range(2):
        z = np.maximum(rng.normal(size=(240, 5)), 0)
        z[:, 3] = 0  # never fires
        z[:, 4] = np.where(blocks.of_token == 0, z[:, 4], 0)  # in some resamples it does not
        rows = rng.normal(size=(5, 6))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sides.append(_firing(z, rows, z @ rows + rng.normal(size=(240, 6)), blocks))
    refitted = []
    for one in sides:
        energy = blocks.sums(one.z.toarray() ** 2)
        with np.errstate(invalid="ignore"):
            whole = one.residual_moments.sum(0) / energy.sum(0)[:, None]
            moved = np.einsum("rb,bld->rld", weights, one.residual_moments)
            refitted.append(one.rows + moved / (weights @ energy)[:, :, None] - whole)
    inner = (refitted[0] * refitted[1]).sum(-1)
    wanted = inner / np.linalg.norm(refitted[0], axis=-1) / np.linalg.norm(refitted[1], axis=-1)
    found = _row_cosines(Pair(*sides, 5), blocks, weights)
    assert np.isnan(wanted[:, 4]).any() and np.isnan(wanted[:, 3]).all()
    assert np.allclose(found, wanted, atol=1e-5, equal_nan=True)


def test_chance_is_a_quantile_over_live_latents_of_another_index():
    rng = np.random.default_rng(0)
    pairs, live = rng.random((4, 9)), np.array([1, 0, 1, 1, 0, 1, 1, 1, 1], bool)
    others = [[j for j in np.flatnonzero(live) if j != i] for i in range(4)]
    wanted = [np.quantile(pairs[i, each], CHANCE) for i, each in enumerate(others)]
    assert np.allclose(_chance(pairs, live, 4), wanted)
    assert _chance(pairs, np.arange(9) == 2, 4).tolist() == [*pairs[:2, 2], 1, pairs[3, 2]]
    assert _chance(pairs, np.zeros(9, bool), 4).tolist() == [1] * 4
