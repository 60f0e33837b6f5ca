"""How the weights of a language model are updated: rates, rules, and the type of products."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from training.config import require
from training.organism.muon import Muon

__all__ = ["OptimiserConfig", "multiplies_bfloat16", "optimisers_of", "products", "rate_at"]


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights are updated, over a run of a known number of steps.

    Raises:
        ConfigError: A value lies outside the range its sentence gives.
    """

    kind: Literal["muon", "adamw"] = "muon"
    """Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all. On the organism
    Muon needs about a third of AdamW's tokens."""
    lr: float = 6e-3
    """Peak learning rate, above 0; of root-mean-square size per entry, as in AdamW, for both kinds.
    """
    n_steps: int = 1800
    """Updates, at least 1."""
    batch_tokens: int = 2500
    """Tokens a step, at least 1, filled with whole documents."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the matrices that Muon updates, 0 or more; AdamW has none."""
    decay_to: Literal["zero", "start"] = "zero"
    """What those matrices decay to: zero, or what they were before the first step."""
    warmup: float = 0.03
    """Share of the steps over which the rate rises, in [0, 1]."""
    decay: float = 0.8
    """Share of the steps, at the end, over which the rate falls to zero, in [0, 1]."""
    products: Literal["float32", "bfloat16", "auto"] = "float32"
    """Type of the matrix products of a step; weights, their updates and losses are float32. `auto`
    takes bfloat16 where the processor multiplies it, as GPUs do and CPUs with AMX."""

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_tokens"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "choose at least 1")
        for name in ("warmup", "decay"):
            share = getattr(self, name)
            require(0 <= share <= 1, name, share, "choose a share between 0 and 1")
        require(self.lr > 0, "lr", self.lr, "choose a positive rate")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "choose 0 or more")


def rate_at(step: float, config: OptimiserConfig) -> float:
    """Learning rate after so many steps, in the middle of one if it ends in .5."""
    rising = step / (config.warmup * config.n_steps) if config.warmup else 1.0
    falling = (config.n_steps - step) / (config.decay * config.n_steps) if config.decay else 1.0
    return config.lr * min(1.0, rising, falling)


def optimisers_of(module: PreTrainedModel, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, where orthogonal steps make sense, AdamW elsewhere."""
    ends: tuple[Any, ...] = (module.get_input_embeddings(), module.get_output_embeddings())
    apart = {id(end.weight) for end in ends if end is not None}
    hidden = [p for p in module.parameters() if p.ndim == 2 and id(p) not in apart]
    if config.kind == "adamw" or not hidden:
        return [torch.optim.AdamW(module.parameters(), config.lr, (0.9, 0.95), weight_decay=0.0)]
    chosen = {id(p) for p in hidden}
    rest = [p for p in module.parameters() if id(p) not in chosen]
    muon_dtype = torch.bfloat16 if multiplies_bfloat16(hidden[0].device) else torch.float32
    return [
        Muon(
            hidden,
            config.lr,
            muon_dtype,
            weight_decay=config.weight_decay,
            to_start=config.decay_to == "start",
        ),
        torch.optim.AdamW(rest, config.lr, (0.9, 0.95), weight_decay=0.0),
    ]


def products(config: OptimiserConfig, device: torch.device) -> AbstractContextManager[object]:
    """Autocast where a config asks for it; no fused attention, whose gradient is slow on CPUs.

    On two cores the gradient of one such attention took 13 ms in bfloat16 and 3 ms in float32.
    """
    plain = config.products == "auto" and not multiplies_bfloat16(device)
    if plain or config.products == "float32":
        return nullcontext()
    held = ExitStack()
    held.enter_context(torch.autocast(device.type, torch.bfloat16))
    if device.type == "cpu":
        held.enter_context(sdpa_kernel(SDPBackend.MATH))
    return held


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32; some emulate it, many times slower.

    Args:
        device: A CPU or a GPU.
    """
    if device.type == "cpu":
        # With avx512_bf16 alone it takes longer than float32.
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
