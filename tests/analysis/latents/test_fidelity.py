"""The FVU of a dictionary, over documents."""

import numpy as np
import pytest
import torch

from analysis.latents.fidelity import fidelity
from analysis.statistics.intervals import assign_blocks, resample_weights
from sae.dictionary.metrics import fvu_compute, fvu_update


def test_fidelity_is_the_fvu_of_the_metric():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator)
    x_hat = x + 0.3 * torch.randn(400, 5, generator=generator)
    blocks = assign_blocks(np.repeat(np.arange(20), 20))
    found = fidelity(x, x_hat, blocks)
    assert found.value == pytest.approx(fvu_compute(fvu_update(x, x_hat)))
    assert found.low < found.value < found.high
    weights = resample_weights(20, 3)
    rows = np.concatenate(
        [np.tile(np.flatnonzero(blocks.of_token == b), int(w)) for b, w in enumerate(weights[0])]
    )
    drawn = fidelity(x, x_hat, blocks, weights[[0, 0]])
    again = fvu_compute(fvu_update(x[rows], x_hat[rows]))
    assert (drawn.low, drawn.high) == pytest.approx(tuple(sorted((again, found.value))))
