"""Snippets as a card shows them: the same text twice, highlighted by either model's activation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.artefact.names import GROUPS
from analysis.report.marks import visible

__all__ = ["TITLES", "Piece", "Snippet", "grouped"]

TITLES = {
    "base": "Top snippets by the base model's firing",
    "tuned": "Top snippets by the tuned model's firing",
    "near": "Near the threshold: the base model's weakest firings",
    "silent": "Silent: tokens of its persona on which neither model fires",
}
"""What each group of snippets shows."""
N_LEVELS = 7
_NONE = (None, "none")


@dataclass(frozen=True)
class Piece:
    """A token, or a run of tokens on which nothing fires."""

    text: str
    """As shown."""
    level: int
    """Strength of the highlight, 0 to 7."""
    z: float
    """The activation."""
    is_peak: bool
    """Whether the snippet was chosen for this token."""


@dataclass(frozen=True)
class Snippet:
    """The same text under both models."""

    source: str
    """Kind of document, role, persona and document of the peak."""
    peak: tuple[float, float]
    """Activation of either model at the peak."""
    base: tuple[Piece, ...]
    """The text with the base model's activations."""
    tuned: tuple[Piece, ...]
    """The text with the tuned model's activations."""


def grouped(rows: Sequence[dict[Any, Any]]) -> tuple[dict[str, tuple[Snippet, ...]], float]:
    """Snippets of one latent in one tuned model, ready to be shown.

    Args:
        rows: Its rows of `examples.parquet`.

    Returns:
        Snippets by group, in order; and the largest activation, the darkest highlight.
    """
    pairs = [[np.asarray(r[c], float).tolist() for c in ("z_base", "z_tuned")] for r in rows]
    scale = max((z for pair in pairs for side in pair for z in side if z > 0), default=0.0)
    found: dict[str, list[Snippet]] = {}
    for row, pair in sorted(zip(rows, pairs, strict=True), key=lambda each: each[0]["rank"]):
        at = int(row["pos"]) - int(row["start"])
        tokens = [str(token) for token in row["tokens"]]
        base, tuned = (_pieces(tokens, z, at, scale) for z in pair)
        source = " · ".join(
            str(row[c]) for c in ("context", "role", "persona", "doc") if row.get(c) not in _NONE
        )
        peak = pair[0][at], pair[1][at]
        found.setdefault(row["which"], []).append(Snippet(source, peak, base, tuned))
    return {which: tuple(found[which]) for which in GROUPS if which in found}, scale


def _pieces(tokens: Sequence[str], z: Sequence[float], at: int, scale: float) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for place, (token, value) in enumerate(zip(tokens, z, strict=True)):
        level = math.ceil(N_LEVELS * value / scale) if value > 0 else 0
        shown, is_peak = visible(token), place == at
        # The space in front stays outside the mark, or a line would break inside it.
        if (level or is_peak) and shown.strip() and shown[0] == " " and pieces:
            pieces.append(Piece(" ", 0, 0.0, False))
        text = (shown.lstrip(" ") if level or is_peak or not pieces else shown) or "␣"
        pieces.append(Piece(text, level, value, is_peak))
    return tuple(_joined(pieces))


def _joined(pieces: list[Piece]) -> Iterator[Piece]:
    """Runs of plain text made one."""
    plain = ""
    for piece in pieces:
        if not piece.level and not piece.is_peak:
            plain += piece.text
            continue
        if plain:
            yield Piece(plain, 0, 0.0, False)
        plain = ""
        yield piece
    if plain:
        yield Piece(plain, 0, 0.0, False)
