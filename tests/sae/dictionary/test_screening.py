"""Screened pre-activations keep what the whole product keeps, however little rounding leaves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.dictionary import screening, selection
from sae.dictionary.screening import Screened, pre_activations
from sae.dictionary.selection import PreActivations, products

D_IN = 24


def always(patch, n_tried=3, elements=2048):
    """Screens whatever it costs, in chunks of few tokens."""
    patch.setattr(screening, "MOST_CANDIDATES", 1.0)
    patch.setattr(screening, "N_TRIED", n_tried)
    patch.setattr(screening, "CHUNK_ELEMENTS", {False: elements})


@st.composite
def both_sides(draw):
    """Tokens, encoder and bias: some tokens long, some dimensions large, some latents dead."""
    drawing = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n, d_sae = draw(st.sampled_from([(1, 64), (7, 128), (40, 96), (33, 256)]))
    x = torch.randn(n, D_IN, generator=drawing)
    x *= (draw(st.sampled_from([0, 3])) * torch.randn(n, 1, generator=drawing)).exp()
    x[:, :2] *= draw(st.sampled_from([0.0, 1.0, 50.0]))
    weight = torch.randn(D_IN, d_sae, generator=drawing)
    weight *= (draw(st.sampled_from([0, 1])) * torch.randn(d_sae, generator=drawing)).exp()
    bias = draw(st.sampled_from([0.0, -2.0])) * torch.rand(d_sae, generator=drawing)
    bias[:5] = -1e3
    return x, weight, bias


def exact(x, weight, bias):
    """In float64, and what float32 may be off."""
    pre = x.double() @ weight.double() + bias.double()
    size = x.double().norm(dim=1, keepdim=True) * weight.double().norm(dim=0) + bias.double().abs()
    return pre, 1e-6 * size


@settings(max_examples=80, deadline=None)
@given(both_sides(), st.integers(1, 9))
def test_the_k_largest_of_every_token(sides, k):
    pre, off = exact(*sides)
    with pytest.MonkeyPatch.context() as patch:
        always(patch)
        z = Screened(*sides).largest(k)
    assert ((z.value - pre[z.token, z.index]).abs() <= off[z.token, z.index]).all()
    is_kept = z.dense() > 0
    least = torch.where(is_kept, pre, torch.inf).amin(1, keepdim=True)
    is_full = is_kept.sum(1, keepdim=True) == k
    assert (is_kept.sum(1) <= k).all()
    assert not (~is_kept & (pre > torch.where(is_full, least, 0.0) + 2 * off)).any()


@settings(max_examples=80, deadline=None)
@given(both_sides(), st.sampled_from([0.0, 0.5, 4.0]), st.sampled_from([0.0, 0.25]), st.booleans())
def test_everything_above_a_bound(sides, height, slack, each):
    pre, off = exact(*sides)
    bound = height * torch.rand(pre.shape[1]) if each else height
    with pytest.MonkeyPatch.context() as patch:
        always(patch)
        z = Screened(*sides).above(bound, slack)
    assert ((z.value - pre[z.token, z.index]).abs() <= off[z.token, z.index]).all()
    is_kept = torch.zeros_like(pre, dtype=torch.bool)
    is_kept[z.token, z.index] = True
    assert not (is_kept & (pre < bound - slack - off)).any()
    assert not (~is_kept & (pre > bound - slack + off)).any()
    place = z.token * pre.shape[1] + z.index
    assert (place.diff() > 0).all(), "in the order of tokens and latents"


def activations(n, d_in, d_sae, k=8):
    """Sums of k directions, and an encoder that reads these."""
    drawing = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=drawing), dim=1)
    index = torch.randint(d_sae, (n, k), generator=drawing)
    return rows[index].sum(1), rows.T.contiguous(), torch.zeros(d_sae)


@pytest.fixture
def multiplied(monkeypatch):
    """How many entries were multiplied again, and tokens in int8."""
    counts, dots, product = (
        {"entries": 0, "tokens": 0},
        screening.dots,
        screening.RoundedProduct.product,
    )

    def counted(vectors, rows, row, *where):
        counts["entries"] += len(row)
        return dots(vectors, rows, row, *where)

    def rounded(self, here, bias, out):
        counts["tokens"] += len(out)
        return product(self, here, bias, out)

    monkeypatch.setattr(screening, "dots", counted)
    monkeypatch.setattr(screening.RoundedProduct, "product", rounded)
    return counts


@pytest.mark.parametrize("largest", [True, False], ids=["largest", "above"])
@pytest.mark.parametrize("n_far", [0, 3], ids=["even", "few dimensions large"])
def test_few_entries_are_multiplied_again(multiplied, largest, n_far):
    x, weight, bias = activations(300, 128, 2048)
    x[:, :n_far] *= 40
    pre = Screened(x, weight, bias)
    bound = float((x @ weight).flatten().topk(300 * 8).values[-1])
    z = pre.largest(8) if largest else pre.above(bound)
    assert len(z.value) >= 300 * 8 - 1
    assert multiplied["tokens"] == 300 - screening.N_TRIED
    assert multiplied["entries"] < 0.02 * 300 * 2048


def test_nothing_is_rounded_where_that_would_not_pay(multiplied):
    x, weight, bias = activations(300, 128, 2048)
    Screened(x, weight, bias).above(0.0)
    Screened(x, weight, bias).largest(64)
    Screened(x[: screening.N_TRIED], weight, bias).largest(8)
    assert multiplied == {"entries": 0, "tokens": 0}


def test_what_stops_paying_on_the_way_is_worked_out_whole(multiplied, monkeypatch):
    monkeypatch.setattr(screening, "CHUNK_ELEMENTS", {False: 50 * 2048})
    x, weight, bias = activations(300, 128, 2048)
    x[200:] += 3 * weight.mean(1)
    x[200:] += weight[:, ::4].sum(1)  # a quarter of the latents fires
    found = Screened(x, weight, bias).above(1.0)
    expected = PreActivations(products(x, weight, bias, torch.float32), 2048).above(1.0)
    assert torch.equal(found.token, expected.token)
    assert torch.equal(found.index, expected.index)
    assert 150 < multiplied["tokens"] <= 250


@pytest.mark.parametrize("where", [0, 250])
@pytest.mark.parametrize("what", [torch.nan, torch.inf])
def test_what_is_not_finite_is_as_in_the_whole_product(where, what):
    x, weight, bias = activations(300, 128, 2048)
    x[where, 5] = what
    found = Screened(x, weight, bias).largest(8)
    expected = PreActivations(products(x, weight, bias, torch.float32), 2048).largest(8)
    torch.testing.assert_close(found.dense(), expected.dense(), equal_nan=True)


@pytest.mark.parametrize("able", ["avx512_vnni", "avx_vnni", "amx_int8", "avx2"])
def test_screened_where_the_processor_multiplies_int8_and_the_product_is_dear(able, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {able: True})
    n, d_in = screening.LEAST_TOKENS, screening.LEAST_D_IN
    x, weight, bias = activations(n, d_in, 64)
    screens = able != "avx2"
    assert isinstance(pre_activations(x, weight, bias, torch.float32), Screened) == screens
    for sides, dtype in (
        (activations(n, d_in - 1, 64), torch.float32),
        (activations(n - 1, d_in, 64), torch.float32),
        ((x, weight, bias), torch.bfloat16),
        ((x.double(), weight.double(), bias.double()), torch.float64),
    ):
        assert not isinstance(pre_activations(*sides, dtype), Screened)


def test_the_choice_is_made_anew_for_every_batch(multiplied):
    """No state, so a fit that is resumed keeps the same entries."""
    x, weight, bias = activations(300, 128, 2048)
    first = Screened(x, weight, bias).largest(8)
    Screened(x, weight, bias).above(0.0)
    again = Screened(x, weight, bias).largest(8)
    assert torch.equal(first.value, again.value)
    assert torch.equal(first.index, again.index)
    assert selection.CHUNK_ELEMENTS == screening.CHUNK_ELEMENTS
