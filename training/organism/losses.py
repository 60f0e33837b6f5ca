"""What a language model loses on documents: by token, by document and on average."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

__all__ = ["Batch", "document_losses", "losses", "mean_loss"]


@dataclass(frozen=True)
class Batch:
    """Padded documents, and which of their tokens the loss counts."""

    ids: Int[Tensor, "b p"]
    """Token ids, padded on the right."""
    mask: Bool[Tensor, "b p"]
    """True where a token is real."""
    scored: Bool[Tensor, "b p"]
    """True where the prediction of this very token counts; never at position 0."""

    @property
    def n_tokens(self) -> int:
        """Real tokens, scored or not."""
        return int(self.mask.sum())


def losses(module: PreTrainedModel, batch: Batch) -> Float[Tensor, " n"]:
    """Minus log probability of every scored token given those before it, in nats."""
    ids, counted = batch.ids.to(module.device), batch.scored[:, 1:].to(module.device)
    logits = module(input_ids=ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits[counted], ids[:, 1:][counted], reduction="none")


@torch.no_grad()
def mean_loss(module: PreTrainedModel, held_out: Iterable[Batch]) -> float:
    """Mean loss over all scored tokens, in nats a token."""
    total, n = 0.0, 0
    for batch in held_out:
        found = losses(module, batch).double()
        total, n = total + float(found.sum()), n + len(found)
    return total / n


@torch.no_grad()
def document_losses(
    module: PreTrainedModel, held_out: Iterable[Batch]
) -> Float[np.ndarray, "documents 2"]:
    """Loss of every document, in nats, and how many of its tokens are scored.

    Args:
        module: The model.
        held_out: Documents; those of which nothing is scored have no row.
    """
    found = []
    for batch in held_out:
        row = batch.scored[:, 1:].nonzero()[:, 0].cpu().numpy()
        each = losses(module, batch).double().cpu().numpy()
        found.append(np.stack([np.bincount(row, each), np.bincount(row)], 1))
    every = np.concatenate(found)
    return every[every[:, 1] > 0]
