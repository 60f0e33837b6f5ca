"""Writes golden/crosscoder_learning from the documented layout.

    .venv/bin/python tests/sae/formats/golden/make_crosscoders.py

The library that writes these files is not on the package index and could not be installed, so
nothing here is its output: the weights are random, and latents and reconstructions are those of the
plain numpy below, which follows its published source. It shows that the reader does what is
documented, and no more. `f` is what its `encode` gives, `z` what its `get_activations` does.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

MODELS, D, F, N, K = 2, 7, 19, 11, 4
OUT = Path(__file__).parent / "crosscoder_learning"
SIZES = {"activation_dim": D, "dict_size": F}


def weights(seed):
    random = np.random.default_rng(seed)
    shapes = {"encoder.weight": (MODELS, D, F), "encoder.bias": F}
    shapes |= {"decoder.weight": (MODELS, F, D), "decoder.bias": (MODELS, D)}
    made = {name: 0.7 * random.standard_normal(shape) for name, shape in shapes.items()}
    made["decoder.weight"][0, :5] *= 0.01  # latents of nearly one model alone
    made["decoder.weight"][1, 5:8] = 0  # and of one alone
    scale = np.array([2.0, 9.0])[:, None]
    x = scale * (random.standard_normal((N, MODELS, D)) + np.linspace(-1, 2, D))
    return {name: each.astype(np.float32) for name, each in made.items()}, x.astype(np.float32)


def statistics(x, target_rms):
    mean, std = x.mean(0), x.std(0)
    scale = target_rms / np.sqrt((std**2).sum(-1) + 1e-8)
    return {"activation_mean": mean, "activation_std": std, "activation_global_scale": scale}


def reference(w, x, threshold):
    """f, its weighted twin, and the reconstruction of each model, in float64."""
    w = {name: each.astype(np.float64) for name, each in w.items()}
    is_on = np.isfinite(w["activation_mean"]).all() and np.isfinite(w["activation_std"]).all()
    scale = w["activation_global_scale"][:, None]
    inner = (x - w["activation_mean"]) * scale if is_on else x
    f = np.einsum("nmd,mdf->nf", inner, w["encoder.weight"]) + w["encoder.bias"]
    f = np.maximum(f, 0)
    code_norm = np.linalg.norm(w["decoder.weight"], axis=-1).sum(0)
    if threshold is not None:
        f = f * (f * code_norm > threshold)
    x_hat = np.einsum("nf,mfd->nmd", f, w["decoder.weight"]) + w["decoder.bias"]
    if is_on:
        x_hat = x_hat / (scale + 1e-8) + w["activation_mean"]
    return f, f * code_norm, x_hat


def make(name, seed, threshold, is_normalised):
    w, x = weights(seed)
    off = np.full((MODELS, D), np.nan, np.float32)
    w |= {"activation_mean": off, "activation_std": off}
    w |= {"activation_global_scale": np.ones(MODELS), "target_rms": np.array(1.5)}
    if is_normalised:
        w |= statistics(x, 1.5)
    w = {key: np.asarray(each, np.float32) for key, each in w.items()}
    f, z, x_hat = reference(w, x, threshold)
    folder = OUT / name
    folder.mkdir(parents=True)
    recorded = {"x": x.reshape(N, -1), "f": f, "z": z, "x_hat": x_hat.reshape(N, -1)}
    plain = {key: np.ascontiguousarray(each, np.float32) for key, each in recorded.items()}
    save_file(plain, folder / "recorded.safetensors")
    dict_class = "CrossCoder" if threshold is None else "BatchTopKCrossCoder"
    trainer = {"dict_class": dict_class, "layer": 1, "lm_name": "tuned-base", **SIZES}
    trainer |= {"submodule_name": "resid_post_layer_1", "code_normalization": "CROSSCODER"}
    if threshold is not None:
        w |= {"k": np.array(K, np.int32), "threshold": np.array(threshold, np.float32)}
    if name.startswith("shared"):
        w["code_normalization_id"] = np.array(1)
        save_file(w, folder / "model.safetensors")
        config = {**SIZES, "num_layers": MODELS, "code_normalization": "CROSSCODER"}
        config |= {"encoder_layers": None, "latent_processor": None, "num_decoder_layers": None}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "trainer_config.json").write_text(json.dumps({"trainer": trainer}))
        return
    compiled = {f"_orig_mod.{key}": torch.from_numpy(each.copy()) for key, each in w.items()}
    torch.save(compiled, folder / "model_final.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    make("shared_batchtopk", 1, 1.25, is_normalised=True)
    make("shared_relu", 2, None, is_normalised=True)
    make("run_batchtopk", 3, 6.0, is_normalised=False)
    make("run_relu", 4, None, is_normalised=True)


if __name__ == "__main__":
    main()
