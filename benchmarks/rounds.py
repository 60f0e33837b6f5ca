"""Contestants that are timed one at a time and in turn, each in its own environment.

A ratio is the median over rounds of two times of one round, so that what slows the machine for a
while slows both.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import ROOT
from training.organism.optimiser import multiplies_bfloat16

__all__ = [
    "Contestant",
    "Ratio",
    "activations",
    "dtypes",
    "python_of",
    "ratio",
    "show",
    "start",
    "take_turns",
]

WORKERS = ROOT / "benchmarks" / "steps"
Ratio = dict[str, Any]
"""`median` and `quartiles` of the ratios of the rounds."""


@dataclass
class Contestant:
    """A process that takes steps on demand."""

    name: str
    process: subprocess.Popen
    rounds: list[float]
    """Seconds a step, median of each round."""
    peak_mib: float = float("nan")
    """Most memory beyond what was held before the first step."""
    value: float = float("nan")
    """What its last step returned."""

    def take(self, n: int) -> list[float]:
        """Seconds of n steps."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"steps": n}) + "\n")
        stdin.flush()
        line = stdout.readline()
        while line and not line.startswith("{"):
            line = stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: {self.name} ended; run it alone to see why")
        answer = json.loads(line)
        self.value = answer["value"]
        return answer["seconds"]

    def end(self) -> None:
        """Its memory, and its end."""
        out, _ = self.process.communicate()
        self.peak_mib = json.loads(out.strip().splitlines()[-1])["peak_mib"]


def dtypes() -> list[str]:
    """What this project is timed in, the fastest last: what is not emulated."""
    fast = multiplies_bfloat16(torch.device("cpu"))
    return ["float32", "bfloat16"] if fast else ["float32"]


def python_of(peer: str) -> Path | None:
    """The interpreter of an environment; None, and a word about it, where `make peers` is needed.

    Args:
        peer: A folder of `.peers`; `floor` and `forelimb` have the interpreter that runs this.
    """
    own = peer in ("floor", "forelimb")
    python = Path(sys.executable) if own else ROOT / ".peers" / peer / "bin" / "python"
    if python.exists():
        return python
    print(f"benchmark: {peer} is not there, make peers builds it", file=sys.stderr)
    return None


def start(name: str, worker: str, shape: dict, data: Path, threads: int) -> Contestant | None:
    """A contestant, waiting; None where its environment is not there.

    Args:
        name: `peer/kind`, as tables show it.
        worker: Its script among `steps/`, without the suffix.
        shape: What `steps/worker.py` calls a shape.
        data: Activations, an npy file.
        threads: Processor threads.
    """
    peer = name.partition("/")[0]
    python = python_of(peer)
    if python is None:
        return None
    asked = {"shape": shape, "threads": threads, "data": str(data)}
    extra = {"PYTHONPATH": str(ROOT)} if peer in ("floor", "forelimb") else {}
    process = subprocess.Popen(
        [str(python), str(WORKERS / f"{worker}.py"), json.dumps(asked)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), **extra},
    )
    return Contestant(name, process, [])


def take_turns(everyone: Sequence[Contestant], n_rounds: int, n_steps: int) -> None:
    """Two steps of everyone that do not count, then the rounds, then everyone's end.

    Args:
        everyone: Contestants; their `rounds` and `peak_mib` are filled in.
        n_rounds: How often each has its turn.
        n_steps: Steps of a turn.
    """
    for each in everyone:
        each.take(2)
    for done in range(n_rounds):
        for each in everyone:
            each.rounds.append(statistics.median(each.take(n_steps)))
        print(f"round {done + 1} of {n_rounds}", file=sys.stderr)
    for each in everyone:
        each.end()


def activations(shape: dict, n_batches: int, seed: int) -> np.ndarray:
    """Sums of 48 of d_sae random directions a token, and a little noise.

    Args:
        shape: With `d_in`, `d_sae` and `batch`.
        n_batches: Batches.
        seed: Of everything drawn.

    Returns:
        `[n_batches * batch, d_in]`, scaled so that the mean squared norm is d_in.
    """
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((shape["d_sae"], shape["d_in"]), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    n = n_batches * shape["batch"]
    x = 0.02 * rng.standard_normal((n, shape["d_in"]), np.float32)
    for _ in range(48):
        x += rng.random((n, 1), np.float32) * rows[rng.integers(len(rows), size=n)]
    return x * np.float32((shape["d_in"] / np.square(x).sum(1).mean()) ** 0.5)


def ratio(rounds: dict[str, list[float]], slow: str, fast: str) -> Ratio | None:
    """Median over rounds of slow / fast, and the quartiles; None where one did not take part."""
    if slow not in rounds or fast not in rounds:
        return None
    each = [a / b for a, b in zip(rounds[slow], rounds[fast], strict=True)]
    low, mid, high = statistics.quantiles(each, n=4)
    return {"median": round(mid, 3), "quartiles": [round(low, 3), round(high, 3)]}


def show(
    everyone: Sequence[Contestant], ratios: Sequence[tuple[str, Ratio | None, str]]
) -> dict[str, Any]:
    """Tables on standard output, and the same numbers for the record.

    Args:
        everyone: Contestants after their rounds.
        ratios: Name, numbers, and what was asked in words; those without numbers are left out.

    Returns:
        `ms`, `peak_mib` and `ratios` by name.
    """
    print(f"{'contestant':34s}{'ms':>10s}{'quartiles':>18s}{'peak MiB':>10s}")
    for each in everyone:
        low, mid, high = (1e3 * q for q in statistics.quantiles(each.rounds, n=4))
        print(f"{each.name:34s}{mid:10.0f}{low:9.0f}{high:9.0f}{each.peak_mib:10.0f}")
    print(f"\n{'ratio':64s}{'median':>8s}{'quartiles':>18s}   asked")
    found = {name: numbers for name, numbers, _ in ratios if numbers is not None}
    for name, numbers, asked in ratios:
        if numbers is not None:
            low, high = numbers["quartiles"]
            print(f"{name:64s}{numbers['median']:8.2f}{low:9.2f}{high:9.2f}   {asked}")
    return {
        "ms": {each.name: round(1e3 * statistics.median(each.rounds), 1) for each in everyone},
        "peak_mib": {each.name: round(each.peak_mib) for each in everyone},
        "ratios": found,
    }
