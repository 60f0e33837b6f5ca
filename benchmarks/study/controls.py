"""Controls of every base model: what a persona latent is worth where there is little to find."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analysis.hypotheses.parts import Part
from benchmarks.bench_controls import controls
from benchmarks.study.cells import Table, shown
from sae.whole import write_json
from scripts._stage import fingerprint, stage

__all__ = ["ControlsConfig", "Rows", "controlled", "table"]

Rows = Mapping[str, Mapping[str, float]]
"""From `bench_controls.controls`."""

COLUMNS = {
    "fvu": "FVU",
    "personas": "personas with a confirmed latent",
    "latent_auroc": "median AUROC of the best latents",
    "probe_auroc": "of linear probes",
}


FILE = "controls.json"


@dataclass(frozen=True)
class ControlsConfig:
    """How controls of a base model are made."""

    n_tokens: int
    """Of each fit."""
    seed: int = 0
    """Of fits, of random weights and of labels dealt anew."""


def controlled(homes: Mapping[str, Path], n_tokens: int) -> dict[str, Rows]:
    """Controls of every base model; those that are up to date are read from `controls/` beside it.

    Args:
        homes: Base -> folder of its organism. To each the next one's base model is mapped.
        n_tokens: Of each fit.
    """
    found, names, config = dict[str, Rows](), list(homes), ControlsConfig(n_tokens)
    for i, name in enumerate(names):
        other = homes[names[(i + 1) % len(names)]] if len(names) > 1 else None
        out, made = homes[name].parent / "controls", {"organism": homes[name], "other": other}
        inputs = {k: fingerprint(each / "organism.json") for k, each in made.items() if each}
        stage(out, inputs, config, partial(_write, out, homes[name], other, config))
        found[name] = json.loads((out / FILE).read_text(encoding="utf-8"))
    return found


def _write(out: Path, home: Path, other: Path | None, config: ControlsConfig) -> None:
    write_json(out / FILE, controls(home, other, config.n_tokens, config.seed))


def table(found: Mapping[str, Rows]) -> Table:
    """What is found of personas on base models and on their controls.

    Args:
        found: From `controlled`.
    """
    kinds = dict.fromkeys(kind for rows in found.values() for kind in rows)
    rows = [
        (kind, *(shown(_of(found, kind, column), len(found)) for column in COLUMNS))
        for kind in kinds
    ]
    about = (
        "A dictionary fitted alike on the base, on random weights and with random directions; and "
        "personas looked for in it with the labels of speakers dealt anew, and on another base, "
        "mapped linearly to this one. What is confirmed there too is no more than that. The best "
        "latent of up to three is the best on the documents that it is scored on, which alone "
        "lifts it above .5: see the labels dealt anew."
    )
    return Table("Controls", ("dictionary", *COLUMNS.values()), tuple(rows), about)


def _of(found: Mapping[str, Rows], kind: str, column: str) -> Sequence[tuple[str, Part]]:
    known = {base: float(rows[kind][column]) for base, rows in found.items() if kind in rows}
    return [(base, Part("", x, x, x)) for base, x in known.items() if x == x]  # not NaN
