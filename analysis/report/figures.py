"""The report's figures, each drawn from the table of the same name in `analysis.report.drawn`.

Each function returns a matplotlib `Figure`, which a notebook shows and `analysis.report` inlines.
No pyplot, so no global state.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.artefact.schema import Summary
from analysis.report import drawn
from analysis.report.canvas import (
    ACCENT,
    BAND,
    FATE_COLOURS,
    INK,
    MUTED,
    PAPER,
    RULE,
    canvas,
    name_points,
    plain,
    tidy,
)
from analysis.report.marks import FATE_CLASSES, mark_of

__all__ = ["drift", "fate_bars", "fire_rates", "personas", "poles"]

WIDE = 7.6
"""Width of a figure on a page; unit: inches. A telephone takes 3.5."""
NARROW_BELOW = 5.0


def _limits(table: pd.DataFrame, stem: str) -> np.ndarray:
    """Distances from the value down and up to its interval, as `errorbar` takes them."""
    value, low, high = (table[f"{stem}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    return np.nan_to_num(np.maximum([value - low, high - value], 0))


def _dots(axes: Axes, table: pd.DataFrame, stem: str, hollow: Sequence[bool]) -> None:
    """A dot and its interval a row, hollow where asked."""
    limits = _limits(table, stem)
    for y, value in enumerate(table[stem].to_numpy(float)):
        if np.isnan(value):
            axes.text(0.12, y, "n/a", color=MUTED, va="center", transform=_across(axes))
            continue
        colour = MUTED if hollow[y] else ACCENT
        axes.errorbar(value, y, xerr=limits[:, [y]], fmt="none", ecolor=colour, elinewidth=1.6)
        face = PAPER if hollow[y] else colour
        axes.plot(value, y, "o", ms=7, mfc=face, mec=colour, mew=1.6, zorder=3)


def _across(axes: Axes):  # noqa: ANN202
    """X in shares of the axes, y in data."""
    return axes.get_yaxis_transform()


def poles(summary: Summary, width: float = WIDE) -> Figure:
    """Where every tuned model lies between the poles: in-span share, and reuse index.

    Args:
        summary: Of the trace.
        width: Width of the figure; unit: inches.

    Returns:
        The figure. Arms without a verdict are hollow.
    """
    table = drawn.poles_table(summary)
    is_wide, n = width >= NARROW_BELOW, len(table)
    height = 1.15 + 0.42 * n
    shape = (1, 2) if is_wide else (2, 1)
    figure, (share, reuse) = canvas(width, height if is_wide else 2 * height, shape, True)
    hollow = (table["verdict"] != "yes").tolist()
    for y, row in enumerate(table.to_dict("records")):
        low = 0.0 if np.isnan(row["null_low"]) else row["null_low"]
        share.barh(y, row["null_high"] - low, left=low, height=0.62, color=BAND, zorder=0)
    _dots(share, table, "in_span_share", hollow)
    _dots(reuse, table, "reuse_index", hollow)
    share.set_xlim(left=0)
    share.set_title("Share in the persona span", loc="left")
    share.set_xlabel("shaded: random subspaces lie here")
    reuse.set_title("Reuse index", loc="left")
    reuse.set_xlabel("0: from scratch · 1: base model")
    for at in (0.0, 1.0):
        reuse.axvline(at, color=INK, lw=1, ls=(0, (4, 3)), zorder=0)
    ends = reuse.get_xlim()
    reuse.set_xlim(min(-0.1, ends[0]), max(1.1, ends[1]))
    for axes in (share, reuse):
        axes.set_yticks(range(n), [plain(_label(row)) for row in table.to_dict("records")])
        axes.set_ylim(n - 0.4, -0.6)
        tidy(axes, "x")
    reuse.tick_params(labelleft=not is_wide)
    return figure


def _label(row: dict[Any, Any]) -> str:
    why = row["verdict"]
    if why == "yes":
        return row["arm"]
    return f"{row['arm']}\n({why if why in ('null', 'pole') else 'no verdict'})"


def fate_bars(fates: pd.DataFrame, width: float = WIDE) -> Figure:
    """Share of every class of fates, for persona latents and the others of every arm.

    Args:
        fates: `fates.parquet`.
        width: Width of the figure; unit: inches.

    Returns:
        The figure.
    """
    bars: dict[tuple[str, str], Counter[str]] = {}
    for row in drawn.fate_table(fates).to_dict("records"):
        if row["family"] != "novel":
            bar = bars.setdefault((row["tuned"], row["family"]), Counter())
            bar[mark_of(row["fate"]).css] += row["n"]
    figure, (axes,) = canvas(width, 0.9 + 0.36 * len(bars), (1, 1))
    for y, counts in enumerate(bars.values()):
        left, n = 0.0, counts.total()
        for css, mark in FATE_CLASSES.items():
            share = counts[css] / n
            if share == 0:
                continue
            is_open = css == "open"
            axes.barh(
                y,
                share,
                left=left,
                height=0.74,
                color=BAND if is_open else FATE_COLOURS[css],
                edgecolor=MUTED if is_open else PAPER,
                hatch="////" if is_open else None,
                lw=0.0 if is_open else 1.0,
            )
            if share * width > 0.4 and not is_open:
                axes.text(left + share / 2, y, mark.glyph, color=PAPER, **_GLYPH)
            left += share
        axes.text(1.015, y, f"n = {n:,}", color=MUTED, va="center", clip_on=False)
    axes.set_yticks(range(len(bars)), [plain(f"{tuned} · {family}") for tuned, family in bars])
    axes.set_xlim(0, 1)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlabel("share of latents")
    tidy(axes, None)
    return figure


_GLYPH = {"ha": "center", "va": "center", "fontsize": 11, "fontweight": "bold"}


def personas(summary: Summary, width: float = WIDE) -> Figure:
    """How well one latent, a linear probe and the ideal observer tell every persona apart.

    Args:
        summary: Of the trace.
        width: Width of the figure; unit: inches.

    Returns:
        The figure.
    """
    table = drawn.personas_table(summary).reset_index(drop=True)
    n = len(table)
    figure, (axes,) = canvas(width, 1.3 + 0.28 * n, (1, 1))
    y = np.arange(n)
    axes.axvline(0.5, color=INK, lw=1, ls=(0, (4, 3)), zorder=0)
    value = table["auroc"].to_numpy(float)
    axes.errorbar(value, y, xerr=_limits(table, "auroc"), fmt="none", ecolor=ACCENT, elinewidth=1.6)
    series = (
        ("one latent, 95 % interval", value, "o", ACCENT, ACCENT, 7),
        ("linear probe", table["probe"].to_numpy(float), "s", PAPER, MUTED, 6),
        ("ideal observer", table["ideal"].to_numpy(float), "D", PAPER, INK, 6),
    )
    for label, x, marker, face, edge, size in series:
        axes.plot(x, y, marker, ms=size, mfc=face, mec=edge, mew=1.5, ls="none", label=label)
    axes.set_yticks(y, [plain(str(each)) for each in table["persona"]])
    axes.set_ylim(n - 0.4, -0.6)
    axes.set_xlabel("AUROC (dashed: chance)")
    figure.legend(loc="outside upper left", ncols=3 if width >= NARROW_BELOW else 1)
    tidy(axes, "x")
    return figure


def fire_rates(traces: pd.DataFrame, fates: pd.DataFrame, arm: str, width: float = WIDE) -> Figure:
    """Fire rate of every persona latent at assistant tokens, from base to tuned.

    Args:
        traces: `traces.parquet`.
        fates: `fates.parquet`.
        arm: The tuned model.
        width: Width of the figure; unit: inches.

    Returns:
        The figure; the fate's glyph stands at the end of its row.
    """
    table = drawn.fire_rates_table(traces, fates, arm)
    n = len(table)
    figure, (axes,) = canvas(width, 1.3 + 0.28 * n, (1, 1))
    for y, row in enumerate(table.to_dict("records")):
        mark = mark_of(row["fate"])
        colour = FATE_COLOURS.get(mark.css, MUTED)
        base, tuned = 100 * row["base"], 100 * row["tuned"]
        axes.plot([base, tuned], [y, y], color=colour, lw=2.2, zorder=1)
        axes.plot(base, y, "o", ms=7, mfc=PAPER, mec=INK, mew=1.5, clip_on=False)
        axes.plot(tuned, y, "o", ms=7, mfc=colour, mec=colour, mew=1.5, clip_on=False)
        text = f"{mark.glyph} {mark.word}" if width >= NARROW_BELOW else mark.glyph
        axes.text(1.015, y, text, color=INK, va="center", transform=_across(axes))
    labels = [plain(f"{p} · #{i}") for p, i in zip(table["persona"], table["latent"], strict=True)]
    axes.set_yticks(range(n), labels)
    axes.set_ylim(n - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("fires on % of assistant tokens")
    handles = [
        Line2D([], [], marker="o", ls="none", ms=7, mfc=face, mec=INK, mew=1.5, label=label)
        for face, label in ((PAPER, "base"), (INK, plain(arm)))
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    tidy(axes, "x")
    return figure


def drift(summary: Summary, width: float = WIDE) -> Figure:
    """In-span share and reuse index against how far an arm moved.

    Args:
        summary: Of the trace.
        width: Width of the figure; unit: inches.

    Returns:
        The figure.
    """
    table = drawn.drift_table(summary)
    table = table.assign(kl=table["kl"].where(table["kl"] > 0)).dropna(subset=["kl"])
    is_wide = width >= NARROW_BELOW
    figure, pair = canvas(width, 3.3 if is_wide else 6.2, (1, 2) if is_wide else (2, 1))
    stems = {"in_span_share": "Share in the persona span", "reuse_index": "Reuse index"}
    for axes, (stem, title) in zip(pair, stems.items(), strict=True):
        mine = table.dropna(subset=[stem]).sort_values(stem).reset_index(drop=True)
        limits = _limits(mine, stem)
        axes.set_xscale("log")
        axes.set_xlim(*_around(mine["kl"].to_numpy(float)))
        for place, row in enumerate(mine.to_dict("records")):
            colour = ACCENT if row["verdict"] == "yes" else MUTED
            at = (row["kl"], row[stem])
            axes.errorbar(*at, yerr=limits[:, [place]], fmt="none", ecolor=colour, elinewidth=1.4)
            face = colour if row["verdict"] == "yes" else PAPER
            axes.plot(*at, "o", ms=7, mfc=face, mec=colour, mew=1.6, zorder=3)
        axes.axhline(0, color=RULE, lw=1, zorder=0)
        axes.margins(y=0.12)
        points = list(zip(mine["kl"], mine[stem], strict=True))
        name_points(axes, points, mine["arm"].tolist())
        axes.set_title(title, loc="left")
        axes.set_xlabel("KL from base, nats a token (log)")
        axes.xaxis.set_major_locator(FixedLocator(_marks(*axes.get_xlim())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        tidy(axes, "both")
    return figure


def _around(values: np.ndarray) -> tuple[float, float]:
    """Limits of a log axis with room beside the values, of which there may be one or none.

    They span a factor of 4 at least, so that values that hardly differ are seen to.
    """
    if not len(values):
        return 0.1, 1.0
    low, high = float(np.log(values.min())), float(np.log(values.max()))
    room = max(0.12 * (high - low), (np.log(4) - (high - low)) / 2)
    return float(np.exp(low - room)), float(np.exp(high + room))


def _marks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between the ends of a log axis, so few that no labels touch."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [step * 10.0**each for each in decades for step in steps]
        found = [each for each in found if low <= each <= high]
        if len(found) >= 3:
            break
    return found[:: math.ceil(len(found) / 7)]
