"""The record of all benchmarks, one row of JSON a run, each with its commit and machine."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "append"]

ROOT = Path(__file__).resolve().parents[1]
"""Of the checkout."""
RESULTS = ROOT / "benchmarks" / "results.jsonl"
"""Where rows go unless a benchmark is told otherwise."""


def append(path: Path, benchmark: str, threads: int, facts: Mapping[str, Any]) -> None:
    """Adds a row; those before it stay as they are.

    Args:
        path: The record.
        benchmark: Name of the script.
        threads: Processor threads that it had.
        facts: What it found, ready for JSON.
    """
    row = {
        "benchmark": benchmark,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "threads": threads, "python": platform.python_version()},
        **facts,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _commit() -> str:
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
