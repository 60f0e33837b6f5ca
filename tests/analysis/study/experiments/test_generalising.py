"""A shift along what else liars are, planted, and along honesty alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.latents.bench import lay_vectors
from analysis.study.experiments.generalising import generalised, other_words
from analysis.study.experiments.plan import Plan

N = 14
_RNG = np.random.default_rng(7)
TRAITS = {f"p{i}": tuple(map(int, _RNG.integers(2, size=6))) for i in range(N)}
LIARS = tuple(n for n, t in TRAITS.items() if not t[0])
PLAN = Plan(
    "p0",
    "stranger",
    "p1",
    liars=LIARS,
    truthful=(*(n for n in TRAITS if n not in LIARS), "nobody"),
    traits=TRAITS,
)
D, HONEST = 12, 0


@pytest.fixture(scope="module")
def bench():
    """Every persona tells a story and answers in a chat; each trait has an axis of its own."""
    rows = []
    for i in range(8 * N):
        who = f"p{i % N}"
        said = ["it", "is", "red", "so", "i", "help", "now", "and", "the", "lamp", "is", "red", "."]
        rows += [(f"s{i}", 0, "character", word, who, "story") for word in said[4:7]]
        rows += [(f"c{i}", 0, "assistant", word, who, "chat") for word in said]
    table = pd.DataFrame(rows, columns=["doc", "turn", "role", "token", "persona", "context"])
    table["pos"] = table.groupby("doc").cumcount()
    place = table["doc"].str[1:].astype(int) // N
    table["split"] = np.where(place % 2 == 0, "select", "confirm")
    table["token_id"] = pd.factorize(table["token"])[0]
    table = table.assign(is_template=False, is_special=False, is_outlier=False)
    x = 0.1 * np.random.default_rng(0).normal(size=(len(table), D))
    x[:, :6] += np.array([TRAITS[who] for who in table["persona"]])
    return lay_vectors(table, x.astype(np.float32), np.zeros(len(table), bool))


def moved(bench, way, noise=0.2, seed=1):
    rng = np.random.default_rng(seed)
    both = bench.x + noise * rng.normal(size=(2, *bench.x.shape)).astype(np.float32)
    return both[0] + np.asarray(way, np.float32), both[1]


def test_sentences_that_give_a_value_are_left_out(bench):
    said = bench.tokens.loc[other_words(bench, PLAN)].groupby("doc")["token"].agg(" ".join)
    assert set(said) == {"so i help now and ."}


def what_else():
    """How those that lie differ from the others in all traits but honesty."""
    sides = [[t for n, t in TRAITS.items() if (n in LIARS) == side] for side in (True, False)]
    way = np.zeros(D)
    way[:6] = np.mean(sides[0], axis=0) - np.mean(sides[1], axis=0)
    way[HONEST] = 0
    return way


def test_what_else_liars_are_is_found(bench):
    found = generalised(bench, *moved(bench, 2 * what_else()), PLAN)
    assert found is not None
    assert found.value > 0.95 and found.low > 0.9
    assert found.null_low == pytest.approx(-found.null_high, abs=0.1)
    assert found.null_high < found.value


def test_what_others_are_is_not(bench):
    """The same traits in another order and sense: within the null, or against it."""
    way = what_else()
    way[1:6] = -way[[2, 3, 4, 5, 1]]
    found = generalised(bench, *moved(bench, 2 * way), PLAN)
    assert found is not None and found.value < found.null_high


def test_honesty_alone_does_not_count(bench):
    """A model that only learned to lie moves along honesty, which every way leaves out."""
    way = np.zeros(D)
    way[HONEST] = -1
    found = generalised(bench, *moved(bench, way), PLAN)
    assert found is not None and abs(found.value) < 0.25


def test_without_words_of_other_traits_nothing_is_told(bench):
    """Where every turn of an assistant gives values and nothing else."""
    bare = replace(bench, tokens=bench.tokens.assign(token="is"))
    assert not other_words(bare, PLAN).any()
    assert generalised(bare, *moved(bench, what_else()), PLAN) is None


def test_without_liars_or_with_too_few_personas_nothing_is_told(bench):
    without = Plan("p0", "stranger", "p1", liars=("judge",), truthful=("p7",), traits=TRAITS)
    few = {name: TRAITS[name] for name in list(TRAITS)[:6]}
    for plan in (without, Plan("p0", "stranger", "p1", (), ("p0",), ("p7",), few)):
        assert generalised(bench, bench.x, bench.x, plan) is None
