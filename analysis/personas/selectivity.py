"""Selectivity: does a number tell one persona's tokens from others' that are the same otherwise?

The AUROC is taken within strata of matched tokens (same token, same kind of document, same stretch
of the document), so that a latent that knows only which word it sees scores one half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import sparse, stats

from analysis.statistics.intervals import Blocks
from analysis.statistics.matrices import shape

__all__ = ["Selectivity", "auroc", "auroc_interval", "strata_of", "stratified_auroc"]


@dataclass(frozen=True)
class Selectivity:
    """Stratified AUROC of one score for one label, with what documents say about its error."""

    auroc: float
    """Chance that a token of the label outranks a matched token of another label; ties count half.
    """
    low: float
    """Lower limit of the 95 % interval over documents."""
    high: float
    """Upper limit of the 95 % interval over documents."""
    p_value: float
    """One-sided p-value of an AUROC of one half or less."""


def strata_of(
    tokens: pd.DataFrame, match: Sequence[str] = ("token_id", "context")
) -> Int[np.ndarray, " n"]:
    """Number the strata within which tokens are compared.

    Args:
        tokens: Token table with `pos` and the columns in `match`.
        match: Columns on which two tokens must agree. They must also lie in the same position
            bucket: positions 0, 1-2, 3-6, 7-14, ... of their document.

    Returns:
        Stratum of every token.
    """
    bucket = np.floor(np.log2(tokens["pos"].to_numpy() + 1)).astype(np.int64)
    keys = tokens[list(match)].assign(_bucket=bucket)
    codes = keys.groupby([*match, "_bucket"], sort=False, dropna=False, observed=True).ngroup()
    return codes.to_numpy().astype(np.int64)


def _run_starts(*keys: np.ndarray) -> np.ndarray:
    """Where a new run of equal keys begins in sorted columns."""
    new = np.ones(len(keys[0]), bool)
    if len(new):
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(new)


def stratified_auroc(
    z: sparse.csr_array,
    is_persona: Bool[np.ndarray, " n personas"],
    strata: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " latents personas"]:
    """AUROC of every latent for every persona within strata, pooled by pairs.

    Strata weigh by their number of (persona, other) pairs. Only firings are sorted; the zeros of a
    stratum are one tie.

    Args:
        z: Non-negative latents of the tokens under comparison, [n, latents].
        is_persona: Whether the token's speaker has the persona; others are the comparison.
        strata: Stratum of every token.

    Returns:
        AUROC in [0, 1]; not a number for a persona without a matched pair.

    Example:
        >>> z = sparse.csr_array(np.array([[2.0], [0.0], [1.0], [0.0]]))
        >>> persona = np.array([[True], [False], [True], [True]])
        >>> stratified_auroc(z, persona, np.zeros(4, int)).item().__round__(3)
        0.833
    """
    runs = _TiedFirings.of(z, strata)
    out = np.full((shape(z)[1], is_persona.shape[1]), np.nan)
    n_all = np.bincount(strata).astype(float)
    for p in range(is_persona.shape[1]):
        positive = is_persona[:, p].astype(float)
        n_pos = np.bincount(strata, weights=positive)
        n_pairs = float(n_pos @ (n_all - n_pos))
        if n_pairs:
            excess = runs.excess_wins(positive, n_pos, n_all)
            out[:, p] = 0.5 + np.bincount(runs.group_latent, excess, shape(z)[1]) / n_pairs
    return out


@dataclass(frozen=True)
class _TiedFirings:
    """Firings sorted by latent, stratum and value, cut into ties; a group is (latent, stratum)."""

    token: np.ndarray
    ties: np.ndarray
    groups: np.ndarray
    group_of_tie: np.ndarray
    group_stratum: np.ndarray
    group_latent: np.ndarray

    @classmethod
    def of(cls, z: sparse.csr_array, strata: np.ndarray) -> "_TiedFirings":
        coo = sparse.coo_array(z)
        fires = coo.data > 0
        token, latent, value = coo.row[fires], coo.col[fires], coo.data[fires]
        order = np.lexsort((value, strata[token], latent))
        token, latent, value = token[order], latent[order], value[order]
        stratum = strata[token]
        ties = _run_starts(latent, stratum, value)
        groups = _run_starts(latent[ties], stratum[ties])
        group_of_tie = np.repeat(np.arange(len(groups)), np.diff(np.append(groups, len(ties))))
        first = ties[groups]
        return cls(token, ties, groups, group_of_tie, stratum[first], latent[first])

    def excess_wins(self, positive: np.ndarray, n_pos: np.ndarray, n_all: np.ndarray) -> np.ndarray:
        """Of every group: pairs won by the positive side beyond half of its stratum's pairs."""
        if not len(self.ties):
            return np.zeros(0)
        size = np.diff(np.append(self.ties, len(self.token)))
        pos = np.add.reduceat(positive[self.token], self.ties)
        neg = size - pos
        below = np.cumsum(neg) - neg
        below -= below[self.groups][self.group_of_tie]
        wins = np.add.reduceat(pos * (below + neg / 2), self.groups)
        pos_fire, neg_fire = np.add.reduceat(pos, self.groups), np.add.reduceat(neg, self.groups)
        all_pos = n_pos[self.group_stratum]
        all_neg = n_all[self.group_stratum] - all_pos
        neg_silent = all_neg - neg_fire
        wins += pos_fire * neg_silent + (all_pos - pos_fire) * neg_silent / 2
        return wins - all_pos * all_neg / 2


def _placements(
    score: np.ndarray, positive: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of every token: pairs won by the positive side, and pairs, that the token takes part in."""
    order = np.lexsort((score, strata))
    s, v, pos = strata[order], score[order], positive[order].astype(float)
    ties, groups = _run_starts(s, v), _run_starts(s)
    tie_of = np.repeat(np.arange(len(ties)), np.diff(np.append(ties, len(s))))
    group_of = np.repeat(np.arange(len(groups)), np.diff(np.append(groups, len(s))))
    sides = []
    for member in (pos, 1 - pos):
        before = np.concatenate([[0.0], np.cumsum(member)])
        in_tie = np.add.reduceat(member, ties)[tie_of]
        below = before[ties][tie_of] - before[groups][group_of]
        sides.append((np.add.reduceat(member, groups)[group_of], below + in_tie / 2))
    (n_pos, pos_below), (n_neg, neg_below) = sides
    wins, pairs = np.empty(len(s)), np.empty(len(s))
    wins[order] = np.where(pos > 0, neg_below, n_pos - pos_below)
    pairs[order] = np.where(pos > 0, n_neg, n_pos)
    return wins, pairs


def auroc(
    score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], strata: Int[np.ndarray, " n"]
) -> float:
    """Stratified AUROC of one dense score: a probe's, an ideal observer's, a latent's.

    Args:
        score: Score of every token under comparison; larger should mean the label.
        positive: Whether the token carries the label.
        strata: Stratum of every token.

    Returns:
        AUROC in [0, 1], not a number where no stratum holds both classes.

    Example:
        >>> auroc(np.array([.9, .1, .5]), np.array([True, False, False]), np.zeros(3, int))
        1.0
    """
    wins, pairs = _placements(score, positive, strata)
    n_pairs = pairs[positive].sum()
    return float(wins[positive].sum() / n_pairs) if n_pairs else float("nan")


def auroc_interval(
    score: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    strata: Int[np.ndarray, " n"],
    blocks: Blocks,
) -> Selectivity:
    """Stratified AUROC with an interval and a test that hold for correlated tokens.

    The AUROC is a two-sample U-statistic; each block's influence is the sum of its tokens' pairs
    (the clustered placement values of Obuchowski 1997). Student's t is used with degrees of freedom
    by Satterthwaite's rule, so that a few dominant documents cannot pass for many. The p-value is
    never below 2^-n, with n the blocks that hold the label: no sign-flip test could go lower.

    Args:
        score: Score of every token under comparison.
        positive: Whether the token carries the label.
        strata: Stratum of every token.
        blocks: Resampling block of every token.

    Returns:
        The selectivity; all fields not a number where no stratum holds both classes.
    """
    wins, pairs = _placements(score, positive, strata)
    n_pairs = pairs[positive].sum()
    if n_pairs == 0:
        return Selectivity(*[float("nan")] * 4)
    value = wins[positive].sum() / n_pairs
    influence = blocks.sums(wins - value * pairs)
    n_with_label = int((blocks.sums(pairs * positive) > 0).sum())
    floor = 0.5**n_with_label
    n_used = int((blocks.sums(pairs) > 0).sum())
    squares = influence**2
    error = np.sqrt(n_used / max(n_used - 1, 1) * squares.sum()) / n_pairs
    if error <= 1e-12:
        return Selectivity(float(value), float(value), float(value), _degenerate(value, floor))
    freedom = np.clip(3 * squares.sum() ** 2 / (squares**2).sum() - 2, 1, max(n_used - 1, 1))
    reach = stats.t.ppf(0.975, freedom) * error
    p_value = max(float(stats.t.sf((value - 0.5) / error, freedom)), floor)
    return Selectivity(
        float(value), float(max(value - reach, 0)), float(min(value + reach, 1)), p_value
    )


def _degenerate(value: float, floor: float) -> float:
    """P-value where all blocks agree exactly: the sign-flip test's."""
    return floor if value > 0.5 else 1.0
