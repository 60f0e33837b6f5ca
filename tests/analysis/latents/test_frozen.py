"""What is measured of a latent whose index the continued dictionary gave to something else."""

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.latents.coordinates import measure
from analysis.latents.effects import Effects
from analysis.latents.frozen import let_go, read_again
from analysis.latents.pairs import Pair
from analysis.latents.readings import reading
from analysis.latents.traces import firing
from analysis.planted import dictionary_of
from analysis.statistics.intervals import assign_blocks, resample_weights

D, N, TOKENS = 24, 10, 6000


def _through(rows, x, blocks):
    sae = dictionary_of(rows)
    found = firing(sae, torch.from_numpy(x).split(1000), blocks)
    return found.__class__(found.z, found.rows, found.residual_moments, reading(sae, x))


@pytest.fixture(scope="module")
def world():
    """Ten orthogonal features in a base and a tuned model, in which two of them are rotated."""
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(D, D)))[0][:N].astype(np.float32)
    z = rng.exponential(size=(TOKENS, N)) * (rng.random((TOKENS, N)) < 0.15) + 0.0
    z = np.where(z > 0, z + 0.5, 0)
    turned = rows.copy()
    other = np.linalg.qr(np.concatenate([rows, rng.normal(size=(2, D))]).T)[0].T[N:]
    turned[:2] = 0.8 * rows[:2] + 0.6 * other
    noise = 0.02 * rng.normal(size=(2, TOKENS, D))
    x, y = (z @ each + n for each, n in zip((rows, turned), noise, strict=True))
    blocks = assign_blocks(np.repeat(np.arange(60), TOKENS // 60))
    return rows, turned, x.astype(np.float32), y.astype(np.float32), blocks


def _measured(world, continued):
    rows, _, x, y, blocks = world
    base, frozen = _through(rows, x, blocks), _through(rows, y, blocks)
    pair = Pair(base, _through(continued, y, blocks), N)
    weights, strata = resample_weights(blocks.n_blocks, 100), np.arange(TOKENS) % 3
    found = measure(pair, blocks, weights, strata)
    again = read_again(found, pair, frozen, blocks, weights, strata)
    return pair, frozen, found, again


def test_a_latent_that_was_let_go_is_read_as_it_was(world):
    """The second and third index were given away; the first follows its rotated feature."""
    rows, turned, *_ = world
    unused = np.linalg.qr(np.concatenate([rows, turned[:2], np.eye(D)]).T)[0].T[N + 2 : N + 4]
    continued = turned.copy()
    continued[1:3] = unused
    pair, frozen, found, again = _measured(world, continued)
    assert let_go(pair, frozen).tolist() == [1, 2]
    table = again.table
    assert table["latent"][table["frozen"]].tolist() == [1, 2]
    assert found.table["gating"][2] > 0.5 > 0.1 > table["gating"][2]
    assert table["direction"][2] == pytest.approx(1.0, abs=0.02)
    assert table["direction"][1] == pytest.approx(0.8, abs=0.05)
    assert table["gain"][2] == pytest.approx(0.0, abs=0.1)
    for limit in ("low", "high"):
        assert table[f"direction_{limit}"][2] == pytest.approx(1.0, abs=0.03)
    others = [0, *range(3, N)]
    columns = [c for c in found.table if c != "frozen"]
    pd.testing.assert_frame_equal(table.loc[others, columns], found.table.loc[others, columns])
    for name, drawn in again.replicates.items():
        assert np.array_equal(drawn[:, others], found.replicates[name][:, others], equal_nan=True)
        assert np.median(drawn[:, 2]) == pytest.approx(table[name][2], abs=0.02)
    assert table["chance_cosine"].tolist() == found.table["chance_cosine"].tolist()


def test_of_a_latent_that_was_read_as_it_was_there_is_no_effect(world):
    """Effects are those of the continued latent, which is another by now."""
    continued = world[1].copy()
    continued[1:3] = np.linalg.qr(np.concatenate([world[0], world[1][:2], np.eye(D)]).T)[0].T[12:14]
    *_, again = _measured(world, continued)
    columns = ("effect", "effect_low", "effect_high")
    table = pd.DataFrame(dict.fromkeys(columns, np.full(N, 0.5)))
    beside = again.beside(Effects(table, np.full((100, N), 0.5, np.float32)))
    assert beside.table["effect"].isna().tolist() == [i in (1, 2) for i in range(N)]
    assert np.isnan(beside.replicates["effect"]).all(axis=0).tolist() == [
        i in (1, 2) for i in range(N)
    ]


def test_where_no_latent_was_let_go_nothing_changes(world):
    """A rotated feature that the continued dictionary follows is measured by that one."""
    *_, found, again = _measured(world, world[1])
    assert not again.table["frozen"].any()
    assert again.table["direction"][0] == pytest.approx(0.8, abs=0.01)
    pd.testing.assert_frame_equal(again.table.drop(columns="frozen"), found.table)


def test_what_no_dictionary_reads_any_more_stays_as_it_was_measured(world):
    rows, turned, x, y, blocks = world
    gone = (y - np.outer(y @ turned[4], turned[4])).astype(np.float32)
    lost = rows, turned, x, gone, blocks
    _, _, found, again = _measured(lost, turned)
    assert not again.table["frozen"][4]
    assert again.table["kept"][4] == found.table["kept"][4]
    assert again.table["kept"][4] < 0.2
