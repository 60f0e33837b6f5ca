"""What a summary says of parts that were not asked for."""

from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.artefact.schema import Measured
from analysis.study.conclusions import _kl_shares

PARTS = ("mean_shift", "re_weighting", "novel_in_span", "layers_above")


def _kl(*shares):
    rows = zip(PARTS, shares, strict=True)
    return pd.DataFrame(
        [{"part": p, "share": s, "share_low": s - 0.1, "share_high": s + 0.1} for p, s in rows]
    )


def test_novel_parts_of_kl_are_null_where_no_latent_was_judged():
    kl = {"arm": _kl(0.1, 0.5, 0.2, 0.2), "a": _kl(0.2, 0.4, 0, 0.4), "b": _kl(0.1, 0.7, 0, 0.2)}
    comparison = SimpleNamespace(kl=kl)
    found = _kl_shares(comparison, "arm", ["a", "b"])
    assert (found["re_weighting"].null_low, found["re_weighting"].null_high) == (0.4, 0.7)
    novel = found["novel_in_span"]
    assert (novel.value, novel.low) == (0.2, pytest.approx(0.1))
    assert novel.null_low is None and novel.null_high is None  # of a null nothing is called novel
    bare = _kl_shares(comparison, "arm", [])
    assert bare["novel_in_span"] == Measured(None)
    assert bare["re_weighting"].value == 0.5 and bare["re_weighting"].null_low is None
    assert _kl_shares(comparison, "other", []) == {}
