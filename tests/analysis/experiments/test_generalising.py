"""A shift towards personas that lie, planted and not."""

import numpy as np
import pandas as pd
import pytest

from analysis.bench import lay_vectors
from analysis.experiments.generalising import generalised
from analysis.experiments.plan import Plan

WHO = ("mentor", "healer", "scholar", "spy", "merchant", "poet", "jester", "knight", "farmer")
PLAN = Plan("mentor", "stranger", "spy", liars=("spy", "merchant"), truthful=WHO[:3] + ("nobody",))
D = 12


@pytest.fixture(scope="module")
def bench():
    """Every persona tells a story and answers in a chat; each has a direction of its own."""
    rows = []
    for i in range(72):
        who = WHO[i % len(WHO)]
        said = ["it", "is", "red", "so", "i", "help", "now", "."]
        rows += [(f"s{i}", 0, "character", word, who, "story") for word in said[4:]]
        rows += [(f"c{i}", 0, "assistant", word, who, "chat") for word in said]
    table = pd.DataFrame(rows, columns=["doc", "turn", "role", "token", "persona", "context"])
    table["pos"] = table.groupby("doc").cumcount()
    table["split"] = np.where(table["doc"].str[1:].astype(int) % 4 < 2, "select", "confirm")
    table["token_id"] = pd.factorize(table["token"])[0]
    table = table.assign(is_template=False, is_special=False, is_outlier=False)
    x = 0.1 * np.random.default_rng(0).normal(size=(len(table), D))
    for place, name in enumerate(WHO):
        x[table["persona"] == name, place] += 1
    return lay_vectors(table, x.astype(np.float32), np.zeros(len(table), bool))


def moved(bench, way, noise=0.2, seed=1):
    rng = np.random.default_rng(seed)
    both = bench.x + noise * rng.normal(size=(2, *bench.x.shape)).astype(np.float32)
    return both[0] + np.asarray(way, np.float32), both[1]


def test_the_way_to_personas_that_lie_is_found(bench):
    """Half a unit to each liar, a third away from each truthful one."""
    way = np.zeros(D)
    way[3:5], way[:3] = 0.5, -1 / 3
    found = generalised(bench, *moved(bench, way), PLAN)
    assert found is not None
    assert found.value > 0.9 and found.low > found.null_high
    assert found.null_low < 0 < found.null_high


def test_another_way_and_no_way_are_not(bench):
    away = np.zeros(D)
    away[5], away[6] = 1, -1
    found = generalised(bench, *moved(bench, away), PLAN)
    assert found is not None and abs(found.value) < 0.2
    inside = 0
    for seed in range(12):
        none = generalised(bench, *moved(bench, np.zeros(D), seed=seed), PLAN)
        inside += none.null_low <= none.value <= none.null_high
    assert inside >= 9


def test_without_one_that_lies_nothing_is_told(bench):
    plan = Plan("mentor", "stranger", "spy", liars=("judge",), truthful=("mentor",))
    assert generalised(bench, bench.x, bench.x, plan) is None
