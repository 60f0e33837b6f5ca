"""Paper and pens of the figures: one palette, and SVG that follows the page it stands in.

Colours are those of the light theme; `svg` turns each into a custom property of the page, so that
the same drawing is readable in light, dark and print. The bytes are the same for the same figure.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

__all__ = [
    "ACCENT",
    "BAND",
    "FATE_COLOURS",
    "INK",
    "MUTED",
    "PAPER",
    "RULE",
    "canvas",
    "name_points",
    "plain",
    "spaced",
    "svg",
    "tidy",
]

INK = "#1d1b24"
"""Text."""
MUTED = "#5d5968"
"""Quiet text."""
RULE = "#d8d4e0"
"""Rules and grids."""
BAND = "#e6e1ef"
"""Bands of the null."""
PAPER = "#fefdff"
"""Paper, and so what is hollow."""
ACCENT = "#5a2ca8"
"""What the page is about."""
FATE_COLOURS = {
    "preserved": "#0e8c8c",
    "amplified": "#f26018",
    "suppressed": "#06063f",
    "repurposed": "#a918f2",
    "lost": "#590808",
    "novel": "#3d3a47",
}
"""Light theme; at least 3:1 on white, and apart under the three colour deficiencies."""
PROPERTIES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    BAND: "--band",
    PAPER: "--paper",
    ACCENT: "--accent",
    **{colour: f"--fate-{name}" for name, colour in FATE_COLOURS.items()},
}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "forelimb",
    "hatch.linewidth": 0.8,
}


def canvas(
    width: float, height: float, shape: tuple[int, int], share_y: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """An empty transparent figure.

    Args:
        width: Unit: inches.
        height: Unit: inches.
        shape: Rows and columns of axes.
        share_y: Whether axes in a row share their y.

    Returns:
        The figure, and its axes in reading order.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0.0)
        found = figure.subplots(*shape, squeeze=False, sharey="row" if share_y else False)
    return figure, list(found.ravel())


def tidy(axes: Axes, grid: str | None) -> None:
    """Quiet frame and ticks; a grid along an axis.

    Args:
        axes: To be tidied.
        grid: "x", "y", "both" or None.
    """
    axes.patch.set_alpha(0.0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(RULE)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
    axes.tick_params(axis="x", labelcolor=MUTED)
    if grid:
        axes.grid(axis=grid, color=RULE, lw=0.8)  # pyright: ignore[reportArgumentType]
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(MUTED)
    for title in (axes.title, getattr(axes, "_left_title", axes.title)):
        title.set(color=INK, fontsize=10.5, fontweight="bold")
    legends = [axes.get_legend(), *(axes.figure.legends if axes.figure else [])]
    for legend in legends:
        if legend is not None:
            legend.set_frame_on(False)
            for text in legend.get_texts():
                text.set_color(INK)


def plain(label: str) -> str:
    """A label of somebody's text, in which matplotlib sees no mathematics."""
    return label.replace("$", r"\$")


def name_points(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """A name beside each point, and a line to it where other names push it away.

    Args:
        axes: With their limits set, the abscissa logarithmic.
        points: In order of their ordinate.
        names: Of the points.
    """
    low, high = axes.get_ylim()
    middle = float(np.exp(np.log(axes.get_xlim()).mean()))
    want = np.array([(y - low) / (high - low) for _, y in points])
    for (x, y), name, height in zip(points, names, spaced(want), strict=True):
        is_left = x <= middle
        aside = offset_copy(
            axes.transData, axes.get_figure(root=True), x=10 if is_left else -10, units="points"
        )
        axes.annotate(
            plain(name),
            (x, y),
            (x, low + height * (high - low)),
            textcoords=aside,
            color=INK,
            fontsize=9,
            va="center",
            ha="left" if is_left else "right",
            arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.7, "shrinkA": 1, "shrinkB": 3},
        )


def spaced(want: Float[np.ndarray, " n"], apart: float = 0.06) -> Float[np.ndarray, " n"]:
    """Heights as near to those wanted as names of a line each allow, within the axes.

    Args:
        want: In shares of the axes' height, ascending.
        apart: Least distance of two, less where there are too many.

    Example:
        >>> spaced(np.array([0.5, 0.5, 0.9])).round(2).tolist()
        [0.5, 0.56, 0.9]
    """
    found, apart = want.clip(0.02, 0.98), min(apart, 0.96 / max(1, len(want) - 1))
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + apart)
    for i in reversed(range(len(found))):
        most = 0.98 if i == len(found) - 1 else found[i + 1] - apart
        found[i] = min(found[i], most)
    return found


def svg(figure: Figure, name: str) -> str:
    """A figure as SVG to stand inside a page: no dates, no links, names of its own.

    Args:
        figure: Drawn by `analysis.report.figures`.
        name: Prefix of every id, so that drawings on one page do not meet.

    Returns:
        An `<svg>` element; the page gives it a role and a name.
    """
    target = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    used = set(re.findall(r"[(\"]#([\w-]+)[)\"]", text))
    text = re.sub(r'\s+id="([^"]*)"', lambda m: _renamed(m, used, name), text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--sans)", text)
    for colour, property_name in PROPERTIES.items():
        text = text.replace(colour, f"var({property_name}, {colour})")
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    return re.sub(r"\n\s*\n+", "\n", text).strip()


def _renamed(match: re.Match[str], used: set[str], name: str) -> str:
    return f' id="{name}-{match[1]}"' if match[1] in used else ""
