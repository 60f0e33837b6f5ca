"""How far a tuned model moved from its base: in weights, in activations, in what it predicts."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, logits, padded
from sae.stream.model import LanguageModel, check_pair
from sae.stream.tokens import TokenizedText

__all__ = ["Change", "measure_change"]


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
    """
    check_pair(base, tuned)
    real = ~torch.from_numpy(text.table["is_special"].to_numpy(dtype=bool, copy=True))
    n, d_in = int(real.sum()), base.d_in
    if n < 2:
        raise ConfigError("neutral text", f"{n} tokens that are not special", "give more text")
    shift = kl = torch.zeros((), dtype=torch.float64)
    first, second = torch.zeros(d_in, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(text.ids), batch_documents):
            ids, mask = padded(text.ids[start : start + batch_documents])
            rows = slice(int(text.starts[start]), int(text.starts[start]) + int(mask.sum()))
            x, y = (activations(m, ids, mask, [hook])[hook][mask].double() for m in (base, tuned))
            x, y, kept = x.cpu(), y.cpu(), real[rows]
            shift = shift + (y - x)[kept].square().sum()
            first, second = first + x[kept].sum(0), second + x[kept].square().sum()
            kl = kl + _divergence(base, tuned, ids, mask)[kept].sum()
    spread = second - first.square().sum() / n
    return Change(_weights(base, tuned), float((shift / spread).sqrt()), float(kl / n))


def _divergence(
    base: LanguageModel, tuned: LanguageModel, ids: Int[Tensor, "b p"], mask: Bool[Tensor, "b p"]
) -> Float[Tensor, " n"]:
    p, q = (log_softmax(logits(m, ids, mask)[mask].float(), -1).double() for m in (base, tuned))
    return (p.exp() * (p - q)).sum(-1).cpu()


def _weights(base: LanguageModel, tuned: LanguageModel) -> float:
    after = dict(tuned.module.named_parameters())
    difference = size = torch.zeros((), dtype=torch.float64)
    for name, before in base.module.named_parameters():
        before = before.detach().double().cpu()
        difference = difference + (after[name].detach().double().cpu() - before).square().sum()
        size = size + before.square().sum()
    return float((difference / size).sqrt())
