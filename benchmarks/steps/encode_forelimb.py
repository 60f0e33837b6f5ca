"""Encoding as this project's traces ask for it: the latents that fire, and no dense matrix."""

import torch
from worker import Shape, Step, directions, serve, threshold_for

from sae.dictionary import BatchTopKConfig, Sae, SaeConfig, TopKConfig


def make(shape: Shape) -> Step:
    """`Sae.encode_sparse` of a finished dictionary."""
    kind, *dtype = shape.kind.split(":")
    sparsity = {"topk": TopKConfig, "batch_topk": BatchTopKConfig}[kind](shape.k)
    sae = Sae(SaeConfig(shape.d_in, shape.d_sae, sparsity)).eval()
    rows = directions(shape)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
    product = getattr(torch, dtype[0]) if dtype else None
    is_ready = kind == "topk"

    @torch.no_grad()
    def step(x: torch.Tensor) -> float:
        nonlocal is_ready
        if not is_ready:
            sae.sparsity.threshold.fill_(threshold_for(x, rows, shape.k))
            is_ready = True
        return len(sae.encode_sparse(x, product).index) / len(x)

    return step


if __name__ == "__main__":
    serve(make)
