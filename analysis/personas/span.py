"""The span of the persona latents, and how much of something lies inside it.

Any subspace holds some of any shift, so every share comes with what random subspaces of the same
rank hold, drawn with the covariance of the residuals themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.statistics.intervals import Blocks, Interval, interval, resample_weights
from sae.errors import InputError

__all__ = [
    "SpanShare",
    "contrast_span",
    "covariance_within_tokens",
    "null_shares",
    "paired_span_difference",
    "persona_span",
    "random_subspaces",
    "row_shares",
    "span_share",
    "varies",
    "within_tokens",
]


@dataclass(frozen=True)
class SpanShare:
    """Share of a shift's energy inside a span, with what random subspaces of its rank hold."""

    share: Interval
    """Share of the squared norm of the shift, its mean over tokens removed, in [0, 1]."""
    null: tuple[float, float]
    """The central 95 % of the random subspaces."""
    p_value: float
    """(1 + random subspaces that hold as much) / (1 + random subspaces)."""


def persona_span(
    rows: Float[np.ndarray, "n d_in"], energy: float = 0.9
) -> Float[np.ndarray, "rank d_in"]:
    """Orthonormal basis of the fewest directions that hold a share of the rows' energy.

    Args:
        rows: Decoder rows of the confirmed persona latents; each counts with norm 1.
        energy: Share of their squared norm to hold. The rows are not centred.

    Returns:
        The leading right singular vectors.

    Raises:
        InputError: No row, or a row of zeros.

    Example:
        >>> persona_span(np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])).shape
        (2, 3)
    """
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not len(rows) or not norms.all():
        raise InputError(
            "the span of persona latents",
            f"{len(rows)} rows, {int((norms == 0).sum())} of them zero",
            "pass the decoder rows of at least one confirmed latent",
        )
    return _leading(rows / norms, energy)


def _leading(rows: np.ndarray, energy: float) -> np.ndarray:
    _, singular, basis = np.linalg.svd(rows, full_matrices=False)
    held = np.cumsum(singular**2) / (singular**2).sum()
    return basis[: int(np.searchsorted(held, energy - 1e-9)) + 1]


def within_tokens(x: Float[np.ndarray, "n d_in"], token_id: np.ndarray) -> np.ndarray:
    """Residuals minus the mean of all residuals of the same token id.

    Args:
        x: Residual vectors.
        token_id: Token id of every row.
    """
    codes, names = pd.factorize(token_id)
    total = Blocks(codes, len(names)).sums(x)
    return x - (total / np.bincount(codes)[:, None])[codes]


def contrast_span(
    x: Float[np.ndarray, "n d_in"],
    personas: Sequence[str] | np.ndarray,
    token_id: np.ndarray,
    energy: float = 0.9,
) -> Float[np.ndarray, "rank d_in"]:
    """Span of the differences between personas in the residuals themselves.

    Args:
        x: Base residual vectors of comparable tokens of the select split.
        personas: Persona of every token.
        token_id: Token ids; means are taken of residuals centred within token id, so that word
            choice is no contrast.
        energy: Share of the energy of the centred class means to hold.

    Returns:
        An orthonormal basis of at most n_personas - 1 directions.

    Raises:
        InputError: Fewer than two personas.
    """
    codes, names = pd.factorize(np.asarray(personas, dtype=object))
    if len(names) < 2:
        raise InputError("a contrast of personas", f"{len(names)} personas", "give two or more")
    centred = within_tokens(x, token_id)
    total = Blocks(codes, len(names)).sums(centred)
    means = total / np.bincount(codes)[:, None]
    return _leading(means - means.mean(axis=0), energy)[: len(names) - 1]


def covariance_within_tokens(
    x: Float[np.ndarray, "n d_in"], token_id: np.ndarray
) -> Float[np.ndarray, "d_in d_in"]:
    """Covariance of base residuals after centring within token id.

    Args:
        x: Base residual vectors.
        token_id: Token id of every row.

    Returns:
        Mean outer product of the centred residuals.
    """
    centred = within_tokens(x, token_id)
    return centred.T @ centred / len(x)


def random_subspaces(
    covariance: Float[np.ndarray, "d_in d_in"], rank: int, n: int = 200, seed: int = 0
) -> Float[np.ndarray, "n rank d_in"]:
    """Orthonormal bases of subspaces spanned by draws from N(0, covariance).

    Args:
        covariance: Of the base residuals; the draws lie where residuals lie.
        rank: Dimensions of each subspace.
        n: Number of subspaces.
        seed: Seed of the draws.

    Returns:
        The bases.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    draws = np.random.default_rng(seed).normal(size=(n, rank, len(covariance))) @ root.T
    return np.linalg.qr(draws.transpose(0, 2, 1))[0].transpose(0, 2, 1)


def row_shares(
    rows: Float[np.ndarray, "n d_in"],
    basis: Float[np.ndarray, "rank d_in"],
    null: Float[np.ndarray, "n_null rank d_in"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Share of each decoder row's energy inside a span, and its p-value.

    Args:
        rows: Decoder rows.
        basis: Orthonormal basis of the span.
        null: Random subspaces of the same rank.

    Returns:
        Shares in [0, 1], and (1 + random subspaces that hold as much) / (1 + random subspaces).
    """
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    share = ((units @ basis.T) ** 2).sum(axis=1)
    held = ((null @ units.T) ** 2).sum(axis=1)
    return share, (1 + (held >= share).sum(axis=0)) / (1 + len(null))


def _inside(
    shift: np.ndarray, basis: np.ndarray, blocks: Blocks, weights: np.ndarray
) -> np.ndarray:
    """Share inside the span of the mean-free shift, for every row of weights."""
    count = weights @ blocks.sums(np.ones(len(shift)))
    total = weights @ blocks.sums(shift)
    energy = weights @ blocks.sums((shift**2).sum(axis=1))
    held = weights @ blocks.sums(((shift @ basis.T) ** 2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = held - ((total @ basis.T) ** 2).sum(axis=1) / count
        return inside / (energy - (total**2).sum(axis=1) / count)


def span_share(
    shift: Float[np.ndarray, "n d_in"],
    basis: Float[np.ndarray, "rank d_in"],
    blocks: Blocks,
    null: Float[np.ndarray, "n_null _ d_in"],
    weights: Float[np.ndarray, "resamples n_blocks"] | None = None,
) -> SpanShare:
    """How much of what fine-tuning did to assistant tokens lies in the persona span.

    Args:
        shift: Tuned minus base residual vector at assistant tokens.
        basis: Orthonormal basis of the span.
        blocks: Resampling block of every token.
        null: Random subspaces of the same rank.
        weights: Resamples; the default ones where absent.

    Returns:
        The share, with its interval over documents and its null.

    Raises:
        InputError: The null's subspaces have another rank, or the shift does not vary.
    """
    if null.shape[1] != len(basis):
        raise InputError(
            "random subspaces of the span's rank",
            f"rank {null.shape[1]} for a span of {len(basis)}",
            "draw them with the span's rank",
        )
    weights = resample_weights(blocks.n_blocks) if weights is None else weights
    if not varies(shift):
        raise InputError("the share of a shift", "a shift that does not vary", "compare two models")
    every = np.concatenate([np.ones((1, blocks.n_blocks)), weights])
    shares = _inside(shift, basis, blocks, every)
    value = float(shares[0])
    held = null_shares(shift, null)
    n_used = max(2, len(np.unique(blocks.of_token)))
    return SpanShare(
        interval(value, shares[1:], n_used),
        _central(held),
        float((1 + (held >= value).sum()) / (1 + len(held))),
    )


def varies(shift: Float[np.ndarray, "n d_in"]) -> bool:
    """Whether there is more to a shift than one vector that all tokens share, beyond rounding."""
    total = float((shift**2).sum())
    return total - float(len(shift) * (shift.mean(axis=0) ** 2).sum()) > 1e-9 * total


def _central(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def null_shares(
    shift: Float[np.ndarray, "n d_in"], null: Float[np.ndarray, "n_null _ d_in"]
) -> Float[np.ndarray, " n_null"]:
    """Share of the mean-free shift in each of several subspaces, given by orthonormal bases."""
    second = np.cov(shift, rowvar=False)
    return np.einsum("nrd,nrd->n", null @ second, null) / np.trace(second)


def paired_span_difference(
    first: Float[np.ndarray, "n d_in"],
    second: Float[np.ndarray, "n d_in"],
    basis: Float[np.ndarray, "rank d_in"],
    blocks: Blocks,
    null: Float[np.ndarray, "n_null rank d_in"] | None = None,
    weights: Float[np.ndarray, "resamples n_blocks"] | None = None,
) -> tuple[Interval, tuple[float, float] | None]:
    """Span share of one arm minus that of another on the same tokens, resampled together.

    Args:
        first: Shift of the first arm.
        second: Shift of the arm that is subtracted.
        basis: Orthonormal basis of the span.
        blocks: Resampling block of every token.
        null: Where given, each arm's own mean over these random subspaces is subtracted from its
            share first, so that arms whose shifts are of different effective rank compare fairly.
        weights: Resamples; the default ones where absent.

    Returns:
        The interval of the difference, and the central 95 % of the same difference for one random
        subspace at a time; None where none are given.
    """
    weights = resample_weights(blocks.n_blocks) if weights is None else weights
    every = np.concatenate([np.ones((1, blocks.n_blocks)), weights])
    shares = [_inside(shift, basis, blocks, every) for shift in (first, second)]
    difference, random = shares[0] - shares[1], None
    if null is not None:
        means = [_null_means(shift, blocks, null, every) for shift in (first, second)]
        difference -= means[0] - means[1]
        held = null_shares(first, null) - null_shares(second, null)
        random = _central(held - held.mean())
    n_used = max(2, len(np.unique(blocks.of_token)))
    return interval(float(difference[0]), difference[1:], n_used), random


def _null_means(
    shift: np.ndarray, blocks: Blocks, null: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Mean share of the random subspaces, for every row of weights."""
    mean_projector = np.einsum("nrd,nre->de", null, null) / len(null)
    count = weights @ blocks.sums(np.ones(len(shift)))
    total = weights @ blocks.sums(shift)
    held = weights @ blocks.sums(np.einsum("nd,nd->n", shift @ mean_projector, shift))
    energy = weights @ blocks.sums((shift**2).sum(axis=1))
    held = held - np.einsum("nd,nd->n", total @ mean_projector, total) / count
    return held / (energy - (total**2).sum(axis=1) / count)
