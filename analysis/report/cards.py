"""A latent on one card: what it was in the base model, what became of it, and where it fires.

A card and a trace show themselves in a notebook as static HTML: no script, no address, styles of
their own. The report is made of the same cards.
"""

import hashlib
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis.artefact.folder import TraceFolder, read_parts
from analysis.report.marks import Mark, mark_of, percent, three, visible
from analysis.report.measured import AXES, NOT_ALWAYS, Coordinate
from analysis.report.snippets import TITLES, Snippet, grouped

__all__ = ["Card", "Coordinate", "Fires", "Trace", "load_trace", "templates"]

HERE = Path(__file__).parent
SPACED = re.compile(r"(?<=\d) %")
LIMIT = 60_000
"""Bytes of one card in a notebook."""


@dataclass(frozen=True)
class Fires:
    """How often a latent fires at one role in one kind of document."""

    role: str
    """Who speaks; template tokens are a role of their own."""
    context: str
    """Kind of document."""
    n_tokens: int
    """Tokens."""
    base: float
    """Firings a token in the base model."""
    tuned: float
    """Firings a token in the tuned model."""


@dataclass(frozen=True)
class Card:
    """What a trace knows of one latent in one tuned model."""

    tuned: str
    """The tuned model."""
    latent: int
    """Index in the base dictionary."""
    fate: str
    """Its fate, or "not in the table"."""
    reason: str | None
    """Why the fate is undetermined."""
    q_value: float
    """False discovery rate of its change."""
    confidence: float
    """Share of document resamples that give the same fate."""
    persona: str | None
    """Persona that it carries, confirmed on documents it was not chosen on."""
    candidate: str | None
    """Persona whose best latent it is, confirmed or not."""
    auroc: float
    """How well it tells that persona apart, within matched tokens."""
    coordinates: tuple[Coordinate, ...]
    """What was measured."""
    fires: tuple[Fires, ...]
    """Where it fires."""
    groups: dict[str, tuple[Snippet, ...]]
    """Snippets by group."""
    scale: float
    """Largest activation shown; the darkest highlight."""
    is_let_go: bool = False
    """Whether the continued dictionary let it go: its coordinates are of the base's own."""

    @property
    def who(self) -> str:
        """The persona in words, empty where there is none."""
        if self.persona:
            return self.persona
        return f"{self.candidate}, not confirmed" if self.candidate else ""

    @property
    def mark(self) -> Mark:
        """Glyph, word and colour of the fate."""
        return mark_of(self.fate)

    def __repr__(self) -> str:
        what = f", {self.who}" if self.who else ""
        numbers = ", ".join(f"{c.name} {three(c.value)}" for c in self.coordinates)
        return f"Card(latent {self.latent}{what}, {self.tuned}: {self.fate}; {numbers})"

    def body(self, anchor: str | None = None) -> Markup:
        """The card's HTML, for a page that holds the styles.

        Args:
            anchor: Id of the element; none where absent.

        Returns:
            An `<article>`.
        """
        card = templates().get_template("card.html").module.card  # pyright: ignore
        return Markup(card(self, anchor))

    def inside(self) -> Markup:
        """The card's HTML without its heading, to stand under another one."""
        return Markup(templates().get_template("card.html").module.inside(self))  # pyright: ignore

    def shortened(self, n: int) -> "Card":
        """The card with fewer snippets.

        Args:
            n: Snippets kept in each group.

        Returns:
            The new card.
        """
        return replace(self, groups={which: each[:n] for which, each in self.groups.items()})

    def _repr_html_(self) -> str:
        name = "fl-" + hashlib.sha256(f"{self.tuned}/{self.latent}".encode()).hexdigest()[:10]
        text = ""
        for n in (99, 4, 3, 2, 1, 0):
            text = _scoped(name, self.shortened(n).body())
            if len(text.encode()) <= LIMIT:
                break
        return text


class Trace(TraceFolder):
    """A finished trace, read from its folder."""

    def card(self, latent: int, tuned: str) -> Card:
        """The card of a latent.

        Args:
            latent: Index in the base dictionary.
            tuned: Name of the tuned model.

        Returns:
            The card; parts whose file is absent are empty.

        Raises:
            InputError: The trace has no such tuned model, or nothing about this latent in it.
        """
        row = self.fate_of(latent, tuned)
        values = {c: [_number(row.get(f"{c}{e}")) for e in ("", "_low", "_high")] for c in AXES}
        bands = self.bands(latent, tuned)
        groups, scale = grouped(self.rows("examples", latent, tuned))
        return Card(
            tuned=tuned,
            latent=latent,
            fate=str(row.get("fate", "not in the table")),
            reason=_text(row.get("reason")),
            q_value=_number(row.get("q_value")),
            confidence=_number(row.get("confidence")),
            persona=_text(row.get("persona")),
            candidate=self.candidate_for(latent),
            auroc=_number(row.get("selectivity_auroc")),
            coordinates=tuple(
                Coordinate(c, value, low, high, bands.get(c))
                for c, (value, low, high) in values.items()
                if c not in NOT_ALWAYS or not math.isnan(value)
            ),
            fires=tuple(_fires(row) for row in self.rows("traces", latent, tuned)),
            groups=groups,
            scale=scale,
            is_let_go=row.get("read_by") == "base",
        )

    def __repr__(self) -> str:
        arms = ", ".join(self.summary.arms)
        return f"Trace({str(self.directory)!r}: {len(self.summary.personas)} personas; {arms})"

    def _repr_html_(self) -> str:
        name = "fl-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:10]
        table = templates().get_template("card.html").module.trace  # pyright: ignore
        return _scoped(name, table(self))


def load_trace(directory: str | Path) -> Trace:
    """Read a trace folder.

    Args:
        directory: Holds `summary.json`, and as many of the other files as there are.

    Returns:
        The trace.

    Raises:
        InputError: `summary.json` is missing or broken, or another file is damaged, lacks a
            column or holds something else than it must.
    """
    return Trace(**read_parts(directory))


def _finished(value: object) -> object:
    """A number and its % on one line, and names with nothing invisible; markup stays what it is."""
    if type(value) is not str:
        return value
    shown = "\n".join(visible(line, len(line)) for line in value.split("\n"))
    return SPACED.sub("\u00a0%", shown)


@cache
def templates() -> jinja2.Environment:
    """The templates of cards and report, with every value escaped.

    Returns:
        The environment.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finished,
    )
    environment.filters |= {"three": three, "percent": percent}
    environment.globals |= {"mark_of": mark_of, "group_titles": TITLES, "isnan": math.isnan}
    return environment


def _scoped(name: str, body: str) -> str:
    style = (HERE / "card.css").read_text(encoding="utf-8").replace(".card", f".{name}")
    own = (HERE / "notebook.css").read_text(encoding="utf-8").replace(".card", f".{name}")
    return f'<div class="{name}"><style>{own}{style}</style>{body}</div>'


def _number(value: Any) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _fires(row: dict[Any, Any]) -> Fires:
    n = int(row["n_tokens"])
    rates = [row[c] / n if n else math.nan for c in ("n_fires_base", "n_fires_tuned")]
    return Fires(str(row["role"]), str(row["context"]), n, *rates)
