"""Kinds that penalties keep sparse: their terms by hand, and gradients against dense float64."""

import pytest
import torch

from sae.dictionary import (
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    Sae,
    SaeConfig,
    initialise_,
    losses,
)
from sae.dictionary.jump_relu import n_above
from sae.dictionary.latents import Latents
from sae.dictionary.losses import dictionary_loss
from sae.dictionary.penalties import gate_reconstruction, l0_excess, l1, pre_act, tanh
from training.config import TrainConfig
from training.optim import adam, step_

D_IN, D_SAE, N = 16, 64, 96
TANH = JumpReluTanhConfig(tanh=0.7, pre_act=0.05, bandwidth=0.8, ramp=0.0)
L0 = JumpReluL0Config(l0=6.0, bandwidth=0.3)
SPARSITIES = (ReluConfig(0.3), GatedConfig(0.3), JumpReluConfig(), TANH, L0)
PATHS = {"entries": 1.0, "dense": -1.0}


def sample(seed, n=N):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D_IN, generator=generator) + torch.arange(D_IN) / 4


def made(sparsity, prefixes=(), d_sae=D_SAE):
    """A dictionary with generic state of every latent, off to a start where few latents fire."""
    sae = Sae(SaeConfig(D_IN, d_sae, sparsity, prefixes))
    initialise_(sae, sample(0), seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        sae.b_enc += 0.1 * torch.randn(d_sae, generator=generator)
        for state in sae.sparsity.state_dict().values():
            state += 0.5 * torch.rand(d_sae, generator=generator)
    return sae.train()


def reference(sae, x, dead):
    """The same loss in dense float64, and its parameters.

    Which entries fire or are near is taken from float32; the slope a jump is given is written as a
    value that is 0 and a gradient that is not.
    """
    own = {n: p.detach().double().requires_grad_() for n, p in sae.named_parameters()}
    sparsity, edges = sae.config.sparsity, (*sae.config.prefixes, sae.config.d_sae)
    w_dec, b_dec, scaled = own["W_dec"], own["b_dec"], sae.input_scale * x.double()
    pre32 = sae.pre_activations(x).detach()
    pre = (scaled - b_dec) @ own["W_enc"] + own["b_enc"]
    length = w_dec.norm(dim=-1)

    def error(z, w_dec=w_dec, b_dec=b_dec):
        errors = [scaled - z[:, :edge] @ w_dec[:edge] - b_dec for edge in edges]
        return sum(each.square().mean() for each in errors) / len(edges), errors[-1]

    def auxiliary(missed):
        if not dead.any():
            return 0.0
        tried = pre[:, dead].relu()
        best = tried.topk(min(D_IN // 2, tried.shape[1]), dim=-1)
        tried = torch.zeros_like(tried).scatter(-1, best.indices, best.values)
        return (missed.detach() - tried @ w_dec[dead]).square().mean() / 32

    if isinstance(sparsity, ReluConfig):
        z = torch.where(pre32 > 0, pre, 0.0)
        return error(z)[0] + 0.3 * (z * length).sum() / (len(x) * D_IN**0.5), own
    if isinstance(sparsity, GatedConfig):
        gate = torch.where(pre32 > 0, pre, 0.0)
        magnitude = own["sparsity.r_mag"].exp() * pre + own["sparsity.offset"]
        z = torch.where(pre32 > 0, magnitude.relu(), 0.0)
        penalty = 0.3 * (gate * length).sum() / (len(x) * D_IN**0.5)
        return error(z)[0] + penalty + error(gate, w_dec.detach(), b_dec.detach())[0], own
    if isinstance(sparsity, JumpReluConfig):
        z = torch.where(pre32 > sae.sparsity.threshold, pre, 0.0)
        loss, missed = error(z)
        return loss + auxiliary(missed), own
    threshold32, threshold = sae.sparsity.threshold.detach(), own["sparsity.threshold"]
    fires = (pre32 > threshold32).double()
    near = ((pre32 - threshold32).abs() < sparsity.bandwidth / 2) / sparsity.bandwidth
    above = (pre if sparsity is TANH else pre.detach()) - threshold
    z = fires * pre + near * threshold.detach() * (above - above.detach())
    loss, missed = error(z)
    if sparsity is TANH:
        cost = (4 * z * length).tanh().sum() / (len(x) * D_IN)
        silent = ((threshold - pre) * (1 - fires) * length).sum() / (len(x) * D_IN)
        return loss + 0.7 * cost + 0.05 * silent, own
    count = (fires - near * (threshold - threshold.detach())).sum() / len(x)
    return loss + (count / sparsity.l0 - 1) ** 2 + auxiliary(missed), own


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prefixes", [(), (8, 20)], ids=["flat", "nested"])
@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_loss_and_gradients_are_those_of_dense_float64_at_every_step(
    sparsity, prefixes, path, monkeypatch
):
    monkeypatch.setattr(losses, "SPARSE_SHARE", PATHS[path])
    sae, dead = made(sparsity, prefixes), torch.arange(D_SAE) < 9
    optimiser = adam(sae, TrainConfig(n_tokens=1000, lr=1e-2))
    for step in range(12):
        x = sample(step)
        loss, output = dictionary_loss(sae, x, dead)
        expected, own = reference(sae, x, dead)
        sae.zero_grad()
        loss.total.backward()
        expected.backward()
        assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
        for name, parameter in sae.named_parameters():
            mine, theirs = parameter.grad.double(), own[name].grad
            assert theirs.any(), (step, name)
            assert (mine - theirs).norm() <= 1e-5 * theirs.norm(), (step, name)
        assert torch.equal(output.z.dense() > 0, sae.encode(x) > 0)
        step_(sae, optimiser, 1e-2, grad_clip=1.0)
        assert (getattr(sae.sparsity, "threshold", torch.zeros(1)) >= 0).all()


@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_the_batch_alone_decides_how_it_is_passed(sparsity, monkeypatch):
    taken, sae = [], made(sparsity)
    for name in ("activate", "forward"):
        whole = getattr(type(sae.sparsity), name)
        record = lambda *given, n=name, f=whole: taken.append(n) or f(*given)  # noqa: E731
        monkeypatch.setattr(type(sae.sparsity), name, record)
    with torch.no_grad():
        sae.b_enc -= 100.0
        sae.b_enc[0] += 200.0  # one latent in 64
    dictionary_loss(sae, sample(0))
    with torch.no_grad():
        sae.b_enc += 200.0
    dictionary_loss(sae, sample(0))
    assert taken == ["activate", "forward"]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_sparse_and_dense_latents_and_reconstructions_are_the_same(sparsity, training):
    sae, x = made(sparsity, (8, 20)).train(training), sample(6)
    z = sae.encode_sparse(x)
    torch.testing.assert_close(z.dense(), sae.encode(x))
    for sparse, dense in zip(sae.decode_sparse(z), sae.decode_nested(z.dense()), strict=True):
        torch.testing.assert_close(sparse, dense)


def test_entries_below_a_threshold_are_held_in_training_alone():
    sae, x = made(TANH), sample(6)
    assert (sae.encode_sparse(x).value == 0).any()
    assert (sae.eval().encode_sparse(x).value > 0).all()


def test_terms_are_the_same_over_entries_and_over_matrices():
    sae, x = made(TANH), sample(1)
    pre, entries = sae.pre_activations(x), sae.pre_sparse(x)
    z, some = sae.encode(x), sae.encode_sparse(x)
    threshold = sae.sparsity.threshold
    for dense, sparse in (
        (l1(z, sae.W_dec), l1(some, sae.W_dec)),
        (tanh(z, sae.W_dec, 4.0), tanh(some, sae.W_dec, 4.0)),
        (pre_act(sae, x, pre, threshold), pre_act(sae, x, entries, threshold)),
        (l0_excess(pre, threshold, 0.1, 3.0), l0_excess(entries, threshold, 0.1, 3.0)),
        (gate_reconstruction(sae, x, z), gate_reconstruction(sae, x, some)),
    ):
        torch.testing.assert_close(dense, sparse)


def test_tanh_saturates_and_weighs_by_decoder_norm():
    z, directions = torch.tensor([[100.0, 0.25, 0.0]]), torch.eye(3, 4) * 2.0
    by_hand = (1.0 + torch.tensor(2.0).tanh().item()) / 4
    assert tanh(z, directions, 4.0).item() == pytest.approx(by_hand)


def test_the_window_is_open_on_both_sides_and_its_slope_is_density():
    pre = torch.tensor([[0.7, 1.0, 1.2, 1.3, 9.0]])
    threshold = torch.ones(5, requires_grad=True)
    count = n_above(pre, threshold, bandwidth=0.5)
    count.backward()
    assert count.item() == 3
    assert threshold.grad.tolist() == [0.0, -2.0, -2.0, 0.0, 0.0]


def test_an_l0_off_its_target_moves_thresholds_by_hand():
    # 3 of 4 entries fire on 2 tokens: L0 1.5, aim 1, excess 0.25; slope 2 (1.5 - 1) * -2 / 2 / 0.5
    pre = torch.tensor([[1.1, 3.0], [0.9, 2.0]])
    threshold = torch.ones(2, requires_grad=True)
    term = l0_excess(pre, threshold, bandwidth=0.5, l0=1.0)
    term.backward()
    assert term.item() == 0.25
    assert threshold.grad.tolist() == [-2.0, 0.0]


def test_nothing_that_gates_reconstruct_teaches_the_decoder():
    sae, x = made(GatedConfig(0.1)), sample(0)
    gate_reconstruction(sae, x, sae.pre_activations(x).relu()).backward()
    assert sae.W_dec.grad is None
    assert sae.W_enc.grad.any()


def test_the_penalty_on_gates_does_not_reach_magnitudes():
    sae, x = made(GatedConfig(0.1)), sample(0)
    loss, _ = dictionary_loss(sae, x)
    loss.terms["l1"].backward(retain_graph=True)
    assert sae.sparsity.r_mag.grad is None
    loss.terms["reconstruction"].backward()
    assert sae.sparsity.r_mag.grad.any()


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)])
def test_the_tanh_penalty_ramps_up(progress, weight):
    sae = Sae(SaeConfig(D_IN, D_SAE, JumpReluTanhConfig(tanh=2.0, ramp=0.5)))
    loss, _ = dictionary_loss(sae, sample(0), progress=progress)
    assert loss.weights["tanh"] == weight


def test_gates_that_are_open_without_magnitude_do_not_fire():
    sae = made(GatedConfig(0.1))
    with torch.no_grad():
        sae.sparsity.offset.fill_(-1e6)
    z = sae.encode_sparse(sample(0))
    assert len(z.value) and not z.n_fires().any()
    assert not Latents.of(sae.encode(sample(0))).value.any()
