"""Products of what was rounded are never further off than they say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.dictionary.rounding import RoundedProduct, multiplies_int8

D_IN = 24


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([(1, 1), (7, 130), (40, 96), (600, 5)]),
    st.sampled_from([0, 3]),
    st.sampled_from([0.0, 1.0, 50.0]),
)
def test_no_product_is_further_off_than_it_says(seed, shape, spread, large):
    drawing = torch.Generator().manual_seed(seed)
    x, readers = (torch.randn(rows, D_IN, generator=drawing) for rows in shape)
    x *= (spread * torch.randn(len(x), 1, generator=drawing)).exp()
    readers *= (torch.randn(len(readers), 1, generator=drawing)).exp()
    x[:, :2] *= large
    bias = torch.randn(len(readers), generator=drawing)
    rounded, near = RoundedProduct(x, readers), torch.empty(len(x), len(readers))
    rounded.product(slice(0, len(x)), bias, near)
    wrong = (near - (x.double() @ readers.double().T + bias)).abs()
    assert (wrong <= rounded.off[:, None] + 1e-6 * bias.abs()).all()
    assert rounded.off.isfinite().all()


def test_by_hand(monkeypatch):
    """Thirds of a step are rounded up where chance lies above two thirds."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.tensor([[0.5, 0.7], [0.2, 0.6]]))
    x, readers = torch.tensor([[12.6, 6.04]]), torch.tensor([[1.26, 0.0], [0.0, 0.505]])
    rounded, near = RoundedProduct(x, readers), torch.empty(1, 2)
    assert rounded._x.tolist() == [[126, 61]], "60.4 and .7"
    assert rounded._readers.tolist() == [[126, 0], [0, 51]], "50.5 and .6"
    rounded.product(slice(0, 1), torch.tensor([1.0, 2.0]), near)
    torch.testing.assert_close(near, torch.tensor([[12.6 * 1.26 + 1, 6.1 * 0.51 + 2]]))
    longest = math.hypot(12.6, 6.04) + 0.1 * math.sqrt(2)
    by_hand = math.sqrt(math.log(2e12) / 2) * math.hypot(0.1 * 1.26, 0.01 * longest)
    assert rounded.off.item() == pytest.approx(by_hand, rel=1e-4)


def test_what_is_rounded_has_the_right_mean():
    """Over dimensions, each of which has a chance of its own."""
    rows = torch.full((1, 20_000), 0.9)
    rows[0, :2000] = 3.0
    steps = RoundedProduct(rows, rows)._x
    assert set(steps.unique().tolist()) == {37, 38, 126}
    assert (steps == 38).float().mean().item() == pytest.approx(0.9 * 0.8, abs=0.02), "37.8"


@pytest.mark.parametrize("d_in", [128, 2048])
def test_the_bound_is_a_fraction_of_the_spread_at_any_width(d_in):
    """And large dimensions do not widen it."""
    drawing = torch.Generator().manual_seed(0)
    x, readers = (torch.randn(64, d_in, generator=drawing) for _ in range(2))
    even = RoundedProduct(x, readers).off / (x @ readers.T).std(dim=1)
    assert even.mean() < 0.25
    x[:, :3] *= 100
    spread = (x[:, 3:] @ readers[:, 3:].T).std(dim=1)
    assert (RoundedProduct(x, readers).off / spread).mean() < 0.3


def test_the_true_error_is_a_tenth_of_the_bound():
    """Which is why a miss is far rarer than it says."""
    drawing = torch.Generator().manual_seed(0)
    x, readers = (torch.randn(500, 256, generator=drawing) for _ in range(2))
    rounded, near = RoundedProduct(x, readers), torch.empty(500, 500)
    rounded.product(slice(0, 500), torch.zeros(500), near)
    wrong = (near - x @ readers.T) / rounded.off[:, None]
    assert wrong.std() < 0.15
    assert abs(wrong.mean()) < 0.01


def test_what_the_processor_says_decides(monkeypatch):
    for able, expected in (({"avx512_vnni": True}, True), ({"avx2": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert multiplies_int8() == expected
