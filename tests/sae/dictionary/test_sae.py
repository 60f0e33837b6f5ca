import html.parser

import pytest
import torch

from sae.dictionary import BatchTopKConfig, ReluConfig, Sae, SaeConfig, TopKConfig
from sae.errors import ConfigError


def by_hand():
    """Two latents along the axes of the plane, with biases and a scale that are easy to follow."""
    sae = Sae(SaeConfig(2, 2, ReluConfig(l1=0.1)))
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(2))
        sae.W_dec.copy_(torch.eye(2))
        sae.b_enc.copy_(torch.tensor([-1.0, 0.0]))
        sae.b_dec.copy_(torch.tensor([0.0, 2.0]))
        sae.input_scale.fill_(2.0)
    return sae


def test_encoding_and_decoding_by_hand():
    output = by_hand()(torch.tensor([[3.0, 0.0]]))
    # 2 x - b_dec = [6, -2]; + b_enc = [5, -2]; relu; + b_dec = [5, 2]; / 2
    assert output.pre.tolist() == [[5.0, -2.0]]
    assert output.z.tolist() == [[5.0, 0.0]]
    assert output.x_hat.tolist() == [[2.5, 1.0]]


def test_folding_by_hand():
    folded = by_hand().folded()
    assert folded.b_enc.tolist() == [-0.5, 0.0]
    assert folded.b_dec.tolist() == [0.0, 1.0]
    assert folded.encode(torch.tensor([[3.0, 0.0]])).tolist() == [[2.5, 0.0]]


def test_folding_leaves_the_original_alone():
    sae = by_hand()
    sae.folded()
    assert sae.input_scale == 2
    assert sae.b_dec.tolist() == [0.0, 2.0]


def test_folding_takes_the_threshold_along_and_no_gradient():
    sae = Sae(SaeConfig(2, 4, BatchTopKConfig(k=1)))
    sae.input_scale.fill_(4.0)
    sae(torch.ones(3, 2)).x_hat.sum().backward()
    folded = sae.folded()
    assert folded.sparsity.threshold.item() == pytest.approx(sae.sparsity.threshold.item() / 4)
    assert all(each.grad is None for each in folded.parameters())


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_one(scale):
    with pytest.raises(ConfigError, match="input_scale"):
        by_hand().rescaled(scale)


def test_added_latents_of_relu_leave_the_old_ones():
    sae, x = by_hand(), torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    wider = sae.added(3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(wider.encode(x)[:, :2], sae.encode(x))
    torch.testing.assert_close(
        wider.decode(torch.cat([sae.encode(x), torch.zeros(9, 3)], 1)), sae(x).x_hat
    )
    assert len(sae.W_dec) == 2


def test_added_latents_shorten_the_memory_of_the_threshold():
    sae = Sae(SaeConfig(2, 4, BatchTopKConfig(k=1)))
    sae.encode(torch.ones(3, 2))
    wider = sae.added(2, torch.Generator().manual_seed(1))
    assert wider.sparsity.threshold == sae.sparsity.threshold
    assert (wider.sparsity.n_updates.item(), sae.sparsity.n_updates.item()) == (0, 1)


def test_added_latents_come_from_the_generator():
    first, again, other = (
        by_hand().added(3, torch.Generator().manual_seed(seed)).W_dec for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_dictionary_cannot_lose_latents():
    with pytest.raises(ConfigError, match="-1 added latents"):
        by_hand().added(-1, torch.Generator())


def test_decoder_rows_get_norm_one():
    sae = by_hand()
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    sae.normalise_decoder_()
    torch.testing.assert_close(sae.W_dec.data, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


def test_gradient_along_a_row_goes_and_the_rest_stays():
    sae = by_hand()
    sae.remove_parallel_gradient_()
    assert sae.W_dec.grad is None
    sae.W_dec.grad = torch.tensor([[5.0, 1.0], [2.0, 7.0]])
    sae.remove_parallel_gradient_()
    assert sae.W_dec.grad.tolist() == [[0.0, 1.0], [2.0, 0.0]]


def test_making_one_draws_nothing_from_the_global_generator():
    before = torch.random.get_rng_state()
    Sae(SaeConfig(2, 2, TopKConfig(k=1)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_half_precision_activations_are_welcome():
    x = torch.ones(3, 2, dtype=torch.bfloat16)
    assert by_hand()(x).x_hat.dtype == torch.float32


def test_it_introduces_itself():
    sae = Sae(SaeConfig(2, 8, BatchTopKConfig(k=1), prefixes=(4,)))
    assert repr(sae) == (
        "Sae(d_in=2, d_sae=8, sparsity=batch_topk, k=1, threshold_beta=0.999, per_token=0.0, "
        "prefixes=(4,), input_scale=1)"
    )


class Elements(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs


def test_its_page_is_a_static_table():
    page = by_hand()._repr_html_()
    elements = Elements()
    elements.feed(page)
    assert elements.tags == {"table", "caption", "tbody", "tr", "th", "td"}
    assert not elements.attributes
    assert "http" not in page
    assert "<th>d_sae</th><td>2</td>" in page


def test_its_page_escapes_what_it_shows(monkeypatch):
    monkeypatch.setattr(Sae, "_facts", lambda self: {"<b>": "<script>"})
    assert "<tr><th>&lt;b&gt;</th><td>&lt;script&gt;</td></tr>" in by_hand()._repr_html_()
