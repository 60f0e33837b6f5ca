"""Writes the page of a trace folder anew, and prints its verdict.

    python -m scripts.build_report --trace runs/demo/trace

The page is a pure function of the folder's files, and one file that asks nothing of the network.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from scripts._cli import run
from scripts._report import write_and_tell


@dataclass(frozen=True)
class Config:
    """Which trace."""

    trace: Path
    """Folder that trace_personas wrote."""


def main(config: Config) -> None:
    """Writes the report and prints the verdict."""
    write_and_tell(config.trace)


if __name__ == "__main__":
    sys.exit(run(main, Config))
