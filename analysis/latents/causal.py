"""What a latent does to the next token: ablated, and steered at several doses.

An intervention changes the residual vector of one token and is read at that token's own next-token
distribution, so that every context counts once and later tokens cannot carry it on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, logits_with, padded
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText

__all__ = ["Contexts", "contexts_of", "dose_response", "pushed"]

DOCUMENTS_A_PASS = 32
DOSES = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class Contexts:
    """Tokens of a text at which something is done, each in a pass of its own."""

    text: TokenizedText
    """The documents."""
    rows: Int[np.ndarray, " n"]
    """Rows of `text.table`."""

    def __post_init__(self) -> None:
        if not len(self.rows):
            raise ConfigError("an intervention", "no tokens", "give tokens on which a latent fires")

    @property
    def documents(self) -> Int[np.ndarray, " n"]:
        """Document of every context."""
        return np.searchsorted(self.text.starts, self.rows, side="right") - 1


def contexts_of(
    text: TokenizedText, where: Int[np.ndarray, " m"], n: int, seed: int = 0
) -> Contexts:
    """Some of the tokens on which a latent fires, spread over as many documents as there are.

    Args:
        text: The documents.
        where: Rows of `text.table` to take from.
        n: How many, at most.
        seed: Of which are taken.

    Raises:
        ConfigError: There are none.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(np.asarray(where, int))
    document = np.searchsorted(text.starts, shuffled, side="right") - 1
    turn = pd.Series(document).groupby(document).cumcount().to_numpy()
    return Contexts(text, np.sort(shuffled[np.argsort(turn, kind="stable")[:n]]))


@torch.no_grad()
def pushed(
    model: LanguageModel,
    hook: HookPoint,
    contexts: Contexts,
    push: Float[np.ndarray, "n d_in"] | None,
) -> Float[np.ndarray, "n vocab"]:
    """Log-probabilities of the next token after every context, its residual vector being pushed.

    To ablate a latent, push by minus its activation times its decoder row; to steer, by a dose.

    Args:
        model: Whose.
        hook: Where.
        contexts: At which tokens; the pass ends with them.
        push: What is added there; nothing where absent.

    Raises:
        ConfigError: The model has no such hook.
    """
    text, documents = contexts.text, contexts.documents
    last = contexts.rows - text.starts[documents]
    order = np.argsort(last, kind="stable")
    out = None
    for first in range(0, len(order), DOCUMENTS_A_PASS):
        mine = order[first : first + DOCUMENTS_A_PASS]
        ids, mask = padded([text.ids[documents[i]][: last[i] + 1] for i in mine])
        ends = torch.from_numpy(last[mine])
        extra = None if push is None else torch.from_numpy(push[mine].astype(np.float32))
        scores = logits_with(model, ids, mask, hook, partial(_moved, ends, extra))
        found = log_softmax(scores[torch.arange(len(mine)), ends].float(), dim=-1).cpu().numpy()
        out = np.empty((len(order), found.shape[1]), np.float32) if out is None else out
        out[mine] = found
    assert out is not None  # contexts are never empty
    return out


def _moved(
    ends: Int[Tensor, " b"], extra: Float[Tensor, "b d"] | None, x: Float[Tensor, "b p d"]
) -> Float[Tensor, "b p d"]:
    if extra is None:
        return x
    y = x.clone()
    y[torch.arange(len(ends)), ends] += extra.to(x)
    return y


def dose_response(
    model: LanguageModel,
    hook: HookPoint,
    row: Float[np.ndarray, " d_in"],
    contexts: Contexts,
    target: Int[np.ndarray, " n_tokens"],
    doses: Sequence[float] = DOSES,
    control: tuple[int, int] = (39, 0),
) -> pd.DataFrame:
    """What steering along a row does at every dose, beside random directions of the same length.

    Args:
        model: Whose.
        hook: Where.
        row: The direction, of any length; a dose of 1 adds one row.
        contexts: At which tokens.
        target: Token ids whose summed probability is followed.
        doses: How many rows are added.
        control: How many random directions, of the row's length and drawn with the covariance of
            the residual vectors at the contexts, and their seed.

    Returns:
        One row a dose: dose, target (mean change of the log of the targets' probability, nats),
        kl (mean KL from the model left alone, nats), and of each the control's median, least and
        most: of 39 a further one lies between these with a chance of 95 %.

    Raises:
        ConfigError: There is no target, or the contexts are all alike.
    """
    if not len(target):
        raise ConfigError("a dose response", "no target tokens", "name at least one")
    before = pushed(model, hook, contexts, None)
    rows = np.concatenate([row[None], _random(model, hook, contexts, row, control)])
    found = []
    for dose in doses:
        each = np.array([_done(model, hook, contexts, dose * r, before, target) for r in rows])
        numbers: dict[str, float] = {"dose": dose}
        for place, name in enumerate(("target", "kl")):
            low, middle, high = np.quantile(each[1:, place], [0, 0.5, 1])
            numbers |= {name: each[0, place], f"{name}_random": middle}
            numbers |= {f"{name}_random_low": low, f"{name}_random_high": high}
        found.append(numbers)
    return pd.DataFrame(found)


def _done(
    model: LanguageModel,
    hook: HookPoint,
    contexts: Contexts,
    push: np.ndarray,
    before: np.ndarray,
    target: np.ndarray,
) -> tuple[float, float]:
    """Mean change of the targets' log-probability, and mean KL from before."""
    after = pushed(model, hook, contexts, np.tile(push, (len(before), 1)))
    chosen = [np.logaddexp.reduce(each[:, target], axis=1) for each in (before, after)]
    kl = (np.exp(before) * (before - after)).sum(axis=1)
    return float((chosen[1] - chosen[0]).mean()), float(kl.mean())


def _random(
    model: LanguageModel,
    hook: HookPoint,
    contexts: Contexts,
    row: np.ndarray,
    control: tuple[int, int],
) -> Float[np.ndarray, "n d_in"]:
    """Directions of a row's length with the covariance of residual vectors: mixtures of them."""
    (n, seed), x = control, _residuals(model, hook, contexts)
    if np.allclose(x, x[0]):
        found = f"{len(x)} contexts with one residual vector"
        raise ConfigError("directions drawn like residual vectors", found, "give others")
    mixed = np.random.default_rng(seed).normal(size=(n, len(x))) @ (x - x.mean(axis=0))
    return np.linalg.norm(row) * mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def _residuals(
    model: LanguageModel, hook: HookPoint, contexts: Contexts
) -> Float[np.ndarray, "n d_in"]:
    documents = contexts.documents
    out = np.empty((len(documents), model.d_in))
    for document in np.unique(documents):
        mine = documents == document
        ids, mask = padded([contexts.text.ids[document]])
        x = activations(model, ids, mask, [hook])[hook][0]
        out[mine] = x[contexts.rows[mine] - contexts.text.starts[document]].float().cpu().numpy()
    return out
