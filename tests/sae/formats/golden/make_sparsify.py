"""Writes golden/sparsify: what sparsify wrote, and what its own encode and decode gave.

    SPARSIFY_DISABLE_TRITON=1 .peers/sparsify/bin/python tests/sae/formats/golden/make_sparsify.py

Each case is a run's folder with one hookpoint in it, and beside the weights `recorded.safetensors`:
inputs `x`, latents `z` (made dense), reconstructions `x_hat`.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig

D, F, N = 7, 19, 11
OUT = Path(__file__).parent / "sparsify"


@torch.no_grad()
def case(name, seed, **changes):
    sae = SparseCoder(D, SparseCoderConfig(**changes))
    generator = torch.Generator().manual_seed(seed)
    for each in sae.parameters():
        each.copy_(0.7 * torch.randn(each.shape, generator=generator))
    folder = OUT / name / "layers.1"
    sae.save_to_disk(folder)
    x = 2 * torch.randn(N, D, generator=generator) + torch.linspace(-1, 2, D)
    found = SparseCoder.load_from_disk(folder)
    acts, indices, _ = found.encode(x)
    z = torch.zeros(N, found.num_latents).scatter(-1, indices, acts)
    x_hat = found.decode(acts, indices)
    save_file({"x": x, "z": z, "x_hat": x_hat}, folder / "recorded.safetensors")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    case("given_width", 1, num_latents=F, k=4, normalize_decoder=False)
    case("by_expansion", 2, expansion_factor=3, k=5, normalize_decoder=True)


if __name__ == "__main__":
    main()
