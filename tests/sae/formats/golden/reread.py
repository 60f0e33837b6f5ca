"""Has another library read folders that Forelimb wrote, and records what it makes of them.

    .peers/NAME/bin/python tests/sae/formats/golden/reread.py NAME FOLDER [FOLDER …]

Each folder holds `x.safetensors` with inputs `x`; beside it is put `theirs.safetensors` with the
library's latents `z` and reconstructions `x_hat`.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def saelens(folder, x):
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder)
    z = sae.encode(x)
    return z, sae.decode(z)


def dictionary_learning(folder, x):
    from dictionary_learning.utils import load_dictionary

    ae, _ = load_dictionary(str(folder), "cpu")
    z = ae.encode(x)
    return z, ae.decode(z)


def sparsify(folder, x):
    from sparsify import SparseCoder

    sae = SparseCoder.load_from_disk(folder)
    acts, indices, _ = sae.encode(x)
    z = torch.zeros(len(x), sae.num_latents).scatter(-1, indices, acts)
    return z, sae.decode(acts, indices)


READERS = {each.__name__: each for each in (saelens, dictionary_learning, sparsify)}

if __name__ == "__main__":
    with torch.no_grad():
        for folder in map(Path, sys.argv[2:]):
            z, x_hat = READERS[sys.argv[1]](folder, load_file(folder / "x.safetensors")["x"])
            save_file({"z": z, "x_hat": x_hat}, folder / "theirs.safetensors")
