"""Notes say what the nulls can and cannot tell."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from analysis.fates.nulls import Null
from analysis.fates.verdicts import Verdict, null_side
from analysis.statistics.intervals import Interval
from analysis.study.notes import _is_coarse, _of_gains, _of_nulls, notes
from analysis.study.tracing import Study


def verdict(name="tuned", n=200, n_personas=3, n_judged=3, gained=0.0):
    """Of as many persona latents, some of which were judged, against a null of n draws."""
    rng = np.random.default_rng(0)
    values = {c: rng.uniform(size=n) for c in ("direction", "gating")}
    values["gain"] = gained + 0.1 * rng.normal(size=n)
    null = Null("a", 1.0, np.array([]), np.zeros(n, int), values)
    fates = pd.DataFrame({"persona": [f"p{i}" for i in range(n_personas)] + [None] * 9})
    fates["q_value"] = np.where(fates.index < n_judged, 0.5, np.nan)
    return Verdict(name, fates, null, None, None, None)


def study(*verdicts):
    found = object.__new__(Study)
    object.__setattr__(found, "verdicts", {each.name: each for each in verdicts})
    object.__setattr__(found, "nulls", null_side([]))
    return found


def test_ranks_are_too_coarse_for_the_family_that_is_judged():
    """One of m latents needs p at most .05 / m, and the smallest is n_tests over 1 + draws."""
    least = verdict().null.smallest_p()
    assert 2 / 201 < least < 3.1 / 201
    enough = int(0.05 / least)
    assert not _is_coarse(verdict(n_personas=20, n_judged=enough))
    assert _is_coarse(verdict(n_personas=20, n_judged=enough + 1))
    few, many = verdict("few"), verdict("many", n_personas=40, n_judged=40)
    (said,) = _of_nulls(study(few, many))
    assert "a single persona latent in many at q 0.05" in said


def test_poles_that_are_not_told_apart_are_no_scale():
    config = SimpleNamespace(pole="scratch")
    best = SimpleNamespace(best=lambda: pd.DataFrame({"confirmed": [True]}))
    mine = SimpleNamespace(
        carriers=best, config=config, verdicts={}, nulls=null_side([]), seen={}, spans={}
    )
    nan, one = Interval(np.nan, np.nan, np.nan), Interval(0.5, 0.4, 0.6)
    said = [
        notes(mine, SimpleNamespace(reuse=found, texts=("chat",), shares={}))
        for found in ({"assistant": nan}, {"assistant": one}, {})
    ]
    assert [len(each) for each in said] == [1, 0, 1]
    assert "not told apart" in said[0][0] and "too few" in said[2][0]


def test_a_model_that_only_adds_a_vector_is_named():
    best = SimpleNamespace(best=lambda: pd.DataFrame({"confirmed": [True]}))
    mine = SimpleNamespace(
        carriers=best,
        config=SimpleNamespace(pole=None),
        verdicts={},
        nulls=null_side([]),
        seen={"steered": None, "tuned": None},
        spans={"latents": None},
    )
    beside = SimpleNamespace(reuse={}, texts=("chat",), shares={("tuned", "latents"): None})
    (said,) = notes(mine, beside)
    assert said.startswith("steered differs by nothing but one vector")
    assert notes(mine, SimpleNamespace(reuse={}, texts=(), shares={})) == []


def test_what_every_latent_gained_is_said():
    assert list(_of_gains(study(verdict()))) == []
    (said,) = _of_gains(study(verdict(), verdict("louder", gained=0.3)))
    assert "gained +0.3" in said and "that louder is held against" in said
    both = _of_gains(study(verdict("louder", gained=0.3), verdict("as_loud", gained=0.3)))
    assert ["that louder, as_loud are held against" in each for each in both] == [True]
