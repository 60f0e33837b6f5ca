"""The study: several base models, every arm, several dictionaries each; a verdict over base models.

    make study                     three bases, three dictionaries each: 2 to 4 hours on two cores
    python -m benchmarks.bench_study --bases 3 --dictionaries 1 --out runs/study

Every part is a stage of its own in `--out` and is skipped where it is up to date, so that a run
that was ended goes on. Once every base has a dictionary more it prints the tables and writes them
to `study.json`, `study.md` and `study.png`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.study.cells import Traced
from benchmarks.study.controls import Rows, controlled
from benchmarks.study.picture import save, spans
from benchmarks.study.tables import markdown, tables
from sae.whole import write_json, write_text
from scripts._chain import traced
from scripts._judging import read_trace
from scripts._sizes import FULL, QUICK
from training.organism.arms import ARMS

OUT = Path("runs/study")
FIRST_SEED = 3
"""Claims and tables were defined with the base models of seeds 0 to 2 in view, and how long
`reverted` is tuned with that of seed 3."""
EVERY_ARM = tuple(arm.name for arm in ARMS)
WITHOUT_EXPERIMENTS = tuple(arm.name for arm in ARMS if arm.use != "experiment")
"""Experiments read residual vectors; of a dictionary they take the span, so one is enough."""


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="bench_study", description=__doc__)
    parser.add_argument("--bases", type=int, default=3, help="base models, each grown anew")
    parser.add_argument("--dictionaries", type=int, default=3, help="dictionaries of each base")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the base models")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--quick", action="store_true", help="too little for a verdict")
    return parser.parse_args()


def main() -> None:
    """Traces every base and dictionary, and says what they show together."""
    flags, found = parsed(), list[Traced]()
    size = QUICK if flags.quick else FULL
    seeds = range(flags.first_seed, flags.first_seed + flags.bases)
    homes = {str(seed): flags.out / f"base-{seed}" for seed in seeds}
    for dictionary in range(flags.dictionaries):
        for seed in seeds:
            home = homes[str(seed)]
            own = home / f"dictionary-{dictionary}"
            grown = replace(size.grow(seed), arms=EVERY_ARM)
            arms = WITHOUT_EXPERIMENTS if dictionary else ()
            folder = traced(home / "organism", own, grown, size, dictionary, arms)
            read = read_trace(folder, "assistant", "piston")
            found.append(Traced(str(seed), str(dictionary), read, made_by(folder)))
        organisms = {name: home / "organism" for name, home in homes.items()}
        print(written(found, controlled(organisms, size.fit_tokens), flags.out))


def made_by(folder: Path) -> str:
    """Commit of the code that made a trace, and whether files had been changed."""
    git = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["git"]
    return f"{git['commit']}{'-dirty' if git['dirty'] else ''}"


def written(found: Sequence[Traced], controls: Mapping[str, Rows], out: Path) -> str:
    """Writes what the traces so far show together, and gives the page."""
    shown = tables(found, controls)
    each = [{"base": t.base, "dictionary": t.dictionary, "commit": t.commit} for t in found]
    record = {"traces": each, **{name: asdict(table) for name, table in shown.items()}}
    write_json(out / "study.json", record)
    page = markdown(shown, found)
    write_text(out / "study.md", page)
    save(spans(found), out / "study.png")
    return page


if __name__ == "__main__":
    main()
