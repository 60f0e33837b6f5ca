import html
import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis.artefact import summary
from analysis.report import drawn, figures
from analysis.report.canvas import FATE_COLOURS, PAPER, spaced, svg
from analysis.report.marks import FATE_CLASSES, FATE_MARKS


@pytest.fixture(scope="module")
def parts(trace_dir):
    return (
        summary.read(trace_dir),
        pd.read_parquet(trace_dir / "fates.parquet"),
        pd.read_parquet(trace_dir / "traces.parquet"),
    )


@pytest.fixture(scope="module")
def makers(parts):
    found, fates, traces = parts
    return {
        "poles": lambda width=7.6: figures.poles(found, width),
        "fate_bars": lambda width=7.6: figures.fate_bars(fates, width),
        "personas": lambda width=7.6: figures.personas(found, width),
        "fire_rates": lambda width=7.6: figures.fire_rates(traces, fates, "assistant", width),
        "drift": lambda width=7.6: figures.drift(found, width),
    }


@pytest.mark.parametrize("name", figures.__all__)
def test_a_figure_is_drawn_without_pyplot_and_is_the_same_each_time(makers, name):
    first, again = makers[name](3.5), makers[name](3.5)
    assert isinstance(first, Figure)
    assert svg(first, "a") == svg(again, "a")


@pytest.mark.parametrize("name", figures.__all__)
def test_the_drawing_names_no_address_date_or_fixed_ink(makers, name):
    text = svg(makers[name](), "drawing")
    assert text.startswith("<svg")
    assert "http" not in text
    assert "metadata" not in text
    assert "--ink" in text
    bare = set(re.findall(r"(?<!, )#[0-9a-f]{6}", text)) - {"#000000"}
    assert not bare
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert all(each.startswith("drawing-") for each in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= set(ids)


def test_the_fate_counts_are_those_of_the_file(parts):
    _, fates, _ = parts
    table = drawn.fate_table(fates)
    assert table["n"].sum() == len(fates)
    assert table.groupby(["tuned", "family"])["share"].sum().to_numpy() == pytest.approx(1)
    mine = table[(table["tuned"] == "piston") & (table["family"] == "persona")]
    at = (fates["tuned"] == "piston") & fates["persona"].notna()
    assert (
        dict(zip(mine["fate"], mine["n"], strict=True))
        == fates[at]["fate"].value_counts().to_dict()
    )


def test_firing_rates_are_sums_divided_once(parts):
    _, fates, traces = parts
    row = drawn.fire_rates_table(traces, fates, "assistant").iloc[0]
    cell = traces[
        (traces["tuned"] == "assistant")
        & (traces["latent"] == row["latent"])
        & (traces["role"] == "assistant")
    ]
    assert row["tuned"] == cell["n_fires_tuned"].sum() / cell["n_tokens"].sum()


def test_an_arm_without_verdict_is_hollow(parts):
    table = drawn.poles_table(parts[0]).set_index("arm")
    assert table.loc["piston", "verdict"] == "did not learn its task"
    assert table.loc["scratch", "verdict"] == "pole"
    assert np.isnan(table.loc["scratch", "in_span_share"])
    share = figures.poles(parts[0]).axes[0]
    dots = [line for line in share.get_lines() if line.get_marker() == "o"]
    shown = [arm for arm in table.index if not np.isnan(table.loc[arm, "in_span_share"])]
    hollow = {a for a, d in zip(shown, dots, strict=True) if d.get_markerfacecolor() == PAPER}
    assert hollow == {"piston", "continued", "continued_b"}


def test_nothing_measured_still_draws(data):
    data |= {"personas": {}, "reuse_index": {}}
    for arm in data["arms"].values():
        arm.pop("in_span_share", None)
        arm["size"]["kl"] = None
    found = summary.parse(data)
    for draw in (figures.poles, figures.personas, figures.drift):
        assert svg(draw(found), "x").startswith("<svg")


def test_a_single_tuned_model_has_room_on_the_log_axis(data):
    for part in ("arms", "reuse_index"):
        data[part] = {"assistant": data[part]["assistant"]}
    found = summary.parse(data)
    kl = found.arms["assistant"].size.kl
    for axes in figures.drift(found).axes:
        low, high = axes.get_xlim()
        assert low < kl / 1.5 < kl * 1.5 < high


@pytest.mark.parametrize("name", ["$$", "$x_{$", "rich $money^$", "50% $a_b_c$", "a $5 and $6 man"])
def test_names_with_dollars_are_drawn_as_they_are(data, parts, name):
    data["personas"] = {name: next(iter(data["personas"].values()))}
    for part in ("arms", "reuse_index"):
        data[part] = {name if k == "assistant" else k: v for k, v in data[part].items()}
    data["span"] = []
    found, (_, fates, traces) = summary.parse(data), parts
    named = [each.replace({"tuned": {"assistant": name}}) for each in (fates, traces)]
    made = [figures.poles(found), figures.personas(found), figures.drift(found)]
    made += [figures.fate_bars(named[0]), figures.fire_rates(named[1], named[0], name)]
    drawn_text = "".join(svg(each, "x") for each in made)
    assert drawn_text.count(html.escape(name, quote=False)) >= 4


def test_names_stand_beside_their_dots_within_the_axes(data):
    one = data["arms"]["assistant"]
    shares = np.linspace(0.40, 0.44, 16)
    data["arms"] = {
        f"arm_{i}": json.loads(json.dumps(one)) | {"in_span_share": {"value": float(at)}}
        for i, at in enumerate(shares)
    }
    data["reuse_index"], data["span"] = {}, []
    figure = figures.drift(summary.parse(data))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    names = [each for each in axes.texts if each.get_text().startswith("arm_")]
    assert len(names) == 16
    boxes = [each.get_window_extent() for each in names]
    inside = axes.get_window_extent()
    assert all(inside.y0 <= (box.y0 + box.y1) / 2 <= inside.y1 for box in boxes)
    heights = [(box.y0 + box.y1) / 2 for box in boxes]
    assert heights == sorted(heights)  # in the order of their dots, which their lines lead to
    assert all(each.arrow_patch is not None for each in names)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_names_are_kept_apart_and_within_the_axes(want):
    found = spaced(np.sort(np.array(want)))
    assert (found >= 0.02 - 1e-9).all() and (found <= 0.98 + 1e-9).all()
    assert (np.diff(found) >= min(0.06, 0.96 / max(1, len(want) - 1)) - 1e-9).all()


@pytest.mark.parametrize("width", [3.5, 7.6])
@pytest.mark.parametrize(("least", "most"), [(0.0119, 0.0126), (0.004, 0.2), (0.01, 6), (1e-6, 6)])
def test_sizes_of_change_are_marked_without_one_label_on_another(data, width, least, most):
    kls = np.geomspace(least, most, len(data["arms"]))
    for arm, kl in zip(data["arms"].values(), kls, strict=True):
        arm["size"]["kl"] = float(kl)
    figure = figures.drift(summary.parse(data), width)
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert high / low >= 3.99
        boxes = [
            label.get_window_extent()
            for label, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
            if low <= at <= high
        ]
        assert boxes
        assert all(one.x1 < two.x0 for one, two in pairwise(boxes))


def test_every_fate_has_a_mark_and_every_mark_a_colour():
    from analysis.fates.decide import FATES

    assert set(FATE_MARKS) == set(FATES)
    assert {mark.css for mark in FATE_MARKS.values()} == set(FATE_CLASSES)
    assert set(FATE_CLASSES) - {"open"} == set(FATE_COLOURS)


@pytest.mark.parametrize(
    "ends", [(0.01, 0.04), (0.015, 0.045), (0.008, 9.0), (1e-6, 1e3), (2.0, 8.0)]
)
def test_a_log_axis_has_three_to_seven_round_marks_within_it(ends):
    marks = figures._marks(*ends)
    assert 3 <= len(marks) <= 7
    assert all(ends[0] <= each <= ends[1] for each in marks)
    ratios = [b / a for a, b in pairwise(marks)]
    assert min(ratios) >= 1.3  # labels do not touch
