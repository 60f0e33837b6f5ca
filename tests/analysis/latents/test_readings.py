"""What latents read where they are silent is what the dictionary's own arithmetic gives."""

import numpy as np
import pytest
import torch
from scipy import sparse

from analysis.latents.readings import Found, Reading, reading
from analysis.latents.traces import latents
from sae.dictionary import BatchTopKConfig, GatedConfig, Sae, SaeConfig, TopKConfig


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("sparsity", [TopKConfig(2), BatchTopKConfig(2), GatedConfig(0.1)])
def test_a_reading_is_the_activation_where_the_latent_fires(sparsity, scale):
    torch.manual_seed(0)
    sae, x = Sae(SaeConfig(5, 9, sparsity)), torch.randn(40, 5)
    with torch.no_grad():
        sae.b_dec += 0.3
        sae.b_enc += torch.randn(9) / 5
        sae.W_dec *= torch.rand(9, 1) + 0.5
        sae.input_scale.fill_(scale)
        sae.sparsity(sae.pre_activations(x), training=True)
        gain, offset = torch.ones(9), torch.zeros(9)
        if isinstance(sparsity, GatedConfig):  # its magnitude is not its gate
            gain, offset = torch.rand(9) + 0.5, torch.rand(9)
            sae.sparsity.r_mag.copy_(gain.log())
            sae.sparsity.offset.copy_(offset)
    sae.eval()
    z = latents(sae, x)
    token, latent = z.nonzero()
    found = reading(sae, x.numpy()).at(token, latent)
    assert np.allclose(found, z.data, rtol=1e-4, atol=1e-5)
    every = np.indices((40, 9)).reshape(2, -1)
    unit = (sae.W_dec.norm(dim=1) / scale).detach()
    expected = ((sae.pre_activations(x) * gain + offset) * unit).detach().numpy().ravel()
    assert np.allclose(reading(sae, x.numpy()).at(*every), expected, rtol=1e-4, atol=1e-5)


def by_hand():
    """Two tokens of a feature among forty, read at 3, with a bias of -1; the latent fires there."""
    x = np.zeros((40, 1), np.float32)
    x[:2] = 4.0
    one = Reading(x, np.ones((1, 1), np.float32), np.array([-1.0], np.float32))
    return sparse.csr_array(np.maximum(x - 1, 0)), one


def test_the_background_is_what_is_read_in_silence():
    z, one = by_hand()
    assert one.background(z) == pytest.approx([-1.0])
    always = sparse.csr_array(np.where(np.arange(40)[:, None] < 11, 1.0, 0.0))
    assert one.background(always).tolist() == [0.0]  # 29 tokens of silence are too few


def test_the_background_of_a_latent_that_is_nearly_always_on_is_no_rounding_noise():
    """A reading of 17 or so on 200,000 tokens, of 0.5 on the forty on which it is silent."""
    rng = np.random.default_rng(0)
    x = (17 + rng.normal(size=(200_000, 1))).astype(np.float32)
    x[:40] = 0.5
    one = Reading(x, np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    z = sparse.csr_array(np.where(np.arange(len(x))[:, None] < 40, 0, x))
    assert one.background(z) == pytest.approx([0.5], abs=1e-3)


def test_values_are_above_the_background_in_both_models():
    z, one = by_hand()
    weak = Reading(one.x, one.rows / 4, one.bias)  # reads 1 - 1 = 0 at the feature
    silent = sparse.csr_array((40, 1), dtype=np.float32)
    found = Found.of((z, one), (silent, weak), 1)
    assert found.value.tolist() == pytest.approx([4.0, 4.0])
    # It is silent on all tokens, and reads -38/40 on average.
    assert found.there.tolist() == pytest.approx([0.95, 0.95])
    assert not found.is_met.any()
    assert found.again(np.array([0.25])).all()
    assert not found.again(np.array([1.0])).any()
    block = np.array([0, *[1] * 39])
    assert found.sums(np.ones(2), block, (2, 1)).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("n_silent", [(40, 40), (29, 29), (29, 31), (31, 29)])
def test_two_models_have_a_background_or_neither_has(n_silent):
    """One drive, read at 6 and at 2.5 in silence: no gain, however often either is silent."""
    sides = []
    for silent in n_silent:
        x = np.where(np.arange(400)[:, None] < silent, 2.5, 6.0).astype(np.float32)
        z = sparse.csr_array(np.where(x > 3, x, 0).astype(np.float32))
        sides.append((z, Reading(x, np.ones((1, 1), np.float32), np.zeros(1, np.float32))))
    found = Found.of(*sides, 1)
    both = found.is_met
    assert found.there[both].mean() == pytest.approx(found.value[both].mean(), rel=1e-3)
