"""What pushing the residual vector of single tokens does to what the unembedding reads there.

A document is read once and its keys and values kept; a push then costs one token's pass instead of
a document's.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from sae.errors import ConfigError
from sae.stream.activations import HookPoint, padded, tapped
from sae.stream.model import LanguageModel

__all__ = ["pushed_states", "unembedding"]

DOCUMENTS_A_PASS = 16
TOKENS_A_PASS = 128
TOLERANCE = 1e-3  # of the states' own size, for a token read alone against one read in its document


def unembedding(model: LanguageModel) -> Float[Tensor, "v d"]:
    """The matrix that makes logits of what `pushed_states` gives, up to a constant a token.

    Args:
        model: A causal language model.

    Raises:
        ConfigError: Its logits are no product of a matrix.
    """
    return _head(model).weight.detach().float().cpu()


@torch.no_grad()
def pushed_states(
    model: LanguageModel,
    ids: Sequence[Int[np.ndarray, " _"]],
    at: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]],
    hook: HookPoint,
    pushes: Float[np.ndarray, "kinds n d_in"],
) -> Float[np.ndarray, "kinds n d"]:
    """How what the unembedding reads at a token changes when its residual vector is pushed.

    Every token is pushed alone, and read at its own place: later tokens cannot carry it on.

    Args:
        model: A causal language model.
        ids: Documents.
        at: For every push the document and the place of its token in it.
        hook: Where to push.
        pushes: What is added to the residual vector, for every kind of push and token; unit:
            activation.

    Returns:
        The changes, of the state that `unembedding` multiplies.

    Raises:
        ConfigError: The model has no such hook, or does not give a token read alone what it gives
            it in its document, as with an attention that slides or counts places in another way.
    """
    document, place = at
    out = np.empty((*pushes.shape[:2], _head(model).weight.shape[1]), np.float32)
    lengths = np.array([len(each) for each in ids])
    wanted = np.unique(document)
    wanted = wanted[np.argsort(lengths[wanted], kind="stable")]
    is_checked = False
    for first in range(0, len(wanted), DOCUMENTS_A_PASS):
        batch = wanted[first : first + DOCUMENTS_A_PASS]
        read = _Read(model, [ids[i] for i in batch], hook)
        where = np.full(len(ids), -1)
        where[batch] = np.arange(len(batch))
        mine = np.flatnonzero(where[document] >= 0)
        for start in range(0, len(mine), TOKENS_A_PASS):
            few = mine[start : start + TOKENS_A_PASS]
            row, column = torch.from_numpy(where[document[few]]), torch.from_numpy(place[few])
            before = read.states[row, column]
            if not is_checked:
                read.check(row, column, before)
                is_checked = True
            for kind, push in enumerate(pushes):
                after = read.alone(row, column, torch.from_numpy(push[few]))
                out[kind, few] = (after - before).float().cpu().numpy()
    return out


class _Read:
    """Some documents as a model has read them."""

    def __init__(
        self, model: LanguageModel, ids: Sequence[Int[np.ndarray, " _"]], hook: HookPoint
    ) -> None:
        self.model, self.hook, self.cache = model, hook, DynamicCache()
        self.ids, self.mask = padded(ids)
        places = torch.arange(self.ids.shape[1]).expand_as(self.ids)
        self.states = self._read(self.ids, self.mask, places, self.cache)

    def alone(
        self, row: Int[Tensor, " n"], column: Int[Tensor, " n"], push: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d"]:
        """States of tokens that are read once more, each pushed, after what stands before it."""
        cache = copy.deepcopy(self.cache)
        cache.batch_select_indices(row.to(self.model.device))
        before = torch.arange(self.ids.shape[1]) < column[:, None]
        mask = torch.cat([before, torch.ones(len(row), 1, dtype=torch.bool)], dim=1)

        def add(x: Float[Tensor, "n 1 d_in"]) -> Float[Tensor, "n 1 d_in"]:
            return x + push.to(x)[:, None]

        with tapped(self.model, self.hook, add):
            ids = self.ids[row, column][:, None]
            return self._read(ids, mask, column[:, None], cache)[:, 0]

    def check(
        self, row: Int[Tensor, " n"], column: Int[Tensor, " n"], before: Float[Tensor, "n d"]
    ) -> None:
        """That a token read alone has the state that it has in its document."""
        nothing = torch.zeros(len(row), self.model.d_in)
        off = (self.alone(row, column, nothing) - before).norm() / before.norm()
        if not off <= TOLERANCE:
            raise ConfigError(
                f"{self.model.name} reading one token after a document it has read",
                f"states that are {off:.1g} off",
                "leave effects out with --effects 0",
            )

    def _read(
        self, ids: Int[Tensor, "b p"], mask: Any, places: Int[Tensor, "b p"], cache: DynamicCache
    ) -> Float[Tensor, "b p d"]:
        device, caught = self.model.device, list[Tensor]()
        takes = inspect.signature(self.model.module.forward).parameters
        with suppress(_Caught), _heard(_head(self.model), caught):
            self.model.module(
                input_ids=ids.to(device),
                attention_mask=mask.to(device, torch.int64),
                position_ids=places.to(device),
                use_cache=True,
                **{"cache" if "cache" in takes else "past_key_values": cache},
            )
        return caught[0]


class _Caught(Exception):
    """Ends a pass at the unembedding, whose product is not needed."""


@contextmanager
def _heard(head: torch.nn.Module, caught: list[Float[Tensor, "b p d"]]) -> Iterator[None]:
    def hear(_: Any, args: tuple[Float[Tensor, "b p d"], ...]) -> None:
        caught.append(args[0])
        raise _Caught

    handle = head.register_forward_pre_hook(hear)
    try:
        yield
    finally:
        handle.remove()


def _head(model: LanguageModel) -> Any:
    head = model.module.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        found = "no matrix that makes logits"
        raise ConfigError(f"effects in {model.name}", found, "leave effects out with --effects 0")
    return head
