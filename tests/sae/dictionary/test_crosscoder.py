"""Dictionaries over several models: numbers by hand, and gradients against dense float64."""

import math
import re

import pytest
import torch

import sae as package
from sae.dictionary import (
    BatchTopKConfig,
    Crosscoder,
    CrosscoderConfig,
    GatedConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    Sae,
    SaeConfig,
    SharedConfig,
    TopKConfig,
    config_to_dict,
    dictionary_loss,
    initialise_,
    sae_config_from_dict,
    side_by_side,
)
from sae.dictionary.controls import freeze_decoder_, freeze_encoder_, principal, random_matched
from sae.dictionary.metrics import fvu_compute
from sae.errors import ConfigError, InputError
from training.config import TrainConfig
from training.continuation import continued
from training.optim import adam, step_

D_MODEL, D_SAE, N = 6, 40, 96
TWO = CrosscoderConfig(2)
ALL = CrosscoderConfig(3, SharedConfig(5), n_own=(4, 0, 3))
SPARSITIES = (TopKConfig(4), BatchTopKConfig(4), ReluConfig(0.2), GatedConfig(0.2))
SPARSITIES += (JumpReluTanhConfig(0.3, pre_act=0.1),)


def sample(seed, n=N, n_models=3):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_models, D_MODEL, generator=draw) + torch.arange(D_MODEL) / 4
    return (x * torch.tensor([2.0, 5.0, 0.3])[:n_models, None]).flatten(1)


def made(sparsity, over=ALL, prefixes=()):
    sae = Sae(SaeConfig(over.n_models * D_MODEL, D_SAE, sparsity, prefixes, over))
    initialise_(sae, sample(0, n_models=over.n_models), seed=1)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for each in sae.parameters():
            each += 0.1 * torch.randn(each.shape, generator=draw)
    sae.constrain_()
    return sae.train()


def by_hand():
    """Two models of width 1: a latent of both, one of the first, one of the second."""
    sae = Sae(SaeConfig(2, 3, TopKConfig(1), crosscoder=TWO))
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.0, -1.0]]))
        sae.W_enc.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, -1.0]]).T)
        sae.layout.balance.copy_(torch.tensor([1.0, 2.0]))
    return sae


class TestByHand:
    def test_encoding_and_decoding(self):
        crosscoder = Crosscoder(by_hand())
        x = torch.tensor([[[3.0], [2.0]], [[0.0], [-4.0]]])
        # balanced: [3, 4] and [0, -8]; pre: [7, 3, -4] and [-8, 0, 8]
        z = crosscoder.encode(x)
        assert z.tolist() == [[7.0, 0.0, 0.0], [0.0, 0.0, 8.0]]
        # 7 [.75, .25] = [5.25, 1.75]; 8 [0, -1]; the second model's over its balance
        assert crosscoder.decode(z).tolist() == [[[5.25], [0.875]], [[0.0], [-4.0]]]
        assert torch.equal(crosscoder.decode(crosscoder.encode_sparse(x)), crosscoder.decode(z))

    def test_numbers_of_rows(self):
        crosscoder = Crosscoder(by_hand())
        assert crosscoder.decoder_norms.tolist() == [[0.75, 1.0, 0.0], [0.25, 0.0, 1.0]]
        assert crosscoder.relative_norms[0].tolist() == [0.75, 1.0, 0.0]
        assert crosscoder.directions[1].tolist() == [[0.125], [0.0], [-0.5]]
        cosine = crosscoder.cosines().tolist()
        assert cosine[0] == 1.0
        assert all(map(math.isnan, cosine[1:]))
        assert (crosscoder.n_models, crosscoder.d_model) == (2, 1)

    def test_fvu_of_each_model(self):
        x = torch.tensor([[[3.0], [2.0]], [[0.0], [-4.0]]])
        # errors 2.25 and 1.125; variances 4.5 and 18
        sums = Crosscoder(by_hand()).fvu_update(x)
        found = [fvu_compute(each) for each in sums]
        assert found == pytest.approx([2.25**2 / 4.5, 1.125**2 / 18])

    def test_a_row_gets_norms_that_sum_to_one(self):
        sae = Sae(SaeConfig(4, 1, TopKConfig(1), crosscoder=TWO))
        with torch.no_grad():
            sae.W_dec.copy_(torch.tensor([[3.0, 4.0, 0.0, 5.0]]))
        sae.normalise_decoder_()
        torch.testing.assert_close(sae.W_dec.data, torch.tensor([[0.3, 0.4, 0.0, 0.5]]))

    def test_what_would_change_lengths_leaves_the_gradient(self):
        sae = by_hand()
        sae.W_dec.grad = torch.tensor([[4.0, 0.0], [5.0, 7.0], [1.0, 2.0]])
        sae.remove_parallel_gradient_()
        # along: 3, 5 and -2, which goes from the direction of each model's own row
        assert sae.W_dec.grad.tolist() == [[1.0, -3.0], [0.0, 7.0], [1.0, 0.0]]

    def test_shared_rows_share_a_gradient_and_own_ones_keep_theirs(self):
        over = CrosscoderConfig(2, SharedConfig(1), n_own=(1, 1))
        sae = Sae(SaeConfig(4, 4, TopKConfig(1), crosscoder=over))
        own = [[0.5, 0.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.5, 0.0, 0.5, 0]]
        with torch.no_grad():
            sae.W_dec.copy_(torch.tensor(own))
        sae.W_dec.grad = torch.tensor([[0.0, 2.0, 0.0, 4.0]] * 4)
        sae.W_enc.grad = torch.ones(4, 4)
        sae.remove_parallel_gradient_()
        assert sae.W_dec.grad.tolist() == [[0, 3, 0, 3], [0, 2, 0, 0], [0] * 4, [0, 2, 0, 4]]
        assert sae.W_enc.grad.T.tolist() == [[1] * 4, [1, 1, 0, 0], [0, 0, 1, 1], [1] * 4]

    def test_shared_latents_pay_less(self):
        over = CrosscoderConfig(2, SharedConfig(1, price=0.25))
        x = torch.tensor([[3.0, 2.0]])
        for sparsity, name in ((ReluConfig(1.0), "l1"), (JumpReluTanhConfig(1.0), "tanh")):
            sae = Sae(SaeConfig(2, 2, sparsity, crosscoder=over))
            with torch.no_grad():
                sae.W_dec.copy_(torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
                sae.W_enc.copy_(torch.eye(2))
            loss, _ = dictionary_loss(sae, x)
            cost = {"l1": (0.25 * 3 + 2) / 2**0.5, "tanh": (0.25 + 1) / 2}[name]
            assert loss.terms[name].item() == pytest.approx(cost)


def dense_loss(sae, x, z, dead):
    """The same loss in dense float64, of rows divided by their length; and its parameters.

    What `constrain_` holds is written into the function, so that its gradients need no projection.
    """
    own = {name: each.detach().double().requires_grad_() for name, each in sae.named_parameters()}
    kind = sae.config.sparsity
    rows, readers = (each.unflatten(-1, (3, D_MODEL)) for each in (own["W_dec"], own["W_enc"].T))
    mask = torch.ones(D_SAE, 3, 1).double()
    mask[5:9, 1:] = mask[9:12, :2] = 0
    tied = rows[:5].mean(1, keepdim=True).expand(-1, 3, -1)
    rows = torch.cat([tied, rows[5:]]) * mask
    rows = (rows / rows.norm(dim=-1).sum(-1)[:, None, None]).flatten(1)
    readers = (readers * mask).flatten(1)
    scale = (sae.input_scale * sae.layout.balance).repeat_interleave(D_MODEL)
    scaled = scale * x.double()
    pre = (scaled - own["b_dec"]) @ readers.T + own["b_enc"]
    fires, price = z.dense() > 0, torch.ones(D_SAE).double()
    price[:5] = 0.15
    latents = torch.where(fires, pre, 0.0)
    d_in, edges = 3 * D_MODEL, (*sae.config.prefixes, D_SAE)
    loss = torch.zeros(()).double()
    if isinstance(kind, GatedConfig):
        gates = pre.relu()
        frozen = rows.detach(), own["b_dec"].detach()
        tries = [gates[:, :edge] @ frozen[0][:edge] + frozen[1] for edge in edges]
        loss = loss + sum((scaled - each).square().mean() for each in tries) / len(tries)
        loss = loss + kind.l1 * (gates * price).sum() / (N * d_in**0.5)
        magnitude = own["sparsity.r_mag"].exp() * pre + own["sparsity.offset"]
        latents = torch.where(pre > 0, magnitude.relu(), 0.0)
    if isinstance(kind, ReluConfig):
        loss = loss + kind.l1 * (latents * price).sum() / (N * d_in**0.5)
    nested = [latents[:, :edge] @ rows[:edge] + own["b_dec"] for edge in edges]
    loss = loss + sum((scaled - each).square().mean() for each in nested) / len(nested)
    if dead.any():
        tried = pre[:, dead].relu()
        best = tried.topk(min(d_in // 2, tried.shape[1]), dim=-1)
        tried = torch.zeros_like(tried).scatter(-1, best.indices, best.values)
        error = (scaled - nested[-1]).detach()
        loss = loss + (error - tried @ rows[dead]).square().mean() / 32
    return loss, own


@pytest.mark.parametrize("prefixes", [(), (8, 20)], ids=["flat", "nested"])
@pytest.mark.parametrize("sparsity", SPARSITIES[:4], ids=lambda each: each.kind)
def test_gradients_are_those_of_dense_float64_with_constraints_at_every_step(sparsity, prefixes):
    sae = made(sparsity, prefixes=prefixes)
    has_dead = isinstance(sparsity, TopKConfig | BatchTopKConfig)
    dead = (torch.arange(D_SAE) % 5 == 0) & has_dead
    optimiser = adam(sae, TrainConfig(n_tokens=1000, lr=1e-2))
    for step in range(12):
        x = sample(step)
        loss, output = dictionary_loss(sae, x, dead)
        expected, own = dense_loss(sae, x, output.z, dead)
        sae.zero_grad()
        loss.total.backward()
        expected.backward()
        assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
        sae.remove_parallel_gradient_()
        for name, parameter in sae.named_parameters():
            mine, theirs = parameter.grad.double(), own[name].grad
            assert (mine - theirs).norm() <= 1e-5 * theirs.norm(), (step, name)
        step_(sae, optimiser, 1e-2, grad_clip=1e9)


@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_projecting_twice_is_projecting_once(sparsity):
    sae = made(sparsity)
    dictionary_loss(sae, sample(1))[0].total.backward()
    sae.remove_parallel_gradient_()
    once = sae.W_dec.grad.clone()
    sae.remove_parallel_gradient_()
    torch.testing.assert_close(sae.W_dec.grad, once, rtol=1e-5, atol=1e-7)


class TestStarting:
    def test_every_model_has_the_same_mean_square(self):
        sae, x = made(TopKConfig(4)), sample(0)
        scaled = (sae.scale * x).unflatten(1, (3, D_MODEL))
        torch.testing.assert_close(
            scaled.square().sum(-1).mean(0), torch.full((3,), float(D_MODEL)), rtol=1e-5, atol=0
        )
        assert sae.layout.balance[0] == 1

    def test_rows_are_alike_and_read_what_they_write(self):
        sae = Sae(SaeConfig(18, D_SAE, TopKConfig(4), crosscoder=ALL))
        initialise_(sae, sample(0), seed=1)
        norms = Crosscoder(sae).decoder_norms
        torch.testing.assert_close(norms[:, 12:], torch.full((3, 28), 1 / 3))
        own = torch.tensor([1.0, 0.0, 0.0])
        torch.testing.assert_close(norms[:, 5:9], own.unsqueeze(1).expand(3, 4))
        read = torch.linalg.vecdot(sae.W_dec, sae.W_enc.T)
        torch.testing.assert_close(read, torch.ones(D_SAE))

    def test_a_model_without_activations_is_refused(self):
        sae, x = Sae(SaeConfig(12, 8, TopKConfig(2), crosscoder=TWO)), torch.ones(5, 12)
        x[:, 6:] = 0
        with pytest.raises(InputError, match=r"mean squared norms \['6', '0'\]; do: .*every model"):
            initialise_(sae, x, seed=0)


class TestAfterwards:
    def test_raw_activations_are_encoded_once_folded_and_read(self, tmp_path):
        sae = made(BatchTopKConfig(4))
        sae.encode(sample(5))
        sae.eval()
        folded = sae.folded()
        package.write(tmp_path, folded, {})
        twin, _ = package.read(tmp_path)
        assert twin.config == sae.config
        x = sample(6)
        torch.testing.assert_close(twin(x).x_hat, sae(x).x_hat, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(twin.encode(x), sae.encode(x) / sae.input_scale.float())
        assert torch.equal(twin.layout.balance, sae.layout.balance)
        assert torch.equal(Crosscoder(twin).decoder_norms, Crosscoder(sae).decoder_norms)
        one_more = Crosscoder(twin).decode(torch.eye(D_SAE)) - Crosscoder(twin).decode(
            torch.zeros(D_SAE, D_SAE)
        )
        torch.testing.assert_close(
            one_more.transpose(0, 1), Crosscoder(twin).directions, rtol=1e-3, atol=1e-5
        )

    def test_continued_ones_keep_the_balance(self):
        sae = made(TopKConfig(4)).folded()
        other = sample(7) * torch.tensor([1.0, 9.0, 2.0]).repeat_interleave(D_MODEL)
        new = continued(sae, other, n_added=2, seed=1)
        assert torch.equal(new.layout.balance, sae.layout.balance)
        balanced = new.scale * other
        assert balanced.square().sum(-1).mean().item() == pytest.approx(18, rel=1e-4)
        torch.testing.assert_close(Crosscoder(new).decoder_norms[:, -2:], torch.full((3, 2), 1 / 3))

    def test_controls_are_of_several_models_too(self):
        config = SaeConfig(18, 12, TopKConfig(2), crosscoder=CrosscoderConfig(3))
        for control in (random_matched(config, sample(0), seed=1), principal(config, sample(0))):
            lengths = control.layout.costs(control.W_dec).length
            torch.testing.assert_close(lengths, torch.ones(12))

    def test_frozen_parts_keep_every_bit(self):
        for freeze, name in ((freeze_decoder_, "W_dec"), (freeze_encoder_, "W_enc")):
            sae = made(TopKConfig(4))
            freeze(sae)
            before = getattr(sae, name).detach().clone()
            optimiser = adam(sae, TrainConfig(n_tokens=1000, lr=1e-2))
            dictionary_loss(sae, sample(1))[0].total.backward()
            step_(sae, optimiser, 1e-2, grad_clip=1.0)
            assert torch.equal(getattr(sae, name), before)

    def test_it_introduces_itself(self):
        assert repr(made(TopKConfig(4))).startswith(
            "Sae(d_in=18, d_sae=40, n_models=3, shared=SharedConfig(n=5, price=None), "
            "n_own=(4, 0, 3), sparsity=topk, k=4, input_scale="
        )


class TestConfigs:
    def test_there_and_back(self):
        for over in (TWO, ALL, CrosscoderConfig(3, SharedConfig(2, price=0.5))):
            config = SaeConfig(18, D_SAE, ReluConfig(0.1), crosscoder=over)
            assert sae_config_from_dict(config_to_dict(config)) == config
        assert "crosscoder" not in config_to_dict(SaeConfig(2, 4, TopKConfig(1)))

    @pytest.mark.parametrize(
        ("crosscoder", "message"),
        [
            ({"n_models": 1}, "n_models=1"),
            ({"n_models": 5}, "d_in=18; found: no multiple of n_models=5"),
            ({"n_models": 3, "n_own": [1, 2]}, "n_own=(1, 2); found: 2 of them; do: give 3 numb"),
            ({"n_models": 3, "n_own": [1, 2, -1]}, "n_own: each=-1"),
            ({"n_models": 3, "n_own": [1, 20, 20]}, "found: a dictionary of 40"),
            ({"n_models": 3, "shared": {"n": 0}}, "shared: n=0"),
            ({"n_models": 3, "shared": {"n": 2, "price": 0.0}}, "shared: price=0.0"),
            ({"n_models": 3, "shared": {"n": 2, "price": "low"}}, "price='low'; found: a str"),
            ({"n_models": 3, "shared": {"n": 2, "price": 0.5}}, "topk, in which firing has no pr"),
            ({"n_models": 3, "shred": None}, "did you mean 'shared'"),
            (3, "crosscoder; found: a int"),
        ],
    )
    def test_wrong_ones_are_told_what_to_do(self, crosscoder, message):
        sparsity = {"kind": "topk", "k": 2}
        raw = {"d_in": 18, "d_sae": 40, "sparsity": sparsity, "crosscoder": crosscoder}
        with pytest.raises(ConfigError, match=re.escape(message)):
            sae_config_from_dict(raw)


class TestRefusals:
    def test_a_dictionary_over_one_model(self):
        with pytest.raises(ConfigError, match="a dictionary over one model"):
            Crosscoder(Sae(SaeConfig(2, 4, TopKConfig(1))))

    def test_other_tokens_or_models(self):
        crosscoder = Crosscoder(by_hand())
        with pytest.raises(InputError, match="give the same tokens of each"):
            side_by_side([torch.ones(3, 1), torch.ones(2, 1)])
        with pytest.raises(InputError, match="vectors of 2 models of width 1; found: 3 numbers"):
            crosscoder.encode(torch.ones(4, 3, 1))

    def test_a_balance_of_nothing_in_a_file(self, tmp_path):
        sae = by_hand()
        sae.layout.balance[1] = 0
        package.write(tmp_path, sae, {})
        with pytest.raises(InputError, match="layout.balance with values that are not above 0"):
            package.read(tmp_path)


def test_an_l0_target_starts_where_it_is_met():
    sae = Sae(SaeConfig(18, D_SAE, JumpReluL0Config(l0=4.0), crosscoder=ALL))
    initialise_(sae, sample(0), seed=1)
    assert (sae.encode(sample(0)) > 0).sum(1).float().mean().item() == pytest.approx(4.0, rel=0.1)
