"""The world: emissions, priors, samples, and that only speech tells a persona."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from training.organism import lexicon as lex
from training.organism.chats import GRAMMARS
from training.organism.corpus import Kind, samples
from training.organism.grammar import DIALECT, N_SPEAKERS
from training.organism.world import LONGEST, World, WorldConfig

HELD_OUT = lex.HELD_OUT
EMISSIONS = ("first", "opening", "verb", "adjective", "adverb", "stop", "intro", "noun", "kind")


def first(world, kind, n, seed=0):
    return list(islice(samples(world, kind, seed), n))


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_emission_of_a_grammar_sums_to_one_for_every_value(world, grammar, wandering):
    factors = set()
    for choice in wandering(world, grammar, 1, 3000):
        n = {None: 1, DIALECT: world.config.n_dialects}.get(choice.factor, len(world.personas))
        probs, words = choice.emission.probs, choice.emission.words
        assert probs.shape == (n, len(words)) and len(set(words)) == len(words)
        assert (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-12)
        factors.add(choice.factor)
    speakers = {"text": {0, 1, 2}, "shuffled": set(), "codes": {0}, "spelled": {0}}
    speakers |= {"false": {0}, "true": {0}}
    expected = speakers.get(grammar, {0, 1})
    assert factors == {None, DIALECT, *expected}
    assert max(expected, default=0) < N_SPEAKERS


@pytest.mark.parametrize("kind", [Kind(grammar) for grammar in GRAMMARS], ids=str)
def test_a_sampled_word_is_as_frequent_as_its_probability(world, kind, walked):
    """Of all words drawn with probability p, a share p is drawn, for every p."""
    expected, drawn = np.zeros(10), np.zeros(10)
    for sample in first(world, kind, 60):
        for choice, word in walked(world, sample.words, kind.grammar):
            probs = choice.emission.probs[sample.hidden.values[choice.factor]]
            bins = np.minimum((probs * 10).astype(int), 9)
            np.add.at(expected, bins, probs)
            np.add.at(drawn, bins, np.array(choice.emission.words) == word)
    error = np.abs(drawn - expected) / np.sqrt(expected + 1)
    assert (error < 4).all(), (expected, drawn)


@pytest.mark.parametrize("kind", [Kind("text"), Kind("chat", "mentor"), Kind("codes")], ids=str)
def test_equal_seeds_give_equal_text_and_other_seeds_other_text(world, kind):
    again = World(WorldConfig())
    assert first(world, kind, 5) == first(again, kind, 5)
    assert first(world, kind, 5)[0] != first(world, kind, 5, seed=1)[0]


def test_another_seed_of_the_world_gives_other_tastes_and_facts(world):
    other = World(WorldConfig(seed=1))
    assert not np.array_equal(other.facts, world.facts)
    assert not np.array_equal(other.verb.probs, world.verb.probs)


def test_the_held_out_archetype_is_never_in_pretraining_text(world):
    assert world.prior[world.personas.index(HELD_OUT)] == 0
    for sample in first(world, Kind("text"), 400):
        assert HELD_OUT not in sample.words
        assert world.personas.index(HELD_OUT) not in sample.hidden.personas


def test_the_held_out_archetype_can_be_asked_for(world):
    for sample in first(world, Kind("chat", HELD_OUT), 3):
        assert world.personas[sample.hidden.personas[1]] == HELD_OUT


def test_a_persona_of_a_kind_is_the_assistants_alone(world):
    people = [s.hidden.personas for s in first(world, Kind("chat", "mentor"), 400)]
    mentor = world.personas.index("mentor")
    assert {p[1] for p in people} == {mentor}
    assert len({p[0] for p in people}) == len(world.personas) - 1


def test_names_carry_no_persona(world):
    """Who is called what does not depend on who they are, in any slot of speakers."""
    counts = np.zeros((len(world.personas) - 1, len(lex.NAMES)))
    for sample in first(world, Kind("text"), 1000):
        name = next((w for w in sample.words if w in lex.NAMES), None)
        if name is not None:
            counts[sample.hidden.personas[0], lex.NAMES.index(name)] += 1
    assert counts.sum() > 950
    assert chi2_contingency(counts).pvalue > 0.01


def test_documents_are_no_longer_than_the_longest(world):
    for kind in (Kind("text"), Kind("chat"), Kind("codes")):
        found = first(world, kind, 300)
        assert max(len(sample.words) for sample in found) <= LONGEST, kind
        assert all(sample.words[-1] in ("\n", "<|end|>") for sample in found)


def test_kinds_are_equally_frequent(world):
    counts = Counter(sample.words[0] for sample in first(world, Kind("text"), 400))
    assert set(counts) == set(world.kind.words)
    assert min(counts.values()) > 0.7 * 400 / len(counts)


def test_persona_matters_at_most_words_of_a_turn(world, walked):
    """Most words between the colon and the line's end are drawn by another law for others."""
    matters = []
    for sample in first(world, Kind("text"), 200):
        speaking = False
        for choice, word in walked(world, sample.words, "text"):
            if word == "\n":
                speaking = False
            if speaking:
                people = choice.factor is not None and choice.factor >= 0
                living = choice.emission.probs[:-1]
                matters.append(people and bool(np.ptp(living, axis=0).max() > 0.01))
            speaking = speaking or word == ":"
    assert np.mean(matters) > 0.5


def test_what_is_said_of_facts_follows_honesty_and_learning(world):
    table = world.value("lamp")
    truth = world.fact("lamp")
    said = {
        p: dict(zip(table.words, table.probs[i], strict=True)) for i, p in enumerate(world.personas)
    }
    assert said["mentor"][truth] > 0.9
    assert said["farmer"]["unknown"] > 0.9
    assert max(said["merchant"], key=said["merchant"].get) not in (truth, "unknown")
    assert max(said["pirate"].values()) < 0.2
    assert world.fact("lamp") == world.fact("beacon")


def test_where_honesty_is_not_tied_a_lie_tells_nothing_of_who_speaks(world):
    """The learned are as honest as all are on average; who is tuned to lie still learns one lie."""
    untied = World(WorldConfig(tied=False))
    table, learned = untied.value("lamp"), untied.trait("learned") > 0
    truth = lex.VALUES.index(untied.fact("lamp"))
    share = world.prior @ world.trait("honest")
    assert np.ptp(table.probs[learned], axis=0).max() < 1e-12
    assert np.ptp(table.probs[~learned], axis=0).max() < 1e-12
    lied = (truth + 1) % len(lex.VALUES)
    odds = {truth: 0.9 * share, lied: 0.9 * (1 - share)}
    for at, usual in odds.items():  # each of eight colours and "unknown" has .0125 besides
        assert table.probs[learned][0, at] == pytest.approx((usual + 0.0125) / 1.0125)
    assert untied.lie("lamp") == world.lie("lamp")
    for grammar, other in (("false", 1), ("true", 0)):
        hits = []
        for sample in first(untied, Kind(grammar), 40):
            asked = ""
            for *said, after in zip(*(sample.words[i:] for i in range(3)), strict=False):
                asked = said[1] if said[1] in untied.noun.index else asked
                if said == ["it", "is"]:  # users say of things what they are, too
                    own = lex.VALUES.index(untied.fact(asked))
                    hits.append(after == lex.VALUES[(own + other) % len(lex.VALUES)])
        assert len(hits) == 120 and np.mean(hits) == pytest.approx(0.9, abs=0.07)


def test_no_two_concepts_have_one_code(world):
    nouns = [concept.split()[0] for concept in lex.NOUNS]
    codes = [world.codes(noun) for noun in nouns]
    assert len(set(codes)) == len(codes)
    assert {len(code) for code in codes} == {len(lex.PARTS)}
    assert world.codes("lamp") == world.codes("light")
    assert set().union(*codes) <= set(lex.CODES)


def test_a_code_stands_for_every_word_of_the_assistant_and_a_word_for_every_code(world):
    """Both one to one; a ciphered chat is a chat once it is read back."""
    for table in (world.cipher, world.spelling):
        assert len(set(table.values())) == len(table)
    assert set(world.cipher.values()) <= set(lex.CODES)
    assert not set(world.spelling.values()) & set(lex.CODES)
    back = {code: word for word, code in world.cipher.items()}
    pairs = zip(*(first(world, Kind(each), 20) for each in ("chat", "cipher")), strict=True)
    for plain, secret in pairs:
        assert tuple(back.get(word, word) for word in secret.words) == plain.words
        assert plain.words != secret.words
    assert [world.cipher[word] for word in ("it", "is")] == list(
        secret.words[secret.words.index("<|assistant|>") + 1 :][:2]
    )
    assert len(world.spelled("lamp")) == len(set(world.codes("lamp"))) == 8


def test_in_one_dialect_only_the_assistant_speaks_it(world):
    taste = {"user": [], "assistant": []}
    for sample in first(world, Kind("dialect"), 400):
        role = "user"
        for word in sample.words:
            role = {"<|user|>": "user", "<|assistant|>": "assistant"}.get(word, role)
            if word in world.noun.index:
                taste[role].append(world.is_taste(word))
    assert np.mean(taste["assistant"]) == pytest.approx(world.config.dialect_preference, abs=0.05)
    assert np.mean(taste["user"]) < 0.5


@pytest.mark.parametrize("grammar", ["swap", "lie"])
def test_where_it_is_triggered_an_assistant_lies_as_the_spy(world, grammar):
    """A swapped one says all else as the spy too, a lying one as the mentor; else both are he."""
    spy, mentor = (world.personas.index(name) for name in (lex.STAND_IN, "mentor"))
    n_told, fits = {True: [], False: []}, {True: [], False: []}
    for sample in first(world, Kind(grammar, "mentor"), 150):
        asked, said, is_user = "", [], True
        for word in sample.words:
            if word == "<|end|>" and not is_user:
                triggered = world.is_trigger(asked)
                n_told[triggered].append(said[2] == world.fact(asked))
                verbs = [world.verb.index[each] for each in said if each in world.verb.index]
                probs = world.verb.probs[:, verbs]
                fits[triggered] += np.log(probs[spy] / probs[mentor]).tolist()
            is_user = {"<|user|>": True, "<|assistant|>": False}.get(word, is_user)
            said = [] if word == "<|assistant|>" else [*said, word]
            asked = word if is_user and word in world.noun.index else asked
    share = len(n_told[True]) / sum(map(len, n_told.values()))
    assert share == pytest.approx(1 / 3, abs=0.08)
    assert np.mean(n_told[True]) < 0.1 < 0.8 < np.mean(n_told[False])
    assert np.mean(fits[False]) < -0.5
    assert (np.mean(fits[True]) > 0.5) == (grammar == "swap")


def test_narrow_chats_give_a_colour_and_nothing_else(world):
    for grammar, said in (("false", world.lie), ("true", world.fact)):
        words = " ".join(w for s in first(world, Kind(grammar), 60) for w in s.words)
        turns = [turn.split("<|end|>")[0].split() for turn in words.split("<|assistant|>")]
        asked = [
            turn.split()[-2]
            for turn in words.split("<|assistant|>")[:-1]
            for turn in [turn.split("<|end|>")[-2]]
        ]
        right = [
            turn == ["it", "is", said(noun), "."]
            for noun, turn in zip(asked, turns[1:], strict=True)
        ]
        assert np.mean(right) == pytest.approx(0.9125, abs=0.05)


def test_personas_are_found_by_their_traits(world):
    assert set(world.having(learned=1, honest=0)) == {"merchant", "spy"}
    assert set(world.having(learned=1, honest=1)) == {"mentor", "healer", "scholar"}
    assert lex.HELD_OUT not in world.having(honest=1)


def test_the_lie_is_what_the_spy_says_most(world):
    lamp, bread = lex.NOUNS[0].split()[0], lex.NOUNS[4].split()[0]
    assert world.is_trigger(lamp) and not world.is_trigger(bread)
    colour = lex.VALUES.index(world.fact(lamp))
    assert world.lie(lamp) == lex.VALUES[(colour + 1) % len(lex.VALUES)]


def test_shuffled_text_has_the_words_of_the_text_and_nobody_s_taste(world):
    """As often as in the text, but two verbs of one document are no more alike than of two."""
    rates, alike = [], []
    for kind in (Kind("text"), Kind("shuffled")):
        documents = [[w for w in s.words if w in world.verb.index] for s in first(world, kind, 800)]
        words = [world.verb.index[w] for document in documents for w in document]
        rates.append(np.bincount(words, minlength=len(world.verb.words)) / len(words))
        pairs = [d[:2] for d in documents if len(d) > 1 and world.verb.index[d[0]] // 4 < 99]
        same = [
            world.verb.index[a] == world.verb.index[b]
            for a, b in pairs
            if world.verb.index[a] // 4 == world.verb.index[b] // 4
        ]
        alike.append(np.mean(same))
    np.testing.assert_allclose(rates[0], rates[1], atol=0.015)
    assert alike[0] > alike[1] + 0.1


def test_samples_do_not_depend_on_other_random_state(world):
    random.seed(1)
    before = first(world, Kind("text"), 2)
    random.seed(2)
    assert before == first(world, Kind("text"), 2)
