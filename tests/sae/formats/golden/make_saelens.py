"""Writes golden/saelens: what SAELens wrote, and what its own encode and decode gave.

    .peers/saelens/bin/python tests/sae/formats/golden/make_saelens.py

Each case is a folder as `save_model` or `save_inference_model` leaves it, and beside the weights
`recorded.safetensors`: inputs `x`, latents `z`, reconstructions `x_hat`. Of a checkpoint the
recorded latents are those of the training dictionary on scaled activations, in the unit of the
inference folder: 6.54.0 leaves a scale out of that folder's threshold. The pre-6 config is written
by hand, since this version writes none; its reading is SAELens's.
"""

import copy
import json
import shutil
from pathlib import Path

import torch
from sae_lens import SAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import (
    StandardSAE,
    StandardSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
)
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening
from safetensors.torch import save_file

D, F, N = 7, 19, 11
SCALE = 3.7
OUT = Path(__file__).parent / "saelens"
META = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post"}


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(N, D, generator=generator) + torch.linspace(-1, 2, D)


@torch.no_grad()
def randomised(sae, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, each in sae.named_parameters():
        noise = torch.randn(each.shape, generator=generator)
        each.copy_(noise.abs() + 0.5 if name == "threshold" else noise * 0.7)
    return sae


@torch.no_grad()
def record(folder, sae, x):
    z = sae.encode(x)
    save_file({"x": x, "z": z, "x_hat": sae.decode(z)}, folder / "recorded.safetensors")


def inference(name, cls, config, seed, **changes):
    config = config(d_in=D, d_sae=F, metadata=SAEMetadata(**META), **changes)
    sae = randomised(cls(config), seed)
    sae.save_model(OUT / name)
    record(OUT / name, SAE.load_from_disk(OUT / name), inputs(seed))


def checkpoint(name, cls, config, seed, whitened=False, threshold=None, **changes):
    """A checkpoint, and the inference folder SAELens makes of it once its scale is folded."""
    kind = "covariance_whitening" if whitened else "expected_average_only_in"
    changes |= {"normalize_activations": kind}
    sae = randomised(cls(config(d_in=D, d_sae=F, metadata=SAEMetadata(**META), **changes)), seed)
    if threshold is not None:
        sae.topk_threshold = torch.tensor(threshold, dtype=torch.double)
    folder = OUT / f"{name}_checkpoint"
    sae.save_model(folder)
    scaler = ActivationScaler(scaling_factor=None if whitened else SCALE)
    if whitened:
        matrix = torch.eye(D, dtype=torch.double) * 0.5
        noise = torch.randn(D, D, generator=torch.Generator().manual_seed(seed)).double()
        matrix = matrix + 0.1 * noise
        mean = torch.linspace(-1, 1, D).double()
        scaler.whitening = ActivationWhitening(mean, matrix, torch.linalg.inv(matrix))
    scaler.save(str(folder / "activation_scaler.json"))
    folded = copy.deepcopy(sae)
    if whitened:
        white = scaler.whitening
        folded.fold_activation_whitening(white.mean, white.matrix, white.inverse_matrix)
    else:
        folded.fold_activation_norm_scaling_factor(SCALE)
    folded.save_inference_model(OUT / f"{name}_inference")
    found = SAE.load_from_disk(OUT / f"{name}_inference")
    record(OUT / f"{name}_inference", found, inputs(seed))
    record_training(folder, sae, scaler, inputs(seed))


@torch.no_grad()
def record_training(folder, sae, scaler, x):
    """What the training dictionary makes of scaled activations, its threshold in use.

    Where latents count by decoder norm, those of the inference folder are smaller by the scale.
    """
    z, pre = sae.encode_with_hidden_pre(scaler.scale(x))
    if hasattr(sae, "topk_threshold"):
        z = pre.relu() * (pre > sae.topk_threshold)
    x_hat = scaler.unscale(sae.decode(z))
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        z = z / (scaler.scaling_factor or 1)
    save_file({"x": x, "z": z, "x_hat": x_hat}, folder / "recorded.safetensors")


def before_six():
    """A config of version 5 around TopK weights."""
    inference("topk_pre_6", TopKSAE, TopKSAEConfig, 9, k=3)
    old = {"architecture": "standard", "d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu"}
    old |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "model_name": "tiny"}
    old |= {"hook_name": "blocks.1.hook_resid_post", "hook_layer": 1, "sae_lens_version": "5.3.0"}
    old |= {"apply_b_dec_to_input": False, "normalize_activations": "none"}
    (OUT / "topk_pre_6" / "cfg.json").write_text(json.dumps(old))
    record(OUT / "topk_pre_6", SAE.load_from_disk(OUT / "topk_pre_6"), inputs(9))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    inference("standard", StandardSAE, StandardSAEConfig, 1)
    inference("standard_no_b_dec", StandardSAE, StandardSAEConfig, 2, apply_b_dec_to_input=False)
    inference("topk", TopKSAE, TopKSAEConfig, 3, k=4)
    inference("topk_by_norm", TopKSAE, TopKSAEConfig, 4, k=4, rescale_acts_by_decoder_norm=True)
    inference("jumprelu", JumpReLUSAE, JumpReLUSAEConfig, 5)
    inference("jumprelu_no_b_dec", JumpReLUSAE, JumpReLUSAEConfig, 6, apply_b_dec_to_input=False)
    inference("gated", GatedSAE, GatedSAEConfig, 7)
    inference("gated_no_b_dec", GatedSAE, GatedSAEConfig, 8, apply_b_dec_to_input=False)
    before_six()
    checkpoint("topk_by_norm", TopKTrainingSAE, TopKTrainingSAEConfig, 10, k=4)
    checkpoint(
        "batchtopk", BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, 11, k=4, threshold=6.5
    )
    nested = {"k": 4, "matryoshka_widths": [5, 12, F], "rescale_acts_by_decoder_norm": False}
    cls, config = MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
    checkpoint("matryoshka", cls, config, 12, threshold=7.0, apply_b_dec_to_input=False, **nested)
    whitened = {"whitened": True, "apply_b_dec_to_input": False}
    checkpoint("whitened", StandardTrainingSAE, StandardTrainingSAEConfig, 13, **whitened)


if __name__ == "__main__":
    main()
