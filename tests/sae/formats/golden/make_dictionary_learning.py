"""Writes golden/dictionary_learning: what that library wrote, and its own encode and decode.

    .peers/dictionary_learning/bin/python tests/sae/formats/golden/make_dictionary_learning.py

Each case is `ae.pt` and `config.json` in the layout of `trainSAE`, with `recorded.safetensors`
beside: inputs `x`, latents `z`, reconstructions `x_hat`, of the dictionary that was saved.
Biases and thresholds were scaled by 3.7 with the library's own `scale_biases`, as after a run on
normalised activations.
"""

import json
import shutil
from pathlib import Path

import torch
from dictionary_learning.dictionary import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from safetensors.torch import save_file

D, F, N = 7, 19, 11
SCALE = 3.7
OUT = Path(__file__).parent / "dictionary_learning"


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(N, D, generator=generator) + torch.linspace(-1, 2, D)


@torch.no_grad()
def randomised(ae, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, each in ae.named_parameters():
        noise = torch.randn(each.shape, generator=generator)
        each.copy_(noise.abs() + 0.3 if name == "threshold" else noise * 0.7)
    return ae


@torch.no_grad()
def case(ae, seed, is_scaled=True, **trainer):
    name = type(ae).__name__
    folder = OUT / name
    folder.mkdir(parents=True)
    randomised(ae, seed)
    if is_scaled:
        ae.scale_biases(SCALE)
    torch.save(ae.state_dict(), folder / "ae.pt")
    config = {"dict_class": name, "activation_dim": D, "dict_size": F, "lm_name": "tiny"}
    config |= {"layer": 1, "submodule_name": "resid_post_layer_1", "seed": seed, **trainer}
    (folder / "config.json").write_text(
        json.dumps({"trainer": config, "buffer": {"d_submodule": D}})
    )
    x = inputs(seed)
    z = ae.encode(x)
    save_file({"x": x, "z": z, "x_hat": ae.decode(z)}, folder / "recorded.safetensors")


def thresholded(ae, threshold):
    ae.threshold.fill_(threshold)
    return ae


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    case(AutoEncoder(D, F), 1)
    case(AutoEncoderNew(D, F), 2, is_scaled=False)
    case(GatedAutoEncoder(D, F), 3)
    case(AutoEncoderTopK(D, F, 4), 4, k=4)
    case(thresholded(BatchTopKSAE(D, F, 4), 1.1), 5, k=4)
    case(thresholded(MatryoshkaBatchTopKSAE(D, F, 4, [5, 7, 7]), 1.3), 6, k=4)
    case(JumpReluAutoEncoder(D, F), 7)


if __name__ == "__main__":
    main()
