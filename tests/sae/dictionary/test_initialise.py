import pytest
import torch

from sae.dictionary import ReluConfig, Sae, SaeConfig, initialise_
from sae.dictionary.initialise import geometric_median
from sae.errors import InputError


def fresh():
    return Sae(SaeConfig(4, 16, ReluConfig(l1=0.1)))


def sample(seed=0):
    return 7.0 * torch.randn(256, 4, generator=torch.Generator().manual_seed(seed)) + 3.0


def test_where_fitting_starts():
    sae, x = fresh(), sample()
    initialise_(sae, x, seed=1)
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(16))
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    assert not sae.b_enc.any()
    scaled = sae.input_scale * x
    assert scaled.square().sum(-1).mean().item() == pytest.approx(4.0, rel=1e-5)
    nearer = (scaled - sae.b_dec).norm(dim=-1).sum()
    assert nearer <= (scaled - scaled.mean(0)).norm(dim=-1).sum()


def test_a_seed_decides():
    first, again, other = fresh(), fresh(), fresh()
    for sae, seed in ((first, 1), (again, 1), (other, 2)):
        initialise_(sae, sample(), seed=seed)
    assert torch.equal(first.W_dec, again.W_dec)
    assert not torch.equal(first.W_dec, other.W_dec)


def test_the_median_shrugs_off_an_outlier():
    x = torch.cat([torch.randn(99, 2), torch.full((1, 2), 1e4)])
    assert geometric_median(x).norm() < 1.0 < x.mean(0).norm()


def test_the_median_of_one_point_is_it():
    assert geometric_median(torch.tensor([[3.0, 4.0]])).tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    "bad", [torch.zeros(5, 4), torch.zeros(0, 4), torch.full((5, 4), float("nan"))]
)
def test_a_sample_must_say_something(bad):
    with pytest.raises(InputError, match="a sample to start from"):
        initialise_(fresh(), bad, seed=0)
