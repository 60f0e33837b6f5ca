"""A language model as the stream needs it: loaded, identified, and bridged for interventions."""

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sae.errors import ConfigError, InputError, NumericalError

__all__ = ["LanguageModel", "bridge", "check_pair", "load_model", "parity"]

LAYERS = (
    "model.layers",  # Llama, Gemma, Qwen, Mistral, Phi
    "model.language_model.layers",
    "model.decoder.layers",
    "gpt_neox.layers",
    "transformer.h",
)
SITES = ("resid_pre", "resid_post")


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer and its name; always in eval mode."""

    module: PreTrainedModel
    """The Hugging Face model."""
    tokenizer: PreTrainedTokenizerBase
    """The tokenizer whose ids the model reads."""
    name: str
    """Hub id, folder, or class name of a model made in memory."""
    revision: str | None = None
    """Revision on the hub, None for a local model."""

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers in order.

        Raises:
            ConfigError: They are in none of the places known.
        """
        for path in LAYERS:
            found: Any = self.module
            for name in path.split("."):
                found = getattr(found, name, None)
            if isinstance(found, nn.ModuleList):
                return found
        found = f"{type(self.module).__name__} without {', '.join(LAYERS)}"
        raise ConfigError(f"the layers of {self.name}", found, "use a decoder-only model")

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self.module.config.get_text_config().hidden_size

    @property
    def hooks(self) -> list[str]:
        """Names of the places where activations can be taken, in the order they are computed."""
        return [f"blocks.{layer}.hook_{site}" for layer in range(self.n_layers) for site in SITES]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.module.device

    @property
    def tokenizer_hash(self) -> str:
        """Hash of how text becomes ids; the chat template, padding and truncation do not count."""
        tokenizer: Any = self.tokenizer
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        del state["padding"], state["truncation"]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    @property
    def weights_sha256(self) -> str:
        """Hash of every parameter with its name and type, in the order of names."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.module.named_parameters()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)} ".encode())
            flat = weight.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()


def load_model(
    source: str | Path | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> LanguageModel:
    """A causal language model in eval mode, from the hub, a folder or memory.

    Args:
        source: Hub id, local folder, or a model already made, which is used as it is, not copied.
        tokenizer: Needed with a model from memory; otherwise None takes the one beside the weights.
        revision: Branch, tag or commit on the hub.
        device: Where to put it; None leaves it on the CPU or where it is, "auto" takes CUDA where
            there is one.
        dtype: Type of the weights; None keeps the type they are stored in.

    Raises:
        ConfigError: A model from memory comes without a tokenizer.
        InputError: There is no such model, its weights are damaged, incomplete or stored as
            pickles only, which are never opened.
    """
    module: Any
    if isinstance(source, PreTrainedModel):
        if tokenizer is None:
            raise ConfigError("a model from memory", "no tokenizer", "pass `tokenizer` as well")
        module, name = source, source.name_or_path or type(source).__name__
    else:
        module, name = _pretrained(source, revision, dtype), str(source)
        tokenizer = tokenizer or _tokenizer(source, revision)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.to(device=device or module.device, dtype=dtype or module.dtype)
    return LanguageModel(module.eval(), tokenizer, name, revision)


def check_pair(base: LanguageModel, tuned: LanguageModel) -> None:
    """Make sure that two models read the same ids and have residual streams of one shape.

    Raises:
        ConfigError: Their width, depth or tokenizer differs; the message names both.
    """
    for what in ("d_in", "n_layers", "tokenizer_hash"):
        of_base, of_tuned = getattr(base, what), getattr(tuned, what)
        if of_base != of_tuned:
            raise ConfigError(
                f"{base.name} and {tuned.name} as base and tuned",
                f"{what} {of_base} against {of_tuned}",
                "choose a model that was tuned from the base",
            )


def bridge(model: LanguageModel, check: bool = True) -> Any:
    """The model as a ``TransformerBridge`` of TransformerLens, for interventions by hook name.

    A copy is bridged, with the weights as they are (no folding, no centring), because bridging
    rewrites the module it is given. The copy computes attention eagerly.

    Args:
        model: What to bridge; neither it nor its tokenizer is changed.
        check: Compare the logits of both by `parity` first.

    Raises:
        ConfigError: TransformerLens has no adapter for this kind of model.
        NumericalError: The logits differ by more than 1e-4.
    """
    from transformer_lens.model_bridge import TransformerBridge  # slow, and only needed here

    with TemporaryDirectory() as folder:  # the bridge reads its tokenizer once more, from disk
        model.tokenizer.save_pretrained(folder)
        try:
            bridged = TransformerBridge.boot_transformers(
                model.name,
                hf_model=copy.deepcopy(model.module),
                tokenizer=AutoTokenizer.from_pretrained(folder),
                device=str(model.device),
            )
        except ValueError as error:
            do = "intervene with `sae.stream.activations.logits_with`"
            raise ConfigError(f"{model.name} in TransformerLens", str(error), do) from error
    if check and not (difference := _difference(model, bridged)) <= 1e-4:
        found = f"logits that differ by {difference:.2g}"
        raise NumericalError(f"{model.name} in TransformerLens", found, "load it as float32")
    return bridged


def parity(model: LanguageModel) -> float:
    """Largest absolute difference of logits between a model and its bridge, on 64 probe tokens.

    Returns:
        A difference of logits; rounding alone gives about 1e-5 in float32.
    """
    return _difference(model, bridge(model, check=False))


@torch.no_grad()
def _difference(model: LanguageModel, bridged: Any) -> float:
    n_vocab = model.module.config.get_text_config().vocab_size
    probe = torch.arange(64, device=model.device).mul(7919).remainder(n_vocab).reshape(4, 16)
    return float((model.module(probe, use_cache=False).logits - bridged(probe)).abs().max())


def _pretrained(
    source: str | Path, revision: str | None, dtype: torch.dtype | None
) -> PreTrainedModel:
    asked = f"model {source}"
    if _means_a_folder(source) and not Path(source).is_dir():
        raise InputError(asked, "no such folder", "check the path")
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            str(source),
            revision=revision or "main",
            dtype=dtype or "auto",
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        do = "give a folder or hub id with config.json and safetensors weights"
        raise InputError(asked, _first_line(error), do) from error
    module, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise InputError(asked, f"no weights for {', '.join(missing)}", "fetch the model again")
    return module


def _tokenizer(source: str | Path, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(str(source), revision=revision or "main")
    except (OSError, ValueError) as error:
        do = "put tokenizer.json beside the weights or pass `tokenizer`"
        raise InputError(f"tokenizer of {source}", _first_line(error), do) from error


def _means_a_folder(source: str | Path) -> bool:
    """A name that cannot be a hub id, or whose parent is there: no need to ask the network."""
    path = Path(source)
    beside = len(path.parts) == 2 and path.parent.is_dir()
    return isinstance(source, Path) or len(path.parts) > 2 or source.startswith(".") or beside


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
