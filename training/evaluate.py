"""dictionary + model + held-out text -> how faithful it is, and how busy its latents are."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.crosscoder import Crosscoder
from sae.dictionary.metrics import (
    CeSums,
    FireSums,
    FvuSums,
    KlSums,
    ce_recovered_compute,
    ce_recovered_update,
    fire_rate_compute,
    fire_rate_update,
    fvu_compute,
    fvu_update,
    kl_compute,
    kl_update,
)
from sae.dictionary.sae import Sae
from sae.errors import InputError
from sae.stream.activations import HookPoint, harvest, logits, logits_with
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText
from training.patching import DocumentBatch, document_batch, placed

__all__ = ["FIRE_RATE_EDGES", "Evaluation", "evaluate", "evaluate_vectors"]

FIRE_RATE_EDGES: tuple[float, ...] = tuple(-6 + each / 4 for each in range(25))
"""Bin edges of the fire-rate histogram: log10 of fires per token, four bins a decade."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, over the non-special tokens of the text it was given."""

    fvu: float
    """Fraction of variance unexplained; 0 is perfect."""

    l0: float
    """Fires per token."""

    ce_clean: float
    """Next-token loss of the model itself, nats."""

    ce_patched: float
    """Next-token loss with reconstructions in place of the residual vectors, nats."""

    ce_ablated: float
    """Next-token loss with their mean in place of the residual vectors, nats."""

    kl: float
    """KL(model || model with reconstructions) where the losses count, nats; 0 is perfect."""

    ce_recovered: float
    """(ablated - patched) / (ablated - clean); NaN where mean ablation costs nothing."""

    dead_fraction: float
    """Share of latents without a fire on these tokens."""

    fire_rate_counts: tuple[int, ...]
    """Latents that fired, by log10 of their fire rate, between `FIRE_RATE_EDGES`."""

    n_tokens: int
    """Tokens reconstructed."""

    n_predicted: int
    """Of these, tokens whose successor is not special either: those the losses are means over."""

    fvu_by_model: tuple[float, ...] = ()
    """FVU of each model of a crosscoder; `fvu` is then of all, each in its own scale."""

    def row(self, n_tokens: int) -> dict[str, float | int]:
        """The numbers as a flat row for a tracker, the histogram left out.

        Args:
            n_tokens: Tokens the dictionary was fitted on so far: the tracker's clock.
        """
        hidden = ("fire_rate_counts", "n_predicted", "fvu_by_model")
        numbers = {f"eval/{key}": each for key, each in asdict(self).items() if key not in hidden}
        return {"tokens": n_tokens, **numbers}


def evaluate(
    sae: Sae,
    model: LanguageModel,
    text: TokenizedText,
    hook: HookPoint,
    batch_documents: int = 32,
) -> Evaluation:
    """Measures a dictionary on documents it was not fitted on.

    Non-special tokens count; at special ones, BOS among them, the residual vector stays as it is.
    A loss counts where a non-special token predicts a non-special one. Ablation puts the mean over
    the tokens that count in their place.

    Args:
        sae: Of the hook's width, folded or not; its mode is restored.
        model: The model whose activations it was fitted on, or another one of that width.
        text: Held-out documents.
        hook: Where to take and replace the residual vectors.
        batch_documents: Documents of one forward pass; changes no number beyond rounding.

    Returns:
        The numbers.

    Raises:
        ConfigError: The model has no such hook.
        InputError: Fewer than two tokens count, or no prediction does.
    """
    was_training = sae.training
    sae.eval()
    try:
        mean = _mean(model, text, hook, batch_documents)
        parts = [
            _measured(sae, model, hook, batch, mean) for batch in _batches(text, batch_documents)
        ]
    finally:
        sae.train(was_training)
    fvu, fires, ce, kl = (reduce(add, each) for each in zip(*parts, strict=True))
    if not ce.n_tokens:
        raise InputError("next-token losses", "no token followed by another", "give longer text")
    return replace(_evaluation(fvu, fires, ce), kl=kl_compute(kl))


@torch.no_grad()
def evaluate_vectors(sae: Sae, batches: Iterable[Float[Tensor, "n d_in"]]) -> Evaluation:
    """Measures a dictionary on vectors alone, such as those of several models or differences.

    Args:
        sae: Folded or not; its mode is restored.
        batches: Held-out vectors of real tokens; every row counts.

    Returns:
        The numbers, with NaN for the losses: no model was patched. Of a crosscoder also each
        model's FVU.

    Raises:
        InputError: Fewer than two tokens, or no variance to explain.
    """
    was_training = sae.training
    sae.eval()
    one = None if sae.config.crosscoder is None else Crosscoder(sae)
    parts: list[tuple[FvuSums, FireSums]] = []
    by_model: list[tuple[FvuSums, ...]] = []
    try:
        for given in batches:
            x = given.to(sae.W_enc.device)
            z = sae.encode_sparse(x)
            x_hat = sae.decode_sparse(z)[-1]
            scaled = (sae.layout.balanced(each) for each in (x, x_hat))
            parts.append((fvu_update(*scaled), fire_rate_update(z)))
            by_model += [tuple(map(fvu_update, one.apart(x), one.apart(x_hat)))] if one else []
    finally:
        sae.train(was_training)
    if not parts:
        raise InputError("an evaluation", "no vectors", "give at least two")
    fvu, fires = (reduce(add, each) for each in zip(*parts, strict=True))
    nothing = torch.zeros((), dtype=torch.float64)
    found = _evaluation(fvu, fires, CeSums(0, nothing, nothing, nothing))
    each_model = (reduce(add, each) for each in zip(*by_model, strict=True))
    return replace(found, fvu_by_model=tuple(map(fvu_compute, each_model)))


def _batches(text: TokenizedText, batch_documents: int) -> Iterator[DocumentBatch]:
    for first in range(0, len(text.ids), batch_documents):
        yield document_batch(text, range(first, min(first + batch_documents, len(text.ids))))


def _mean(
    model: LanguageModel, text: TokenizedText, hook: HookPoint, batch_documents: int
) -> Float[Tensor, " d_in"]:
    """Mean residual vector over the tokens that count."""
    counted = torch.from_numpy(~text.table["is_special"].to_numpy(dtype=bool)).to(model.device)
    if int(counted.sum()) < 2:
        raise InputError("an evaluation", f"{int(counted.sum())} tokens", "give at least two")
    total = torch.zeros(model.d_in, dtype=torch.float64, device=model.device)
    for rows, found in harvest(model, text, [hook], batch_documents):
        total += found[hook][counted[rows]].double().sum(0)
    return (total / counted.sum()).float()


@torch.no_grad()
def _measured(
    sae: Sae,
    model: LanguageModel,
    hook: HookPoint,
    batch: DocumentBatch,
    mean: Float[Tensor, " d_in"],
) -> tuple[FvuSums, FireSums, CeSums, KlSums]:
    """Sums over one batch, from a clean, a patched and an ablated pass."""
    counted = batch.counted.to(model.device)
    sums: list[tuple[FvuSums, FireSums]] = []

    def patch(x: Float[Tensor, "b p d_in"]) -> Float[Tensor, "b p d_in"]:
        seen = x[counted].float().to(sae.W_enc.device)
        z = sae.encode_sparse(seen)
        x_hat = sae.decode_sparse(z)[-1]
        sums.append((fvu_update(seen, x_hat), fire_rate_update(z)))
        return placed(x, counted, x_hat)

    def ablate(x: Float[Tensor, "b p d_in"]) -> Float[Tensor, "b p d_in"]:
        return placed(x, counted, mean.expand(int(counted.sum()), -1))

    clean = logits(model, batch.ids, batch.mask)
    patched = logits_with(model, batch.ids, batch.mask, hook, patch)
    kl = kl_update(batch.predictions(clean), batch.predictions(patched))
    passes = (clean, patched, logits_with(model, batch.ids, batch.mask, hook, ablate))
    return (*sums[0], ce_recovered_update(*(_losses(each, batch) for each in passes)), kl)


def _losses(scores: Float[Tensor, "b p vocab"], batch: DocumentBatch) -> Float[Tensor, " n"]:
    """Next-token losses in nats where a token that counts is followed by one that counts."""
    return torch.nn.functional.cross_entropy(
        batch.predictions(scores).float(), batch.successors.to(scores.device), reduction="none"
    )


def _evaluation(fvu: FvuSums, fires: FireSums, ce: CeSums) -> Evaluation:
    rates = fire_rate_compute(fires)
    logs = rates[rates > 0].log10().clamp(FIRE_RATE_EDGES[0], FIRE_RATE_EDGES[-1])
    counts, _ = np.histogram(logs.cpu().numpy(), bins=np.array(FIRE_RATE_EDGES))
    costs = bool(ce.ablated > ce.clean)
    n_predicted = ce.n_tokens or math.nan
    return Evaluation(
        fvu=fvu_compute(fvu),
        l0=rates.sum().item(),
        ce_clean=ce.clean.item() / n_predicted,
        ce_patched=ce.patched.item() / n_predicted,
        ce_ablated=ce.ablated.item() / n_predicted,
        kl=math.nan,
        ce_recovered=ce_recovered_compute(ce) if costs else math.nan,
        dead_fraction=(rates == 0).double().mean().item(),
        fire_rate_counts=tuple(counts.tolist()),
        n_tokens=fires.n_tokens,
        n_predicted=ce.n_tokens,
    )
