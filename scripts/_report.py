"""The last step of every trace: the page, and what it concludes, on the terminal."""

import json
from pathlib import Path

from analysis import report
from analysis.artefact.summary import read
from analysis.report import controls, words
from analysis.report.marks import visible
from scripts._stage import PROVENANCE

__all__ = ["seconds_of", "write_and_tell"]

LONGEST = 10_000


def write_and_tell(trace: Path) -> None:
    """Writes `report.html` into a trace folder and prints its verdict on stdout.

    Raises:
        InputError: The folder holds no readable trace.
    """
    page = report.write(trace)
    summary = read(trace)
    said = [words.conclusion(summary), *(f"- {each.text}" for each in words.evidence(summary))]
    for line in (*said, words.scope(summary), *controls.sentences(summary), str(page)):
        print(visible(line, LONGEST))  # names and contexts are somebody's text


def seconds_of(organism: Path | None, dictionary: Path, continued: Path) -> dict[str, float]:
    """Wall time of the stages before a trace, as their provenance tells it; others are left out."""
    parts = {"organism": organism, "dictionary": dictionary}
    parts |= {f"continued {each.name}": each for each in sorted(continued.iterdir())}
    found = {}
    for name, folder in parts.items():
        try:
            record = json.loads(((folder or Path()) / PROVENANCE).read_text())
            found[name] = float(record["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
