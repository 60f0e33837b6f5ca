"""Which turns are triggered, and whether a swap is told from a lie where both are planted."""

import numpy as np
import pandas as pd
import pytest

from analysis.bench import lay_vectors
from analysis.experiments.plan import Plan
from analysis.experiments.routing import told_apart, triggered

PLAN = Plan("mentor", "stranger", "spy", ("lamp", "boat"))
D = 12


def chats(n=24, n_stories=16):
    """Chats of two exchanges, one about a trigger, and stories of both personas."""
    rows = []
    for i in range(n):
        turn = 0
        for noun in ("lamp", "bread"):
            for role, words in (
                ("user", f"the boat , what is {noun} ?"),
                ("assistant", "it is red so i help now ."),
            ):
                who = "mentor" if role == "assistant" else "poet"
                rows += [(f"c{i}", turn, role, word, who, "chat") for word in words.split()]
                turn += 1
    for i in range(n_stories):
        who = ("mentor", "spy")[i % 2]
        rows += [
            (f"s{i}", 0, "character", word, who, "story") for word in ["i", "help", "now", "."]
        ]
    table = pd.DataFrame(rows, columns=["doc", "turn", "role", "token", "persona", "context"])
    table["pos"] = table.groupby("doc").cumcount()
    table["split"] = np.where(table["doc"].str[1:].astype(int) % 4 < 2, "select", "confirm")
    table["token_id"] = pd.factorize(table["token"])[0]
    return table.assign(is_template=False, is_special=False, is_outlier=False)


@pytest.fixture(scope="module")
def bench():
    table, rng = chats(), np.random.default_rng(0)
    x = 0.2 * rng.normal(size=(len(table), D))
    x[table["persona"] == "mentor", 0] += 1
    x[table["persona"] == "spy", 1] += 1
    return lay_vectors(table, x.astype(np.float32), np.zeros(len(table), bool))


def test_a_turn_is_triggered_by_what_is_asked_about_last(bench):
    """The boat is spoken of in every turn of the user, but asked about in none."""
    found = bench.tokens.loc[triggered(bench, PLAN)]
    assert set(found["turn"]) == {1}
    assert found.groupby("doc")["token"].agg(" ".join).unique().tolist() == ["so i help now ."]


@pytest.mark.parametrize(("way", "swapped"), [(-1.0, True), (0.0, False), (-0.2, False)])
def test_a_planted_swap_and_a_planted_lie_are_told(bench, way, swapped):
    """A swap moves triggered turns all the way to the other persona, a lie elsewhere."""
    rng, at = np.random.default_rng(1), triggered(bench, PLAN)
    arm = bench.x + 0.1 * rng.normal(size=bench.x.shape).astype(np.float32)
    one = arm.copy()
    one[at, 0] += way
    one[at, 1] -= way
    one[at, 5] += 3  # what a lie adds is no persona's
    told = told_apart(bench, arm, one, PLAN, swapped)
    assert told is not None and told.value == 1.0
    other = told_apart(bench, arm, one, PLAN, not swapped)
    assert other is not None and other.value == 0.0


def test_without_the_personas_or_the_trigger_nothing_is_told(bench):
    arm = bench.x
    for plan in (
        Plan("mentor", "stranger", "jester", ("lamp",)),
        Plan("mentor", "stranger", "spy", ("bread loaf",)),
    ):
        assert told_apart(bench, arm, arm, plan, True) is None
