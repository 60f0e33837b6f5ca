"""How long encoding for traces takes, beside every peer and the floor, as ratios of one run.

    make peers
    python -m benchmarks.bench_encode

The same directions and activations for everyone, in everyone's own environment, one at a time and
in turn. A trace wants the latents that fire. This project and sparsify give just them; SAELens and
dictionary_learning give a dense matrix, and what it would take to read one is not counted.
BatchTopK is what it is after training: a threshold. The floor is the encoder's product alone. Each
row is appended to benchmarks/results.jsonl.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.results import RESULTS, append
from benchmarks.rounds import Contestant, activations, dtypes, ratio, show, start, take_turns

KINDS = ("topk", "batch_topk")
PEERS = {"sparsify": ("topk",), "dictionary_learning": KINDS, "saelens": KINDS}


def contestants(shape: dict, data: Path, threads: int) -> list[Contestant]:
    """Everyone whose environment is there."""
    ours = tuple(f"{kind}:{dtype}" for kind in KINDS for dtype in dtypes())
    rows = [(f"floor/{dtype}", "step_floor", dtype) for dtype in dtypes()]
    for peer, kinds in {"forelimb": ours, **PEERS}.items():
        rows += [(f"{peer}/{kind}", f"encode_{peer}", kind) for kind in kinds]
    started = [
        start(name, worker, {**shape, "kind": kind}, data, threads) for name, worker, kind in rows
    ]
    return [each for each in started if each is not None]


def compared() -> list[tuple[str, str]]:
    """Pairs of slow and fast: each peer's kind by ours, then ours by the floor."""
    pairs = []
    for peer, kinds in PEERS.items():
        for kind in kinds:
            pairs += [(f"{peer}/{kind}", f"forelimb/{kind}:{dtype}") for dtype in dtypes()]
    for kind in KINDS:
        pairs += [(f"forelimb/{kind}:{dtype}", f"floor/{dtype}") for dtype in dtypes()]
    return pairs


def main() -> None:
    """Runs everyone in turn, prints the tables, appends the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("d-in", 512), ("d-sae", 8192), ("k", 32), ("batch", 4096)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3, help="batches of everyone in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the row goes")
    asked = parser.parse_args()
    shape = {name: getattr(asked, name) for name in ("d_in", "d_sae", "k", "batch")}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "x.npy"
        np.save(data, activations(shape, 4, seed=0))
        everyone = contestants(shape, data, asked.threads)
        take_turns(everyone, asked.rounds, asked.steps)
    rounds = {each.name: each.rounds for each in everyone}
    found = show(everyone, [(f"{a} / {b}", ratio(rounds, a, b), "") for a, b in compared()])
    fires = {e.name: round(e.value, 1) for e in everyone if not e.name.startswith("floor")}
    print(
        "\nfires a token (peers: of 16 tokens): ", ", ".join(f"{n} {v}" for n, v in fires.items())
    )
    append(asked.results, "bench_encode", asked.threads, {"shape": shape, **found, "fires": fires})


if __name__ == "__main__":
    main()
