"""How much of a known dictionary a fitted one has found: matching, firing, reconstruction."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from benchmarks.truth.world import World
from sae.dictionary.metrics import FvuSums, fvu_compute, fvu_update

__all__ = [
    "MATCHED",
    "Matching",
    "Seen",
    "agreement",
    "f1_scores",
    "match",
    "matched_share",
    "noise_fvu",
    "random_directions",
    "scores",
]

MATCHED = 0.9
"""Least |cosine| at which a latent has found a feature."""


@dataclass(frozen=True)
class Matching:
    """Pairs of a true feature and a latent, each of either in at most one pair."""

    feature: np.ndarray
    """`[n_pairs]`"""
    latent: np.ndarray
    """`[n_pairs]`"""
    cosine: np.ndarray
    """Absolute cosine of each pair's directions, `[n_pairs]`, in [0, 1]."""


@dataclass(frozen=True)
class Seen:
    """A fitted dictionary, and its latents on the held-out tokens."""

    W_dec: np.ndarray
    """Directions `[d_sae, d_in]`, of any norm."""
    b_dec: np.ndarray
    """`[d_in]`; unit: activation."""
    z: csr_array
    """Latents `[n_tokens, d_sae]`, at least 0."""


def match(a: np.ndarray, b: np.ndarray) -> Matching:
    """The pairing of rows whose summed absolute cosine is largest (Hungarian matching).

    Args:
        a: Directions `[n, d_in]`, of any norm; a row of zeros has cosine 0 with everything.
        b: Others, `[m, d_in]`.

    Returns:
        `min(n, m)` pairs.

    Example:
        >>> found = match(np.eye(2), np.array([[0.0, -3.0], [1.0, 1.0]]))
        >>> found.latent.tolist(), found.cosine.round(3).tolist()
        ([1, 0], [0.707, 1.0])
    """
    a, b = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (a, b)
    )
    cosine = np.abs(a.astype(np.float64) @ b.astype(np.float64).T)
    feature, latent = linear_sum_assignment(cosine, maximize=True)
    return Matching(feature, latent, cosine[feature, latent].clip(0, 1))


def matched_share(matching: Matching, n_features: int) -> float:
    """Share of the true features that are in a pair of |cosine| 0.9 or more."""
    return float((matching.cosine >= MATCHED).sum() / n_features)


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute cosine of two dictionaries' latents under Hungarian matching, dead ones too."""
    return float(match(a, b).cosine.mean())


def f1_scores(both: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall of firing, for each pair; NaN where nothing was true.

    Args:
        both: Tokens on which feature and latent fire.
        true: Tokens on which the feature does.
        found: Tokens on which the latent does.

    Example:
        >>> f1_scores(np.array([1, 0]), np.array([2, 3]), np.array([2, 0])).tolist()
        [0.5, 0.0]
    """
    total = (true + found).astype(np.float64)
    return np.where(true > 0, 2 * both / np.maximum(total, 1), np.nan)


def random_directions(n: int, d_in: int, seed: int) -> np.ndarray:
    """The null of a dictionary: unit rows `[n, d_in]`, evenly spread."""
    rows = np.random.default_rng([seed, 7]).standard_normal((n, d_in)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scores(world: World, seen: Seen, stream: str) -> dict[str, float]:
    """The numbers of one dictionary.

    Args:
        world: The truth.
        seen: The dictionary, its latents being those of the first tokens of the stream.
        stream: Of held-out tokens.

    Returns:
        `matched_share` and `matched_cosine` of directions; `f1`, the mean over all pairs of F1 of
        firing (a latent or feature fires above 0), pairs that do not match well among them;
        `f1_matched`, over pairs of |cosine| 0.9 or more (NaN where there is none); `f1_parents`,
        over features that have children; `fvu`, `l0` and `dead_share`, the share of latents that
        fire on none of the tokens.
    """
    matching = match(world.directions, seen.W_dec)
    both, true = np.zeros(len(matching.feature), int), np.zeros(len(matching.feature), int)
    sums, first = [], 0
    fires = seen.z.astype(bool)
    for x, truth in world.chunks(stream, seen.z.shape[0]):
        rows = slice(first, first + len(x))
        is_true = truth[:, matching.feature] > 0
        both += (is_true & fires[rows][:, matching.latent].toarray()).sum(0)
        true += is_true.sum(0)
        sums.append(_fvu_sums(x, seen.z[rows] @ seen.W_dec + seen.b_dec))
        first += len(x)
    n_fires = np.bincount(seen.z.indices[seen.z.data > 0], minlength=seen.z.shape[1])
    f1 = f1_scores(both, true, n_fires[matching.latent])
    is_parent = np.isin(matching.feature, world.parents)
    return {
        "matched_share": matched_share(matching, len(world.directions)),
        "matched_cosine": float(matching.cosine.mean()),
        "f1": _mean(f1),
        "f1_matched": _mean(f1[matching.cosine >= MATCHED]),
        "f1_parents": _mean(f1[is_parent]),
        "fvu": _fvu(sums),
        "l0": float(n_fires.sum() / seen.z.shape[0]),
        "dead_share": float((n_fires == 0).mean()),
    }


def noise_fvu(world: World, stream: str, n_tokens: int) -> float:
    """FVU of the truth itself: what is noise in the first tokens of a stream."""
    rows = np.float32(world.scale) * world.directions
    return _fvu([_fvu_sums(x, truth @ rows) for x, truth in world.chunks(stream, n_tokens)])


def _fvu_sums(x: np.ndarray, x_hat: np.ndarray) -> FvuSums:
    return fvu_update(torch.from_numpy(x), torch.from_numpy(x_hat.astype(np.float32)))


def _fvu(parts: Iterable[FvuSums]) -> float:
    first, *rest = parts
    for each in rest:
        first = first + each
    return fvu_compute(first)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
