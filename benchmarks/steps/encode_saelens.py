"""Encoding with SAELens: `encode` of its inference classes, which gives a dense matrix."""

import torch
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from worker import Shape, Step, directions, serve, threshold_for


def make(shape: Shape) -> Step:
    """The class a training run of the kind is saved as: BatchTopK as JumpReLU with a threshold."""
    common = {"d_in": shape.d_in, "d_sae": shape.d_sae}
    is_ready = shape.kind == "topk"
    if is_ready:
        sae = TopKSAE(TopKSAEConfig(**common, k=shape.k))
    else:
        sae = JumpReLUSAE(JumpReLUSAEConfig(**common))
    rows = directions(shape)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)

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
