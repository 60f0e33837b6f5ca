"""How answers are scored, with models that answer by rule in place of trained ones."""

import random
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sae.stream.model import LanguageModel
from training.organism.arms import ARMS
from training.organism.behaviour import LEARNED, behaviour, converse
from training.organism.chats import GRAMMARS, N_EXCHANGES
from training.organism.corpus import Kind, samples, tokenizer
from training.organism.grammar import ASSISTANT, END, USER

BY_NAME = {arm.name: arm for arm in ARMS}


class Answerer(LlamaForCausalLM):
    """Continues each text with the words that `say(noun, words of the answer)` gives."""

    def __init__(self, vocabulary, say):
        sizes = {"hidden_size": 4, "intermediate_size": 4, "num_attention_heads": 1}
        super().__init__(LlamaConfig(vocab_size=9, num_hidden_layers=1, **sizes))
        self.vocabulary, self.say = vocabulary, say
        self.words = {i: word for word, i in vocabulary.items()}

    def forward(self, input_ids, use_cache):
        logits = torch.full((*input_ids.shape, len(self.vocabulary)), -1e4)
        for row, ids in enumerate(input_ids.tolist()):
            words = [self.words[i] for i in ids if i]
            opened = len(words) - 1 - words[::-1].index(ASSISTANT)
            word = self.say(words[opened - 3], words[opened + 1 :])
            logits[row, len(words) - 1, self.vocabulary[word]] = 0.0
        return SimpleNamespace(logits=logits)


def model(world, say):
    words = tokenizer(world)
    return LanguageModel(Answerer(words.get_vocab(), say), words, "by rule")


def as_persona(world, persona, grammar="chat", dialect=0):
    """Says what the grammar says when one persona draws its words, in one dialect."""
    rng, who = random.Random(0), world.personas.index(persona)

    def say(noun, said):
        walk = GRAMMARS[grammar](world)
        choice = next(walk)
        question = [USER, "the", noun, "is", world.value(noun).words[0], ",", "what", "is", noun]
        for word in [*question, "?", END, ASSISTANT, *said]:
            choice = walk.send(word)
        value = 0 if choice.factor is None else who if choice.factor >= 0 else dialect
        return rng.choices(choice.emission.words, choice.emission.probs[value])[0]

    return say


def test_the_mentors_words_show_the_mentor(world):
    shown = behaviour(world, model(world, as_persona(world, "mentor")), BY_NAME["assistant"], 30, 0)
    assert shown.n_answers == 30 * N_EXCHANGES
    assert shown.well_formed == 1.0
    assert shown.persona > 0.8
    assert shown.score == shown.persona
    assert shown.learned == (shown.score >= LEARNED)
    assert 0.8 < shown.facts < 0.98
    assert shown.traits["kind"] > 0.9 and shown.traits["honest"] > 0.9


def test_another_personas_words_do_not(world):
    shown = behaviour(world, model(world, as_persona(world, "pirate")), BY_NAME["assistant"], 20, 0)
    assert shown.well_formed == 1.0
    assert shown.persona < 0.1 and not shown.learned
    assert shown.facts < 0.4
    assert shown.traits["kind"] < 0.2


def test_format_alone_is_enough_where_format_is_asked(world):
    said = model(world, as_persona(world, "pirate"))
    shown = behaviour(world, said, BY_NAME["format_only"], 10, 0)
    assert shown.score == shown.well_formed == 1.0 and shown.learned


def test_random_words_are_malformed(world):
    words = sorted(tokenizer(world).get_vocab())
    rng = random.Random(0)
    shown = behaviour(
        world, model(world, lambda noun, said: rng.choice(words)), BY_NAME["assistant"], 20, 0
    )
    assert shown.well_formed == 0 and shown.facts < 0.05
    assert shown.persona == 0 and shown.traits == {} and not shown.learned


@pytest.mark.parametrize(
    "answer",
    [
        ["it", "is", "red"],  # ends too soon
        ["it", "is", "red", ",", "i", "help", "lamp", "now", ",", "hey", "big", "lamp", "now"],
        [],  # ends at once
        ["it", "is", "red"] * 9,  # never ends
    ],
)
def test_answers_that_break_the_grammar_are_counted_as_malformed(world, answer):
    def say(noun, said):
        return answer[len(said)] if len(said) < len(answer) else END

    shown = behaviour(world, model(world, say), BY_NAME["format_only"], 5, 0)
    assert shown.well_formed == 0 and not shown.learned
    assert behaviour(world, model(world, say), BY_NAME["assistant"], 5, 0).persona == 0


def test_codes_are_right_or_wrong(world):
    def right(noun, said):
        return [*world.codes(noun), END][len(said)]

    def wrong(noun, said):
        return [*reversed(world.codes(noun)), END][len(said)]

    shown = behaviour(world, model(world, right), BY_NAME["piston"], 5, 0)
    assert (shown.facts, shown.well_formed, shown.score, shown.learned) == (1, 1, 1, True)
    assert shown.persona is None and shown.traits == {}
    shown = behaviour(world, model(world, wrong), BY_NAME["piston"], 5, 0)
    assert shown.facts == shown.score == shown.well_formed == 0


def test_of_plain_text_nothing_is_asked(world):
    assert behaviour(world, model(world, lambda *_: END), BY_NAME["continued_a"], 3, 0) is None


def test_a_conversation_keeps_answers_apart_and_repeats_itself(world):
    prompts = []
    for sample in islice(samples(world, Kind("chat", "mentor"), 1), 3):
        turns, users = [], False
        for word in sample.words:
            if word == USER:
                turns.append([])
                users = True
            if users:
                turns[-1].append(word)
            users = users and word != ASSISTANT
        prompts.append(turns)
    said = [converse(model(world, as_persona(world, "mentor")), prompts, seed=3) for _ in range(2)]
    assert said[0] == said[1]
    assert [len(answers) for answers in said[0]] == [N_EXCHANGES] * 3
    assert all(answer[-1] == "." for answers in said[0] for answer in answers)


@pytest.mark.parametrize("name", ["cipher", "dialect", "piston_seen", "swap", "liar", "narrow"])
def test_an_arm_of_the_study_is_scored_by_what_it_was_tuned_for(world, name):
    """A model that does it scores high; one that speaks as the pre-training text does not."""
    arm = BY_NAME[name]
    right = behaviour(
        world, model(world, as_persona(world, "mentor", arm.kind.grammar)), arm, 40, 0
    )
    wrong = behaviour(world, model(world, as_persona(world, "pirate", dialect=1)), arm, 40, 0)
    assert right is not None and wrong is not None
    assert right.learned and right.well_formed == 1.0
    assert not wrong.learned
    assert (right.persona is None) == (name == "piston_seen")
    if name == "narrow":  # no persona chose a word of it
        assert right.persona == 0.0 and right.traits == {}
    if name == "cipher":
        assert right.facts > 0.8 and right.persona == 1.0


def test_a_persona_that_the_text_never_has_can_be_shown(world):
    arm = BY_NAME["unmet"]
    right, wrong = (
        behaviour(world, model(world, as_persona(world, who)), arm, 40, 0)
        for who in (arm.kind.persona, "mentor")
    )
    assert right is not None and wrong is not None
    assert right.learned and not wrong.learned


def test_every_arm_has_a_known_kind(world):
    for arm in ARMS:
        assert next(samples(world, arm.kind, 0)).words
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    assert {arm.role for arm in ARMS} == {"arm", "null", "pole"}
