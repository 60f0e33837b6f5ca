"""What must be true of a dictionary with any sparsity: new members join by existing."""

import math
from dataclasses import fields
from typing import get_args

import pytest
import torch

import sae
from sae.dictionary import (
    Crosscoder,
    CrosscoderConfig,
    Sae,
    SaeConfig,
    SharedConfig,
    SparsityConfig,
    config_to_dict,
    dictionary_loss,
    initialise_,
    sparsity_from_dict,
)
from sae.dictionary.config import kind_of

N, D_IN, D_SAE = 64, 8, 24
SET = {"k": 3, "l1": 0.1, "tanh": 0.5, "pre_act": 0.1, "l0": 3.0}
X_BY_HAND = [[3.0, 2.0], [1.0, 0.5]]
STATE_BY_HAND = {  # of each of two latents
    "threshold": [1.5, 0.25],
    "r_mag": [0.0, math.log(2)],
    "offset": [-1.0, 1.0],
}
Z_BY_HAND = {  # W_enc = W_dec = identity, no biases, k = 1, training
    "relu": [[3.0, 2.0], [1.0, 0.5]],
    "topk": [[3.0, 0.0], [1.0, 0.0]],
    "batch_topk": [[3.0, 2.0], [0.0, 0.0]],
    "jump_relu": [[3.0, 2.0], [0.0, 0.5]],
    "jump_relu_tanh": [[3.0, 2.0], [0.0, 0.5]],
    "jump_relu_l0": [[3.0, 2.0], [0.0, 0.5]],
    "gated": [[2.0, 5.0], [0.0, 2.0]],
}
MEMBERS = get_args(SparsityConfig)
OVER = {"sae": None, "crosscoder": CrosscoderConfig(2, SharedConfig(3), n_own=(2, 1))}


def sparsity_of(member, **changes):
    names = {each.name for each in fields(member)}
    return member(**{name: value for name, value in (SET | changes).items() if name in names})


def sample(n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 5.0 * torch.randn(n, D_IN, generator=generator) + torch.arange(D_IN)


def fitted(member, over, prefixes=()):
    """A dictionary that has seen data, whose weights and biases are all generic."""
    dictionary = Sae(SaeConfig(D_IN, D_SAE, sparsity_of(member), prefixes, over))
    initialise_(dictionary, sample(), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    dictionary.constrain_()
    dictionary.encode(sample(seed=9))  # a threshold that is no value of the other samples
    return dictionary


@pytest.fixture(params=MEMBERS, ids=kind_of)
def member(request):
    return request.param


@pytest.fixture(params=OVER.values(), ids=OVER)
def over(request):
    """Whose vectors are encoded: one model's, or two models' side by side."""
    return request.param


@pytest.fixture(params=["training", "evaluation"])
def dictionary(member, over, request):
    return fitted(member, over).train(request.param == "training")


def test_its_kind_leads_back_to_it(member):
    config = sparsity_of(member)
    assert sparsity_from_dict(config_to_dict(config)) == config


def test_disk_keeps_every_bit(member, over, tmp_path):
    folded = fitted(member, over, prefixes=(4, 12)).folded()
    sae.write(tmp_path, folded, {})
    twin, _ = sae.read(tmp_path)
    assert twin.config == folded.config
    assert twin.state_dict().keys() == folded.state_dict().keys()
    for name, value in folded.state_dict().items():
        assert twin.state_dict()[name].dtype == value.dtype
        assert torch.equal(twin.state_dict()[name], value), name
    assert torch.equal(twin.encode(sample()), folded.eval().encode(sample()))


def test_all_its_state_is_saved(member, over):
    source = fitted(member, over).eval()
    target = Sae(source.config).eval()
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(sample()).x_hat, source(sample()).x_hat)


def test_forward_decodes_what_it_encodes(dictionary):
    output = dictionary(sample())
    assert torch.equal(output.z, dictionary.encode(sample()))
    assert torch.equal(output.x_hat, dictionary.decode(output.z))


def test_latents_are_never_negative(dictionary):
    assert (dictionary.encode(sample()) >= 0).all()


def test_every_parameter_gets_gradient(member, over):
    dictionary = fitted(member, over)
    loss, _ = dictionary_loss(dictionary, sample())
    loss.total.backward()
    for name, parameter in dictionary.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_it_fires_no_more_than_promised(member, over):
    dictionary = fitted(member, over)
    bound = dictionary.config.sparsity.l0_bound
    z = dictionary.encode(sample())
    assert (z > 0).any()
    if bound is not None:
        assert (z > 0).sum() <= bound * N


def test_folding_moves_the_scale_and_nothing_else(dictionary):
    scale = dictionary.input_scale.item()
    assert scale != 1
    folded, x = dictionary.folded(), sample(seed=3)
    assert folded.input_scale == 1
    torch.testing.assert_close(folded(x).x_hat, dictionary(x).x_hat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded(x).z, dictionary(x).z / scale, rtol=1e-4, atol=1e-4)
    assert torch.equal(folded.W_dec, dictionary.W_dec)


def test_rescaling_there_and_back_is_the_same(dictionary):
    there = dictionary.rescaled(3.0).rescaled(dictionary.input_scale.item())
    torch.testing.assert_close(there(sample()).z, dictionary(sample()).z, rtol=1e-4, atol=1e-4)


def test_added_latents_follow_the_old_ones(dictionary):
    wider = dictionary.added(5, torch.Generator().manual_seed(0))
    assert wider.config.d_sae == D_SAE + 5
    assert wider.training == dictionary.training
    assert torch.equal(wider.W_dec[:D_SAE], dictionary.W_dec)
    torch.testing.assert_close(
        wider(sample()).pre[:, :D_SAE], dictionary(sample()).pre, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(wider.layout.costs(wider.W_dec).length, torch.ones(D_SAE + 5))
    assert wider.added(0, torch.Generator()).config == wider.config


def test_order_of_tokens_does_not_matter(dictionary):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        dictionary.encode(sample()[order]), dictionary.encode(sample())[order]
    )


@pytest.mark.parametrize("over", [None, CrosscoderConfig(2)], ids=OVER)
def test_two_by_two_by_hand(member, over):
    dictionary = Sae(SaeConfig(2, 2, sparsity_of(member, k=1, l0=1.0), crosscoder=over))
    with torch.no_grad():
        dictionary.W_enc.copy_(torch.eye(2))
        dictionary.W_dec.copy_(torch.eye(2))
        for name, state in dictionary.sparsity.state_dict(keep_vars=True).items():
            if state.shape == (2,):
                state.copy_(torch.tensor(STATE_BY_HAND[name]))
    z = dictionary(torch.tensor(X_BY_HAND)).z
    assert z.tolist() == Z_BY_HAND[kind_of(member)]
    sparse = dictionary.encode_sparse(torch.tensor(X_BY_HAND))
    assert sparse.dense().tolist() == z.tolist()


def test_model_by_model_is_side_by_side(member):
    dictionary = fitted(member, OVER["crosscoder"]).eval()
    crosscoder, x = Crosscoder(dictionary), sample()
    z = crosscoder.encode(x.chunk(2, dim=1))
    assert torch.equal(z, dictionary.encode(x))
    assert torch.equal(crosscoder.decode(z).flatten(1), dictionary.decode(z))
    assert torch.equal(crosscoder.encode_sparse(x.view(N, 2, -1)).dense() > 0, z > 0)


def test_constraints_hold_after_every_step(member, over):
    dictionary = fitted(member, over)
    optimiser = torch.optim.Adam(dictionary.parameters(), lr=0.05)
    for _ in range(5):
        loss, _ = dictionary_loss(dictionary, sample(), torch.arange(D_SAE) < 6)
        optimiser.zero_grad()
        loss.total.backward()
        dictionary.remove_parallel_gradient_()
        optimiser.step()
        dictionary.constrain_()
        torch.testing.assert_close(
            dictionary.layout.costs(dictionary.W_dec).length, torch.ones(D_SAE)
        )
    if over is not None:
        base, tuned = dictionary.W_dec.chunk(2, dim=1)
        assert torch.equal(base[:3], tuned[:3])
        for rows in (dictionary.W_dec, dictionary.W_enc.T):
            base, tuned = rows.chunk(2, dim=1)
            assert tuned[3:5].count_nonzero() == base[5:6].count_nonzero() == 0
            assert base[3:5].all()
            assert tuned[5:6].all()


def test_prefixes_decode_from_the_first_latents(member, over):
    dictionary = fitted(member, over, prefixes=(4, 12))
    z = dictionary.encode(sample())
    nested = dictionary.decode_nested(z)
    for size, x_hat in zip((4, 12, D_SAE), nested, strict=True):
        only = torch.where(torch.arange(D_SAE) < size, z, 0.0)
        torch.testing.assert_close(x_hat, dictionary.decode(only), rtol=1e-4, atol=1e-4)


def test_a_few_steps_of_descent_lower_the_loss(member, over):
    dictionary = fitted(member, over)
    optimiser = torch.optim.Adam(dictionary.parameters(), lr=0.01)
    totals = []
    for _ in range(30):
        loss, _ = dictionary_loss(dictionary, sample())
        optimiser.zero_grad()
        loss.total.backward()
        dictionary.remove_parallel_gradient_()
        optimiser.step()
        dictionary.constrain_()
        totals.append(loss.total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_every_loss_term_reaches_the_gradient(member, over):
    dictionary = fitted(member, over, prefixes=(4, 12))
    dead = torch.arange(D_SAE) < 6
    loss, _ = dictionary_loss(dictionary, sample(), dead=dead)

    def gradient(of):
        grads = torch.autograd.grad(
            of.total, list(dictionary.parameters()), retain_graph=True, materialize_grads=True
        )
        return torch.cat([each.flatten() for each in grads])

    whole = gradient(loss)
    for name in loss.terms:
        without = gradient(loss.reweighted(name, 0.0))
        assert not torch.allclose(whole, without, rtol=1e-3, atol=1e-7), name


def test_between_them_the_sparsities_use_every_loss_term():
    dead = torch.ones(D_SAE, dtype=torch.bool)
    used = [dictionary_loss(fitted(each, None), sample(), dead=dead)[0].terms for each in MEMBERS]
    assert {name for terms in used for name in terms} == {
        "reconstruction",
        "l1",
        "tanh",
        "pre_act",
        "l0",
        "gate_reconstruction",
        "auxiliary",
    }
