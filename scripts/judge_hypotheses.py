"""Says of the claims made about personas what traces show: supported, refuted or undecided.

    python -m scripts.judge_hypotheses --traces runs/demo/trace --out runs/demo/hypotheses

Prints a table and writes hypotheses.json. Several traces, of other base models and dictionaries,
are judged together; with fewer than three base models intervals cover documents and latents alone.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.hypotheses.judge import judge_all
from sae.whole import write_json
from scripts._cli import run
from scripts._judging import lines_of, read_trace
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


def main(config: Config) -> None:
    """Judges every claim, writes and prints."""
    require_own(config.out, "hypotheses", FILE)
    names = (config.arm, config.contrast)
    traces = [read_trace(folder, *names) for folder in config.traces]
    judged = judge_all(traces)
    inputs = {f"trace {n}": fingerprint(folder) for n, folder in enumerate(config.traces)}

    def work() -> dict[str, int]:
        rows = [asdict(each) for each in judged]
        write_json(config.out / FILE, {"claims": rows})
        return {"n_traces": len(traces)}

    stage(config.out, inputs, asdict(config), work)
    for each in judged:
        print("\n".join(lines_of(each)))


if __name__ == "__main__":
    sys.exit(run(main, Config))
