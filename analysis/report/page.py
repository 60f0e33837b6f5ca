"""The page: a pure function of the files in a trace folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analysis.report import claims, contexts, controls, kl, subspaces, tables, words
from analysis.report.cards import HERE, Card, Trace, load_trace, templates
from analysis.report.drawings import drawings
from analysis.report.marks import FATE_MARKS
from sae.errors import InputError

__all__ = ["build", "write"]

MAX_LATENTS = 100
"""Latents with a card on the page; the others are a call of `load_trace` away."""
INPUTS = (
    "summary.json",
    "fates.parquet",
    "traces.parquet",
    "examples.parquet",
    "nulls.json",
    "provenance.json",
)


@dataclass(frozen=True)
class _Latent:
    """A latent with its card in every tuned model, the primary one first."""

    latent: int
    cards: tuple[Card, ...]

    @property
    def anchor(self) -> str:
        return f"latent-{self.latent}"

    @property
    def persona(self) -> str | None:
        return self.cards[0].persona


def _latents(trace: Trace) -> list[_Latent]:
    """Latents that have snippets or carry a persona, persona latents first."""
    arms = list(trace.summary.arms)
    first = words.primary(trace.summary)
    arms.sort(key=lambda name: name != first)
    pairs: set[tuple[str, int]] = set()
    fates, examples = trace.fates, trace.examples
    if fates is not None:
        mine = fates[fates["persona"].notna()]
        pairs |= {(t, int(i)) for t, i in zip(mine["tuned"], mine["latent"], strict=True)}
    if examples is not None:
        pairs |= {(t, int(i)) for t, i in zip(examples["tuned"], examples["latent"], strict=True)}
    found = []
    for latent in sorted({latent for _, latent in pairs}):
        cards = tuple(trace.card(latent, arm) for arm in arms if (arm, latent) in pairs)
        if cards:
            found.append(_Latent(latent, cards))
    return sorted(found, key=lambda each: (each.persona is None, each.persona or "", each.latent))


def _files(directory: Path) -> tables.Table:
    rows = []
    for name in INPUTS:
        path = directory / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"
        rows.append((name, digest))
    return tables.Table(
        "Files this page was made from", ("file", "sha256"), rows, frozenset({0, 1})
    )


def _matrix(latents: Sequence[_Latent], arms: Sequence[str]) -> tables.Table:
    """Fates of the persona latents, one column an arm, each cell a badge, each row a permalink."""
    badge = templates().get_template("card.html").module.badge  # pyright: ignore
    shown = [arm for arm in arms if any(c.tuned == arm for each in latents for c in each.cards)]
    rows = []
    for each in latents:
        if each.persona is None:
            continue
        link = Markup('<a href="#{}">#{}</a>').format(each.anchor, each.latent)
        by_arm = {card.tuned: Markup(badge(card.fate)) for card in each.cards}
        rows.append((each.persona, link, *(by_arm.get(arm, "n/a") for arm in shown)))
    caption = "Fate of every confirmed persona latent in every tuned model"
    everything = frozenset(range(len(shown) + 2))
    return tables.Table(caption, ("persona", "latent", *shown), rows, everything)


def _context(trace: Trace) -> dict[str, Any]:
    summary = trace.summary
    latents = _latents(trace)
    name = words.primary(summary)
    said = None
    if trace.fates is not None and name is not None:
        said = words.fate_sentence(trace.fates, name)
    return {
        "trace": trace,
        "summary": summary,
        "primary": name,
        "conclusion": words.conclusion(summary),
        "scope": words.scope(summary),
        "of_caches": words.of_caches(summary),
        "evidence": words.evidence(summary),
        "states": words.STATES,
        "fate_sentence": said,
        "error_sentences": list(words.error_sentences(summary)),
        "claims": claims.table(trace),
        "contexts": contexts,
        "kl": kl.tables(summary),
        "subspaces": subspaces.table(summary),
        "controls": controls,
        "figures": {each.name: each for each in drawings(trace)},
        "tables": tables,
        "latents": latents[:MAX_LATENTS],
        "n_latents": len(latents),
        "matrix": _matrix(latents, list(summary.arms)),
        "marks": list(FATE_MARKS),
        "files": _files(trace.directory),
        "raw": json.dumps(trace.provenance, indent=1, sort_keys=True, ensure_ascii=False),
        "style": Markup(_style()),
    }


def _style() -> str:
    """The page's own styles, which hold no value of the trace."""
    card = (HERE / "card.css").read_text(encoding="utf-8")
    return card + (HERE / "page.css").read_text(encoding="utf-8")


def build(trace_dir: str | Path) -> str:
    """The report of a trace as one page that asks nothing of any network.

    Args:
        trace_dir: Holds `summary.json`; other files are used where they are, and a section whose
            file is absent says so.

    Returns:
        The HTML, the same for the same files.

    Raises:
        InputError: `summary.json` is missing or broken, or another file is damaged.
    """
    return templates().get_template("page.html").render(_context(load_trace(trace_dir)))


def write(trace_dir: str | Path) -> Path:
    """Write `report.html` into the trace folder, whole or not at all.

    Args:
        trace_dir: As for `build`.

    Returns:
        Path of the page.

    Raises:
        InputError: As for `build`, or the folder cannot be written.
    """
    text = build(trace_dir)
    path = Path(trace_dir) / "report.html"
    beside = path.with_suffix(".tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        do = "give a trace folder that can be written"
        raise InputError(f"to write {path}", error.strerror or str(error), do) from error
    return path
