"""Interventions on a small model in which what a direction is wired to is known."""

import numpy as np
import pytest
import torch

from analysis.latents.causal import Contexts, contexts_of, dose_response, pushed
from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, logits, logits_with, padded
from sae.stream.tokens import tokenize

LAST = HookPoint(2, "resid_post")
FIRST = HookPoint(0, "resid_post")


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture(scope="module")
def contexts(text):
    return contexts_of(text, np.arange(text.n_tokens), 60)


@pytest.fixture(scope="module")
def row(tiny_model):
    return np.random.default_rng(0).normal(size=tiny_model.d_in).astype(np.float32)


def test_contexts_are_spread_over_documents(text):
    few = contexts_of(text, np.arange(text.n_tokens), len(text.ids))
    assert sorted(few.documents) == list(range(len(text.ids)))
    assert contexts_of(text, np.array([5]), 9).rows.tolist() == [5]
    again = contexts_of(text, np.arange(text.n_tokens), len(text.ids))
    assert (few.rows == again.rows).all()
    assert (few.rows != contexts_of(text, np.arange(text.n_tokens), 24, seed=1).rows).any()
    with pytest.raises(ConfigError, match="no tokens"):
        contexts_of(text, np.array([], int), 9)


def test_without_a_push_it_is_the_models_own_prediction(tiny_model, text, contexts):
    found = pushed(tiny_model, FIRST, contexts, None)
    for place in (0, 17, 59):
        document = contexts.documents[place]
        ids, mask = padded([text.ids[document]])
        whole = torch.log_softmax(logits(tiny_model, ids, mask)[0].float(), dim=-1)
        here = whole[contexts.rows[place] - text.starts[document]]
        assert found[place] == pytest.approx(here.numpy(), abs=1e-5)


def test_a_push_reaches_its_own_token_alone(tiny_model, text, contexts, row):
    found = pushed(tiny_model, FIRST, contexts, np.tile(row, (60, 1)))
    place = 31
    document = contexts.documents[place]
    at = contexts.rows[place] - text.starts[document]
    ids, mask = padded([text.ids[document]])
    x = activations(tiny_model, ids, mask, [FIRST])[FIRST].clone()
    x[0, at] += torch.from_numpy(row)
    scores = logits_with(tiny_model, ids, mask, FIRST, lambda _: x)[0, at].float()
    assert found[place] == pytest.approx(torch.log_softmax(scores, -1).numpy(), abs=1e-5)


def test_steering_towards_a_word_beats_random_directions(tiny_model, contexts):
    target = 20
    word = tiny_model.module.lm_head.weight[target].detach().numpy()
    gain = tiny_model.module.model.norm.weight.detach().numpy()
    row = 2 * word * gain / np.linalg.norm(word * gain)
    found = dose_response(
        tiny_model, LAST, row, contexts, np.array([target]), (-1.0, 0.0, 1.0, 2.0)
    )
    assert found["target"].is_monotonic_increasing
    at = found.set_index("dose")
    assert at.loc[0, ["target", "kl", "target_random", "kl_random_high"]].to_numpy(
        float
    ) == pytest.approx(0, abs=1e-6)
    assert at.loc[2, "target"] > at.loc[2, "target_random_high"]
    assert at.loc[-1, "target"] < at.loc[-1, "target_random_low"]
    assert (found["kl"] >= -1e-6).all() and at.loc[2, "kl"] > at.loc[1, "kl"]


def test_bad_questions_are_refused(tiny_model, text, contexts, row):
    with pytest.raises(ConfigError, match="no target tokens"):
        dose_response(tiny_model, LAST, row, contexts, np.array([], int))
    with pytest.raises(ConfigError, match=r"blocks\.9"):
        pushed(tiny_model, HookPoint(9, "resid_post"), contexts, None)
    with pytest.raises(ConfigError, match="no tokens"):
        Contexts(text, np.array([], int))
