"""How long one training step takes, beside every peer and the floor, as ratios of one run.

    make peers
    python -m benchmarks.bench_step

Contestants run in their own environments (`.peers/NAME`) on the same activations and shapes, one at
a time and in turn; a ratio is the median over rounds of two times of one round. The floor is the
encoder's product alone. The peers multiply in float32. This project does too, and in bfloat16 where
the processor multiplies that; elsewhere it would be emulated, and is left out. What is asked is
asked of the type in which the product alone took less. Each row is appended to
benchmarks/results.jsonl.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.results import RESULTS, append
from benchmarks.rounds import Contestant, activations, dtypes, ratio, show, start, take_turns

TARGETS = (  # ours, theirs, at least this many times faster
    ("forelimb/topk", "sparsify/topk", 3.0),
    ("forelimb/batch_topk", "sparsify/topk", 3.0),
    ("forelimb/topk", "dictionary_learning/topk", 8.0),
    ("forelimb/batch_topk", "dictionary_learning/batch_topk", 8.0),
    ("forelimb/topk", "saelens/topk", 10.0),
    ("forelimb/batch_topk", "saelens/batch_topk", 10.0),
)
DEFAULT_OVER_PLAIN = 1.4
PRODUCTS = 1.8  # a step, in encoder products of the same precision


def contestants(shape: dict, data: Path, threads: int) -> list[Contestant]:
    """Everyone whose environment is there."""
    prefixes = [shape["d_sae"] // 16, shape["d_sae"] // 4]
    rows = []
    for dtype in dtypes():
        rows += [("floor", dtype, [])]
        rows += [("forelimb", f"{kind}:{dtype}", []) for kind in ("topk", "batch_topk")]
        rows += [("forelimb", f"batch_topk:{dtype}", prefixes)]
    rows += [("sparsify", "topk", [])]
    for name in ("dictionary_learning", "saelens"):
        rows += [(name, "topk", []), (name, "batch_topk", []), (name, "batch_topk", prefixes)]
    started = []
    for peer, kind, nested in rows:
        name = f"{peer}/{kind.replace('batch_topk', 'default') if nested else kind}"
        asked = {**shape, "kind": kind, "prefixes": nested}
        started.append(start(name, f"step_{peer}", asked, data, threads))
    return [each for each in started if each is not None]


def main() -> None:
    """Runs everyone in turn, prints the tables, appends the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("d-in", 512), ("d-sae", 8192), ("k", 32), ("batch", 4096)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--n-dead", type=int, default=512, help="latents that are dead")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="steps of everyone in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    asked = parser.parse_args()
    shape = {name: getattr(asked, name) for name in ("d_in", "d_sae", "k", "batch", "n_dead")}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        np.save(data, activations(shape, 4, asked.seed))
        everyone = contestants(shape, data, asked.threads)
        take_turns(everyone, asked.rounds, asked.steps)
    report(everyone, shape, asked)


def report(everyone: list[Contestant], shape: dict, asked: argparse.Namespace) -> None:
    """Tables on standard output, and a row in the results."""
    rounds = {each.name: each.rounds for each in everyone}
    rows = []
    fastest = min(dtypes(), key=lambda dtype: statistics.median(rounds[f"floor/{dtype}"]))
    for ours, theirs, least in TARGETS:
        for dtype in dtypes():
            wanted = f">= {least}" if dtype == fastest else ""
            name = f"{ours}:{dtype}"
            rows.append((f"{theirs} / {name}", ratio(rounds, theirs, name), wanted))
    for dtype in dtypes():
        for kind in ("topk", "batch_topk"):
            pair = f"forelimb/{kind}:{dtype}", f"floor/{dtype}"
            rows.append((" / ".join(pair), ratio(rounds, *pair), f"<= {PRODUCTS}"))
        pair = f"forelimb/default:{dtype}", f"forelimb/batch_topk:{dtype}"
        rows.append((" / ".join(pair), ratio(rounds, *pair), f"<= {DEFAULT_OVER_PLAIN}"))
    append(asked.results, "bench_step", asked.threads, {"shape": shape, **show(everyone, rows)})


if __name__ == "__main__":
    main()
