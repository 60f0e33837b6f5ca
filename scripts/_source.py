"""Activations to fit on: from a model as they are needed, or from a cache."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint, harvest, outliers
from sae.stream.buffer import CacheSource, ModelSource, Source, usual_tokens
from sae.stream.cache import ActivationCache, write_cache
from sae.stream.model import LanguageModel
from sae.stream.tokens import TokenizedText
from scripts._text import watched

__all__ = [
    "BUFFER_BYTES",
    "CONTINUED_SAMPLE_TOKENS",
    "cache_source",
    "harvest_into",
    "model_source",
    "sample_of",
    "shared_source",
    "with_shared_outliers",
]

BUFFER_BYTES = 2**28
"""Most bytes of activations that are shuffled at a time."""
CONTINUED_SAMPLE_TOKENS = 32768
"""Of which a continued dictionary's added latents take what is missed, rare features among it."""
CHUNK_DOCUMENTS = 64
SHARED = "is_outlier_of_base"


def model_source(model: LanguageModel, text: TokenizedText, hook: HookPoint) -> ModelSource:
    """Activations taken when they are needed; special tokens and outliers are left out."""
    return ModelSource(model, text, hook, _chunk_documents(model, text))


def harvest_into(
    out: Path, model: LanguageModel, text: TokenizedText, hook: HookPoint
) -> dict[str, int]:
    """Writes the cache of a text, showing how far it is; returns facts for the provenance."""
    with watched(model, "harvest", text.n_tokens):
        cache = write_cache(out, model, text, hook)
    return {"n_tokens": cache.n_tokens, "n_shards": cache.n_shards}


def _chunk_documents(model: LanguageModel, text: TokenizedText, n_models: int = 1) -> int:
    """Documents of a chunk, so few that the buffer mixes several chunks."""
    longest = 4 * n_models * model.d_in * max(map(len, text.ids))
    return max(1, min(CHUNK_DOCUMENTS, BUFFER_BYTES // 8 // longest))


def cache_source(path: Path, model: LanguageModel, hook: HookPoint) -> CacheSource:
    """The tokens of split fit in a cache of this model at this hook.

    Raises:
        ConfigError: The cache is of another hook or another model.
        InputError: There is no cache, it is damaged, or it holds no token of that split.
    """
    cache = ActivationCache.open(path)
    told = {"hook": str(hook), "d_in": model.d_in, "tokenizer_sha256": model.tokenizer_hash}
    for name, wanted in (told | {"weights_sha256": model.weights_sha256}).items():
        if (found := cache.manifest.get(name, wanted)) != wanted:
            asked = f"the cache {path} for {model.name} at {hook}"
            do = "harvest one from this model and hook, or leave out --activations"
            raise ConfigError(asked, f"a cache of {name} {found}, not {wanted}", do)
    if not _fit_tokens(cache.tokens).any():
        do = "harvest with --splits fit"
        raise InputError(f"tokens of split fit in {path}", "none", do)
    return CacheSource(cache, _fit_tokens)


def _fit_tokens(table: pd.DataFrame) -> np.ndarray:
    return usual_tokens(table) & (table["split"] == "fit").to_numpy(dtype=bool)


def with_shared_outliers(
    base: LanguageModel, text: TokenizedText, hook: HookPoint
) -> TokenizedText:
    """The text, its table marking what is an outlier for `base`, for `shared_source`."""
    with watched(base, "outliers of the base", text.n_tokens):
        norms = [
            found[hook].norm(dim=1, keepdim=True).cpu() for _, found in harvest(base, text, [hook])
        ]
    return TokenizedText(
        text.ids, text.table.assign(**{SHARED: outliers(torch.cat(norms)).numpy()})
    )


def shared_source(
    model: LanguageModel, text: TokenizedText, hook: HookPoint, n_models: int = 1
) -> ModelSource:
    """Activations of the same tokens, whatever the model: special ones and the base's outliers out.

    Chunks are for the vectors of `n_models` side by side.

    What is an outlier for one model need not be one for its twin; if each left out its own, the
    twins would see other tokens in another order.
    """
    size = _chunk_documents(model, text, n_models)
    return ModelSource(model, text, hook, size, _shared_tokens)


def _shared_tokens(table: pd.DataFrame) -> np.ndarray:
    return ~(table["is_special"] | table[SHARED]).to_numpy(dtype=bool)


def sample_of(source: Source, seed: int, n_tokens: int) -> Tensor:
    """About `n_tokens` vectors from chunks drawn by seed, to begin a dictionary with.

    Args:
        source: Activations.
        seed: Of the draw.
        n_tokens: How many; all where there are no more.
    """
    chunks: list[Tensor] = []
    for number in np.random.default_rng(seed).permutation(source.n_chunks).tolist():
        chunks.append(source.chunk(number))
        if sum(map(len, chunks)) >= n_tokens:
            break
    return torch.cat(chunks)[:n_tokens] if chunks else torch.empty(0, source.d_in)
