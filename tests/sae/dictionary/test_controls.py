"""Dictionaries that learned nothing, or half."""

import pytest
import torch

from sae.dictionary import BatchTopKConfig, GatedConfig, Sae, SaeConfig, TopKConfig, initialise_
from sae.dictionary.controls import (
    freeze_decoder_,
    freeze_encoder_,
    principal,
    random_matched,
)
from sae.dictionary.directions import covariance_rows, principal_rows
from sae.dictionary.metrics import fvu_compute, fvu_update
from sae.errors import ConfigError
from training.config import TrainConfig
from training.loop import fit

CROSS = torch.tensor([[8.0, 5.0], [2.0, 5.0], [5.0, 6.0], [5.0, 4.0]])  # (5, 5) + 3 and 1 apart


def sample(n=256):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7.0)


def test_principal_directions_by_hand():
    assert principal_rows(CROSS, 4).round().add(0.0).tolist() == [
        [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="5 principal directions; found: a width of 2"):
        principal_rows(CROSS, 5)


def test_a_principal_dictionary_leaves_what_its_directions_miss():
    # squared deviations 9 9 1 1: the first axis explains 18 of 20, and one latent a token all
    for d_sae, fvu in ((2, 2 / 20), (4, 0.0)):
        sae = principal(SaeConfig(2, d_sae, TopKConfig(k=1)), CROSS)
        found = fvu_compute(fvu_update(CROSS, sae(CROSS).x_hat.detach()))
        assert found == pytest.approx(fvu, abs=1e-6)
    latents = principal(SaeConfig(2, 4, TopKConfig(k=1)), CROSS).folded().encode(CROSS)
    torch.testing.assert_close(latents, torch.diag(torch.tensor([3.0, 3.0, 1.0, 1.0])))


def test_random_directions_vary_as_the_sample_does():
    rows = covariance_rows(CROSS, 4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(4000))
    # tan = sd 1 z / (3 z'): half of all directions lie within arctan(1/3) of the first axis
    assert (rows[:, 1] / rows[:, 0]).abs().median().item() == pytest.approx(1 / 3, rel=0.1)


def test_an_unfitted_control_can_be_used_at_once():
    sae = random_matched(SaeConfig(6, 24, BatchTopKConfig(k=3)), sample(), seed=1)
    assert not sae.training
    z = sae.encode_sparse(sample())
    assert len(z.value) / len(z) == pytest.approx(3, rel=0.01)
    assert torch.equal(sae.W_enc, sae.W_dec.T)


def fitted(freeze, sparsity, steps=60):
    x = sample()
    sae = Sae(SaeConfig(6, 24, sparsity))
    initialise_(sae, x, seed=0)
    freeze(sae)
    before = {name: each.clone() for name, each in sae.state_dict().items()}
    config = TrainConfig(n_tokens=64 * steps, batch_tokens=64, lr=1e-2, dead_after_tokens=10**6)
    records = list(fit(sae, list(x.split(64)) * steps, config))
    fvu = [each.metrics["fvu"] for each in records]
    moved = {n for n, e in sae.state_dict().items() if not torch.equal(e, before[n])}
    return sae, records[-1].state, config, fvu, moved


@pytest.mark.parametrize("sparsity", [TopKConfig(k=3), GatedConfig(0.1)], ids=lambda e: e.kind)
def test_what_is_frozen_keeps_every_bit_and_the_rest_learns(sparsity):
    for freeze in (freeze_decoder_, freeze_encoder_):
        sae, _, _, fvu, moved = fitted(freeze, sparsity)
        free = {name for name, each in sae.named_parameters() if each.requires_grad}
        assert moved == free
        assert ("W_dec" in free) == (freeze is freeze_encoder_)
        assert sum(fvu[-4:]) < 0.9 * sum(fvu[:4])


def test_copies_are_frozen_too():
    sae = Sae(SaeConfig(6, 24, GatedConfig(0.1)))
    freeze_encoder_(sae)
    for each in (sae.folded(), sae.added(3, torch.Generator().manual_seed(0))):
        assert [n for n, p in each.named_parameters() if p.requires_grad] == ["W_dec"]


def test_a_frozen_run_resumes_frozen_alone():
    sae, state, config, _, _ = fitted(freeze_decoder_, TopKConfig(k=3))
    assert not any("W_dec" in name for name in state.moments)
    assert list(fit(sae, [], config, state)) == []
    sae.W_dec.requires_grad_(True)
    with pytest.raises(ConfigError, match="frozen as it was"):
        fit(sae, [], config, state)
