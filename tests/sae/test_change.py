"""Sizes of a change, against sums written out by hand."""

import copy

import numpy as np
import pytest
import torch

from sae import change as changes
from sae.change import Ruler, measure_change
from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, padded
from sae.stream.model import LanguageModel, load_model
from sae.stream.tokens import tokenize

HOOK = HookPoint(1, "resid_post")


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture(scope="module")
def moved(tiny_model):
    module = copy.deepcopy(tiny_model.module)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in module.parameters():
            each += 0.05 * torch.randn(each.shape, generator=noise)
    return load_model(module, tiny_model.tokenizer)


def counted(model, text, what):
    """`what(ids)` of every document by itself, at the tokens that are not special."""
    kept = ~text.table["is_special"].to_numpy()
    rows = [what(model, torch.from_numpy(ids)[None])[0].double() for ids in text.ids]
    return torch.cat(rows)[torch.from_numpy(kept.copy())]


def resid(model, ids):
    return activations(model, ids, torch.ones_like(ids, dtype=torch.bool), [HOOK])[HOOK]


@torch.no_grad()
def log_p(model, ids):
    return model.module(ids).logits.log_softmax(-1)


def test_equal_models_did_not_move(tiny_model, text):
    change = measure_change(tiny_model, tiny_model, text, HOOK)
    assert (change.weights, change.activations, change.kl) == (0, 0, 0)


@torch.no_grad()
def test_each_size_is_what_its_definition_says(tiny_model, moved, text):
    change = measure_change(tiny_model, moved, text, HOOK)
    x, y = (counted(model, text, resid) for model in (tiny_model, moved))
    spread = (x - x.mean(0)).square().sum(1).mean()
    assert change.activations == pytest.approx(
        float(((y - x).square().sum(1).mean() / spread).sqrt()), rel=1e-6
    )
    p, q = (counted(model, text, log_p) for model in (tiny_model, moved))
    assert change.kl == pytest.approx(float((p.exp() * (p - q)).sum(1).mean()), rel=1e-4)
    before, after = (
        torch.cat([w.detach().flatten() for w in model.module.parameters()])
        for model in (tiny_model, moved)
    )
    assert change.weights == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5)


def test_kl_of_two_known_distributions(tiny_model, text):
    """Models whose next token does not depend on the text: base is even, tuned prefers token 0."""
    n = tiny_model.module.config.vocab_size

    def constant(favour):
        module = copy.deepcopy(tiny_model.module)
        head = torch.nn.Linear(module.config.hidden_size, n)
        with torch.no_grad():
            head.weight.zero_(), head.bias.zero_()
            head.bias[0] = favour
        module.lm_head = head
        return LanguageModel(module, tiny_model.tokenizer, "constant")

    total = n - 1 + 4.0
    expected = -np.log(n) - (np.log(4 / total) + (n - 1) * np.log(1 / total)) / n
    module = constant(0.0)
    tuned = constant(float(np.log(4)))
    change = measure_change(module, tuned, text, HOOK)
    assert change.kl == pytest.approx(expected, rel=1e-5)
    assert change.activations == 0
    reverse = measure_change(tuned, module, text, HOOK).kl
    assert reverse == pytest.approx(np.log(n) + 4 / total * np.log(4 / total)
                                    + (n - 1) / total * np.log(1 / total), rel=1e-5)  # fmt: skip


@pytest.mark.parametrize("batch_documents", [1, 5])
def test_the_size_of_a_batch_does_not_matter(tiny_model, moved, text, batch_documents):
    whole = measure_change(tiny_model, moved, text, HOOK)
    parts = measure_change(tiny_model, moved, text, HOOK, batch_documents)
    assert parts.activations == pytest.approx(whole.activations, rel=1e-5)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-4)


def test_special_tokens_do_not_count(tiny_model, text):
    """A model that only reads BOS otherwise did not move at the first layer's input."""
    module = copy.deepcopy(tiny_model.module)
    with torch.no_grad():
        module.model.embed_tokens.weight[tiny_model.tokenizer.bos_token_id] += 1.0
    tuned = load_model(module, tiny_model.tokenizer)
    change = measure_change(tiny_model, tuned, text, HookPoint(0, "resid_pre"))
    assert change.activations == 0
    assert change.weights > 0


def test_a_text_of_special_tokens_alone_is_an_error(tiny_model, text):
    table = text.table.assign(is_special=True)
    with pytest.raises(ConfigError, match="0 tokens"):
        measure_change(tiny_model, tiny_model, type(text)(text.ids, table), HOOK)


def test_models_of_another_width_cannot_be_compared(tiny_model, text):
    config = copy.deepcopy(tiny_model.module.config)
    config.hidden_size = 8
    other = load_model(type(tiny_model.module)(config), tiny_model.tokenizer)
    with pytest.raises(ConfigError, match="d_in"):
        measure_change(tiny_model, other, text, HOOK)


def test_padding_does_not_count(tiny_model, moved, text):
    """Documents of equal length, where nothing is padded, and the mixture agree in their sum."""
    ids, mask = padded(text.ids)
    assert not mask.all() and len(ids) > 1
    n = [int((~t["is_special"]).sum()) for t in (text.table,)]
    singles = [measure_change(tiny_model, moved, text.between(i, i + 1), HOOK).kl
               for i in range(len(text.ids))]  # fmt: skip
    counts = [(~text.between(i, i + 1).table["is_special"]).sum() for i in range(len(text.ids))]
    assert sum(counts) == n[0]
    expected = np.dot(singles, counts) / sum(counts)
    assert measure_change(tiny_model, moved, text, HOOK).kl == pytest.approx(expected, rel=1e-4)


def test_a_ruler_says_the_same_of_every_model_whatever_it_keeps(
    tiny_model, moved, text, monkeypatch
):
    alone = [measure_change(tiny_model, each, text, HOOK) for each in (moved, tiny_model)]
    keeping = Ruler(tiny_model, text, HOOK)
    monkeypatch.setattr(changes, "KEPT_BYTES", 0)
    forgetful = Ruler(tiny_model, text, HOOK, batch_documents=1)
    for ruler in (keeping, forgetful):
        for model, wanted in zip((moved, tiny_model), alone, strict=True):
            found = ruler.measure(model)
            assert found.activations == pytest.approx(wanted.activations, rel=1e-5, abs=1e-6)
            assert found.kl == pytest.approx(wanted.kl, rel=1e-5, abs=1e-7)
            assert found.weights == wanted.weights
