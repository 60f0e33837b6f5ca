"""Writes golden/gemma_scope and golden/llama_scope from the documented layouts.

    .venv/bin/python tests/sae/formats/golden/make_scopes.py

No library that writes these files can be installed, so nothing here is another library's output:
the weights are random, and latents and reconstructions are those of the plain numpy below, which
follows the papers and repositories. It shows that the reader does what is documented, and no more.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

D, F, N = 7, 19, 11
OUT = Path(__file__).parent


def weights(seed):
    random = np.random.default_rng(seed)
    shapes = {"W_enc": (D, F), "b_enc": F, "W_dec": (F, D), "b_dec": D}
    made = {name: 0.7 * random.standard_normal(shape) for name, shape in shapes.items()}
    made["threshold"] = 1 + np.abs(random.standard_normal(F))
    x = 2 * random.standard_normal((N, D)) + np.linspace(-1, 2, D)
    return {name: each.astype(np.float32) for name, each in made.items()}, x.astype(np.float32)


def save(file, tensors):
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: np.ascontiguousarray(each, np.float32) for name, each in tensors.items()}
    save_file(plain, file)


def jumped(pre, threshold):
    return pre * (pre > threshold)


def gemma(folder, seed, is_second):
    w, x = weights(seed)
    z = jumped(x @ w["W_enc"] + w["b_enc"], w["threshold"])
    save(folder / "recorded.safetensors", {"x": x, "z": z, "x_hat": z @ w["W_dec"] + w["b_dec"]})
    if not is_second:
        np.savez(folder / "params.npz", **w)
        return
    save(folder / "params.safetensors", {name.lower(): each for name, each in w.items()})
    hook = "model.layers.1.output"
    config = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt", "width": F}
    config |= {"hf_hook_point_in": hook, "hf_hook_point_out": hook, "l0": 5, "type": "sae"}
    (folder / "config.json").write_text(json.dumps(config))


def llama(folder, seed, is_later, by_norm=True):
    """Inference of Language-Model-SAEs: norms out of the weights, rows to norm 1, threshold."""
    w, x = weights(seed)
    norms = {"in": 6.5, "out": 4.25}
    s_in, s_out = (np.sqrt(D) / norms[name] for name in ("in", "out"))
    if is_later:
        norms["out"], s_out = norms["in"], s_in
    encoder, decoder = w["W_enc"], w["W_dec"] * s_in / s_out
    b_enc, b_dec = w["b_enc"] / s_in, w["b_dec"] / s_out
    length = np.linalg.norm(decoder, axis=1) if by_norm else np.ones(F)
    threshold = w["threshold"] if is_later else np.float32(1.5)
    z = jumped((x @ encoder + b_enc) * length, threshold)
    x_hat = z @ (decoder / length[:, None]) + b_dec
    save(folder / "recorded.safetensors", {"x": x, "z": z, "x_hat": x_hat})
    tensors = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"]}
    tensors |= {"decoder.weight": w["W_dec"].T, "decoder.bias": w["b_dec"]}
    config = {"d_model": D, "expansion_factor": 3, "act_fn": "jumprelu", "top_k": 5}
    config |= {"hook_point_in": "blocks.1.hook_resid_post", "norm_activation": "dataset-wise"}
    config |= {"hook_point_out": "blocks.1.hook_resid_post", "use_decoder_bias": True}
    config |= {"apply_decoder_bias_to_pre_encoder": False}
    config |= {"sparsity_include_decoder_norm": by_norm, "dataset_average_activation_norm": norms}
    if is_later:
        tensors["log_jumprelu_threshold"] = np.log(threshold)
        save(folder / "sae_weights.safetensors", tensors)
        (folder / "config.json").write_text(json.dumps(config))
        return
    save(folder / "checkpoints" / "final.safetensors", tensors)
    config |= {"d_sae": F, "jump_relu_threshold": 1.5}
    (folder / "hyperparams.json").write_text(json.dumps(config))


def main():
    for name in ("gemma_scope", "llama_scope"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    first = "google--gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_5"
    gemma(OUT / "gemma_scope" / first, 1, is_second=False)
    gemma(OUT / "gemma_scope" / "layer_1_width_16k_l0_small", 2, is_second=True)
    llama(OUT / "llama_scope" / "L1R-3x", 3, is_later=False)
    llama(OUT / "llama_scope" / "L1R-plain", 5, is_later=False, by_norm=False)
    llama(OUT / "llama_scope" / "L1R-later", 4, is_later=True)


if __name__ == "__main__":
    main()
