"""Controls of every base model: what a persona latent is worth where there is little to find."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.hypotheses.parts import Part
from benchmarks.bench_controls import controls
from benchmarks.study.cells import Table, shown

__all__ = ["Rows", "controlled", "table"]

Rows = Mapping[str, Mapping[str, float]]
"""From `bench_controls.controls`."""

COLUMNS = {
    "fvu": "FVU",
    "personas": "personas with a confirmed latent",
    "latent_auroc": "median AUROC of the best latents",
    "probe_auroc": "of linear probes",
}


def controlled(homes: Mapping[str, Path], n_tokens: int) -> dict[str, Rows]:
    """Controls of every base model, those that stand in `controls.json` read from there.

    Args:
        homes: Base -> folder of its organism. To each the next one's base model is mapped.
        n_tokens: Of each fit.
    """
    found, names = dict[str, Rows](), list(homes)
    for i, name in enumerate(names):
        other = homes[names[(i + 1) % len(names)]] if len(names) > 1 else None
        path = homes[name].parent / "controls.json"
        made = [each / "organism.json" for each in (homes[name], other) if each is not None]
        age = path.stat().st_mtime if path.is_file() else 0.0
        if any(each.stat().st_mtime > age for each in made):
            rows = controls(homes[name], other, n_tokens, 0)
            beside = path.with_suffix(".tmp")
            beside.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
            beside.replace(path)
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


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
        "mapped linearly to this one. What is confirmed there too is no more than that."
    )
    return Table("Controls", ("dictionary", *COLUMNS.values()), tuple(rows), about)


def _of(found: Mapping[str, Rows], kind: str, column: str) -> Sequence[tuple[str, Part]]:
    known = {base: rows[kind][column] for base, rows in found.items() if kind in rows}
    return [(base, Part("", *3 * (float(x),))) for base, x in known.items() if x == x]  # not NaN
