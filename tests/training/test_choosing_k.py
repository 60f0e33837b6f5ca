"""The number of latents that fire: codes worked out by hand, and worlds where it is known."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae.dictionary import BatchTopKConfig, ReluConfig, SaeConfig
from sae.errors import ConfigError
from training.choosing_k import Trial, best, description_length, trials
from training.config import TrainConfig

D_IN, D_SAE = 32, 64
RUN = TrainConfig(n_tokens=20_000, batch_tokens=256, lr=4e-3, dead_after_tokens=10_000)


class Vectors:
    """Activations that fit into memory."""

    def __init__(self, x):
        self.x, self.n_chunks, self.d_in = x, len(x) // 1000, x.shape[1]

    def n_most(self, number):
        return 1000

    def chunk(self, number):
        return self.x[1000 * number : 1000 * (number + 1)]


def world(l0, noise=0.02, n=12_000, seed=0):
    """Tokens of `l0` features each on average, of 64 in 32 dimensions, and white noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    fires = torch.rand(n, D_SAE, generator=generator) < l0 / D_SAE
    z = fires * (0.5 + 1.5 * torch.rand(n, D_SAE, generator=generator))
    x = z @ rows
    return x + (noise * x.square().mean()).sqrt() * torch.randn(n, D_IN, generator=generator)


def shape(k=1):
    return SaeConfig(D_IN, D_SAE, BatchTopKConfig(k=k, per_token=0.8))


def test_a_code_by_hand():
    # one latent of two at a rate of 1/4: H = .25 ln 4 + .75 ln (4/3); a tenth is left of 6 numbers
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    found = description_length(0.1, torch.tensor([0.25, 0.0]), d_in=6)
    assert found == pytest.approx(entropy + 3 * math.log(0.1))
    assert description_length(1.0, torch.tensor([0.0, 1.0]), d_in=6) == 0


@given(st.integers(2, 512), st.integers(1, 16))
def test_latents_that_take_nothing_off_only_cost(d_in, n):
    rates = torch.full((64,), n / 64)
    assert description_length(0.5, rates, d_in) >= description_length(0.5, rates * 0, d_in)


@pytest.mark.parametrize("l0", [2, 5])
def test_k_is_near_what_fires(l0):
    x = world(l0)
    tried = list(trials(Vectors(x[:10_000]), x[10_000:], shape(), RUN, (1, 2, 4, 8)))
    assert l0 / 2 <= best(tried) <= 2 * l0
    assert [each.k for each in tried] == [1, 2, 4, 8][: len(tried)]
    assert all(each.l0 == pytest.approx(each.k, rel=0.3) for each in tried)


def test_it_stops_once_two_in_a_row_are_worse():
    x = world(1)
    tried = list(trials(Vectors(x[:10_000]), x[10_000:], shape(), RUN, (2, 6, 12, 24)))
    nats = [each.nats for each in tried]
    assert len(tried) == 3
    assert nats.index(min(nats)) == 0


def test_no_more_than_half_of_the_latents_are_to_fire():
    x = world(2, n=2000)
    short = replace(RUN, n_tokens=1000)
    tried = trials(Vectors(x), x, replace(shape(), d_sae=4), short, (1, 2, 3, 4))
    assert [each.k for each in tried] == [1, 2]


def test_of_equals_the_smallest_is_taken():
    assert best([Trial(8, 8.0, 0.1, -3.0), Trial(4, 4.0, 0.2, -3.0)]) == 4


@pytest.mark.parametrize("ks", [(), (0, 2), (4, 2), (2, 2)])
def test_ks_that_do_not_rise_are_refused(ks):
    x = world(2, n=2000)
    with pytest.raises(ConfigError, match="list rising numbers"):
        list(trials(Vectors(x), x, shape(), RUN, ks))


def test_a_sparsity_without_k_is_refused():
    x = world(2, n=2000)
    relu = replace(shape(), sparsity=ReluConfig(l1=0.1))
    with pytest.raises(ConfigError, match="sparsity relu"):
        list(trials(Vectors(x), x, relu, RUN, (1, 2)))
