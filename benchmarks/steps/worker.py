"""Takes steps on demand: what every contestant of `bench_step` and `bench_encode` shares.

Runs in each contestant's own environment, so it needs torch and numpy alone. Speaks JSON lines:
asked for {"steps": n} it answers {"seconds": [...], "value": x}, at the end of input its memory.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

__all__ = ["DEAD_BIAS", "Shape", "Step", "directions", "serve", "threshold_for"]

DEAD_BIAS = -1e3
"""Encoder bias of the latents that are to be dead."""


@dataclass(frozen=True)
class Shape:
    """What is fitted, or encodes."""

    d_in: int
    d_sae: int
    k: int
    batch: int
    kind: str
    n_dead: int = 0
    prefixes: tuple[int, ...] = ()


Step = Callable[[torch.Tensor], float]
"""Takes one whole step on a batch; returns its loss, or where it encodes the fires a token."""


def directions(shape: Shape) -> torch.Tensor:
    """Random unit rows `[d_sae, d_in]`, the same in every environment.

    They are those that the activations of seed 0 are sums of, so that latents fire as in a fit.
    """
    rows = np.random.default_rng(0).standard_normal((shape.d_sae, shape.d_in), np.float32)
    return torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)


def threshold_for(x: torch.Tensor, rows: torch.Tensor, k: int) -> float:
    """What `rows @ x` exceeds in k latents a token on average, told from 256 tokens at most."""
    few = x[:256]
    return float((few @ rows.T).flatten().topk(k * len(few)).values[-1])


def serve(make: Callable[[Shape], Step]) -> None:
    """Answers requests on standard input until it ends.

    Args:
        make: The step for a shape.
    """
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    shape = Shape(**{**asked["shape"], "prefixes": tuple(asked["shape"].get("prefixes", ()))})
    x = torch.from_numpy(np.load(asked["data"]))
    batches = x.split(shape.batch)
    before = _peak_kib()
    step, n = make(shape), 0
    for line in sys.stdin:
        seconds, value = [], float("nan")
        for _ in range(json.loads(line)["steps"]):
            begun = time.perf_counter()
            value = step(batches[n % len(batches)])
            seconds.append(time.perf_counter() - begun)
            n += 1
        print(json.dumps({"seconds": seconds, "value": value}), flush=True)
    print(json.dumps({"peak_mib": (_peak_kib() - before) / 1024}), flush=True)


def _peak_kib() -> int:
    """Most memory held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage tells of the process that started this one, if that held more
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
