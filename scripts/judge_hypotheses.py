"""Says of the claims made about personas what traces show: supported, refuted or undecided.

    python -m scripts.judge_hypotheses --traces runs/demo/trace --out runs/demo/hypotheses

Prints a table and writes hypotheses.json. Several traces, of other base models and dictionaries,
are judged together; with fewer than three base models intervals cover documents and latents alone.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.folder import read_parts
from analysis.hypotheses import Judged, Read, judge_all, verdict_of
from analysis.summary import read
from sae.errors import ConfigError, InputError
from scripts._cli import run
from scripts._stage import fingerprint, require_own, stage

FILE = "hypotheses.json"


@dataclass(frozen=True)
class Config:
    """Which traces, and what their arms are called."""

    traces: tuple[Path, ...]
    """Folders that trace_personas wrote."""
    out: Path
    """Folder that gets hypotheses.json."""
    arm: str = "assistant"
    """The model tuned into a persona."""
    contrast: str = "piston"
    """The model tuned to nobody's words."""
    scratch: str = "scratch"
    """The model tuned as the arm, from random weights."""

    def __post_init__(self) -> None:
        if not self.traces:
            raise ConfigError("--traces", "no folder", "give at least one trace")


def main(config: Config) -> None:
    """Judges every claim, writes and prints."""
    require_own(config.out, "hypotheses", FILE)
    traces = [_read(folder, config) for folder in config.traces]
    judged = judge_all(traces)
    names = {str(number): folder for number, folder in enumerate(config.traces)}
    inputs = {f"trace {name}": fingerprint(folder) for name, folder in names.items()}

    def work() -> dict[str, int]:
        rows = [asdict(each) for each in judged]
        draft = config.out / f".{FILE}"
        draft.write_text(json.dumps({"claims": rows}, indent=2) + "\n", encoding="utf-8")
        draft.replace(config.out / FILE)
        return {"n_traces": len(traces)}

    stage(config.out, inputs, asdict(config), work)
    for each in judged:
        print("\n".join(_lines(each)))


def _read(folder: Path, config: Config) -> Read:
    fates = read_parts(folder)["fates"]
    if fates is None:
        do = "give a folder that trace_personas wrote"
        raise InputError(f"fates.parquet in {folder}", "no such file", do)
    return Read(read(folder), fates, config.arm, config.contrast, config.scratch)


def _lines(one: Judged) -> list[str]:
    lines = [f"{one.name:4}{one.verdict:13}{one.claim}"]
    if one.reason is not None:
        return [*lines, f"{'':17}{one.reason}"]
    for part in one.parts:
        null = ""
        if part.null_high is not None:
            start = "up" if part.null_low is None else f"{part.null_low:.3f}"
            null = f", null {start} to {part.null_high:.3f}"
        numbers = f"{part.value:.3f} [{part.low:.3f}, {part.high:.3f}]{null}"
        lines.append(f"{'':17}{part.about}: {numbers}: {verdict_of(part)}")
    return [*lines, f"{'':17}intervals over {one.over}"]


if __name__ == "__main__":
    sys.exit(run(main, Config))
