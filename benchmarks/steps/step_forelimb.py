"""A training step of this project."""

from collections.abc import Iterator

import torch
from worker import DEAD_BIAS, Shape, Step, serve

from sae.dictionary import BatchTopKConfig, Sae, SaeConfig, TopKConfig, initialise_
from training.config import TrainConfig
from training.loop import fit


def make(shape: Shape) -> Step:
    """The step that `training.loop.fit` takes, numbers of the record among it."""
    kind, *dtype = shape.kind.split(":")
    sparsity = {"topk": TopKConfig, "batch_topk": BatchTopKConfig}[kind](shape.k)
    sae = Sae(SaeConfig(shape.d_in, shape.d_sae, sparsity, shape.prefixes))
    box = []

    def batches() -> Iterator[torch.Tensor]:
        while True:
            yield box.pop()

    run = None

    def step(x: torch.Tensor) -> float:
        nonlocal run
        box.append(x)
        if run is None:
            initialise_(sae, x, seed=0)
            with torch.no_grad():
                sae.b_enc[: shape.n_dead] = DEAD_BIAS
            config = TrainConfig(
                n_tokens=10_000 * shape.batch,
                batch_tokens=shape.batch,
                dead_after_tokens=shape.batch,
                encoder_dtype=dtype[0] if dtype else "float32",
            )
            run = fit(sae, batches(), config)
        return float(next(run).loss.total)

    return step


serve(make)
