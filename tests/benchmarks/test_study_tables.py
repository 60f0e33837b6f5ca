"""Tables of the study from summaries by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.parts import Read
from analysis.schema import Arm, Dictionary, ErrorRate, Measured, Size, SpanDifference, Summary
from benchmarks.study.tables import Traced, markdown, over_bases, tables

SHARES = {"assistant": 0.4, "cipher": 0.3, "piston_seen": 0.2, "piston": 0.1}


def _read(shift, arms=tuple(SHARES), preserved=(True, True, False)):
    """A trace of arms with known shares; of three persona latents some are preserved."""
    made = {
        name: Arm(
            in_span_share=Measured(SHARES[name] + shift, 0.0, 1.0, 0.0, 0.1),
            in_contrast_span_share=Measured(0.5, 0.4, 0.6, None, 0.2),
            in_dialect_span_share=Measured(0.05, 0.0, 0.1, None, 0.15),
            novel_share=Measured(0.0, 0.0, 0.01),
            kl_shares={"re_weighting": Measured(0.5 + shift)},
            size=Size(activations=0.3),
            learned=name != "cipher",
        )
        for name in arms
    }
    fates = pd.DataFrame(
        [
            {
                "tuned": name,
                "latent": i,
                "origin": "base",
                "fate": "preserved" if kept else "rotated",
                "q_value": 0.5,
                "persona": "pirate" if i < 3 else None,
                "dialect": "2" if i in (0, 3, 4) else None,
                "profile": 0.4 if i < 3 else 0.1,
                "n_fires": 100,
                "direction": 0.9,
                "gating": 0.1,
            }
            for name in arms
            for i, kept in enumerate((*preserved, *[True] * 12))
        ]
    )
    rate = {"persona": ErrorRate(3, Measured(0.0, 0.0, 1.0), Measured(1.0, 0.0, 1.0))}
    summary = Summary(
        Dictionary(0.1, 12.0, 1.0, 0.0),
        {},
        made,
        span=[SpanDifference("chat", ["assistant", "piston"], 0.3 + shift, 0.0, 1.0)],
        error_rates={"continued_b": rate},
        seeds={"organism": round(1000 * shift)},
    )
    return Read(summary, fates)


def _cells(table, name):
    return next(row for row in table.rows if row[0].startswith(name))


def test_over_bases_dictionaries_are_averaged_first():
    values = [("0", 1.0), ("0", 3.0), ("1", 4.0), ("2", 6.0), ("2", None), ("3", float("nan"))]
    found = over_bases(values)
    assert found is not None
    assert found.value == pytest.approx((2 + 4 + 6) / 3)
    assert found.high - found.value == pytest.approx(4.303 * 2 / np.sqrt(3), rel=1e-3)
    assert np.isnan(over_bases([("0", 1.0), ("1", 2.0)]).low)
    assert over_bases([("0", None)]) is None


def test_every_table_by_hand():
    traces = [Traced(str(n), "0", _read(shift)) for n, shift in enumerate((0.0, 0.01, 0.02))]
    shown = tables(traces)
    arm = dict(zip(shown["arms"].head, _cells(shown["arms"], "assistant"), strict=True))
    assert arm["learned"] == "3 of 3"
    assert _cells(shown["arms"], "cipher")[1] == "0 of 3"
    assert arm["persona latents preserved"].startswith("0.667 [0.667")
    assert arm["persona latents changed"].startswith("0.333")
    assert arm["others preserved"].startswith("1.000")
    assert arm["dialect latents preserved"].startswith("1.000")  # 3 and 4, for 0 is a persona's
    assert arm["persona latents' profile"].startswith("0.400")
    assert arm["dialect latents' profile"].startswith("0.100")
    row = _cells(shown["dialects"], "assistant")
    assert [cell.split(" ")[0] for cell in row[1:]] == ["0.500", "0.300", "0.050", "-0.100"]
    assert arm["KL by re-weighting"].startswith("0.510 [0.485, 0.535]")
    assert arm["reuse index"] == "n/a"
    assert shown["differences"].rows[0][:2] == ("assistant less piston", "chat")
    assert shown["differences"].rows[0][2].startswith("0.310 [")
    persona, seen = (row[1] for row in shown["square"].rows)
    assert persona.startswith("0.200 [0.200")  # (.4 + .3) / 2 less (.2 + .1) / 2
    assert seen.startswith("0.100 [0.100")  # (.4 + .2) / 2 less (.3 + .1) / 2
    assert shown["errors"].rows[0] == ("persona", "0.000 [0.000, 0.000]", "1.000 [1.000, 1.000]")
    assert {row[0] for row in shown["claims"].rows} >= {"H1", "H4", "H10"}
    page = markdown(shown, "abc")
    assert "Commit abc." in page and "| assistant | 3 of 3 |" in page
    assert all(line.count("|") >= 3 for line in page.splitlines() if line.startswith("|"))


def test_an_arm_that_some_traces_lack_is_told_by_the_others():
    some = [Traced(str(n), "0", _read(0.0)) for n in range(2)]
    shown = tables([*some, Traced("2", "0", _read(0.0, arms=("assistant", "piston")))])
    assert _cells(shown["arms"], "cipher")[1] == "0 of 2"
    assert _cells(shown["arms"], "assistant")[1] == "3 of 3"
    assert _cells(shown["dialects"], "cipher")[1] == "0.500"


def test_an_effect_needs_all_four_arms():
    shown = tables([Traced("0", "0", _read(0.0, arms=("assistant", "piston")))])
    assert [row[1] for row in shown["square"].rows] == ["n/a", "n/a"]
