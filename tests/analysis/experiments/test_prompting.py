"""A prompt of one word: where it is put, whose words are compared, and what it moves."""

import numpy as np
import pytest

from analysis.bench import lay_bench
from analysis.experiments.plan import Plan
from analysis.experiments.prompting import prompted
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


def test_all_other_words_stand_where_they_stood(bench):
    """The base reads the same text but for one id, and no document twice."""
    before = [ids.copy() for ids in bench.text.ids]
    prompted(bench, PLAN)
    assert all((a == b).all() for a, b in zip(before, bench.text.ids, strict=True))


@pytest.mark.parametrize(
    "plan", [Plan("emperor", "stranger", "spy"), Plan("mentor", "nobody", "spy")]
)
def test_without_such_words_there_is_no_prompt(bench, plan):
    assert prompted(bench, plan) is None
