"""Encoding with sparsify: `encode`, which gives values and indices of the k largest."""

import torch
from sparsify import SparseCoder, SparseCoderConfig
from worker import Shape, Step, directions, serve


def make(shape: Shape) -> Step:
    """Its `SparseCoder.encode`; it has TopK alone."""
    config = SparseCoderConfig(num_latents=shape.d_sae, k=shape.k, activation=shape.kind)
    coder = SparseCoder(shape.d_in, config, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        coder.encoder.weight.copy_(directions(shape))

    @torch.no_grad()
    def step(x: torch.Tensor) -> float:
        # Counted on a few tokens, as a check: counting all would be timed too.
        return float((coder.encode(x).top_acts[:16] > 0).sum() / 16)

    return step


if __name__ == "__main__":
    serve(make)
