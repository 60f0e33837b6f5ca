"""Profiles over strata, by hand and on drives that only grow, shrink or go silent somewhere."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from analysis.latents import profiles as module
from analysis.latents.pairs import Pair
from analysis.latents.profiles import profiles, strata
from analysis.latents.readings import Reading
from analysis.latents.traces import Firing
from analysis.statistics.intervals import Blocks, assign_blocks, resample_weights


def _pair(base, tuned):
    sides = [np.asarray(each, np.float32) for each in (base, tuned)]
    n = sides[0].shape[1]
    rows = np.eye(n, n + 1, dtype=np.float32)
    return Pair(*(Firing(sparse.csr_array(each), rows) for each in sides), n)


def test_shares_that_moved_by_hand():
    """One stays, one only doubles, one moves a quarter, one moves all, one falls silent."""
    base = [[1, 1, 3, 2, 1], [1, 1, 0, 0, 1], [1, 1, 1, 0, 1]]
    tuned = [[1, 2, 4, 0, 0], [1, 2, 0, 0, 0], [1, 2, 4, 1, 0]]
    blocks, stratum = Blocks(np.array([0, 1, 1]), 2), np.array([0, 1, 1])
    found, drawn = profiles(_pair(base, tuned), stratum, blocks, np.array([[1.0, 1.0]]))
    assert found[0, :4].tolist() == pytest.approx([0, 0, 0.75 - 0.5, 1])
    assert np.isnan(found[0, 4])
    assert drawn[0, :4].tolist() == pytest.approx(found[0, :4].tolist())


def _read(drive, threshold, factor):
    """A latent that reads `factor` times a drive, and fires where that exceeds a threshold."""
    z = np.where(factor * drive > threshold, factor * drive, 0)
    reading = Reading(drive.astype(np.float32), np.full((1, 1), factor, np.float32), np.zeros(1))
    rows = np.eye(1, 2, dtype=np.float32)
    return replace(Firing(sparse.csr_array(z.astype(np.float32)), rows), reading=reading)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_growth_across_the_threshold_leaves_the_profile(factor):
    rng = np.random.default_rng(0)
    blocks, stratum = assign_blocks(np.repeat(np.arange(40), 500)), np.arange(20000) % 2
    drive = rng.exponential(size=20000) * np.where(stratum, 1.0, 2.0)
    pair = Pair(*(_read(drive[:, None], 3.0, by) for by in (1.0, factor)), 1)
    weights = resample_weights(blocks.n_blocks, 50)
    assert profiles(pair, stratum, blocks, weights)[0][0, 0] < 0.05


def test_silence_in_one_kind_of_text_is_seen_where_firings_are_weak_there():
    """Six tenths of the activation, all of it weak, goes; the pattern of strong firings stays."""
    blocks, stratum = assign_blocks(np.repeat(np.arange(40), 50)), np.arange(2000) % 2
    base = np.where(stratum, 1.5, 1.0 * (np.arange(2000) % 3 == 0) * 3)[:, None]
    tuned = np.where(stratum[:, None], 0.0, base)
    weights = resample_weights(blocks.n_blocks, 200)
    found, drawn = profiles(_pair(base, tuned), stratum, blocks, weights)
    assert found[0, 0] == pytest.approx(1.5 / (1.5 + 1.0), abs=0.01)
    assert np.median(drawn) == pytest.approx(found[0, 0], abs=1e-9)
    assert 0 < drawn.std() < 0.02


def test_strata_are_personas_roles_and_documents_and_the_rarest_are_one(monkeypatch):
    tokens = pd.DataFrame(
        {
            "persona": ["pirate", "pirate", None, None, "cook", "cook", "cook"],
            "role": ["character", "narrator", "user", "user", "character", "character", "user"],
            "context": ["story"] * 7,
            "is_template": [False, False, False, True, False, False, True],
        }
    )
    found = strata(tokens)
    assert found[4] == found[5] == 0
    assert len(set(found)) == 6
    monkeypatch.setattr(module, "MOST", 3)
    assert set(strata(tokens)) == {0, 1, 2}
    assert (strata(tokens) == 0).sum() == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_a_profile_is_a_share_of_no_unit_and_moves_as_far_back(n, n_strata, n_latents, seed):
    rng = np.random.default_rng(seed)
    base, tuned = (np.maximum(rng.normal(size=(n, n_latents)), 0) for _ in range(2))
    stratum, blocks = rng.integers(0, n_strata, n), Blocks(np.arange(n) % 2, 2)
    ask = stratum, blocks, np.ones((1, 2))
    there, back, scaled = (
        profiles(_pair(*each), *ask)[0][0]
        for each in ((base, tuned), (tuned, base), (3 * base, tuned))
    )
    assert np.array_equal(np.isnan(there), np.isnan(back))
    assert np.allclose(there, back, atol=1e-5, equal_nan=True)
    assert np.allclose(there, scaled, atol=1e-5, equal_nan=True)
    assert (np.isnan(there) | ((there >= 0) & (there <= 1))).all()
