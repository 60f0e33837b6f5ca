"""Intervals that respect documents: resampling blocks of whole documents, and false discovery.

Tokens of one document are not independent, so nothing here resamples tokens. Documents are dealt
into blocks once; a statistic is a function of sums over blocks; a resample is a row of counts, and
all resamples together are one matrix product.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from scipy import sparse, stats

from analysis.statistics.quantiles import quantiles
from sae.errors import ConfigError

__all__ = [
    "Blocks",
    "Interval",
    "assign_blocks",
    "bounds",
    "false_discovery",
    "interval",
    "ratio_interval",
    "resample_weights",
    "share_interval",
]

N_BLOCKS = 64
N_RESAMPLES = 1000
MIN_DOCUMENTS = 8


class Interval(NamedTuple):
    """An estimate with the limits of its interval, in the estimate's own unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Blocks:
    """Which resampling block each token belongs to; a document is never divided.

    Example:
        >>> blocks = assign_blocks(np.repeat(np.arange(8), 2))
        >>> blocks.n_blocks, blocks.sums(np.ones(16)).tolist()
        (8, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    """

    of_token: Int[np.ndarray, " n_tokens"]
    """Block of every token, 0 to n_blocks - 1."""
    n_blocks: int
    """Number of blocks, those without a token included."""

    def indicator(self) -> sparse.csr_array:
        """Matrix [n_blocks, n_tokens] that sums a table of tokens over each block."""
        n = len(self.of_token)
        return sparse.csr_array(
            (np.ones(n, np.float32), (self.of_token, np.arange(n))), shape=(self.n_blocks, n)
        )

    def sums(self, values: Shaped[np.ndarray, " n_tokens *d"]) -> Float[np.ndarray, " n_blocks *d"]:
        """Sum of a per-token number, or row of numbers, over each block.

        Args:
            values: One number or one row a token.

        Returns:
            The sums in double precision.
        """
        indicator = self.indicator().astype(float)
        return indicator @ np.asarray(values, dtype=float)

    def select(self, keep: Bool[np.ndarray, " n_tokens"]) -> "Blocks":
        """The same blocks over a subset of the tokens.

        Args:
            keep: Tokens that stay.

        Returns:
            Blocks over the kept tokens, in their order.
        """
        return Blocks(self.of_token[keep], self.n_blocks)


def assign_blocks(
    documents: Shaped[np.ndarray, " n_tokens"] | pd.Series,
    n_blocks: int = N_BLOCKS,
    seed: int = 0,
) -> Blocks:
    """Deal whole documents into resampling blocks, in a seeded order.

    Args:
        documents: Document id of every token.
        n_blocks: Blocks wanted; with fewer documents, each document is a block.
        seed: Seed of the order in which documents are dealt.

    Returns:
        The blocks.

    Raises:
        ConfigError: With fewer than 8 documents nothing can be said about other documents.
    """
    codes, names = pd.factorize(documents)
    if len(names) < MIN_DOCUMENTS:
        raise ConfigError(
            "an interval over documents",
            f"{len(names)} documents, which is too few to be measurable",
            f"give at least {MIN_DOCUMENTS} documents",
        )
    n_blocks = min(n_blocks, len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    block_of_document = np.empty(len(names), np.int64)
    block_of_document[order] = np.arange(len(names)) % n_blocks
    return Blocks(block_of_document[codes], n_blocks)


def resample_weights(
    n_blocks: int, n: int = N_RESAMPLES, seed: int = 0
) -> Float[np.ndarray, " n n_blocks"]:
    """How often each block is drawn in each resample; every row sums to n_blocks.

    Args:
        n_blocks: Number of blocks.
        n: Number of resamples.
        seed: Seed; the same seed gives two statistics the same resamples, which pairs them.

    Returns:
        Multinomial counts.

    Example:
        >>> resample_weights(8, n=2).sum(axis=1).tolist()
        [8.0, 8.0]
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n).astype(float)


def _tail(n_blocks: int, level: float) -> float:
    """Tail of the expanded percentile interval (Hesterberg 2015, section 5.3)."""
    t = stats.t.ppf((1 + level) / 2, n_blocks - 1)
    return float(stats.norm.cdf(-np.sqrt(n_blocks / (n_blocks - 1)) * t))


def bounds(
    replicates: Float[np.ndarray, " n *d"], n_blocks: int, level: float = 0.95
) -> tuple[Float[np.ndarray, " *d"], Float[np.ndarray, " *d"]]:
    """Expanded percentile limits of resampled statistics.

    The plain percentile interval is too short for few blocks; its tails are moved out to where
    Student's t with n_blocks - 1 degrees of freedom would put them (Hesterberg, *The American
    Statistician* 69, 2015).

    Args:
        replicates: Statistic in every resample; not a number where it is not defined.
        n_blocks: Blocks that were resampled.
        level: Coverage wanted.

    Returns:
        Lower and upper limits; not a number where more than 1 % of the resamples are undefined.
    """
    tail = _tail(n_blocks, level)
    low, high = quantiles(replicates, (tail, 1 - tail))
    usable = np.isnan(replicates).mean(axis=0) <= 0.01
    return np.where(usable, low, np.nan), np.where(usable, high, np.nan)


def interval(
    value: float, replicates: Float[np.ndarray, " n"], n_blocks: int, level: float = 0.95
) -> Interval:
    """One estimate with its expanded percentile interval.

    Args:
        value: The estimate from all documents.
        replicates: The statistic in every resample.
        n_blocks: Blocks that were resampled.
        level: Coverage wanted.

    Returns:
        The interval. It holds its value, also where a statistic that resampling pushes to one side,
        such as the length of a mean near 0, has percentiles on that side alone.
    """
    low, high = (float(each) for each in bounds(replicates, n_blocks, level))
    if value < low or value > high:
        low, high = min(low, value), max(high, value)
    return Interval(float(value), low, high)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom != 0, top / bottom, np.nan)


def ratio_interval(
    top: Float[np.ndarray, " n_blocks"],
    bottom: Float[np.ndarray, " n_blocks"],
    weights: Float[np.ndarray, " n n_blocks"] | None = None,
    level: float = 0.95,
) -> Interval:
    """Ratio of two sums over documents, such as a rate, with its interval.

    Args:
        top: Numerator summed over each block.
        bottom: Denominator summed over each block.
        weights: Resamples; the default ones where absent.
        level: Coverage wanted.

    Returns:
        The interval. Blocks whose denominator is zero add nothing and are not counted as blocks.

    Example:
        >>> ratio_interval(np.ones(8), np.full(8, 2.0))
        Interval(value=0.5, low=0.5, high=0.5)
    """
    weights = resample_weights(len(top)) if weights is None else weights
    value = float(_ratio(top.sum(keepdims=True), bottom.sum(keepdims=True))[0])
    n_used = max(2, int((bottom != 0).sum()))
    return interval(value, _ratio(weights @ top, weights @ bottom), n_used, level)


def share_interval(n_hits: int, n: int, level: float = 0.95) -> Interval:
    """Share of independent trials with its exact (Clopper-Pearson) interval.

    Args:
        n_hits: Trials that hit.
        n: All trials.
        level: Coverage, at least.

    Returns:
        The interval; not a number, 0 and 1 where there was no trial.

    Example:
        >>> round(share_interval(0, 10).high, 2)
        0.31
    """
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0)
    ci = stats.binomtest(n_hits, n).proportion_ci(level, method="exact")
    return Interval(n_hits / n, float(ci.low), float(ci.high))


def false_discovery(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Benjamini-Hochberg q-values of one family of tests.

    Args:
        p_values: One a test; a test that was not made is not a number and stays so, uncounted.

    Returns:
        The q-values: calling all tests with q at most x keeps the false discovery rate at x.

    Example:
        >>> false_discovery(np.array([0.01, 0.04, np.nan])).round(3).tolist()
        [0.02, 0.04, nan]
    """
    q_values = np.full(len(p_values), np.nan)
    made = ~np.isnan(p_values)
    if made.any():
        q_values[made] = stats.false_discovery_control(p_values[made], method="bh")
    return q_values
