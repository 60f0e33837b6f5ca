"""Activation caches that fit each other: the same tokens and labels, and no model twice."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from pandas.api.types import is_numeric_dtype

from analysis.latents.bench import CHUNK
from sae.errors import InputError
from sae.stream.cache import ActivationCache

__all__ = ["LABELS", "open_caches", "require_apart", "vectors"]

LABELS = ("doc", "pos", "token_id", "token", "role", "persona", "context", "split")
"""Columns that every token table must have."""
FLAGS = ("is_special", "is_outlier")
"""Columns by which the base model's table says which tokens do not count."""
SAME = ("doc", "pos", "token_id")
NEVER_NULL = ("doc", "pos", "token_id", "role", "context", "split")
WORDS = ("role", "persona", "context", "split")


def open_caches(base: Path, others: Sequence[Path]) -> list[ActivationCache]:
    """Caches, once they are seen to hold the same tokens in one order, that of the base first.

    Args:
        base: The base model's cache.
        others: The other models'.

    Raises:
        InputError: A cache is missing or damaged, lacks a label, has a document in two splits, or
            is of other tokens, another order, other labels, another hook or another width than the
            base's.
    """
    found = [ActivationCache.open(each) for each in (base, *others)]
    first = found[0]
    _require_labels(first.tokens, f"labels of {base}")
    for path, cache in zip(others, found[1:], strict=True):
        asked, do = f"{path} beside {base}", "harvest both over one text"
        mine, its = cache.manifest["hook"], first.manifest["hook"]
        if mine != its:
            raise InputError(asked, f"hook {mine}, not {its}", "harvest both at one hook")
        if cache.d_in != first.d_in:
            raise InputError(asked, f"width {cache.d_in}, not {first.d_in}", do)
        if cache.n_tokens != first.n_tokens:
            raise InputError(asked, f"{cache.n_tokens} tokens, not {first.n_tokens}", do)
        # A cache may say nothing of roles and the like; what it says must be what the base's says.
        said = [name for name in LABELS if name not in SAME and name in cache.tokens]
        for name in (*SAME, *said):
            differs = np.flatnonzero(_column(cache, name) != _column(first, name))
            if len(differs):
                raise InputError(asked, f"another {name} from token {differs[0]} on", do)
    return found


def _require_labels(tokens: pd.DataFrame, asked: str) -> None:
    do = "write it with one label of each kind for every token"
    if missing := [name for name in (*LABELS, *FLAGS) if name not in tokens]:
        raise InputError(asked, f"no column {', '.join(missing)}", do)
    for name in NEVER_NULL:
        if len(bare := np.flatnonzero(tokens[name].isna())):
            raise InputError(asked, f"no {name} for {len(bare)} tokens, first {bare[0]}", do)
    _require_kinds(tokens, asked)
    n_splits = tokens.groupby("doc", sort=False)["split"].nunique()
    if len(several := n_splits.index[n_splits.to_numpy() > 1]):
        doc = several[0]
        splits = tokens.loc[tokens["doc"] == doc, "split"].unique()
        found = f"document {doc} in splits {' and '.join(map(str, splits))}"
        raise InputError(asked, found, "put all of a document in one split")


def _require_kinds(tokens: pd.DataFrame, asked: str) -> None:
    """Labels are text, positions whole numbers, flags true or false."""
    for name in WORDS:
        if others := [one for one in tokens[name].dropna().unique() if not isinstance(one, str)]:
            found = f"{name} {others[0]}, of type {type(others[0]).__name__}"
            raise InputError(asked, found, f"write each {name} as text")
    pos = tokens["pos"]
    if not is_numeric_dtype(pos) or np.any(pos.to_numpy(float) % 1 != 0):
        raise InputError(asked, f"pos of {pos.dtype} values", "give whole numbers")
    for name in FLAGS:
        if not np.all(tokens[name].isin((False, True))):
            found = f"{name} with values that are neither true nor false"
            raise InputError(asked, found, "give one or the other for every token")


def _column(cache: ActivationCache, name: str) -> np.ndarray:
    if name not in cache.tokens:
        return np.full(cache.n_tokens, None)
    column = cache.tokens[name]
    return column.astype(object).where(column.notna(), None).to_numpy()


def require_apart(caches: Mapping[str, ActivationCache]) -> None:
    """Makes sure that no two models are one: judged by itself, one is measured by its own errors.

    Nor is the base a null, the same weights twice: it moved by nothing, so nothing is judged by it.

    Args:
        caches: Of the same tokens, by what each is.

    Raises:
        InputError: Two hold the same vectors, in whatever shards.
    """
    for one, other in combinations(caches, 2):
        if _are_same(caches[one], caches[other]):
            found = f"the same vectors, {caches[one].path} and {caches[other].path}"
            raise InputError(f"{one} beside {other}", found, "give each its own model's cache")


def _are_same(one: ActivationCache, other: ActivationCache) -> bool:
    rows, hashes = (
        [[part[key] for part in each.manifest["shards"]] for each in (one, other)]
        for key in ("n", "sha256")
    )
    if hashes[0] == hashes[1] or rows[0] == rows[1]:
        return hashes[0] == hashes[1]
    for start in range(0, one.n_tokens, CHUNK):  # in other shards, hashes do not tell
        wanted = np.zeros(one.n_tokens, bool)
        wanted[start : start + CHUNK] = True
        if not np.array_equal(vectors(one, wanted), vectors(other, wanted)):
            return False
    return True


def vectors(
    cache: ActivationCache, wanted: Bool[np.ndarray, " n_all"]
) -> Float[np.ndarray, "n d_in"]:
    """Residual vectors of some tokens, shard by shard.

    Args:
        cache: The cache.
        wanted: Which tokens.

    Raises:
        InputError: A shard is damaged, or holds a vector that is not finite.
    """
    kept = []
    for number in range(cache.n_shards):
        mine = wanted[cache.rows(number)]
        if mine.any():
            kept.append(cache.shard(number).numpy()[mine])
    x = np.concatenate(kept) if kept else np.empty((0, cache.d_in), np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"vectors of {cache.path}", "NaN or infinite ones", "check the model")
    return x
