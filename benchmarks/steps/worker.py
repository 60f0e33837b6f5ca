"""Takes training steps on demand: what every contestant of `bench_step` shares.

Runs in each contestant's own environment, so it needs torch and numpy alone. Speaks JSON lines:
asked for {"steps": n} it answers {"seconds": [...], "loss": x}, at the end of input its memory.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["DEAD_BIAS", "Shape", "Step", "serve"]

DEAD_BIAS = -1e3
"""Encoder bias of the latents that are to be dead."""


@dataclass(frozen=True)
class Shape:
    """What is fitted."""

    d_in: int
    d_sae: int
    k: int
    batch: int
    n_dead: int
    kind: str
    prefixes: tuple[int, ...] = ()


Step = Callable[[torch.Tensor], float]
"""Takes one whole step on a batch and returns its loss."""


def serve(make: Callable[[Shape], Step]) -> None:
    """Answers requests on standard input until it ends.

    Args:
        make: The step for a shape.
    """
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    shape = Shape(**{**asked["shape"], "prefixes": tuple(asked["shape"]["prefixes"])})
    x = torch.from_numpy(np.load(asked["data"]))
    batches = x.split(shape.batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step, n = make(shape), 0
    for line in sys.stdin:
        seconds, loss = [], float("nan")
        for _ in range(json.loads(line)["steps"]):
            begun = time.perf_counter()
            loss = step(batches[n % len(batches)])
            seconds.append(time.perf_counter() - begun)
            n += 1
        print(json.dumps({"seconds": seconds, "loss": loss}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_mib": (peak - before) / 1024}), flush=True)
