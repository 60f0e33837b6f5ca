import pytest
import torch

from sae.dictionary import ReluConfig, Sae, SaeConfig, TopKConfig, dictionary_loss, initialise_
from sae.dictionary.losses import Loss, auxiliary, l1, reconstruction, relative
from sae.errors import ConfigError

X = torch.tensor([[1.0, 0.0], [0.0, 3.0]])


def test_total_is_the_weighted_sum():
    loss = Loss({"a": torch.tensor(2.0), "b": torch.tensor(3.0)}, {"a": 1.0, "b": 0.5})
    assert loss.total.item() == 3.5
    assert loss.reweighted("b", 0.0).total.item() == 2.0
    assert loss.total.item() == 3.5


def test_terms_and_weights_must_match():
    with pytest.raises(ConfigError, match="terms \\['a'\\] and weights \\['b'\\]"):
        Loss({"a": torch.tensor(1.0)}, {"b": 1.0})
    with pytest.raises(ConfigError, match="no such term; do: use a"):
        Loss({"a": torch.tensor(1.0)}, {"a": 1.0}).reweighted("b", 0.0)


def test_reconstruction_by_hand():
    # squared errors 1 and 9 over d_in = 2, mean over two tokens: 2.5; perfect: 0
    assert reconstruction(X, [torch.zeros(2, 2)]).item() == 2.5
    assert reconstruction(X, [torch.zeros(2, 2), X]).item() == 1.25


def test_a_relative_error_by_hand():
    # squared distances from the mean 3: 9, 1, 0, 1, 9, their median 1; so 1 / (10, 2, 1, 2, 10)
    x = torch.tensor([[0.0], [2.0], [3.0], [4.0], [6.0]])
    weight = relative(x)
    torch.testing.assert_close(weight, torch.tensor([1.0, 5.0, 10.0, 5.0, 1.0]) / 4.4)
    missed = (weight * x.squeeze(1).square()).mean()
    torch.testing.assert_close(reconstruction(x, [torch.zeros_like(x)], weight), missed)
    assert relative(torch.ones(3, 2)).tolist() == [1.0, 1.0, 1.0]
    assert relative(torch.tensor([[0.0]] * 9 + [[1e3]])).isfinite().all()


def test_a_relative_error_weighs_the_attempt_of_the_dead_too():
    sae = Sae(SaeConfig(4, 8, TopKConfig(k=2)))
    dead, x = torch.arange(8) < 3, torch.randn(2048, 4)
    loss, output = dictionary_loss(sae, x, dead, relative_error=True)
    weight, error = relative(x), x - output.x_hat
    assert loss.terms["reconstruction"] == reconstruction(x, [output.x_hat], weight)
    missed = auxiliary(sae, x[::4], error[::4], dead, 2, weight=weight[::4])
    assert loss.terms["auxiliary"] == missed
    alike = torch.ones(len(x))[::4]
    torch.testing.assert_close(
        auxiliary(sae, x[::4], error[::4], dead, 2, weight=alike),
        auxiliary(sae, x[::4], error[::4], dead, 2),
    )


def test_a_long_vector_does_not_drown_the_rest():
    x = torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
    x[0] *= 1000
    error = x.square().sum(1)
    assert error[0] / error.sum() > 0.99
    weighed = relative(x) * error
    assert weighed[0] / weighed.sum() < 0.02


def test_l1_weighs_by_decoder_norm():
    z, directions = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert l1(z, directions).item() == pytest.approx(5 / 2**0.5)
    directions.requires_grad_()
    l1(z, directions).backward()
    assert directions.grad is not None
    torch.testing.assert_close(directions.grad[0], torch.tensor([0.6, 0.8]) / 2**0.5)


def test_auxiliary_uses_the_largest_dead_latents():
    sae = Sae(SaeConfig(2, 3, TopKConfig(k=1)))
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        sae.W_enc.copy_(torch.tensor([[9.0, 2.0, 1.0], [0.0, 0.0, 0.0]]))
    dead = torch.tensor([False, True, True])
    x, error = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0]])
    # one dead latent gives [2, 0] and misses 1, both give [2, 1], and there are no more than two
    for k_aux, missed in ((1, 0.5), (2, 0.0), (9, 0.0)):
        assert auxiliary(sae, x, error, dead, k_aux).item() == missed


def test_auxiliary_is_a_mean_over_tokens_evenly_spaced():
    sae = Sae(SaeConfig(4, 8, TopKConfig(k=2)))
    dead, x = torch.arange(8) < 3, torch.randn(2048, 4)
    loss, output = dictionary_loss(sae, x, dead)
    few, error = x[::4], (x - output.x_hat)[::4]
    assert loss.terms["auxiliary"] == auxiliary(sae, few, error, dead, 2)


def test_auxiliary_teaches_dead_latents_only():
    sae = Sae(SaeConfig(4, 8, TopKConfig(k=2)))
    dead = torch.arange(8) < 3
    loss, _ = dictionary_loss(sae, torch.randn(16, 4), dead=dead)
    loss.reweighted("reconstruction", 0.0).total.backward()
    assert sae.W_dec.grad is not None
    assert sae.W_dec.grad[:3].any()
    assert not sae.W_dec.grad[3:].any()
    assert not sae.W_enc.grad[:, 3:].any()  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize(
    ("sparsity", "dead", "weight", "terms"),
    [
        (TopKConfig(k=2), None, 1 / 32, {"reconstruction"}),
        (TopKConfig(k=2), False, 1 / 32, {"reconstruction"}),
        (TopKConfig(k=2), True, 0.0, {"reconstruction"}),
        (TopKConfig(k=2), True, 1 / 32, {"reconstruction", "auxiliary"}),
        (ReluConfig(l1=0.1), True, 1 / 32, {"reconstruction", "l1"}),
    ],
)
def test_terms_follow_from_the_sparsity_and_the_dead(sparsity, dead, weight, terms):
    sae = Sae(SaeConfig(4, 8, sparsity))
    mask = None if dead is None else torch.full((8,), dead)
    loss, _ = dictionary_loss(sae, torch.randn(16, 4), dead=mask, aux_weight=weight)
    assert set(loss.terms) == terms


@pytest.mark.parametrize("sparsity", [ReluConfig(l1=0.1), TopKConfig(k=2)])
def test_loss_does_not_depend_on_the_unit_of_activations(sparsity):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    totals = []
    for factor in (1.0, 1000.0):
        sae = Sae(SaeConfig(4, 8, sparsity, prefixes=(2,)))
        initialise_(sae, factor * x, seed=0)
        loss, _ = dictionary_loss(sae, factor * x, dead=torch.arange(8) < 3, aux_weight=1.0)
        totals.append(loss.total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)


def test_reconstruction_averages_over_prefixes_and_the_whole():
    sae = Sae(SaeConfig(4, 8, TopKConfig(k=2), prefixes=(2, 5)))
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    loss, output = dictionary_loss(sae, x)
    nested = [
        sae.decode(torch.where(torch.arange(8) < n, output.z.dense(), 0.0)) for n in (2, 5, 8)
    ]
    by_hand = sum((x - each).square().sum().item() / (16 * 4) for each in nested) / 3
    assert loss.terms["reconstruction"].item() == pytest.approx(by_hand, rel=1e-5)
