"""The bench reads documents in an order of its own, and gives their vectors in the table's."""

import numpy as np
import pytest
import torch

from analysis.latents.bench import lay_bench, residuals
from sae.stream.activations import HookPoint, harvest
from sae.stream.tokens import tokenize

HOOK = HookPoint(1, "resid_post")


@pytest.fixture(scope="module")
def bench(tiny_model, tiny_tokenizer, documents):
    return lay_bench(tiny_model, HOOK, tokenize(documents * 3, tiny_tokenizer))


@pytest.fixture(scope="module")
def whole(bench):
    found = harvest(bench.base, bench.text, [HOOK], batch_documents=1)
    return torch.cat([each[HOOK] for _, each in found]).numpy()


def test_vectors_stand_in_the_order_of_the_table(bench, whole):
    assert len(bench.x) == len(bench.tokens) == bench.counted.sum()
    assert np.allclose(bench.x, whole[bench.counted], atol=1e-5)
    assert np.allclose(residuals(bench, bench.base), bench.x, atol=1e-6)


def test_a_mask_reads_the_documents_it_needs_and_no_others(bench, whole):
    mask = np.zeros(len(bench.tokens), bool)
    mask[[0, 5, len(mask) - 1]] = True
    read: list[int] = []
    handle = bench.base.module.register_forward_pre_hook(
        lambda _, __, inputs: read.append(len(inputs["input_ids"])), with_kwargs=True
    )
    found = residuals(bench, bench.base, mask)
    handle.remove()
    assert np.allclose(found, whole[bench.counted][mask], atol=1e-5)
    assert sum(read) == bench.tokens["doc"][mask].nunique()
    assert residuals(bench, bench.base, np.zeros_like(mask)).shape == (0, whole.shape[1])
