"""On CUDA the same code gives the same numbers as on the CPU, within rounding."""

import copy

import pytest
import torch

from sae.dictionary import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    TopKConfig,
)
from sae.stream.activations import HookPoint, activations
from sae.stream.model import load_model
from training.config import TrainConfig
from training.loop import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"),
]
KINDS = [
    ReluConfig(l1=0.1),
    TopKConfig(k=3),
    BatchTopKConfig(k=3),
    BatchTopKConfig(k=3, per_token=0.5),
    JumpReluTanhConfig(tanh=0.1),
    JumpReluL0Config(l0=3.0),
    GatedConfig(l1=0.1),
]


@pytest.mark.parametrize("sparsity", KINDS, ids=lambda each: each.kind)
@pytest.mark.parametrize("prefixes", [(), (8, 16)])
def test_a_fit_takes_the_same_steps(make_sae, stream, x, sparsity, prefixes):
    config = TrainConfig(n_tokens=64 * 40, batch_tokens=64, lr=3e-3, dead_after_tokens=256)
    here = make_sae(sparsity, prefixes=prefixes)
    there = copy.deepcopy(here).to("cuda")
    losses = [
        [record.row()["loss/total"] for record in fit(sae, stream(x, 64), config)]
        for sae in (here, there)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert torch.allclose(there.W_dec.cpu(), here.W_dec, atol=1e-3)
    found = there.encode(x.to("cuda")).cpu()
    assert ((found > 0) != (here.encode(x) > 0)).float().mean() < 1e-3
    assert torch.allclose(there.decode(there.encode(x.to("cuda"))).cpu(), here(x).x_hat, atol=1e-2)


def test_products_in_bfloat16_learn_as_well(make_sae, stream, x):
    ends = []
    for dtype in ("float32", "bfloat16"):
        config = TrainConfig(n_tokens=64 * 200, batch_tokens=64, lr=3e-3, encoder_dtype=dtype)
        records = fit(make_sae().to("cuda"), stream(x, 64), config)
        ends.append([record.metrics["fvu"] for record in records][-20:])
    assert sum(ends[1]) < 1.1 * sum(ends[0])


def test_a_model_gives_the_same_activations(tiny_model):
    there = load_model(copy.deepcopy(tiny_model.module), tiny_model.tokenizer, device="cuda")
    ids = torch.arange(24).reshape(2, 12)
    hook = HookPoint.parse("blocks.1.hook_resid_post")
    found = [
        activations(model, ids, torch.ones_like(ids, dtype=torch.bool), [hook])[hook].cpu()
        for model in (tiny_model, there)
    ]
    assert torch.allclose(found[0], found[1], atol=1e-4, rtol=1e-4)
