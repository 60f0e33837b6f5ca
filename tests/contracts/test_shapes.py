"""Shapes in annotations are checked at every call while tests run."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from analysis.latents.shift import constant_share
from analysis.statistics.intervals import assign_blocks, resample_weights


def test_a_wrong_shape_ends_in_an_error_and_not_in_a_broadcast():
    blocks, weights = assign_blocks(np.arange(8)), resample_weights(8)
    base = np.eye(8, 2)
    assert constant_share(base, base + 1, blocks, weights).value == 1
    with pytest.raises(TypeCheckError, match="d_in"):
        constant_share(base, np.ones((8, 1)), blocks, weights)
