"""Sparse latents, their decoding and their gradients, against dense float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae.dictionary import (
    BatchTopKConfig,
    JumpReluL0Config,
    Sae,
    SaeConfig,
    TopKConfig,
    initialise_,
    screening,
    selection,
)
from sae.dictionary.kernels import apart, decode
from sae.dictionary.latents import Latents
from sae.dictionary.losses import dictionary_loss
from sae.formats import native
from training.config import TrainConfig
from training.optim import adam, step_

D_IN, D_SAE, K, N = 16, 64, 4, 96
SPARSITIES = (TopKConfig(K), BatchTopKConfig(K))


def made(sparsity, prefixes=(), d_sae=D_SAE):
    sae = Sae(SaeConfig(D_IN, d_sae, sparsity, prefixes))
    x = sample(0)
    initialise_(sae, x, seed=1)
    with torch.no_grad():
        sae.b_enc += 0.1 * torch.randn(d_sae, generator=torch.Generator().manual_seed(3))
    return sae.train()


def sample(seed, n=N):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D_IN, generator=generator) + torch.arange(D_IN) / 4


def dense_loss(sae, x, kept, dead):
    """The same loss written densely in float64, on the entries kept; and its parameters."""
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    own = {n: getattr(sae, n).detach().double().requires_grad_() for n in names}
    x, scale = x.double(), sae.input_scale
    pre = (scale * x - own["b_dec"]) @ own["W_enc"] + own["b_enc"]
    z = torch.where(kept.dense() > 0, pre, 0.0)
    edges = (0, *sae.config.prefixes, sae.config.d_sae)
    nested = [z[:, :edge] @ own["W_dec"][:edge] + own["b_dec"] for edge in edges[1:]]
    loss = sum((scale * x - each).square().mean() for each in nested) / len(nested)
    if dead.any():
        tried = pre[:, dead].relu()
        best = tried.topk(min(D_IN // 2, tried.shape[1]), dim=-1)
        tried = torch.zeros_like(tried).scatter(-1, best.indices, best.values)
        error = (scale * x - nested[-1]).detach()
        loss = loss + (error - tried @ own["W_dec"][dead]).square().mean() / 32
    return loss, own


@pytest.fixture(params=[False, True], ids=["whole", "screened"])
def screens(request, monkeypatch):
    """Whether the encoder's product is worked out whole, or screened whatever that costs."""
    monkeypatch.setattr(screening, "LEAST_D_IN", 1)
    monkeypatch.setattr(screening, "LEAST_TOKENS", 1)
    monkeypatch.setattr(screening, "multiplies_int8", lambda: request.param)
    monkeypatch.setattr(screening, "N_TRIED", 8)
    monkeypatch.setattr(screening, "MOST_CANDIDATES", 1.0)


@pytest.mark.usefixtures("screens")
@pytest.mark.parametrize("n_dead", [0, 9])
@pytest.mark.parametrize("prefixes", [(), (8, 20)], ids=["flat", "nested"])
@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_loss_and_gradients_are_those_of_dense_float64_at_every_step(sparsity, prefixes, n_dead):
    sae, dead = made(sparsity, prefixes), torch.arange(D_SAE) < n_dead
    optimiser = adam(sae, TrainConfig(n_tokens=1000, lr=1e-2))
    for step in range(12):
        x = sample(step)
        loss, output = dictionary_loss(sae, x, dead)
        expected, own = dense_loss(sae, x, output.z, dead)
        sae.zero_grad()
        loss.total.backward()
        expected.backward()
        assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
        for name, parameter in own.items():
            mine, theirs = getattr(sae, name).grad.double(), parameter.grad
            assert (mine - theirs).norm() <= 1e-5 * theirs.norm(), (step, name)
        step_(sae, optimiser, 1e-2, grad_clip=1.0)


@pytest.mark.usefixtures("screens")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_sparse_and_dense_latents_and_reconstructions_are_the_same(sparsity, training):
    sae = made(sparsity, (8, 20))
    sae.encode(sample(5))
    sae.train(training)
    x = sample(6)
    z = sae.encode_sparse(x)
    torch.testing.assert_close(z.dense(), sae.encode(x))
    for sparse, dense in zip(sae.decode_sparse(z), sae.decode_nested(z.dense()), strict=True):
        torch.testing.assert_close(sparse, dense)


def test_a_token_on_which_nothing_fires_is_reconstructed_by_the_bias():
    z = Latents.of(torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    directions = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    assert decode(z, directions).tolist() == [[[0.0, 0.0], [0.0, 6.0], [0.0, 0.0]]]
    parts = decode(z, directions, (1,))
    assert parts.tolist() == [[[0.0, 0.0]] * 3, [[0.0, 0.0], [0.0, 6.0], [0.0, 0.0]]]
    nothing = Latents.of(torch.zeros(2, 3))
    assert decode(nothing, directions).tolist() == [[[0.0, 0.0]] * 2]


@pytest.mark.parametrize("sparsity", SPARSITIES, ids=lambda each: each.kind)
def test_a_narrow_product_changes_values_by_its_rounding_alone(sparsity):
    sae, x = made(sparsity), sample(2)
    exact, rounded = sae.encode_sparse(x), sae.encode_sparse(x, torch.bfloat16)
    assert rounded.value.dtype == torch.float32
    assert torch.equal(rounded.value, rounded.value.bfloat16().float())
    both = (exact.dense() > 0) & (rounded.dense() > 0)
    assert both.sum() > 0.9 * len(exact.value)
    difference = (exact.dense() - rounded.dense())[both]
    assert difference.abs().max() < 0.05 * exact.value.max()


def test_a_latents_weights_lie_together_in_every_dictionary(tmp_path):
    sae = made(TopKConfig(K))
    native.write(tmp_path, sae, {})
    wider = sae.added(3, torch.Generator().manual_seed(0))
    for each in (sae, sae.folded(), wider, native.read(tmp_path)[0]):
        assert each.W_enc.T.is_contiguous()


def test_no_token_has_no_latents():
    z = made(TopKConfig(K)).encode_sparse(sample(0)[:0])
    assert (len(z), z.dense().shape) == (0, (0, D_SAE))


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor):
                self.numel = max(self.numel, each.numel())
        return out


@pytest.mark.parametrize("prefixes", [(), (128,)], ids=["flat", "nested"])
@pytest.mark.parametrize(
    "sparsity", (*SPARSITIES, JumpReluL0Config(4.0)), ids=lambda each: each.kind
)
def test_no_step_and_no_encoding_forms_a_dense_matrix(sparsity, prefixes, monkeypatch):
    monkeypatch.setattr(selection, "CHUNK_ELEMENTS", {False: 64 * 512, True: 64 * 512})
    sae, x = made(sparsity, prefixes, d_sae=512), sample(4, n=1024)
    dead = torch.arange(512) < 8
    sae.encode_sparse(x)
    with Largest() as largest:
        dictionary_loss(sae, x, dead)[0].total.backward()
        sae.eval().encode_sparse(x)
    assert 0 < largest.numel < 1024 * 512 / 4
    with Largest() as largest:
        sae.encode(x)
    assert largest.numel >= 1024 * 512


def test_rows_taken_apart_add_their_gradient_to_the_matrix():
    matrix, few = sample(3, n=9).requires_grad_(), torch.tensor([5, 0])
    factor = torch.arange(2.0)[:, None] + 2

    def gradient(whole, rows):
        total = whole.square().sum() + (factor * rows.exp()).sum()
        return torch.autograd.grad(total, matrix)[0]

    assert torch.allclose(gradient(*apart(matrix, few)), gradient(matrix, matrix[few]))
    only_rows = torch.autograd.grad(apart(matrix, few)[1].sum(), matrix)[0]
    assert only_rows.sum(1).nonzero().flatten().tolist() == [0, 5]
