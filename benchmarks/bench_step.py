"""How long one training step takes, beside every peer and the floor, as ratios of one run.

    make peers
    python benchmarks/bench_step.py

Contestants run in their own environments (`.peers/NAME`) on the same activations and shapes, one at
a time and in turn; a ratio is the median over rounds of two times of one round. The floor is the
encoder's product alone. Each row is appended to benchmarks/results.jsonl.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STEPS = ROOT / "benchmarks" / "steps"
RESULTS = ROOT / "benchmarks" / "results.jsonl"
TARGETS = (  # ours, theirs, at least this many times faster
    ("forelimb/topk", "sparsify/topk", 3.0),
    ("forelimb/batch_topk", "sparsify/topk", 3.0),
    ("forelimb/topk", "dictionary_learning/topk", 8.0),
    ("forelimb/batch_topk", "dictionary_learning/batch_topk", 8.0),
    ("forelimb/topk", "saelens/topk", 10.0),
    ("forelimb/batch_topk", "saelens/batch_topk", 10.0),
)
LIMITS = (  # ours, what it is held against, at most this many times slower
    ("forelimb/topk", "floor/bfloat16", 1.8),
    ("forelimb/batch_topk", "floor/bfloat16", 1.8),
    ("forelimb/topk:float32", "floor/float32", 1.8),
    ("forelimb/batch_topk:float32", "floor/float32", 1.8),
    ("forelimb/default", "forelimb/batch_topk", 1.4),
)


@dataclass
class Contestant:
    """A process that takes steps on demand."""

    name: str
    process: subprocess.Popen
    rounds: list
    peak_mib: float = float("nan")

    def take(self, n: int) -> list[float]:
        """Seconds of n steps."""
        self.process.stdin.write(json.dumps({"steps": n}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):
            line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench_step: {self.name} ended; run it alone to see why")
        return json.loads(line)["seconds"]

    def end(self) -> None:
        """Its memory, and its end."""
        out, _ = self.process.communicate()
        self.peak_mib = json.loads(out.strip().splitlines()[-1])["peak_mib"]


def contestants(shape: dict, data: Path, threads: int) -> list[Contestant]:
    """Everyone whose environment is there."""
    prefixes = [shape["d_sae"] // 16, shape["d_sae"] // 4]
    rows = [("floor", "bfloat16", []), ("floor", "float32", [])]
    for dtype in ("bfloat16", "float32"):
        suffix = "" if dtype == "bfloat16" else ":float32"
        rows += [("forelimb", f"{kind}:{dtype}", []) for kind in ("topk", "batch_topk")]
        rows += [("forelimb", f"batch_topk:{dtype}", prefixes)] if not suffix else []
    rows += [("sparsify", "topk", [])]
    for name in ("dictionary_learning", "saelens"):
        rows += [(name, "topk", []), (name, "batch_topk", []), (name, "batch_topk", prefixes)]
    return [each for row in rows if (each := _start(*row, shape, data, threads)) is not None]


def _start(
    peer: str, kind: str, prefixes: list, shape: dict, data: Path, threads: int
) -> Contestant | None:
    own = peer in ("floor", "forelimb")
    python = Path(sys.executable) if own else ROOT / ".peers" / peer / "bin" / "python"
    if not python.exists():
        print(f"bench_step: {peer} is not there, make peers builds it", file=sys.stderr)
        return None
    asked = {"shape": {**shape, "kind": kind, "prefixes": prefixes}, "threads": threads}
    command = [str(python), str(STEPS / f"step_{peer}.py"), json.dumps(asked | {"data": str(data)})]
    extra = {"PYTHONPATH": str(ROOT)} if own else {}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), **extra},
    )
    short = kind.removesuffix(":bfloat16")
    return Contestant(f"{peer}/{'default' if prefixes else short}", process, [])


def activations(shape: dict, n_batches: int, seed: int) -> np.ndarray:
    """Sums of 48 of d_sae random directions a token, and a little noise."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((shape["d_sae"], shape["d_in"]), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    n = n_batches * shape["batch"]
    x = 0.02 * rng.standard_normal((n, shape["d_in"]), np.float32)
    for _ in range(48):
        x += rng.random((n, 1), np.float32) * rows[rng.integers(len(rows), size=n)]
    return x * np.float32((shape["d_in"] / np.square(x).sum(1).mean()) ** 0.5)


def ratio(rounds: dict[str, list[float]], slow: str, fast: str) -> dict | None:
    """Median over rounds of slow / fast, and the quartiles."""
    if slow not in rounds or fast not in rounds:
        return None
    each = [a / b for a, b in zip(rounds[slow], rounds[fast], strict=True)]
    low, mid, high = statistics.quantiles(each, n=4)
    return {"median": round(mid, 3), "quartiles": [round(low, 3), round(high, 3)]}


def main() -> None:
    """Runs everyone in turn, prints the tables, appends the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("d-in", 512), ("d-sae", 8192), ("k", 32), ("batch", 4096)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--n-dead", type=int, default=512, help="latents that are dead")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="steps of everyone in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    shape = {name: getattr(asked, name) for name in ("d_in", "d_sae", "k", "batch", "n_dead")}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        np.save(data, activations(shape, 4, asked.seed))
        everyone = contestants(shape, data, asked.threads)
        for each in everyone:
            each.take(2)
        for done in range(asked.rounds):
            for each in everyone:
                each.rounds.append(statistics.median(each.take(asked.steps)))
            print(f"round {done + 1} of {asked.rounds}", file=sys.stderr)
        for each in everyone:
            each.end()
    report(everyone, shape, asked)


def report(everyone: list[Contestant], shape: dict, asked: argparse.Namespace) -> None:
    """Tables on standard output, and a row in the results."""
    rounds = {each.name: each.rounds for each in everyone}
    print(f"{'contestant':34s}{'ms a step':>10s}{'quartiles':>18s}{'peak MiB':>10s}")
    for each in everyone:
        low, mid, high = (1e3 * q for q in statistics.quantiles(each.rounds, n=4))
        print(f"{each.name:34s}{mid:10.0f}{low:9.0f}{high:9.0f}{each.peak_mib:10.0f}")
    rows = []
    for ours, theirs, least in TARGETS:
        rows.append((f"{theirs} / {ours}", ratio(rounds, theirs, ours), ">=", least))
        # The peers multiply in float32, so the same with ours in float32 stands beside it.
        same = f"{ours}:float32"
        rows.append((f"{theirs} / {same}", ratio(rounds, theirs, same), "", ""))
    for ours, against, most in LIMITS:
        rows.append((f"{ours} / {against}", ratio(rounds, ours, against), "<=", most))
    print(f"\n{'ratio':60s}{'median':>8s}{'quartiles':>18s}   asked")
    for name, found, sign, bound in rows:
        if found is not None:
            low, high = found["quartiles"]
            print(f"{name:60s}{found['median']:8.2f}{low:9.2f}{high:9.2f}   {sign} {bound}")
    row = {
        "benchmark": "bench_step",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "threads": asked.threads, "python": platform.python_version()},
        "shape": shape,
        "ms": {e.name: round(1e3 * statistics.median(e.rounds), 1) for e in everyone},
        "peak_mib": {e.name: round(e.peak_mib) for e in everyone},
        "ratios": {name: found for name, found, _, _ in rows if found is not None},
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _commit() -> str:
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


if __name__ == "__main__":
    main()
