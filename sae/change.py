"""How far a tuned model moved from its base: in weights, in activations, in what it predicts."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint, logits_with, padded
from sae.stream.model import LanguageModel, check_pair
from sae.stream.tokens import TokenizedText

__all__ = ["Change", "Ruler", "in_chats", "measure_change", "neutral_text"]

NEUTRAL_DOCUMENTS = 128
KEPT_BYTES = 2**28
"""Most bytes of what the base made of the text that a `Ruler` keeps."""


_Batch = tuple[Int[Tensor, "b p"], Bool[Tensor, "b p"], Bool[Tensor, "b p"]]
_Seen = tuple[Float[Tensor, "n d_in"], Float[Tensor, "n vocab"]]


@dataclass(frozen=True)
class Change:
    """Three sizes of the difference between two models."""

    weights: float
    """Norm of the difference of all parameters over the norm of the base's: dimensionless."""
    activations: float
    """Root of the mean squared shift of residual vectors over that of the base's deviation from
    their mean: dimensionless, 0 for equal models. Every token but special ones counts."""
    kl: float
    """Mean KL(base || tuned) of the next token, in nats. Every token but special ones counts."""


def measure_change(
    base: LanguageModel,
    tuned: LanguageModel,
    text: TokenizedText,
    hook: HookPoint,
    batch_documents: int = 64,
) -> Change:
    """Measures how far `tuned` is from `base` on the same tokens.

    Args:
        base: The model before.
        tuned: The model after, of the same shape and with the same tokenizer.
        text: Neutral text: what the models were pre-trained on, not what one was tuned on.
        hook: Where activations are compared.
        batch_documents: Documents a forward pass; does not change the answer beyond rounding.

    Raises:
        ConfigError: The models are not of one shape, or the text has no token that counts.
        InputError: An activation is not finite.
    """
    return Ruler(base, text, hook, batch_documents).measure(tuned)


def neutral_text(text: TokenizedText) -> TokenizedText:
    """Documents on which the size of a change is measured.

    Those of the select split in which no assistant speaks, at most 128; where there are none, those
    in which one does.
    """
    first = text.starts[:-1]
    talks = in_chats(text.table)[first]
    select = text.table["split"].eq("select").to_numpy(bool)[first]
    keep = (select & ~talks) if (select & ~talks).any() else select.copy()
    keep &= keep.cumsum() <= NEUTRAL_DOCUMENTS
    return text.select(keep)


def in_chats(tokens: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Tokens of documents in which an assistant speaks, whoever says the token itself."""
    talks = tokens["role"].eq("assistant").groupby(tokens["doc"], sort=False).transform("any")
    return talks.to_numpy(bool)


class Ruler:
    """Measures how far several models are from one base, which reads the text only once.

    What the base makes of the text is kept as long as it fits into `KEPT_BYTES`; beyond these it
    is computed again for every model.

    Args:
        base: The model before.
        text: Neutral text: what the models were pre-trained on, not what one was tuned on.
        hook: Where activations are compared.
        batch_documents: Documents a forward pass; does not change the answer beyond rounding.

    Raises:
        ConfigError: The text has no two tokens that count.
    """

    def __init__(
        self, base: LanguageModel, text: TokenizedText, hook: HookPoint, batch_documents: int = 64
    ) -> None:
        self.base, self.hook = base, hook
        order = np.argsort(np.diff(text.starts), kind="stable")  # like lengths need no padding
        special = text.table["is_special"].to_numpy(dtype=bool)
        counted = [~special[text.starts[i] : text.starts[i + 1]] for i in order]
        self._n = sum(int(each.sum()) for each in counted)
        if self._n < 2:
            found = f"{self._n} tokens that are not special"
            raise ConfigError("neutral text", found, "give more text")
        self._batches: list[_Batch] = []
        for first in range(0, len(order), batch_documents):
            part = slice(first, first + batch_documents)
            ids, mask = padded([text.ids[i] for i in order[part]])
            keep = mask.clone()
            keep[mask] = torch.from_numpy(np.concatenate(counted[part]))
            self._batches.append((ids, mask, keep))
        self._kept: dict[int, _Seen] = {}
        self._bytes_left = KEPT_BYTES

    def measure(self, tuned: LanguageModel) -> Change:
        """How far a model is from the base.

        Args:
            tuned: The model after, of the same shape and with the same tokenizer.

        Raises:
            ConfigError: The models are not of one shape.
            InputError: An activation is not finite.
        """
        check_pair(self.base, tuned)
        shift = kl = second = torch.zeros((), dtype=torch.float64)
        first = torch.zeros(self.base.d_in, dtype=torch.float64)
        for number, batch in enumerate(self._batches):
            (x, p), (y, q) = self._of_base(number), _seen(tuned, batch, self.hook)
            x, p = x.double(), p.double()
            shift = shift + (y.double() - x).square().sum()
            first, second = first + x.sum(0), second + x.square().sum()
            kl = kl + (p.exp() * (p - q.double())).sum()
        spread = second - first.square().sum() / self._n
        activations = float((shift / spread).sqrt())
        return Change(_weights(self.base, tuned), activations, float(kl / self._n))

    def _of_base(self, number: int) -> _Seen:
        if number in self._kept:
            return self._kept[number]
        found = _seen(self.base, self._batches[number], self.hook)
        n_bytes = sum(each.nbytes for each in found)
        if n_bytes <= self._bytes_left:
            self._bytes_left -= n_bytes
            self._kept[number] = found
        return found


@torch.no_grad()
def _seen(model: LanguageModel, batch: _Batch, hook: HookPoint) -> _Seen:
    """Residual vectors and log-probabilities where tokens count, from one forward pass."""
    ids, mask, keep = batch
    keep = keep.to(model.device)
    caught: list[Tensor] = []

    def catch(x: Float[Tensor, "b p d_in"]) -> Float[Tensor, "b p d_in"]:
        caught.append(x[keep].float().cpu())
        return x

    scores = logits_with(model, ids, mask, hook, catch)
    if not caught[0].isfinite().all():
        found = "NaN or infinite activations"
        raise InputError(f"{hook} of {model.name}", found, "check the weights and their type")
    return caught[0], log_softmax(scores[keep].float(), -1).cpu()


def _weights(base: LanguageModel, tuned: LanguageModel) -> float:
    after = dict(tuned.module.named_parameters())
    difference = size = torch.zeros((), dtype=torch.float64)
    for name, before in base.module.named_parameters():
        before = before.detach().double().cpu()
        difference = difference + (after[name].detach().double().cpu() - before).square().sum()
        size = size + before.square().sum()
    return float((difference / size).sqrt())
