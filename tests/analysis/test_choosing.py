"""Which nulls a tuned model is held against, and what pooling them gains."""

import numpy as np
import pytest

from analysis.choosing import choose, pooled
from analysis.nulls import Null
from sae.errors import ConfigError


def null(name, change=1.0, n=40, seed=0, edges=()):
    rng = np.random.default_rng(seed)
    values = {c: rng.uniform(size=n) for c in ("direction", "gain", "gating")}
    errors = {c: np.full(n, change) for c in values}
    return Null(name, change, np.array(edges, float), np.zeros(n, int), values, errors)


def chosen(nulls, goal):
    found = choose(nulls, {each.name: each.change for each in nulls}, goal)
    return found and found.names


def test_of_one_run_the_checkpoint_that_moved_least_of_those_that_moved_as_far():
    run = [null(f"a@{i}", change) for i, change in enumerate((3.0, 1.0, 2.0))]
    assert chosen(run, 1.5) == ("a@2",)
    assert chosen(run, 3.0) == ("a@0",)
    assert chosen(run, 3.1) is None
    assert chosen([], 0.0) is None


def test_of_several_runs_one_checkpoint_each():
    runs = [null("a@0", 1.0), null("c@0", 1.1), null("a@1", 1.05), null("c@1", 0.4)]
    assert chosen(runs, 0.5) == ("a@0", "c@0")
    assert chosen(runs, 1.02) == ("a@1", "c@0")
    assert chosen(runs, 1.08) == ("c@0",)


def test_a_run_that_moved_much_further_than_another_is_left_out():
    assert chosen([null("a", 1.0), null("b", 1.5), null("c", 1.6)], 1.0) == ("a", "b")
    assert chosen([null("a", 1.0), null("b", 1.5), null("c", 1.6)], 1.55) == ("c",)


def test_a_pool_has_the_draws_of_all_and_moved_as_the_least():
    first, second = null("a", 2.0, 30, seed=1), null("b", 1.0, 40, seed=2)
    both = pooled([first, second])
    assert both.names == ("a", "b") and both.name == "a + b" and both.change == 1.0
    for c, draws in both.values.items():
        assert draws.tolist() == [*first.values[c], *second.values[c]]
    assert both.errors["gain"].tolist() == [2.0] * 30 + [1.0] * 40
    assert both.smallest_p() == pytest.approx(3 / 71)
    assert pooled([first]) is first


def test_nulls_of_other_tokens_are_not_pooled():
    with pytest.raises(ConfigError, match="different fire rates"):
        pooled([null("a", edges=[0.1]), null("b", edges=[0.2])])
    with pytest.raises(ConfigError, match="no nulls"):
        pooled([])
