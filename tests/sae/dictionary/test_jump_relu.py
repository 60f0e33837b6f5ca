"""Thresholds of JumpReLU: start, unit and type; gates, and their paper's numbers."""

import pytest
import torch

import sae as package
from sae.dictionary import (
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    Sae,
    SaeConfig,
    initialise,
    initialise_,
)
from sae.dictionary.initialise import thresholds_at
from sae.errors import ConfigError

JUMPS = (JumpReluConfig(), JumpReluTanhConfig(tanh=1.0), JumpReluL0Config(l0=3.0))
BY_KIND = {"argnames": "config", "argvalues": JUMPS, "ids": lambda each: each.kind}


def sample(n=500):
    return 3 * torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) + 1


def fitted(config):
    sae = Sae(SaeConfig(4, 16, config))
    initialise_(sae, sample(), seed=0)
    return sae


def test_thresholds_by_hand():
    sae = Sae(SaeConfig(1, 2, JumpReluL0Config(l0=1.0)))
    with torch.no_grad():
        sae.W_enc.copy_(torch.tensor([[1.0, -1.0]]))
        sae.b_enc.copy_(torch.tensor([0.0, -1.0]))
    x = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    # pre-activations 1 2 4 8 and -2 -3 -5 -9: two fire above 3; above -2.5, no less than 0
    assert thresholds_at(sae, x, 0.5).tolist() == [3.0, 0.0]
    assert thresholds_at(sae, x, 0.01).tolist() == [6.0, 0.0]  # one token at least
    assert thresholds_at(sae, x, 1.0).tolist() == [0.0, 0.0]


def test_a_run_that_aims_at_an_l0_starts_there(monkeypatch):
    whole = fitted(JumpReluL0Config(l0=3.0))
    monkeypatch.setattr(initialise, "LATENTS", 5)
    sae = fitted(JumpReluL0Config(l0=3.0))
    torch.testing.assert_close(sae.sparsity.threshold, whole.sparsity.threshold)
    fires = sae.encode(sample()) > 0
    assert fires.sum(-1).float().mean().item() == pytest.approx(3.0, rel=0.01)
    assert (fires.sum(0) == 94).all()  # 500 tokens times 3 of 16


def test_other_thresholds_start_where_the_config_says():
    assert (fitted(JumpReluTanhConfig(1.0, threshold=0.25)).sparsity.threshold == 0.25).all()
    assert not fitted(JumpReluConfig()).sparsity.threshold.any()


def test_thresholds_are_fitted_only_where_it_is_known_how():
    fitted_ones = [[n for n, _ in fitted(each).sparsity.named_parameters()] for each in JUMPS]
    assert fitted_ones == [[], ["threshold"], ["threshold"]]


@pytest.mark.parametrize(**BY_KIND)
def test_thresholds_stay_float32_in_a_narrow_dictionary(config, tmp_path):
    sae = fitted(config)
    exact = sae.sparsity.threshold.detach().fill_(0.1001).clone()
    sae.bfloat16()
    assert torch.equal(sae.sparsity.threshold, exact)
    assert sae.W_enc.dtype == torch.bfloat16
    package.write(tmp_path, sae, {})
    again, _ = package.read(tmp_path)
    assert (again.W_enc.dtype, again.sparsity.threshold.dtype) == (torch.bfloat16, torch.float32)
    x = sample()
    assert torch.equal(again.encode(x), sae.folded().eval().encode(x))
    torch.testing.assert_close(again.encode_sparse(x).dense(), again.encode(x))
    assert sae.double().sparsity.threshold.dtype == torch.float64


@pytest.mark.parametrize(**BY_KIND)
def test_a_threshold_below_zero_acts_as_zero_and_is_lifted(config):
    sae = fitted(config)
    sae.sparsity.threshold.data.fill_(-1.0)
    assert torch.equal(sae.encode(sample()), sae.pre_activations(sample()).relu())
    sae.constrain_()
    assert not sae.sparsity.threshold.any()


@pytest.mark.parametrize(**BY_KIND)
def test_added_latents_get_the_median_threshold(config):
    sae = fitted(config)
    sae.sparsity.threshold.data.copy_(torch.arange(16) / 10)
    wider = sae.added(2, torch.Generator().manual_seed(0))
    assert torch.equal(wider.sparsity.threshold[:16], sae.sparsity.threshold)
    assert wider.sparsity.threshold[16:].tolist() == pytest.approx([0.7, 0.7])
    assert len(sae.sparsity.threshold) == 16
    assert dict(wider.named_parameters()).keys() == dict(sae.named_parameters()).keys()


def test_added_latents_of_a_gated_dictionary_have_their_gate_as_magnitude():
    wider = fitted(GatedConfig(0.1)).added(2, torch.Generator().manual_seed(0))
    x = sample()
    assert torch.equal(wider.encode(x)[:, 16:], wider.pre_activations(x)[:, 16:].relu())


def test_a_gated_latent_is_the_papers():
    sae, x = fitted(GatedConfig(0.1)), sample()
    draw = torch.Generator().manual_seed(4)
    r_mag, b_mag, b_gate = (torch.randn(16, generator=draw) for _ in range(3))
    with torch.no_grad():
        sae.b_enc.copy_(b_gate)
    sae.sparsity.set_(r_mag, b_mag, b_gate)
    torch.testing.assert_close(sae.sparsity.b_mag(sae.b_enc), b_mag)
    shared = (sae.input_scale.float() * x - sae.b_dec) @ sae.W_enc
    opened, magnitude = shared + b_gate > 0, (shared * r_mag.exp() + b_mag).relu()
    torch.testing.assert_close(sae.encode(x), opened * magnitude, rtol=1e-4, atol=1e-5)


def test_it_says_where_its_thresholds_lie():
    sae = fitted(JumpReluConfig())
    sae.sparsity.threshold.copy_(torch.arange(16) / 10)
    assert "thresholds=0 to 1.5, median 0.7, input_scale" in repr(sae)
    assert "<th>thresholds</th><td>0 to 1.5, median 0.7</td>" in sae._repr_html_()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JumpReluTanhConfig(tanh=-1.0), "tanh=-1.0"),
        (lambda: JumpReluTanhConfig(tanh=1.0, bandwidth=0.0), "bandwidth=0.0"),
        (lambda: JumpReluTanhConfig(tanh=1.0, steepness=0.0), "steepness=0.0"),
        (lambda: JumpReluTanhConfig(tanh=1.0, ramp=1.5), "ramp=1.5"),
        (lambda: JumpReluL0Config(l0=0.0), "l0=0.0"),
        (lambda: JumpReluL0Config(l0=1.0, bandwidth=float("inf")), "bandwidth=inf"),
        (lambda: SaeConfig(4, 8, JumpReluL0Config(l0=9.0)), "more fires than latents"),
        (lambda: GatedConfig(l1=float("nan")), "l1=nan"),
    ],
)
def test_a_wrong_value_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
