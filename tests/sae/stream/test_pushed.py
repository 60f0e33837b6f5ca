"""A token pushed alone, after what a model has read, against a pass of its whole document."""

import numpy as np
import pytest
import torch

from sae.errors import ConfigError
from sae.stream import pushed
from sae.stream.activations import HookPoint, logits_with, padded
from sae.stream.model import load_model
from sae.stream.tokens import tokenize

HOOKS = [HookPoint(0, "resid_pre"), HookPoint(0, "resid_post"), HookPoint(2, "resid_post")]


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture(scope="module")
def at(text):
    """Forty tokens of some documents, in no order, first and last tokens among them."""
    rng = np.random.default_rng(0)
    document = rng.integers(len(text.ids), size=40)
    place = np.array([rng.integers(len(text.ids[d])) for d in document])
    place[:2] = 0, len(text.ids[document[1]]) - 1
    return document, place


def pushes(model, n, seed=1):
    return np.random.default_rng(seed).normal(size=(2, n, model.d_in)).astype(np.float32)


@pytest.mark.parametrize("hook", HOOKS, ids=str)
def test_it_is_what_a_pass_of_the_document_gives(tiny_model, text, at, hook):
    push = pushes(tiny_model, 40)
    found = pushed.pushed_states(tiny_model, text.ids, at, hook, push)
    head = pushed.unembedding(tiny_model).numpy()
    for n in (0, 1, 7, 23, 39):
        document, place = at[0][n], at[1][n]
        ids, mask = padded([text.ids[document]])

        def scores(by, place=place, ids=ids, mask=mask):
            def add(x):
                y = x.clone()
                y[0, place] += torch.from_numpy(by)
                return y

            return logits_with(tiny_model, ids, mask, hook, add)[0, place].float().numpy()

        for kind in range(2):
            expected = scores(push[kind, n]) - scores(0 * push[kind, n])
            assert head @ found[kind, n] == pytest.approx(expected, abs=2e-4)


def test_no_push_changes_nothing(tiny_model, text, at):
    found = pushed.pushed_states(tiny_model, text.ids, at, HOOKS[1], 0 * pushes(tiny_model, 40))
    assert np.abs(found).max() < 1e-4
    assert pushed.pushed_states(
        tiny_model, text.ids, (at[0][:0], at[1][:0]), HOOKS[1], pushes(tiny_model, 0)
    ).shape == (2, 0, tiny_model.d_in)


def test_few_at_a_time_are_the_same_as_many(tiny_model, text, at, monkeypatch):
    push = pushes(tiny_model, 40)
    many = pushed.pushed_states(tiny_model, text.ids, at, HOOKS[1], push)
    monkeypatch.setattr(pushed, "DOCUMENTS_A_PASS", 2)
    monkeypatch.setattr(pushed, "TOKENS_A_PASS", 3)
    few = pushed.pushed_states(tiny_model, text.ids, at, HOOKS[1], push)
    assert few == pytest.approx(many, abs=1e-4)


def test_a_model_that_reads_a_token_alone_otherwise_is_refused(tiny_model, text, at, monkeypatch):
    read = pushed._Read._read

    def confused(self, ids, mask, places, cache):
        """Counts the places of a token from where the document ended."""
        return read(self, ids, mask, places if ids.shape[1] > 1 else places + 3, cache)

    monkeypatch.setattr(pushed._Read, "_read", confused)
    with pytest.raises(ConfigError, match="--effects 0"):
        pushed.pushed_states(tiny_model, text.ids, at, HOOKS[1], pushes(tiny_model, 40))


def test_a_model_without_an_unembedding_is_refused(tiny_model):
    class Headless(torch.nn.Module):
        def get_output_embeddings(self):
            return None

    model = load_model(tiny_model.module, tiny_model.tokenizer)
    object.__setattr__(model, "module", Headless())
    with pytest.raises(ConfigError, match="no matrix"):
        pushed.unembedding(model)
