"""A dictionary that was read wrongly says so, and what would mend it."""

import math

import pytest
import torch

from sae.dictionary import Sae, SaeConfig
from sae.dictionary.kinds import GatedConfig, JumpReluConfig, ReluConfig, TopKConfig
from sae.errors import InputError
from sae.formats import sanity_check
from sae.formats.scales import with_unit_rows

D = 16


def perfect(sparsity, offset=0.0):
    """Directions +-e_i around an offset: anything is rebuilt as far as the sparsity lets it."""
    dictionary = Sae(SaeConfig(D, 2 * D, sparsity)).eval()
    rows = torch.cat([torch.eye(D), -torch.eye(D)])
    with torch.no_grad():
        dictionary.W_dec.copy_(rows)
        dictionary.W_enc.copy_(rows.T)
        dictionary.b_dec.fill_(offset)
    return dictionary


def activations(offset=0.0, scale=1.0):
    return scale * torch.randn(9000, D, generator=torch.Generator().manual_seed(0)) + offset


def trouble(*given):
    with pytest.raises(InputError) as caught:
        sanity_check(*given)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_sound_dictionary_passes_and_says_what_was_measured():
    found = sanity_check(perfect(TopKConfig(k=8)), activations())
    assert 0 < found.fvu < 0.5
    assert found.l0 == pytest.approx(8, abs=0.2)


def test_a_dictionary_stays_in_the_mode_it_is_in():
    dictionary = perfect(TopKConfig(k=8)).train()
    sanity_check(dictionary, activations())
    assert dictionary.training


def test_the_other_rule_for_b_dec():
    dictionary = perfect(ReluConfig(l1=0.0), offset=50.0)
    with torch.no_grad():
        dictionary.b_enc -= dictionary.b_dec @ dictionary.W_enc  # made for one that does not
    meta = {"source": {"subtract_b_dec": True, "l0": 16}}
    error = trouble(dictionary, activations(offset=50.0), meta)
    assert "read it with subtract_b_dec False" in error.do


def test_activations_that_should_have_been_scaled():
    dictionary = perfect(ReluConfig(l1=0.0))
    with torch.no_grad():
        dictionary.b_enc -= 0.5
    assert sanity_check(dictionary, activations()).fvu < 1
    assert "input_scale" in trouble(dictionary, activations(scale=0.01)).do


def test_too_many_fires():
    meta = {"source": {"l0": 2.0}}
    error = trouble(perfect(ReluConfig(l1=0.0)), activations(), meta)
    assert "16 fires a token where 2 is declared" in error.found
    assert "hidden_states[n + 1]" in error.do


def test_not_a_number():
    dictionary = perfect(ReluConfig(l1=0.0))
    with torch.no_grad():
        dictionary.b_dec += math.inf
    assert "FVU inf" in trouble(dictionary, activations()).found


@pytest.mark.parametrize("sparsity", [ReluConfig(l1=0.0), JumpReluConfig(), GatedConfig(l1=0.0)])
def test_rows_are_given_norm_1_before_a_dictionary_is_continued(sparsity):
    dictionary = perfect(sparsity, offset=1.0)
    norms = 0.5 + torch.rand(2 * D, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        dictionary.W_dec *= norms.unsqueeze(-1)
        for each in (*dictionary.sparsity.parameters(), *dictionary.sparsity.buffers()):
            each += 0.3
    twin, x = with_unit_rows(dictionary), activations()[:50]
    assert torch.allclose(twin.W_dec.norm(dim=-1), torch.ones(2 * D))
    assert torch.allclose(twin(x).x_hat, dictionary(x).x_hat, atol=1e-5)
    assert torch.allclose(twin(x).z, dictionary(x).z * norms, atol=1e-5)
    assert with_unit_rows(twin) is twin


def test_rows_of_a_dictionary_that_compares_latents_are_refused():
    dictionary = perfect(TopKConfig(k=8))
    with torch.no_grad():
        dictionary.W_dec *= 2
    with pytest.raises(InputError, match="decoder rows whose norm is not 1"):
        with_unit_rows(dictionary)
