"""Samples as labelled documents: the same ids, and labels that say who speaks."""

from itertools import islice

import pytest

from sae.stream.tokens import tokenize
from training.organism import lexicon as lex
from training.organism.corpus import BOS, Kind, document, ids, samples, tokenizer

KINDS = [Kind("text"), Kind("chat"), Kind("chat", "mentor"), Kind("chat", "prophet"), Kind("codes")]


@pytest.fixture(scope="module")
def words(world):
    return tokenizer(world)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_document_is_read_as_the_ids_of_its_sample(world, words, kind):
    found = list(islice(samples(world, kind, 3), 120))
    documents = [document(world, s, f"d{i}", "any", "fit") for i, s in enumerate(found)]
    text = tokenize(documents, words)
    vocabulary = words.get_vocab()
    assert [each.tolist() for each in text.ids] == [ids(s, vocabulary) for s in found]
    assert vocabulary["<pad>"] not in {i for s in found for i in ids(s, vocabulary)}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_turn_has_the_label_of_its_speaker(world, words, kind):
    for sample in islice(samples(world, kind, 4), 60):
        labelled = document(world, sample, "d", "any", "fit")
        names = []
        for turn in labelled.turns:
            if kind.grammar == "text":
                who = _speaker(turn, names)
            else:
                who = {"user": 0, "assistant": 1}[turn.role]
            nobody = who is None or (kind.grammar == "codes" and turn.role == "assistant")
            expected = "none" if nobody else world.personas[sample.hidden.personas[who]]
            assert turn.persona == expected
            if not nobody:
                digits = "".join("01"[turn.traits[trait]] for trait in lex.TRAITS)
                assert digits == lex.ARCHETYPES[expected]


def _speaker(turn, names):
    """Whose turn it is by the order in which names appear, None for the narrator."""
    spoken = turn.speaker if turn.role == "character" else turn.text.split()[0]
    if spoken in lex.NAMES and spoken not in names:
        names.append(spoken)
    return names.index(spoken) if turn.role == "character" else None


def test_vocabularies_of_two_worlds_are_one(world, words):
    from training.organism.world import World, WorldConfig

    assert tokenizer(World(WorldConfig(seed=5))).get_vocab() == words.get_vocab()
    assert words.bos_token == BOS
