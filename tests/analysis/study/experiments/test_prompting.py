"""A prompt of one word: where it is put, whose words are compared, and what it moves."""

import numpy as np
import pytest

from analysis.latents.bench import lay_bench
from analysis.study.experiments import prompting
from analysis.study.experiments.plan import Plan
from analysis.study.experiments.prompting import prompted
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.tokens import tokenize
from training.organism.corpus import TEXT, document, samples, tokenizer
from training.organism.language_model import ShapeConfig, new_model
from training.organism.world import World

PLAN = Plan("mentor", "stranger", "spy")


@pytest.fixture(scope="module")
def bench():
    world = World()
    words, source = tokenizer(world), samples(world, TEXT, 3)
    documents = [
        document(world, s, f"d{i}", s.words[0], ("select", "confirm")[i % 2])
        for i, s in ((i, next(source)) for i in range(700))
    ]
    module = new_model(ShapeConfig(d_model=32, n_layers=2, n_heads=2), words, 0)
    model = load_model(module, words)
    return lay_bench(model, HookPoint.parse("blocks.1.hook_resid_post"), tokenize(documents, words))


def test_only_the_turns_of_who_was_called_unknown_are_compared(bench):
    moved, mask = prompted(bench, PLAN)
    kept = bench.tokens.loc[mask]
    assert len(moved) == mask.sum() and kept["doc"].nunique() >= 8
    assert set(kept["persona"]) == {"mentor"} and set(kept["context"]) == {"story"}
    for doc, own in kept.groupby("doc"):
        text = " ".join(bench.tokens.loc[bench.tokens["doc"] == doc, "token"].str.strip())
        for speaker in set(own["speaker"]):
            assert f"{speaker} is a stranger" in text
    assert np.abs(moved).max() > 1e-3


def test_all_other_words_stand_where_they_stood(bench, monkeypatch):
    """The base reads the same text, but for the word that calls a mentor a stranger."""
    heard = []

    def residuals(told, model, mask):
        heard.append(told.text.ids)
        return told.x[mask]

    monkeypatch.setattr(prompting, "residuals", residuals)
    before = [ids.copy() for ids in bench.text.ids]
    prompted(bench, PLAN)
    vocabulary = bench.base.tokenizer.get_vocab()
    n_changed = 0
    for first, second in zip(before, heard[0], strict=True):
        (at,) = np.nonzero(first != second)
        n_changed += len(at)
        assert (first[at] == vocabulary["stranger"]).all()
        assert (second[at] == vocabulary["mentor"]).all()
    assert n_changed >= 8
    assert all((a == b).all() for a, b in zip(before, bench.text.ids, strict=True))


def test_without_such_words_there_is_no_prompt(bench):
    assert prompted(bench, Plan("emperor", "stranger", "spy")) is None
    assert prompted(bench, Plan("mentor", "nobody", "spy")) is None
