"""The bench on which every model is laid: the same held-out tokens, and the base model's side.

Tokens that count are those of the splits select and confirm, special tokens and norm outliers of
the base model apart. Every table and matrix here has one row a counted token, in one order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.latents.profiles import strata
from analysis.latents.readings import reading
from analysis.latents.traces import Firing, firing
from analysis.statistics.intervals import Blocks, assign_blocks, resample_weights
from sae.dictionary.sae import Sae
from sae.stream.activations import HookPoint, activations, outliers, padded
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText

__all__ = ["Bench", "ModelBench", "lay_bench", "lay_vectors", "residuals", "through"]

CHUNK = 4096
DOCUMENTS_A_PASS = 16


@dataclass(frozen=True, eq=False)
class Bench:
    """Held-out tokens with the base model's residual vectors."""

    table: pd.DataFrame
    """All tokens, those that do not count among them."""
    counted: Bool[np.ndarray, " n_all"]
    """Which rows of `table` count."""
    tokens: pd.DataFrame
    """The rows that count."""
    blocks: Blocks
    """Resampling block of every counted token."""
    weights: Float[np.ndarray, "resamples n_blocks"]
    """Resamples of the blocks, the same for every statistic."""
    x: Float[np.ndarray, "n d_in"]
    """The base model's residual vectors."""

    @cached_property
    def strata(self) -> Int[np.ndarray, " n"]:
        """Stratum of every counted token (`profiles.strata`)."""
        return strata(self.tokens)

    def at(self, role: str, context: str | None = None) -> Bool[np.ndarray, " n"]:
        """Tokens of a role, inside a turn, in one context or in all."""
        mine = (self.tokens["role"] == role).to_numpy()
        return mine if context is None else mine & (self.tokens["context"] == context).to_numpy()

    def in_split(self, split: str) -> Bool[np.ndarray, " n"]:
        """Tokens of documents of a split."""
        return (self.tokens["split"] == split).to_numpy()


@dataclass(frozen=True, eq=False)
class ModelBench(Bench):
    """The same, with the model that the vectors are of, so that others can be laid beside it."""

    base: LanguageModel
    """The model before."""
    hook: HookPoint
    """Where residual vectors are taken."""
    text: TokenizedText
    """All tokens."""


def lay_bench(
    base: LanguageModel, hook: HookPoint, text: TokenizedText, seed: int = 0
) -> ModelBench:
    """Lays the base model on the bench.

    Args:
        base: The model before.
        hook: Where residual vectors are taken.
        text: Tokens of held-out documents.
        seed: Of the resampling blocks and of the resamples.

    Raises:
        ConfigError: Fewer than 8 documents.
    """
    whole = _harvested(base, hook, text, np.ones(text.n_tokens, bool))
    laid = lay_vectors(text.table, whole, outliers(torch.from_numpy(whole)).numpy(), seed)
    return ModelBench(**vars(laid), base=base, hook=hook, text=text)


def lay_vectors(
    table: pd.DataFrame,
    x: Float[np.ndarray, "n_all d_in"],
    outlier: Bool[np.ndarray, " n_all"],
    seed: int = 0,
) -> Bench:
    """Lays residual vectors on the bench.

    Args:
        table: Labels, one row a token of held-out documents.
        x: The base model's residual vectors of all of them.
        outlier: Which of them are norm outliers.
        seed: Of the resampling blocks and of the resamples.

    Raises:
        ConfigError: Fewer than 8 documents.
    """
    counted = ~table["is_special"].to_numpy(bool) & ~outlier
    tokens = table.loc[counted].reset_index(drop=True)
    blocks = assign_blocks(tokens["doc"], seed=seed)
    weights = resample_weights(blocks.n_blocks, seed=seed)
    return Bench(table, counted, tokens, blocks, weights, x[counted])


def residuals(
    bench: ModelBench, model: LanguageModel, mask: Bool[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "kept d_in"]:
    """Another model's residual vectors on the counted tokens, or on those of a mask over them."""
    wanted = bench.counted.copy()
    if mask is not None:
        wanted[wanted] = mask
    return _harvested(model, bench.hook, bench.text, wanted)


def through(bench: Bench, dictionary: Sae, x: Float[np.ndarray, "n d_in"]) -> Firing:
    """What a dictionary makes of residual vectors on the bench, with the moments of its error."""
    found = firing(dictionary, _chunks(x), bench.blocks)
    return replace(found, reading=reading(dictionary, x))


def _chunks(x: Float[np.ndarray, "n d_in"]) -> Iterator[Float[Tensor, "chunk d_in"]]:
    return iter(torch.from_numpy(x).split(CHUNK))


@torch.no_grad()
def _harvested(
    model: LanguageModel, hook: HookPoint, text: TokenizedText, wanted: Bool[np.ndarray, " n_all"]
) -> Float[np.ndarray, "kept d_in"]:
    """Residual vectors of the wanted rows; only documents with one are read.

    Documents of like length share a pass, so that little is spent on padding.
    """
    out = np.empty((int(wanted.sum()), model.d_in), np.float32)
    starts = np.concatenate([[0], np.cumsum(np.add.reduceat(wanted.astype(int), text.starts[:-1]))])
    lengths = np.diff(text.starts)
    order = np.argsort(lengths, kind="stable")
    order = order[np.diff(starts)[order] > 0]
    for first in range(0, len(order), DOCUMENTS_A_PASS):
        batch = order[first : first + DOCUMENTS_A_PASS]
        ids, mask = padded([text.ids[i] for i in batch])
        found = activations(model, ids, mask, [hook])[hook]
        for vectors, i in zip(found.float().cpu().numpy(), batch, strict=True):
            keep = wanted[text.starts[i] : text.starts[i + 1]]
            out[starts[i] : starts[i + 1]] = vectors[: lengths[i]][keep]
    return out
