"""Encoding with dictionary_learning: `encode` of its dictionaries, which gives a dense matrix."""

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from worker import Shape, Step, directions, serve, threshold_for


def make(shape: Shape) -> Step:
    """The kind's `encode` with its defaults, which for BatchTopK is the threshold."""
    classes = {"topk": AutoEncoderTopK, "batch_topk": BatchTopKSAE}
    sae = classes[shape.kind](shape.d_in, shape.d_sae, shape.k)
    rows = directions(shape)
    with torch.no_grad():
        sae.decoder.weight.copy_(rows.T)
        sae.encoder.weight.copy_(rows)
    is_ready = shape.kind == "topk"

    @torch.no_grad()
    def step(x: torch.Tensor) -> float:
        nonlocal is_ready
        if not is_ready:
            sae.threshold.fill_(threshold_for(x, rows, shape.k))
            is_ready = True
        # Counted on a few tokens, as a check: counting all would be timed too.
        return float((sae.encode(x)[:16] > 0).sum() / 16)

    return step


if __name__ == "__main__":
    serve(make)
