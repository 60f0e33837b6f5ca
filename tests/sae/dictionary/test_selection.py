"""What is kept is exact, whatever the guess, the chunks and the groups."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.dictionary import selection
from sae.dictionary.config import BatchTopKConfig
from sae.dictionary.selection import PreActivations
from sae.dictionary.sparsity import BatchTopK

SHAPES = st.sampled_from([(1, 7), (5, 12), (16, 64), (9, 512), (40, 1024), (3, 768)])


def drawn(shape, seed, coarse):
    """Pre-activations; coarse ones tie."""
    pre = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (4 * pre).round() / 4 if coarse else pre


def in_chunks(pre, rows):
    return PreActivations(lambda: iter(pre.split(rows)), pre.shape[1])


@pytest.fixture(autouse=True)
def few_groups(monkeypatch):
    monkeypatch.setattr(selection, "N_GROUPS", 64)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 2**31), st.booleans(), st.integers(1, 7), st.integers(1, 50))
def test_the_k_largest_of_every_token(shape, seed, coarse, k, rows):
    pre = drawn(shape, seed, coarse)
    z = in_chunks(pre, rows).largest(k)
    expected = pre.relu().topk(k, dim=-1).values
    found = z.dense().topk(k, dim=-1).values
    assert torch.equal(found, expected)
    assert torch.equal(pre[z.token, z.index], z.value)
    assert (z.starts.diff() <= k).all()


BOUNDS = st.one_of(
    st.sampled_from([0.0, 0.25, 1.0]), st.floats(-1, 3).map(lambda b: torch.tensor(b).item())
)


@settings(max_examples=100, deadline=None)
@given(
    SHAPES,
    st.integers(0, 2**31),
    st.booleans(),
    BOUNDS,
    st.integers(1, 50),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.sampled_from([5, 1 << 18]),
)
def test_everything_above_a_bound(shape, seed, coarse, bound, rows, dtype, places):
    pre = drawn(shape, seed, coarse).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "PLACES", places)
        z = in_chunks(pre, rows).above(bound)
    is_above = pre.double() > bound
    assert torch.equal(torch.stack([z.token, z.index], 1), is_above.nonzero())
    assert torch.equal(z.value, pre[is_above])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_the_whole_however_they_are_cut(dtype, monkeypatch):
    drawing = torch.Generator().manual_seed(0)
    x, weight = torch.randn(11, 8, generator=drawing), torch.randn(8, 23, generator=drawing)
    bias = torch.randn(23, generator=drawing)
    monkeypatch.setattr(selection, "N_COLUMNS", 5)
    monkeypatch.setattr(selection, "CHUNK_ELEMENTS", {False: 4 * 23, True: 4 * 23})
    chunks = selection.products(x, weight, bias, dtype)
    for _ in range(2):
        found = [pre.clone() for pre in chunks()]
        assert [len(pre) for pre in found] == [4, 4, 3]
        expected = x.to(dtype).double() @ weight.to(dtype).double() + bias.to(dtype)
        rtol = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(torch.cat(found).double(), expected, rtol=rtol, atol=rtol)


@settings(max_examples=60, deadline=None)
@given(
    SHAPES,
    st.integers(0, 2**31),
    st.booleans(),
    st.integers(1, 7),
    st.sampled_from([None, 0.0, 0.5, 2.0, 100.0]),
)
def test_a_batch_keeps_its_largest_whatever_the_guess(shape, seed, coarse, k, guess):
    pre = drawn(shape, seed, coarse)
    module = BatchTopK(BatchTopKConfig(k))
    module._guess = guess
    z = module.select(in_chunks(pre, 6), training=True)
    expected = pre.relu().flatten().topk(len(pre) * k).values
    expected = expected[expected > 0]
    assert torch.equal(z.value.sort(descending=True).values, expected)
    assert torch.equal(pre[z.token, z.index], z.value)
    assert float(module.threshold) == float(expected.min() if len(expected) else -1.0)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 2**31), st.integers(1, 7), st.floats(0, 1))
def test_of_equal_entries_the_same_are_kept_in_the_same_order_whatever_the_guess(
    shape, seed, k, share
):
    pre, found = drawn(shape, seed, coarse=True), []
    bound = max(0.0, float(pre.flatten().topk(min(len(pre) * k, pre.numel())).values.min()))
    for guess in (None, 0.0, share * 0.9 * bound):
        module = BatchTopK(BatchTopKConfig(k))
        module._guess = guess
        found.append(module.select(in_chunks(pre, 6), training=True))
    for other in found[1:]:
        assert torch.equal(other.token, found[0].token)
        assert torch.equal(other.index, found[0].index)


def test_where_nothing_is_positive_nothing_is_kept():
    pre = -torch.ones(4, 128)
    whole = PreActivations.of(pre)
    assert len(whole.largest(3).value) == 0
    assert whole.least_of_largest(3) == 0.0
    assert len(BatchTopK(BatchTopKConfig(3)).select(whole, True).value) == 0
