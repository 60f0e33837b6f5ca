"""A picture of the study: the share of each arm's shift within the persona span, base by base."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.artefact.schema import Arm
from analysis.report.canvas import ACCENT, BAND, MUTED, PAPER, canvas, tidy
from benchmarks.study.cells import Traced, arms_of, tracing

__all__ = ["save", "spans"]

WIDTH = 9.6
"""Unit: inches."""


def spans(traces: Sequence[Traced]) -> Figure:
    """A panel a base, a row an arm, a dot a dictionary, hollow where no verdict is given.

    Shaded is where 95 % of random spans lie, of all dictionaries. Arms that did not learn their
    task are left out of a base.

    Args:
        traces: At least one.
    """
    bases = list(dict.fromkeys(each.base for each in traces))
    arms = arms_of(traces)
    figure, panels = canvas(WIDTH, 0.9 + 0.27 * len(arms), (1, len(bases)), share_y=True)
    for base, axes in zip(bases, panels, strict=True):
        for y, arm in enumerate(arms):
            mine = [each for each in tracing(traces, arm) if each.base == base]
            for each in mine:
                _draw(axes, y, each.read.summary.arms[arm], 1 / len(mine))
        axes.set_title(f"Base {base}", loc="left")
        tidy(axes, "x")
        axes.tick_params(labelleft=axes is panels[0])
    most = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(0, most)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    panels[len(bases) // 2].set_xlabel("share of the shift within the persona span")
    return figure


def _draw(axes: Axes, y: int, arm: Arm, shade: float) -> None:
    share = arm.in_span_share
    if share is None or share.value is None:
        return
    if share.null_low is not None and share.null_high is not None:
        long = share.null_high - share.null_low
        axes.barh(y, long, left=share.null_low, height=0.66, color=BAND, alpha=shade**0.5, zorder=0)
    colour, face = (MUTED, PAPER) if arm.no_verdict else (ACCENT, ACCENT)
    axes.plot(share.value, y, "o", ms=4.5, mfc=face, mec=colour, mew=1.2, zorder=3)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG.

    Args:
        figure: From `spans`.
        path: Where to.
    """
    figure.savefig(path, dpi=140, facecolor=PAPER)
