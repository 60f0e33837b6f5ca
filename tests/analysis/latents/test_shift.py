"""The constant part of a shift, by hand and with its interval."""

import numpy as np
import pytest

from analysis.latents.shift import constant_share
from analysis.statistics.intervals import assign_blocks, resample_weights


def test_its_share_by_hand():
    """Four at one place in every row, and two there and back: 16 of 16 + 4."""
    base = np.random.default_rng(0).normal(size=(640, 3))
    shift = np.tile([[4.0, 2.0, 0.0], [4.0, -2.0, 0.0]], (320, 1))
    blocks = assign_blocks(np.repeat(np.arange(64), 10))
    weights = resample_weights(blocks.n_blocks)
    found = constant_share(base, base + shift, blocks, weights)
    assert found.value == pytest.approx(0.8)
    assert found.low <= found.value <= found.high <= 1
    none = constant_share(base, base, blocks, weights)
    assert np.isnan(none.value)


def test_documents_that_moved_otherwise_widen_it():
    doc = np.repeat(np.arange(64), 10)
    blocks = assign_blocks(doc)
    weights = resample_weights(blocks.n_blocks)
    rng = np.random.default_rng(0)
    by_token, by_doc = rng.normal(size=(640, 4)), rng.normal(size=(64, 4))[doc]
    wide = [
        found.high - found.low
        for found in (
            constant_share(np.zeros((640, 4)), 1 + each, blocks, weights)
            for each in (by_token, by_doc)
        )
    ]
    assert wide[1] > 1.5 * wide[0]
