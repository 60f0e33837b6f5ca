"""The way back to SAELens: an inference folder with the same latents.

Source: sae-lens 6.54 (`saes/*.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from safetensors.torch import save
from torch import Tensor

from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    TopKConfig,
)
from sae.dictionary.sae import Sae
from sae.formats import gates
from sae.formats.files import json_bytes, put_folder
from sae.formats.foreign import laid_out

__all__ = ["BATCH", "CONFIG", "WEIGHTS", "write"]

CONFIG = "cfg.json"
"""Its config."""
WEIGHTS = "sae_weights.safetensors"
"""Its weights."""
BATCH = ("batchtopk", "matryoshka_batchtopk")
"""Training architectures whose inference folders are jumprelu with one threshold."""
LAYOUT = "6.54.0"

Tensors = dict[str, Shaped[Tensor, "..."]]


def write(directory: Path, sae: Sae, meta: Mapping[str, Any]) -> Path:
    """An inference folder that `SAE.load_from_disk` reads, with the same latents.

    A BatchTopK dictionary is written as SAELens writes its own: as jumprelu, with one threshold.

    Args:
        directory: Where to.
        sae: The dictionary; left alone, and written folded.
        meta: Its `hook` and `model`; the rest is kept in the config's metadata under `forelimb`.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: A BatchTopK threshold was never set.
    """
    folded = sae.folded()
    tensors: Tensors = {"W_enc": folded.W_enc, "W_dec": folded.W_dec, "b_dec": folded.b_dec}
    config: dict[str, Any] = {"d_in": folded.config.d_in, "d_sae": folded.config.d_sae}
    config |= {"dtype": str(folded.W_dec.dtype).removeprefix("torch."), "device": "cpu"}
    config |= {"apply_b_dec_to_input": True, "normalize_activations": "none"}
    config |= {"reshape_activations": "none"}
    metadata = {"model_name": meta.get("model"), "hook_name": meta.get("hook")}
    metadata |= {"sae_lens_version": LAYOUT, "sae_lens_training_version": None}
    metadata["forelimb"] = dict(meta)
    told, trained, own = _gate_told(folded)
    config |= told
    metadata |= trained
    files = {
        CONFIG: json_bytes(config | {"metadata": metadata}),
        WEIGHTS: save(laid_out(tensors | own)),
    }
    put_folder(directory, files)
    return directory / WEIGHTS


def _gate_told(sae: Sae) -> tuple[dict[str, Any], dict[str, Any], Tensors]:
    """What config and metadata say of how latents fire, and the tensors that say the rest."""
    bias: Tensors = {"b_enc": sae.b_enc}
    d_sae = sae.config.d_sae
    match sae.config.sparsity:
        case ReluConfig():
            return {"architecture": "standard"}, {}, bias
        case TopKConfig(k=k):
            told = {"architecture": "topk", "k": k, "rescale_acts_by_decoder_norm": False}
            return told, {}, bias
        case BatchTopKConfig(k=k):
            threshold = gates.threshold_of(sae).to(sae.W_dec.dtype).expand(d_sae)
            widths = [*sae.config.prefixes, d_sae]
            trained: dict[str, Any] = {"training_architecture": BATCH[len(widths) > 1]}
            trained["training_architecture_details"] = {"k": k, "matryoshka_widths": widths}
            return {"architecture": "jumprelu"}, trained, bias | {"threshold": threshold}
        case JumpReluConfig() | JumpReluTanhConfig() | JumpReluL0Config():
            threshold = gates.thresholds_of(sae)
            return {"architecture": "jumprelu"}, {}, bias | {"threshold": threshold}
        case GatedConfig():
            found = gates.gated_parts(sae)
            own: Tensors = {"b_gate": found["gate"], "b_mag": found["magnitude"]}
            own["r_mag"] = found["r_mag"]
            return {"architecture": "gated"}, {}, own
