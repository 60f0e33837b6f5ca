"""Where added latents start: at what many tokens miss, and at nothing the dictionary knows."""

import pytest
import torch
from torch.nn.functional import normalize

from training.continuation import pursued

D = 32


@pytest.fixture
def world():
    """Errors of 4,000 tokens: 12 rare features, two a token at times, and noise."""
    g = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(12, D, generator=g), dim=1)
    fires = (torch.rand(4000, 12, generator=g) < 0.04) * (1 + torch.rand(4000, 12, generator=g))
    return rows, fires @ rows + 0.03 * torch.randn(4000, D, generator=g)


def seeds(n):
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def test_features_are_found_through_mixtures_and_noise(world):
    rows, error = world
    for generator in seeds(3):
        found = pursued(error, 16, generator)
        assert found.norm(dim=1) == pytest.approx(torch.ones(16), abs=1e-5)
        nearest = (rows @ found.T).amax(dim=1)
        assert (nearest > 0.65).all() and nearest.mean() > 0.8


def test_what_is_known_is_taken_off_and_not_kept(world):
    """The first six are features that a dictionary reconstructs too small."""
    rows, error = world
    for generator in seeds(3):
        found = pursued(error, 16, generator, rows[:6])
        assert ((rows[:6] @ found.T) < 0.7).all()
        nearest = (rows[6:] @ found.T).amax(dim=1)
        assert (nearest > 0.65).sum() >= 4 and nearest.mean() > 0.7


def test_where_nothing_is_left_directions_are_random():
    first, second = (pursued(torch.zeros(10, D), 5, each) for each in seeds(2))
    assert first.shape == (5, D) and not torch.equal(first, second)
    one = torch.zeros(10, D)
    one[:, 3] = 2.0
    found = pursued(one, 3, seeds(1)[0])
    assert found[0].tolist() == [0.0] * 3 + [1.0] + [0.0] * (D - 4)
    assert found.norm(dim=1) == pytest.approx(torch.ones(3), abs=1e-5)
    assert pursued(one, 0, seeds(1)[0]).shape == (0, D)


def test_equal_seeds_find_equal_directions(world):
    error = world[1]
    assert torch.equal(pursued(error, 4, seeds(1)[0]), pursued(error, 4, seeds(1)[0]))
