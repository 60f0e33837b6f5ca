"""A training step of sparsify, as its trainer takes it."""

import torch
from sparsify import SparseCoder, SparseCoderConfig
from worker import DEAD_BIAS, Shape, Step, serve


def make(shape: Shape) -> Step:
    """Forward, backward, the decoder's constraint, Adam."""
    config = SparseCoderConfig(num_latents=shape.d_sae, k=shape.k, activation=shape.kind)
    coder = SparseCoder(shape.d_in, config, device="cpu", dtype=torch.float32)
    dead = torch.arange(shape.d_sae) < shape.n_dead
    with torch.no_grad():
        coder.encoder.bias[dead] = DEAD_BIAS
    optimiser = torch.optim.Adam(coder.parameters(), lr=2e-4)
    since = torch.zeros(shape.d_sae, dtype=torch.long)

    def step(x: torch.Tensor) -> float:
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=dead if shape.n_dead else None)
        loss = out.fvu + out.auxk_loss / 32
        loss.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        fired = torch.zeros(shape.d_sae, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        since.add_(len(x))
        since[fired] = 0
        return float(loss)

    return step


serve(make)
