"""One trainer for small language models, grown from nothing or tuned from one at hand."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sae.errors import ConfigError, NumericalError
from sae.stream.activations import padded
from training.config import require
from training.organism.losses import Batch, losses
from training.organism.optimiser import OptimiserConfig, optimisers_of, products, rate_at

__all__ = [
    "Batch",
    "LmStep",
    "ShapeConfig",
    "level_unseen_",
    "Tell",
    "batches",
    "even_batches",
    "new_model",
    "told",
    "train",
]


POOL = 8
"""Batches whose documents are sorted by length together."""


@dataclass(frozen=True)
class ShapeConfig:
    """Shape of a model grown from nothing, in the architecture of Llama.

    Raises:
        ConfigError: A value lies outside the range its sentence gives.
    """

    d_model: int = 128
    """Width of the residual stream, an even multiple of `n_heads`."""
    n_layers: int = 3
    """Number of blocks, at least 1: naming a speaker, gathering what that speaker said, and
    choosing a word."""
    n_heads: int = 8
    """Attention heads a block, at least 1."""
    n_positions: int = 160
    """Longest sequence, in tokens, at least 2."""

    def __post_init__(self) -> None:
        for name, least in {"n_layers": 1, "n_heads": 1, "n_positions": 2, "d_model": 1}.items():
            value = getattr(self, name)
            require(value >= least, name, value, f"choose at least {least}")
        # Positions turn the two halves of a head's width against each other.
        if self.d_model % (2 * self.n_heads):
            do = "choose an even multiple of n_heads"
            raise ConfigError(f"d_model {self.d_model}", f"{self.n_heads} heads", do)


@dataclass(frozen=True)
class LmStep:
    """What one update gave."""

    step: int
    """Updates taken, this one included."""
    n_tokens: int
    """Tokens seen, this step's included."""
    loss: float
    """Mean loss over the scored tokens of this step's batch before its update, in nats a token."""


Tell = Callable[[str, int, LmStep], None]
"""Called after every step with the name of the model, its number of steps, and the step; where a
run ends early, once more, with the number of steps it took."""


def new_model(
    shape: ShapeConfig, tokenizer: PreTrainedTokenizerBase, seed: int
) -> LlamaForCausalLM:
    """A Llama with random weights, embeddings tied; equal seeds give equal weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.d_model,
        intermediate_size=8 * round(shape.d_model / 3),
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_heads,
        max_position_embeddings=shape.n_positions,
        tie_word_embeddings=True,
        **_special_ids(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


@torch.no_grad()
def level_unseen_(module: PreTrainedModel, text: Iterable[Batch]) -> int:
    """Gives every token that a text never shows the mean embedding of those it does show.

    Training only ever pushes such tokens away, until they can hardly be learned later. Libraries
    that add tokens to a vocabulary for tuning start them at the mean too.

    Args:
        module: Changed in place.
        text: What it was trained on, or enough of it to show every token.

    Returns:
        Number of tokens that were levelled.
    """
    weight: Tensor = module.get_input_embeddings().weight  # pyright: ignore[reportAssignmentType]
    seen = torch.zeros(len(weight), dtype=torch.bool)
    for batch in text:
        seen[batch.ids[batch.mask]] = True
    weight[~seen] = weight[seen].mean(0)
    return int((~seen).sum())


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(tokenizer, name) for name in names}


Row = tuple[Sequence[int], Sequence[bool]]
"""A document: ids, and for each whether its prediction counts."""


def even_batches(documents: Iterable[Row], batch_tokens: int) -> Iterator[Batch]:
    """Groups documents into batches of few shapes: a kernel is made for every shape that comes.

    Rows are padded to a multiple of 8, and as many as fit make a batch, so that there is one shape
    for every length. What is left of a pool goes into the next one.

    Args:
        documents: Without end, or not many times fewer than a pool holds.
        batch_tokens: Most tokens of a batch, padding included; one longer document makes its own.
    """
    pool: list[Row] = []
    size = n_pools = 0
    for document in documents:
        pool.append(document)
        size += len(document[0])
        if size >= POOL * batch_tokens:
            groups, pool = _shaped(pool, batch_tokens)
            random.Random(n_pools).shuffle(groups)
            yield from map(_even, groups)
            size, n_pools = sum(len(each[0]) for each in pool), n_pools + 1
    groups, rest = _shaped(pool, batch_tokens)
    yield from map(_even, [*groups, rest] if rest else groups)


def _shaped(pool: list[Row], batch_tokens: int) -> tuple[list[list[Row]], list[Row]]:
    """Full batches, the longest documents first, and the documents that do not fill one."""
    left, groups = sorted(pool, key=lambda each: len(each[0])), []
    while left:
        n = max(1, batch_tokens // _rounded(len(left[-1][0])))
        if n > len(left):
            break
        groups.append(left[-n:])
        left = left[:-n]
    return groups, left


def _rounded(length: int) -> int:
    return -(-length // 8) * 8


def _even(held: Sequence[Row]) -> Batch:
    batch = _batch(held)
    more = (0, _rounded(batch.ids.shape[1]) - batch.ids.shape[1])
    return Batch(*(pad(each, more) for each in (batch.ids, batch.mask, batch.scored)))


def batches(documents: Iterable[Row], batch_tokens: int) -> Iterator[Batch]:
    """Groups documents, given as ids and which of them count, into batches of about one size.

    Args:
        documents: Ids and, for each, whether its prediction counts.
        batch_tokens: A batch is closed by the document that fills it; the last may be smaller.
    """
    pool: list[Row] = []
    n_pools, size = 0, 0
    for document in documents:
        pool.append(document)
        size += len(document[0])
        if size >= POOL * batch_tokens:
            yield from _cut(pool, batch_tokens, n_pools)
            pool, size, n_pools = [], 0, n_pools + 1
    yield from _cut(pool, batch_tokens, n_pools)


def _cut(pool: list[Row], batch_tokens: int, seed: int) -> Iterator[Batch]:
    """Batches of documents of like length, so that little is padding, in a shuffled order."""
    groups: list[list[Row]] = []
    size = batch_tokens
    for document in sorted(pool, key=lambda each: len(each[0])):
        if size >= batch_tokens:
            groups.append([])
            size = 0
        groups[-1].append(document)
        size += len(document[0])
    random.Random(seed).shuffle(groups)
    yield from map(_batch, groups)


def _batch(held: Sequence[Row]) -> Batch:
    ids, mask = padded([np.asarray(i, dtype=np.int64) for i, _ in held])
    scored, _ = padded([np.asarray(s, dtype=np.int64) for _, s in held])
    scored[:, 0] = 0
    return Batch(ids, mask, scored.bool() & mask)


def train(
    module: PreTrainedModel, source: Iterator[Batch], config: OptimiserConfig
) -> Iterator[LmStep]:
    """Updates `module` in place, a step a yield; the caller saves, measures and stops.

    Args:
        module: The model; it stays in evaluation mode, so that no dropout draws at random.
        source: At least `config.n_steps` batches.
        config: Rates and their schedule.

    Raises:
        NumericalError: A loss is not finite; that step was not taken.
    """
    optimisers = optimisers_of(module, config)
    n_tokens = 0
    module.eval()
    for step in range(config.n_steps):
        batch = next(source)
        rate = rate_at(step + 0.5, config)
        for group in (g for optimiser in optimisers for g in optimiser.param_groups):
            group["lr"] = rate
        with products(config, module.device):
            loss = losses(module, batch).mean()
        if not loss.isfinite():
            raise NumericalError(f"step {step + 1}", f"loss {loss.item()}", "lower optimiser.lr")
        module.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        n_tokens += batch.n_tokens
        yield LmStep(step + 1, n_tokens, loss.item())


def told(steps: Iterator[LmStep], tell: Tell, name: str, n_steps: int) -> Iterator[LmStep]:
    """The same steps, of each of which `tell` hears, and of an early end too."""
    step = None
    try:
        for step in steps:
            tell(name, n_steps, step)
            yield step
    finally:
        if step is not None and step.step < n_steps:
            tell(name, step.step, step)
