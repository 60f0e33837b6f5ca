"""A finished dictionary + its model + text -> the dictionary, tuned on what the model then says.

The last and optional part of a fit: reconstructions take the place of the model's residual vectors,
and the change of its predictions is part of the loss. Saving, evaluating and stopping are lines of
the script that takes the records, as for `training.loop.fit`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.dictionary.losses import Loss, Pass, dictionary_loss
from sae.dictionary.metrics import fvu_compute, fvu_update, l0_compute, l0_update
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError, NumericalError
from sae.stream.activations import HookPoint, logits, logits_with, outliers
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText
from training.config import TrainConfig
from training.optim import adam, step_, width_lr
from training.patching import DocumentBatch, document_batch, placed
from training.schedules import rate_factor

__all__ = ["FinetuneRecord", "finetune", "finetune_config", "kl_balanced", "kl_divergence"]

SHARE = 0.05
"""Tokens of the fine-tuning over those of the fit: 25 of 500 million in Karvonen 2025."""


@dataclass(frozen=True)
class FinetuneRecord:
    """What one step gave."""

    step: int
    """Optimiser steps taken, this one included."""

    n_tokens: int
    """Tokens reconstructed, this step's included."""

    loss: Loss
    """The step's loss, before its update; it holds no graph. `kl` is in nats a prediction."""

    metrics: dict[str, float]
    """`fvu` and `l0` of the step's batch, `grad_norm` before clipping, `lr`."""


def finetune_config(fitted: TrainConfig, d_sae: int) -> TrainConfig:
    """The run that ends a fit: a twentieth of its tokens, its rate as low as it then would be.

    A fit whose rate falls over its last fifth is at a quarter of its peak where the last twentieth
    begins. So the run begins there and falls over its whole length, after a warm-up, since Adam
    starts from zero.

    Args:
        fitted: The run that fitted the dictionary.
        d_sae: Latents of the dictionary, which decide the rate where that run does not.

    Returns:
        The run.

    Example:
        >>> run = finetune_config(TrainConfig(n_tokens=1000, lr=4e-3), d_sae=8)
        >>> run.n_tokens, run.lr, run.decay
        (50, 0.001, 1.0)
    """
    falling = min(1.0, SHARE / fitted.decay) if fitted.decay else 1.0
    peak = width_lr(d_sae) if fitted.lr is None else fitted.lr
    return replace(
        fitted,
        n_tokens=max(1, round(SHARE * fitted.n_tokens)),
        lr=falling * peak,
        decay=1.0,
    )


def kl_divergence(
    clean: Float[Tensor, "n vocab"], patched: Float[Tensor, "n vocab"]
) -> Float[Tensor, ""]:
    """Mean over predictions of KL(clean || patched), differentiable with respect to `patched`.

    Args:
        clean: Logits of the model; no gradient reaches them.
        patched: Logits of the model with reconstructions in place.

    Returns:
        Nats, at least 0 up to rounding; 0 where there is no prediction. `metrics.kl_update` is the
        same number without a gradient.

    Example:
        >>> even, sure = torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]])
        >>> round(kl_divergence(sure, even).item(), 4)  # log 2
        0.6931
    """
    p, log_q = clean.detach().float().softmax(-1), patched.float().log_softmax(-1)
    total = torch.nn.functional.kl_div(log_q, p, reduction="sum")  # 0 where p is 0
    return total / max(1, len(clean))


def kl_balanced(loss: Loss, kl: Float[Tensor, ""]) -> Loss:
    """A dictionary's loss with a KL beside the reconstruction error, each of equal size.

    The two count half, KL as many times over as it takes to be as large as the error, so that the
    sum has the error's size and what else is in the loss, and the rate, need no other value. No
    gradient reaches the factor.

    Args:
        loss: From `dictionary_loss`.
        kl: From `kl_divergence`.

    Returns:
        The loss with a term `kl`; its weight is 0 where there is no KL to lower.

    Source:
        Karvonen 2025, "Revisiting end-to-end sparse autoencoder training: a short finetune is all
        you need", arXiv:2503.17272. Differs from it: the error is a mean over nested prefixes,
        where the dictionary has any; KL is of the whole dictionary.

    Example:
        >>> error = Loss({"reconstruction": torch.tensor(6.0)}, {"reconstruction": 1.0})
        >>> both = kl_balanced(error, torch.tensor(2.0))
        >>> dict(both.weights), both.total.item()
        ({'reconstruction': 0.5, 'kl': 1.5}, 6.0)
    """
    size, nats = loss.terms["reconstruction"].item(), kl.item()
    weight = 0.5 * size / nats if nats > 0 else 0.0
    weights = {**loss.weights, "reconstruction": 0.5 * loss.weights["reconstruction"], "kl": weight}
    return Loss({**loss.terms, "kl": kl}, weights)


def finetune(
    sae: Sae, model: LanguageModel, text: TokenizedText, hook: HookPoint, config: TrainConfig
) -> Iterator[FinetuneRecord]:
    """Tunes `sae` in place, one record a step, until `config.n_tokens` were reconstructed.

    Reconstructions take the place of the residual vectors of the tokens a dictionary is fitted on;
    special tokens, outliers of the norm among a step's tokens, and padding keep their own. KL
    counts where `training.evaluate.evaluate` counts losses. Only parameters of `sae` move, decoder
    rows keep norm 1, and thresholds no gradient moves stay as they are: latents are chosen as
    they will be when the dictionary is used. No dead latent is revived.

    Touches no file, no dashboard and no clock: dictionary, model, text and configuration decide
    every bit of the result. Documents come in an order drawn from `config.seed` for each epoch, as
    many a step as hold `config.batch_tokens` tokens; a step keeps a few times that many logits.

    Args:
        sae: A finished dictionary in the scale `training.continuation.continued` gives it, for the
            rate is one for inputs of unit size. Fold it afterwards.
        model: The model it was fitted on; left alone.
        text: Documents to tune on.
        hook: Where it was fitted.
        config: The run. Of its fields `aux_weight`, `relative_error`, `dead_after_tokens`
            and `encoder_dtype` play no part.

    Returns:
        An iterator that takes one step for each record it is asked for; at its end `sae` is in
        evaluation mode, as it is throughout.

    Raises:
        ConfigError: The dictionary is a crosscoder or of another width, or the hook is missing.
        InputError: No token of the text counts.
        NumericalError: The loss or its gradient is not finite; parameters are as they were after
            the last record.

    Source:
        Karvonen 2025, arXiv:2503.17272. Differs from it: Adam and its rate begin anew, and
        special tokens and outliers are left alone.
    """
    if sae.config.crosscoder is not None:
        n = sae.config.crosscoder.n_models
        do = "give a dictionary fitted on one model"
        raise ConfigError("to fine-tune a dictionary on KL", f"a crosscoder of {n} models", do)
    if sae.config.d_in != model.d_in:
        found = f"{model.name} of width {model.d_in}"
        do = "give the model it was fitted on"
        raise ConfigError(f"a model for a dictionary of width {sae.config.d_in}", found, do)
    if not (~text.table["is_special"].to_numpy(dtype=bool)).any():
        raise InputError("text to fine-tune on", "special tokens alone", "give text with words")
    return _Run(sae, model, text, hook, config).records()


class _Run:
    """What changes while a dictionary is tuned."""

    def __init__(
        self,
        sae: Sae,
        model: LanguageModel,
        text: TokenizedText,
        hook: HookPoint,
        config: TrainConfig,
    ) -> None:
        self.sae, self.model, self.text, self.hook, self.config = sae, model, text, hook, config
        self.optimiser = adam(sae, config)
        self.step = self.n_tokens = 0

    def records(self) -> Iterator[FinetuneRecord]:
        """One record a step, until the last token."""
        batches = _batches(self.text, self.config.batch_tokens, self.config.seed)
        while self.n_tokens < self.config.n_tokens:
            yield self.take(next(batches))

    def take(self, batch: DocumentBatch) -> FinetuneRecord:
        """One step on some documents."""
        self.sae.eval()
        loss, output, x = self.loss(batch)
        self.backward(loss)
        rate = float(self.optimiser.defaults["lr"])
        rate *= rate_factor(self.n_tokens + len(x) / 2, self.config)
        norm = step_(self.sae, self.optimiser, rate, self.config.grad_clip)
        self.step, self.n_tokens = self.step + 1, self.n_tokens + len(x)
        metrics = {
            "fvu": fvu_compute(fvu_update(x, output.x_hat)),
            "l0": l0_compute(l0_update(output.z)),
            "grad_norm": norm.item(),
            "lr": rate,
        }
        terms = {name: each.detach() for name, each in loss.terms.items()}
        return FinetuneRecord(self.step, self.n_tokens, Loss(terms, loss.weights), metrics)

    def loss(self, batch: DocumentBatch) -> tuple[Loss, Pass, Float[Tensor, "n d_in"]]:
        """The loss on some documents, the dictionary's pass, and what it reconstructed."""
        found: list[tuple[Loss, Pass, Tensor]] = []

        def patch(x: Float[Tensor, "b p d_in"]) -> Float[Tensor, "b p d_in"]:
            where = _usual(x, batch)
            seen = x[where].float().to(self.sae.W_enc.device)
            loss, output = dictionary_loss(self.sae, seen)
            found.append((loss, output, seen))
            return placed(x, where, output.x_hat)

        clean = logits(self.model, batch.ids, batch.mask)
        patched = logits_with(self.model, batch.ids, batch.mask, self.hook, patch, True)
        kl = kl_divergence(batch.predictions(clean), batch.predictions(patched))
        loss, output, x = found[0]
        return kl_balanced(loss, kl.to(self.sae.W_enc.device)), output, x

    def backward(self, loss: Loss) -> None:
        """Fresh gradients of the total, unless it is not a number."""
        total = loss.total
        if not torch.isfinite(total):
            terms = {name: each.item() for name, each in loss.terms.items()}
            found = f"{terms} at step {self.step + 1}"
            do = "lower lr, or look for activations that are not finite"
            raise NumericalError("a finite loss", found, do)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()


def _usual(x: Float[Tensor, "b p d_in"], batch: DocumentBatch) -> Bool[Tensor, "b p"]:
    """Tokens whose vectors are replaced: neither special nor an outlier among the real tokens."""
    mask, where = batch.mask.to(x.device), batch.counted.to(x.device, copy=True)
    where[mask] &= ~outliers(x[mask].float())
    return where


def _batches(text: TokenizedText, n_least: int, seed: int) -> Iterator[DocumentBatch]:
    """Documents for ever, shuffled by epoch, so many a batch as hold `n_least` tokens."""
    counted = (~text.table["is_special"].to_numpy(dtype=bool)).astype(int)
    n_of_document = np.add.reduceat(counted, text.starts[:-1])
    rows: list[int] = []
    for epoch in count():
        for row in np.random.default_rng((seed, epoch)).permutation(len(text.ids)).tolist():
            rows.append(row)
            if n_of_document[rows].sum() >= n_least:
                yield document_batch(text, rows)
                rows = []
