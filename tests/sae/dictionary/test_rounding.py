"""Products of what was rounded are never further off than they say."""

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


def test_by_hand():
    x, readers = torch.tensor([[12.7, 6.04]]), torch.tensor([[1.27, 0.0], [0.0, 0.5]])
    rounded, near = RoundedProduct(x, readers), torch.empty(1, 2)
    assert rounded.x.whole.tolist() == [[127, 60]]
    assert rounded.readers.whole.tolist() == [[127, 0], [0, 50]]
    assert rounded.x.lost.item() == pytest.approx(0.04, rel=1e-4)
    rounded.product(slice(0, 1), torch.tensor([1.0, 2.0]), near)
    torch.testing.assert_close(near, torch.tensor([[12.7 * 1.27 + 1, 6.0 * 0.5 + 2]]))
    assert rounded.off.item() == pytest.approx(0.04 * 1.27, rel=1e-2), "0.04 lost, times 1.27"


def test_the_bound_is_some_percent_of_the_lengths_and_large_dimensions_do_not_widen_it():
    drawing = torch.Generator().manual_seed(0)
    x, readers = (torch.randn(64, 512, generator=drawing) for _ in range(2))
    lengths = x.norm(dim=1) * readers.norm(dim=1).max()
    even = RoundedProduct(x, readers).off / lengths
    assert even.max() < 0.03
    x[:, :3] *= 100
    assert (RoundedProduct(x, readers).off / lengths).max() < 0.03


def test_what_the_processor_says_decides(monkeypatch):
    for able, expected in (({"avx512_vnni": True}, True), ({"avx2": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert multiplies_int8() == expected
