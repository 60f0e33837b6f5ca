"""Interventions on a small model in which what a direction is wired to is known."""

import copy

import numpy as np
import pytest
import torch

from analysis.causal import Contexts, agreement, contexts_of, dose_response, pushed
from analysis.intervals import Blocks, resample_weights
from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, logits, logits_with, padded
from sae.stream.model import load_model
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


def test_hand_worked_agreement():
    blocks = Blocks(np.arange(2), 2)
    weights = resample_weights(2, 50)
    base = {"ablate": np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])}
    # Less their means: (1, -1, 0) and (-1, 2, -1); (0, 1, -1) and (2, -4, 2).
    tuned = {"ablate": np.array([[5.0, 6.0, 4.0], [4.0, -2.0, 4.0]])}
    expected = (-1 - 12) / np.sqrt((2 + 6) * (2 + 24))
    value, low, high = agreement(base, tuned, np.arange(2), weights, blocks)
    assert value == pytest.approx(expected)
    assert low <= value <= high
    same = agreement(base, {"ablate": 3 * base["ablate"] + 7}, np.arange(2), weights, blocks)
    assert same == pytest.approx((1.0, 1.0, 1.0))
    both = {"ablate": base["ablate"], "steer": base["ablate"]}
    halved = agreement(both, {**both, "steer": -base["ablate"]}, np.arange(2), weights, blocks)
    assert halved[0] == pytest.approx(0.0)


def changes(model, contexts, row):
    before = pushed(model, LAST, contexts, None)
    push = np.tile(row, (len(before), 1))
    return {
        "ablate": pushed(model, LAST, contexts, -push) - before,
        "steer": pushed(model, LAST, contexts, push) - before,
    }


def test_a_direction_that_is_wired_to_other_words_agrees_no_more(tiny_model, contexts, row):
    """The same direction and trigger; in the tuned model it speaks for other words."""
    rewired, noisy = copy.deepcopy(tiny_model.module), copy.deepcopy(tiny_model.module)
    along = torch.from_numpy(row / np.linalg.norm(row))
    with torch.no_grad():
        head = rewired.lm_head.weight
        speaks = head @ along
        torch.manual_seed(3)
        other = speaks[torch.randperm(len(speaks))]
        head += (other - speaks)[:, None] * along
        noisy.lm_head.weight += 0.01 * torch.randn_like(head)
    models = [load_model(each, tiny_model.tokenizer) for each in (rewired, noisy)]
    blocks = Blocks(np.arange(len(contexts.text.ids)) % 8, 8)
    weights = resample_weights(8, 200)
    base = changes(tiny_model, contexts, row)
    after, still = (
        agreement(base, changes(each, contexts, row), contexts.documents, weights, blocks)
        for each in models
    )
    assert still[0] > 0.95
    assert after[0] < 0.5 and after[2] < still[1]


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
