"""Tables of the study from summaries by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.artefact.schema import (
    Arm,
    Dictionary,
    ErrorRate,
    Measured,
    Size,
    SpanDifference,
    Summary,
)
from analysis.hypotheses.parts import Part, Read
from benchmarks.study.cells import Traced, counted, null_of, number, told, tracing
from benchmarks.study.pairs import _less
from benchmarks.study.picture import spans
from benchmarks.study.tables import markdown, tables

SHARES = {
    "format_only": 0.3,
    "assistant": 0.4,
    "cipher": 0.3,
    "piston_seen": 0.2,
    "piston": 0.1,
    "dialect": 0.1,
}
PAIRS = {
    ("assistant", "piston_seen"): 0.2,
    ("cipher", "piston"): -0.1,
    ("assistant", "cipher"): 0.05,
    ("piston_seen", "piston"): -0.25,
}
N_OWN, N_TWO, N_REST = 3, 4, 40


def _fates(arm, preserved):
    """Three persona latents, four of a dialect, forty others; the first ones as they are told."""
    persona = [*["pirate"] * N_OWN, *[None] * (N_TWO + N_REST)]
    dialect = ["2", None, None, *["2"] * N_TWO, *[None] * N_REST]
    n = len(persona)
    fate = ["preserved" if kept else "rotated" for kept in preserved] + ["preserved"] * (n - N_OWN)
    fate[-1] = "undetermined"
    moved = {"assistant": 0.4, "format_only": 0.15}.get(arm, 0.1)
    other = {"dialect": 0.3}.get(arm, 0.1)
    gating = [*[moved] * N_OWN, *[other] * N_TWO, *[0.1] * N_REST]
    table = pd.DataFrame({"latent": range(n), "fate": fate, "persona": persona, "dialect": dialect})
    more = {"tuned": arm, "origin": "base", "q_value": 0.5, "n_fires": 100, "direction": 0.9}
    table = table.assign(**more, gating=gating, profile=gating)
    table.loc[n - 2, "q_value"] = np.nan
    return table


def _read(shift, arms=tuple(SHARES), preserved=(True, True, False), unlearned="", kl=(0.02, 0.02)):
    """A trace of arms with known shares."""
    made = {
        name: Arm(
            in_span_share=Measured(SHARES[name] + shift, 0.0, 1.0, 0.0, 0.1),
            in_span_share_likes=Measured(SHARES[name] + shift, 0.0, 1.0, 0.1, 0.5),
            in_contrast_span_share=Measured(0.5 + shift, 0.49, 0.61, 0.1, 0.3),
            in_dialect_span_share=Measured(0.05, 0.0, 0.1, 0.05, 0.15),
            novel_share=Measured(0.0, 0.0, 0.01),
            kl_shares={"re_weighting": Measured(0.5 + shift)},
            size=Size(activations=0.3),
            learned=name != unlearned,
        )
        for name in arms
    }
    span = [
        SpanDifference(
            "chat", list(p), v + shift, v, v + 0.05, kl=list(kl), null_low=-0.1, null_high=0.1
        )
        for p, v in PAIRS.items()
        if set(p) <= set(arms)
    ]
    rate = {"persona": ErrorRate(3, Measured(0.0, 0.0, 0.7), Measured(1.0, 0.3, 1.0))}
    summary = Summary(
        Dictionary(0.1, 12.0, 1.0, 0.0),
        {},
        made,
        span=span,
        error_rates={"continued_b": rate},
        seeds={"organism": round(1000 * shift)},
    )
    return Read(summary, pd.concat([_fates(name, preserved) for name in arms], ignore_index=True))


def _three(**more):
    return [
        Traced(str(n), "0", _read(shift, **more), "abc") for n, shift in enumerate((0, 0.01, 0.02))
    ]


def _row(table, *names):
    return next(row for row in table.rows if row[: len(names)] == names)


def _value(cell):
    return cell.split(" ")[0]


def test_dictionaries_are_averaged_before_bases():
    values = [("0", 1.0), ("0", 3.0), ("1", 4.0), ("2", 6.0)]
    traces = [Traced(base, str(i), _read(0.0)) for i, (base, _) in enumerate(values)]
    by_read = {id(each.read): value for each, (_, value) in zip(traces, values, strict=True)}
    cell = told(traces, lambda read: number(by_read[id(read)]))
    reach = 4.3027 * 2 / np.sqrt(3)
    assert cell == f"4.000 [{4 - reach:.3f}, {4 + reach:.3f}]"
    some = told(traces, lambda read: number(v) if (v := by_read[id(read)]) < 6 else None)
    assert some == "3.000 (2 of 3 bases)"
    assert told(traces, lambda _: None) == "n/a"


def test_a_share_of_few_latents_has_an_interval_though_all_bases_agree():
    traces = _three()
    of = lambda _: counted(pd.Series([False] * 10))  # noqa: E731
    # Clopper and Pearson give .3085 to 0 of 10; the mean of three is as sure as this / 3 ** .5
    assert told(traces, of, is_share=True) == f"0.000 [0.000, {0.30850 / 3**0.5:.3f}]"


def test_the_null_of_a_mean_is_that_of_independent_bases():
    traces = _three()
    of = lambda read: None if not read else number(0.5)  # noqa: E731
    assert null_of(traces, of) == "n/a"
    shown = tables(traces)["changes"]
    at = shown.head.index("random spans")
    reach = 0.05 / 3**0.5
    assert _row(shown, "assistant")[at] == f"{0.05 - reach:.3f} to {0.05 + reach:.3f}"


def test_every_table_by_hand():
    shown = tables(_three())
    arm = dict(zip(shown["latents"].head, _row(shown["latents"], "assistant"), strict=True))
    assert arm["learned"] == "3 of 3"
    cells = _row(shown["latents"], "assistant")
    # change, not judged, preserved and changed of persona latents, the same of others, novel
    assert [_value(cell) for cell in cells[2:]] == [
        "0.300",
        "0.000",
        "0.667",
        "0.333",
        f"{42 / 43:.3f}",
        "0.000",
        "0.000",
    ]
    changes = dict(zip(shown["changes"].head, _row(shown["changes"], "assistant"), strict=True))
    assert changes["KL by re-weighting"] == "0.510 [0.485, 0.535]"
    assert changes["reuse index"] == "n/a"
    reach = 0.2 / 3**0.5
    assert changes["spans of other latents"] == f"{0.3 - reach:.3f} to {0.3 + reach:.3f}"
    pair = _row(shown["differences"], "assistant less piston_seen", "chat")
    assert (_value(pair[2]), pair[4]) == ("0.210", "1.00 to 1.00")
    row = _row(shown["means"], "assistant")
    assert [_value(cell) for cell in row[1:]] == ["0.310", "-0.058", "-0.050", "-0.029"]
    assert shown["errors"].rows[0][0] == "persona"
    assert [_value(cell) for cell in shown["errors"].rows[0][1:]] == ["0.000", "1.000"]
    assert {row[0] for row in shown["claims"].rows} == {f"H{n}" for n in range(1, 11)}
    compared = [row for row in shown["comparisons"].rows if row[0] == "H3"]
    assert {row[5] for row in compared} <= {"supported", "refuted", "undecided"} and compared
    assert _row(shown["arms"], "piston_seen")[1].startswith("The piston's codes")
    assert _row(shown["bases"], "assistant")[1:4] == (
        "0.400 (0.000 to 0.100)",
        "0.410 (0.000 to 0.100)",
        "0.420 (0.000 to 0.100)",
    )
    page = markdown(shown, _three())
    assert "3 traces by commit abc: base models of seeds 0, 1, 2" in page
    assert "| assistant | 3 of 3 |" in page
    assert all(line.count("|") >= 3 for line in page.splitlines() if line.startswith("|"))


def test_consistency_and_words_by_hand():
    shown = tables(_three())["square"]
    effects = [_value(row[3]) for row in shown.rows]
    # shifts of .01 on average are in both and cancel in the interaction
    assert effects == ["0.210", "-0.090", "0.300", "0.060", "-0.240"]


def test_personas_are_held_beside_dialects():
    rows = tables(_three())["dialects"].rows
    # less than others that fire as often: .4 - .1, and .3 - .1 of latents that are no persona's
    assert [_value(cell) for cell in (rows[0][1], rows[0][3], rows[0][5])] == [
        "0.300",
        "0.200",
        "0.100",
    ]


def test_persona_latents_of_every_arm_are_held_beside_others():
    shown = tables(_three())["firing"]
    rows = {row[0]: row for row in shown.rows}
    assert _value(rows["assistant"][2]) == "0.300"  # as above: .4 - .1
    assert {"dialect", "format_only"} <= set(rows)
    less = float(_value(rows["assistant"][2])) - float(_value(rows["format_only"][2]))
    assert float(_value(rows["assistant less format_only"][2])) == pytest.approx(less, abs=2e-3)


def test_of_an_arm_that_did_not_learn_nothing_is_said_but_that():
    traces = [*_three()[:2], Traced("2", "0", _read(0.02, unlearned="cipher"))]
    shown = tables(traces)
    assert _row(shown["latents"], "cipher")[1] == "2 of 3"
    assert len(tracing(traces, "cipher")) == 2
    pair = _row(shown["differences"], "cipher less piston", "chat")
    assert pair[2] == "-0.095 (2 of 3 bases)"
    assert (
        _row(shown["square"], "chat", "a persona's words, in codes")[3] == "-0.095 (2 of 3 bases)"
    )


def test_arms_that_moved_unlike_far_are_not_compared():
    shown = tables(_three(kl=(0.02, 0.09)))
    assert {row[2] for row in shown["differences"].rows} == {"n/a"}
    assert {row[4] for row in shown["differences"].rows} == {"0.22 to 0.22"}


def test_an_arm_that_some_traces_lack_is_told_by_the_others():
    some = [Traced(str(n), "0", _read(0.0)) for n in range(2)]
    few = Traced("2", "0", _read(0.0, arms=("assistant", "piston")))
    shown = tables([*some, few])
    first = tables([few, *some])
    assert _row(first["latents"], "cipher") == _row(shown["latents"], "cipher")
    assert _row(shown["latents"], "cipher")[1] == "2 of 2"
    assert _row(shown["latents"], "assistant")[1] == "3 of 3"
    assert _row(shown["means"], "cipher")[1] == "0.300"


def test_an_effect_needs_its_arms():
    shown = tables([Traced("0", "0", _read(0.0, arms=("assistant", "piston_seen")))])
    told_of = {row[2]: row[3] for row in shown["square"].rows}
    assert len(told_of) == 5 and told_of.pop("assistant less piston_seen") != "n/a"
    assert set(told_of.values()) == {"n/a"}


def test_the_picture_has_a_panel_a_base_and_a_dot_a_dictionary():
    traces = [*_three(), Traced("2", "1", _read(0.3, unlearned="cipher"))]
    panels = spans(traces).axes
    assert [axes.get_title("left") for axes in panels] == ["Base 0", "Base 1", "Base 2"]
    dots = [[(*each.get_xdata(), *each.get_ydata()) for each in axes.lines] for axes in panels]
    assert [len(each) for each in dots] == [6, 6, 11]
    row = list(traces[0].read.summary.arms).index("dialect")
    assert (pytest.approx(SHARES["dialect"] + 0.3), row) in dots[2]
    assert (pytest.approx(SHARES["dialect"] + 0.3), row) not in dots[1]


def test_a_difference_of_two_reaches_as_far_as_both_together():
    one, other = Part("", 0.5, 0.2, 0.6), Part("", 0.1, 0.0, 0.5)
    found = _less(lambda _: one, lambda _: other)(_read(0.0))
    assert (found.value, found.low) == (pytest.approx(0.4), pytest.approx(0.4 - 0.5))
    assert found.high == pytest.approx(0.4 + np.hypot(0.1, 0.1))
    assert _less(lambda _: one, lambda _: None)(_read(0.0)) is None
