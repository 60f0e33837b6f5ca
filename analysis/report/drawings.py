"""The report's figures with their numbers, titles, captions and twins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.artefact.folder import TraceFolder
from analysis.report import drawn, figures
from analysis.report.canvas import svg
from analysis.report.marks import three
from analysis.report.numbers import range_of
from analysis.report.tables import Table, from_frame
from analysis.report.words import primary

__all__ = ["Drawing", "drawings"]

WIDTHS = {"wide": 7.6, "narrow": 3.5}
BOOTSTRAP = "95 % intervals resample whole documents 1,000 times"


@dataclass(frozen=True)
class Drawing:
    """A figure as it stands on the page."""

    name: str
    """Id of the element."""
    title: str
    """What it finds."""
    caption: str
    """Definition, n, interval, thresholds."""
    drawn: dict[str, Markup]
    """SVG by width class."""
    table: Table
    """The same in numbers."""


def _drawing(
    name: str, words: tuple[str, str], draw: Callable[[float], Figure], frame: pd.DataFrame
) -> Drawing:
    shapes = {
        width: Markup(svg(draw(inches), f"{name}-{width}")) for width, inches in WIDTHS.items()
    }
    return Drawing(name, *words, shapes, from_frame(frame, f"{words[0]}: the numbers drawn"))


def drawings(trace: TraceFolder) -> Iterator[Drawing]:
    """Every figure that the files of a trace allow.

    Args:
        trace: The parts of the trace.

    Yields:
        The figures, in the order of the page.
    """
    yield from _poles(trace)
    yield from _fates(trace)
    yield from _personas(trace)
    yield from _rates(trace)


def _poles(trace: TraceFolder) -> Iterator[Drawing]:
    summary = trace.summary
    name = primary(summary)
    if name is None:
        return
    share, index = summary.arms[name].in_span_share, summary.reuse_index.get(name)
    title = f"{name}: in-span share {range_of(share)}, reuse index {range_of(index)}"
    caption = (
        "Left: share of the squared norm of h_tuned − h_base at assistant tokens, constant mean "
        "removed, inside the span of the confirmed persona latents' decoder rows; the shade ends "
        "where 95 % of 200 covariance-matched random subspaces of the same rank lie. Right: reuse "
        "index, 0 for a model trained from scratch and 1 for the base model. "
        f"n = {len(summary.arms)} tuned models, one run each; {BOOTSTRAP}. Hollow: no verdict."
    )
    yield _drawing(
        "figure-poles",
        (title, caption),
        lambda width: figures.poles(summary, width),
        drawn.poles_table(summary),
    )
    shares = [arm.in_span_share for arm in summary.arms.values()]
    if not any(
        each and each.value is not None for each in (*shares, *summary.reuse_index.values())
    ):
        return
    caption = (
        "The same two numbers against mean KL(base, tuned) of next-token predictions on neutral "
        f"text, in nats a token, on a log scale; n = {len(summary.arms)} tuned models, those "
        f"without a measured KL or number left out; {BOOTSTRAP}. If the size of a change alone "
        "explained the numbers, the points would lie on one falling line."
    )
    yield _drawing(
        "figure-drift",
        ("Does the size of the change explain it?", caption),
        lambda width: figures.drift(summary, width),
        drawn.drift_table(summary),
    )


def _fates(trace: TraceFolder) -> Iterator[Drawing]:
    fates = trace.fates
    if fates is None or not len(fates):
        return
    n = fates["origin"].tolist().count("base")
    caption = (
        "Share of latents with each fate, persona latents and all others apart, for every tuned "
        f"model; n = {n:,} latents over all models, counted in the table. A change needs q ≤ 0.05 "
        "and a point beyond the null's band; preserved needs every 95 % interval inside it and "
        "within fixed limits. "
        "Hatched: undetermined, unstable or split. Counts carry no interval: how often a call is "
        "wrong is measured below."
    )
    yield _drawing(
        "figure-fates",
        ("Fates of the base latents", caption),
        lambda width: figures.fate_bars(fates, width),
        drawn.fate_table(fates),
    )


def _personas(trace: TraceFolder) -> Iterator[Drawing]:
    summary = trace.summary
    if not summary.personas:
        return
    said = [each.confirmed for each in summary.personas.values()]
    title = f"{said.count(True)} of {len(said)} personas have a confirmed latent"
    if set(said) == {None}:
        title = f"How well single latents tell {len(said)} personas apart"
    caption = (
        "AUROC for “the speaker is this persona” among tokens matched on token, role, context "
        "and position, on documents on which nothing was chosen and in which no assistant "
        "speaks (unless that would lose a persona); chance is 0.5 (dashed). "
        f"n = {len(summary.personas)} personas; 95 % intervals are over documents; "
        "a latent is confirmed at q ≤ 0.05 (Benjamini–Hochberg over all latent × persona pairs "
        "carried over). The probe is linear "
        "on the same activations; the ideal observer knows how the text was made."
    )
    yield _drawing(
        "figure-personas",
        (title, caption),
        lambda width: figures.personas(summary, width),
        drawn.personas_table(summary),
    )


def _rates(trace: TraceFolder) -> Iterator[Drawing]:
    fates, traces, name = trace.fates, trace.traces, primary(trace.summary)
    if fates is None or traces is None or name is None:
        return
    frame = drawn.fire_rates_table(traces, fates, name)
    if not len(frame):
        return
    n = max(frame["n_tokens"].tolist())
    caption = (
        f"Share of assistant tokens on which each confirmed persona latent fires (z > 0), in base "
        f"and in {name}; n = {three(n)} tokens, the same ones in both. No interval is drawn: a "
        "change of rate is judged by the gating coordinate, whose interval and null are on the "
        "latent's card. Line colour, glyph and word give the fate."
    )
    yield _drawing(
        "figure-rates",
        (f"Persona latents at assistant tokens, base to {name}", caption),
        lambda width: figures.fire_rates(traces, fates, name, width),
        frame,
    )
