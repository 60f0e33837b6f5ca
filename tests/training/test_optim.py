"""Adam for a dictionary, whose encoder lies with a latent's weights together."""

import pytest
import torch

from sae.dictionary import Sae, SaeConfig, TopKConfig
from training.config import TrainConfig
from training.optim import adam, moments


def drawn(seed):
    return torch.randn(8, 24, generator=torch.Generator().manual_seed(seed))


def test_it_takes_the_steps_of_plain_adam_however_a_matrix_lies():
    sae = Sae(SaeConfig(8, 24, TopKConfig(2)))
    assert not sae.W_enc.is_contiguous()
    plain = torch.nn.Parameter(sae.W_enc.detach().clone(memory_format=torch.contiguous_format))
    config = TrainConfig(n_tokens=1, lr=0.1)
    ours, theirs = adam(sae, config), torch.optim.Adam([plain], lr=0.1)
    for seed in range(5):
        plain.grad = drawn(seed)
        sae.W_enc.grad = drawn(seed).T.contiguous().T
        for optimiser in (ours, theirs):
            optimiser.step()
    assert torch.allclose(sae.W_enc, plain, atol=1e-6)
    held = moments(sae, ours)
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.allclose(held[f"{name}.W_enc"], theirs.state[plain][name], atol=1e-6)
        assert held[f"{name}.W_enc"].stride() == sae.W_enc.stride()


def test_a_step_that_fails_leaves_the_matrix_as_it_lay(monkeypatch):
    sae = Sae(SaeConfig(8, 24, TopKConfig(2)))
    before, optimiser = sae.W_enc.detach().clone(), adam(sae, TrainConfig(n_tokens=1, lr=0.1))
    sae.W_enc.grad = drawn(0).T.contiguous().T

    def fails(*_):
        raise RuntimeError("no step")

    monkeypatch.setattr(torch.optim.Adam, "step", fails)
    with pytest.raises(RuntimeError, match="no step"):
        optimiser.step()
    assert torch.equal(sae.W_enc, before)
    assert torch.equal(sae.W_enc.grad, drawn(0))
    assert sae.W_enc.stride() == before.stride()
