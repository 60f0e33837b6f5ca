import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.dictionary.config import BatchTopKConfig, TopKConfig
from sae.dictionary.selection import PreActivations
from sae.dictionary.sparsity import BatchTopK, TopK
from sae.errors import ConfigError, InputError

PRE = torch.tensor([[4.0, 3.0], [1.0, -2.0]])


def test_topk_keeps_fewer_where_fewer_are_positive():
    assert TopK(TopKConfig(k=2))(PRE, training=True).tolist() == [[4.0, 3.0], [1.0, 0.0]]


def test_gradient_passes_through_what_is_kept_alone():
    pre = PRE.clone().requires_grad_()
    BatchTopK(BatchTopKConfig(k=1))(pre, training=True).sum().backward()
    assert pre.grad is not None
    assert pre.grad.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_a_threshold_never_set_is_an_error():
    with pytest.raises(InputError, match="no training batch has set"):
        BatchTopK(BatchTopKConfig(k=1))(PRE, training=False)


def test_the_first_batch_sets_the_threshold_and_the_next_moves_it():
    sparsity = BatchTopK(BatchTopKConfig(k=1))
    sparsity(PRE, training=True)
    assert sparsity.threshold.item() == 3.0
    assert sparsity(PRE, training=False).tolist() == [[4.0, 0.0], [0.0, 0.0]]
    sparsity(2 * PRE, training=True)  # weight of the past: (1 + 1) / (10 + 1)
    assert sparsity.threshold.item() == pytest.approx(3.0 * 2 / 11 + 6.0 * 9 / 11)
    assert sparsity.threshold.dtype == torch.float64


def test_the_threshold_outgrows_its_beginning():
    sparsity = BatchTopK(BatchTopKConfig(k=1))
    sparsity(100 * PRE, training=True)
    for _ in range(30):
        sparsity(PRE, training=True)
    assert sparsity.threshold.item() == pytest.approx(3.0, rel=1e-3)


def test_the_memory_grows_to_beta_and_no_further():
    sparsity = BatchTopK(BatchTopKConfig(k=1, threshold_beta=0.5))
    sparsity.n_updates.fill_(10**6)
    sparsity.threshold.fill_(1.0)
    sparsity(PRE, training=True)
    assert sparsity.threshold.item() == 2.0


@pytest.mark.parametrize("pre", [torch.zeros(0, 2), -torch.ones(3, 2)], ids=["empty", "negative"])
def test_a_batch_in_which_nothing_fires_leaves_the_threshold(pre):
    sparsity = BatchTopK(BatchTopKConfig(k=1))
    assert not sparsity(pre, training=True).any()
    assert sparsity.threshold.item() == -1.0
    sparsity.scale_(5.0)
    assert sparsity.threshold.item() == -1.0


def test_evaluation_moves_nothing():
    sparsity = BatchTopK(BatchTopKConfig(k=1))
    sparsity(PRE, training=True)
    sparsity(5 * PRE, training=False)
    assert (sparsity.threshold.item(), sparsity.n_updates.item()) == (3.0, 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9))
def test_batch_topk_keeps_the_largest_whatever_the_batch(seed, k, n):
    pre = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    z = BatchTopK(BatchTopKConfig(k=k))(pre, training=True)
    assert (z > 0).sum() == min(n * k, int((pre > 0).sum()))
    left = pre[(z == 0) & (pre > 0)]
    assert not len(left) or left.max() <= z[z > 0].min()


def _first_part(pre, module, **how):
    return module.select(PreActivations.of(pre), **how).dense()


def test_batch_topk_may_count_each_token_for_the_first_part_of_a_fit():
    pre = torch.tensor([[4.0, 3.0, 2.0], [1.0, 0.5, 0.2]])
    each, whole = torch.tensor([[4.0, 0, 0], [1.0, 0, 0]]), torch.tensor([[4.0, 3.0, 0], [0, 0, 0]])
    module = BatchTopK(BatchTopKConfig(k=1, per_token=0.5))
    assert torch.equal(_first_part(pre, module, training=True, progress=0.49), each)
    assert module.threshold < 0
    assert torch.equal(_first_part(pre, module, training=False), each), "evaluated on the way"
    assert torch.equal(_first_part(pre, module, training=True, progress=0.5), whole)
    assert float(module.threshold) == 3.0
    assert torch.equal(_first_part(pre, module, training=False), torch.where(pre > 3, pre, 0.0))


def test_a_threshold_that_is_set_ends_the_first_part():
    pre = torch.tensor([[4.0, 3.0], [1.0, 0.5]])
    module = BatchTopK(BatchTopKConfig(k=1, per_token=0.9))
    _first_part(pre, module, training=True)
    module = module.added(0)
    found = _first_part(pre, module, training=True, progress=0.0)
    assert torch.equal(found, torch.tensor([[4.0, 3.0], [0, 0]]))


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_the_first_part_is_a_share_below_one(share):
    with pytest.raises(ConfigError, match="per_token"):
        BatchTopKConfig(k=1, per_token=share)
