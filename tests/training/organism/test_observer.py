"""The ideal observer against enumeration of all mixtures, and against the truth."""

from itertools import islice

import numpy as np
import pytest

from analysis.personas.selectivity import auroc, strata_of
from sae.stream.tokens import tokenize
from training.organism.corpus import Kind, document, samples, tokenizer
from training.organism.grammar import DIALECT
from training.organism.observer import observe
from training.organism.world import Hidden, Sample, World, WorldConfig

KINDS = [Kind("text"), Kind("chat"), Kind("chat", "mentor"), Kind("codes")]


def first(world, kind, n, seed=0):
    return list(islice(samples(world, kind, seed), n))


def one_of_each(world):
    """A story, a dialogue and a thread, then a chat and a chat of codes."""
    found = {sample.words[0]: sample for sample in first(world, Kind("text"), 20)}
    return [*found.values(), *(first(world, kind, 1)[0] for kind in KINDS[1:])]


def test_the_filter_is_enumeration_of_all_mixtures(walked, enumeration):
    """Loss, next-word law and posteriors, over 13^3 triples of personas and every dialect."""
    small = World(WorldConfig(n_dialects=3))
    for sample in one_of_each(small):
        seen, brute, speaker = observe(small, sample), enumeration(small), -1
        for i, (choice, word) in enumerate(walked(small, sample.words, sample.grammar)):
            law = brute.predict(choice)
            assert law.sum() == pytest.approx(1, abs=1e-12)
            at = choice.emission.words.index(word)
            assert seen.loss[i] == pytest.approx(-np.log(law[at]), abs=1e-9)
            brute.read(choice, word)
            np.testing.assert_allclose(seen.dialect[i], brute.marginal(DIALECT), atol=1e-9)
            if choice.factor is not None and choice.factor >= 0:
                speaker = choice.factor
                assert seen.speaker[i] == speaker
            if choice.speaker is not None:
                assert seen.speaker[i] == choice.speaker
            if seen.speaker[i] >= 0:
                who = brute.marginal(int(seen.speaker[i]))
                np.testing.assert_allclose(seen.posterior[i], who, atol=1e-9)
            else:
                assert not seen.posterior[i].any()


def test_the_observer_does_not_look_at_the_causes(world):
    sample = first(world, Kind("text"), 1)[0]
    blind = Sample(sample.words, Hidden((0, 0, 0), 0), sample.grammar)
    np.testing.assert_array_equal(observe(world, sample).loss, observe(world, blind).loss)


def test_who_knows_the_speaker_reads_better_and_never_doubts(world):
    mentor = np.eye(len(world.personas))[world.personas.index("mentor")]
    gains = []
    for sample in first(world, Kind("chat", "mentor"), 30):
        blind, sure = observe(world, sample), observe(world, sample, {1: mentor})
        own = sure.speaker == 1
        np.testing.assert_array_equal(sure.posterior[own], np.tile(mentor, (own.sum(), 1)))
        np.testing.assert_array_equal(sure.loss[sure.speaker == 0], blind.loss[blind.speaker == 0])
        gains.append((blind.loss - sure.loss)[own].sum())
    assert np.mean(gains) > 1.0


def test_a_word_that_cannot_stand_there_is_an_error(world):
    sample = first(world, Kind("text"), 1)[0]
    broken = Sample(("lamp", *sample.words[1:]), sample.hidden, "text")
    with pytest.raises(ValueError, match="word 0, 'lamp'"):
        observe(world, broken)


@pytest.mark.parametrize("what", ["persona", "dialect"])
def test_posteriors_are_calibrated(world, what):
    """Among all the beliefs of a size, a share of that size is true; one moment a document."""
    rng = np.random.default_rng(0)
    believed, true = [], []
    for sample in first(world, Kind("text"), 500, seed=5):
        seen = observe(world, sample)
        i = rng.choice(np.flatnonzero(seen.speaker >= 0))
        if what == "persona":
            believed.append(seen.posterior[i])
            truth = sample.hidden.personas[seen.speaker[i]]
        else:
            believed.append(seen.dialect[i])
            truth = sample.hidden.dialect
        true.append(np.arange(len(believed[-1])) == truth)
    believed, true = np.concatenate(believed), np.concatenate(true)
    edges = np.array([0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01])
    bins = np.digitize(believed, edges) - 1
    for b in range(len(edges) - 1):
        p, t = believed[bins == b], true[bins == b]
        error = np.sqrt((p * (1 - p)).sum()) + 1
        assert abs(p.sum() - t.sum()) < 4 * error, (edges[b], p.mean(), t.mean())


def test_the_loss_of_the_observer_is_the_entropy_it_expects(world, walked):
    """On average the surprise is what the observer thought it would be: no word beats it."""
    gaps = []
    for sample in first(world, Kind("text"), 60):
        brute_prior = {who: world.prior for who in range(3)} | {DIALECT: world.dialect_prior}
        seen, gap = observe(world, sample), 0.0
        for i, (choice, word) in enumerate(walked(world, sample.words, "text")):
            probs = choice.emission.probs
            prior = brute_prior[choice.factor] if choice.factor is not None else np.ones(1)
            law = prior @ probs
            inside = law > 0
            gap += seen.loss[i] + (law[inside] * np.log(law[inside])).sum()
            if choice.factor is not None:
                joint = prior * probs[:, choice.emission.words.index(word)]
                brute_prior[choice.factor] = joint / joint.sum()
        gaps.append(gap)
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(len(gaps))


@pytest.fixture(scope="module")
def observed(world):
    """Token table of documents with the observer's posterior, one row a word of a speaker."""
    found = first(world, Kind("text"), 600, seed=9)
    documents = [document(world, s, f"d{i}", s.words[0], "select") for i, s in enumerate(found)]
    table = tokenize(documents, tokenizer(world)).table
    seen = [observe(world, sample) for sample in found]
    bos = np.zeros((1, len(world.personas)))
    posterior = np.concatenate([np.concatenate([bos, each.posterior]) for each in seen])
    speaker = np.concatenate([np.concatenate([[-1], each.speaker]) for each in seen])
    true = np.concatenate(
        [np.array([-1, *(s.hidden.personas[w] if w >= 0 else -1 for w in each.speaker)])
         for s, each in zip(found, seen, strict=True)]
    )  # fmt: skip
    return table, posterior, speaker, true


def test_a_persona_is_not_known_at_once(world, observed):
    """Half of the speakers are still in doubt at the fifth word of their first turn."""
    table, posterior, _, true = observed
    spoken = table["speaker"].notna().to_numpy()
    turns = table[spoken].groupby(["doc", "speaker"], sort=False)["turn"].transform("min")
    opening = table[spoken][table["turn"][spoken] == turns]
    fifth = opening.groupby(["doc", "speaker"], sort=False).nth(4).index.to_numpy()
    fifth = fifth[true[fifth] >= 0]
    named = table.loc[fifth, "context"].eq("story").to_numpy()
    believed = posterior[fifth, true[fifth]]
    assert len(believed) > 600
    assert np.median(believed) < 0.9
    assert np.median(believed[~named]) < 0.7


def test_most_personas_can_be_told_within_a_word_but_not_perfectly(world, observed):
    """The ceiling of selectivity: AUROC of the ideal posterior among equal words, in the part of a
    document where personas are found out."""
    table, posterior, _, true = observed
    early = table["pos"].lt(60).to_numpy()
    rows = np.flatnonzero(early & (true >= 0) & table["persona"].ne("none").to_numpy())
    labels = table["persona"].to_numpy()[rows]
    assert (labels == np.array(world.personas)[true[rows]]).all()
    strata = strata_of(table.iloc[rows])
    found = {
        persona: float(auroc(posterior[rows, i], labels == persona, strata))
        for i, persona in enumerate(world.personas[:-1])
    }
    assert sum(0.7 <= value <= 0.97 for value in found.values()) >= 12, found
