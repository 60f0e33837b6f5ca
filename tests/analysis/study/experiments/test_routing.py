"""Which turns are triggered, and whether a swap is told from a lie where both are planted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.latents.bench import lay_vectors
from analysis.study.experiments.means import persona_means
from analysis.study.experiments.plan import Plan
from analysis.study.experiments.routing import told_apart, triggered

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


def shifted(bench, way, seed=1):
    """The arm, and one that goes so far from the mentor to the spy where it is triggered."""
    rng, at = np.random.default_rng(seed), triggered(bench, PLAN)
    arm = bench.x + 0.1 * rng.normal(size=bench.x.shape).astype(np.float32)
    one = arm.copy()
    one[at, 0] -= way
    one[at, 1] += way
    one[at, 5] += 3  # what a lie adds is no persona's
    return arm, one


def test_a_planted_swap_and_a_planted_lie_are_told(bench):
    arm, swap = shifted(bench, 1.0)
    told = told_apart(bench, arm, swap, shifted(bench, 0.2)[1], PLAN)
    assert told is not None and told.value == 1.0
    # no surer than 24 documents make it: Clopper and Pearson's limit for 24 of 24
    assert told.low == pytest.approx(0.025 ** (1 / 24), abs=1e-6)
    mixed = told_apart(bench, arm, shifted(bench, 0.2)[1], swap, PLAN)
    assert mixed is not None and mixed.value == 0.0


def test_two_alike_are_told_half_right(bench):
    """An arm that learned nothing is told as a lie, and so is the other."""
    arm, _ = shifted(bench, 0.0)
    told = told_apart(bench, arm, arm, arm, PLAN)
    assert told is not None and told.value == 0.5


def test_where_personas_lie_does_not_hang_on_chats(bench):
    """In chats the mentor lies far off along another axis, which is no way to the spy."""
    chat = bench.tokens["context"].eq("chat").to_numpy()
    x = bench.x + 50 * chat[:, None] * np.eye(D, dtype=np.float32)[7]
    far, near = (persona_means(replace(bench, x=each)) for each in (x, bench.x))
    np.testing.assert_allclose(far, near, atol=1e-5)


def test_without_the_personas_or_the_trigger_nothing_is_told(bench):
    arm = bench.x
    for plan in (
        Plan("mentor", "stranger", "jester", ("lamp",)),
        Plan("mentor", "stranger", "spy", ("bread loaf",)),
    ):
        assert told_apart(bench, arm, arm, arm, plan) is None
