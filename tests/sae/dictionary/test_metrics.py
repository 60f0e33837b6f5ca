from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.dictionary import metrics
from sae.dictionary.latents import Latents
from sae.errors import InputError

X = torch.tensor([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])  # mean [2, 2]; deviations 8 + 4 + 4 = 16


def fvu(x, x_hat):
    return metrics.fvu_compute(metrics.fvu_update(x, x_hat))


def test_fvu_of_a_perfect_copy_is_zero():
    assert fvu(X, X) == 0.0


def test_fvu_of_the_mean_is_one():
    assert fvu(X, X.mean(0).expand_as(X)) == 1.0


def test_fvu_of_a_constant_offset_counts():
    assert fvu(X, X + 1.0) == pytest.approx(6 / 16)


def test_fvu_shrinking_towards_the_mean():
    assert fvu(X, X.mean(0) + 0.9 * (X - X.mean(0))) == pytest.approx(0.01)


def test_fvu_stands_a_far_mean():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double() + 1e5
    assert fvu(x, x.mean(0).expand_as(x)) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(
    ("x", "found"), [(X[:1], "1 tokens"), (torch.ones(5, 2), "5 equal vectors")]
)
def test_fvu_needs_variance(x, found):
    with pytest.raises(InputError, match=found):
        fvu(x, x)


def test_l0_and_fire_rate_by_hand():
    sums = metrics.l0_update(torch.tensor([[1.0, 0.0, 0.5], [2.0, 0.0, 0.0]]))
    assert metrics.l0_compute(sums) == 1.5
    assert metrics.fire_rate_compute(sums).tolist() == [1.0, 0.0, 0.5]


def test_fvu_is_not_lost_beside_a_large_mean_or_in_a_narrow_type():
    x = 10_000.0 + X  # exact in float32, but its squares are not
    assert fvu(x, x + 1.0) == pytest.approx(6 / 16, rel=1e-12)
    x = torch.tensor([[257.0], [259.0], [261.0]])  # a square has more digits than bfloat16
    assert fvu(x.bfloat16(), x.bfloat16()) == 0.0
    narrow = x.bfloat16().double()
    by_hand = 3 / ((narrow - narrow.mean()) ** 2).sum().item()
    assert fvu(x.bfloat16(), (narrow - 1).float()) == pytest.approx(by_hand)


def test_dead_by_hand():
    z = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    since = metrics.dead_update(torch.tensor([7, 7, 7]), Latents.of(z))
    assert since.tolist() == [1, 0, 9]
    assert metrics.dead_compute(since, 9).tolist() == [False, False, True]
    assert metrics.dead_compute(since, 10).tolist() == [False, False, False]


def test_ce_recovered_by_hand():
    clean, ablated = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 8.0])

    def recovered(patched):
        return metrics.ce_recovered_compute(metrics.ce_recovered_update(clean, patched, ablated))

    assert recovered(clean) == 1.0
    assert recovered(ablated) == 0.0
    assert recovered(torch.tensor([2.0, 4.0])) == 0.75  # (12 - 6) / (12 - 4)


def test_ce_recovered_needs_an_ablation_that_costs():
    same = torch.ones(2)
    with pytest.raises(InputError, match="ablation costs 0 nats"):
        metrics.ce_recovered_compute(metrics.ce_recovered_update(same, same, same))


def test_kl_is_of_base_from_tuned():
    base, tuned = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    forward = 0.5 * torch.log(torch.tensor(0.5 / 0.25)) + 0.5 * torch.log(torch.tensor(0.5 / 0.75))
    backward = 0.25 * torch.log(torch.tensor(0.5)) + 0.75 * torch.log(torch.tensor(1.5))
    kl = metrics.kl_compute(metrics.kl_update(base, tuned))
    assert kl == pytest.approx(forward.item(), rel=1e-5)
    assert kl != pytest.approx(backward.item(), rel=1e-2)
    assert metrics.kl_compute(metrics.kl_update(base + 3, base)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("update", "compute", "n_tensors"),
    [
        (metrics.l0_update, metrics.l0_compute, 1),
        (metrics.fire_rate_update, metrics.fire_rate_compute, 1),
        (metrics.kl_update, metrics.kl_compute, 2),
    ],
)
def test_no_tokens_have_no_rate(update, compute, n_tensors):
    with pytest.raises(InputError, match="0 tokens; do: give at least 1"):
        compute(update(*[torch.zeros(0, 3)] * n_tensors))


FAMILY = {
    "fvu": (metrics.fvu_update, metrics.fvu_compute, 2, (20, 3)),
    "l0": (metrics.l0_update, metrics.l0_compute, 1, (20, 3)),
    "fire_rate": (metrics.fire_rate_update, metrics.fire_rate_compute, 1, (20, 3)),
    "kl": (metrics.kl_update, metrics.kl_compute, 2, (20, 3)),
    "ce_recovered": (metrics.ce_recovered_update, metrics.ce_recovered_compute, 3, (20,)),
}


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 20), max_size=4), seed=st.integers(0, 2**31))
def test_batching_does_not_change_the_answer(name, cuts, seed):
    update, compute, n_tensors, shape = FAMILY[name]
    generator = torch.Generator().manual_seed(seed)
    tensors = [i + torch.rand(shape, generator=generator) for i in range(n_tensors)]
    whole = compute(update(*tensors))
    edges = [0, *sorted(cuts), 20]
    parts = [update(*(t[a:b] for t in tensors)) for a, b in zip(edges, edges[1:], strict=False)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    torch.testing.assert_close(compute(total), whole, rtol=1e-6, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 12), seed=st.integers(0, 2**31))
def test_batching_does_not_change_who_is_dead(cut, seed):
    z = torch.rand(12, 5, generator=torch.Generator().manual_seed(seed))
    z = torch.where(z > 0.8, z, 0.0)
    start = torch.arange(5)
    halves = (Latents.of(each) for each in (z[:cut], z[cut:]))
    parts = reduce(metrics.dead_update, halves, start)
    assert torch.equal(parts, metrics.dead_update(start, Latents.of(z)))


def test_fvu_agrees_with_the_training_loss():
    from sae.dictionary.losses import reconstruction

    x_hat = 0.5 * X
    variance = (X - X.mean(0)).square().sum()
    by_loss = reconstruction(X, [x_hat]) * X.numel() / variance
    assert fvu(X, x_hat) == pytest.approx(by_loss.item())
