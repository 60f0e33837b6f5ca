"""Which tuned latent stands for which base latent: by firing, and the index only where it agrees.

A continued dictionary may let another of its latents take a feature over. What that latent does is
what became of the feature.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from analysis.latents.pairs import Pair
from analysis.latents.traces import Firing
from analysis.statistics.matrices import dice_of_pairs, fires, n_fires, shape

__all__ = ["merges", "splits", "standing", "steady", "swaps"]

ALIKE = 0.5  # Dice overlap from which a latent can stand for one of another index
STEADY = 0.7  # cosine of a latent with itself, in another run
WITHIN = 0.3  # share of a part's firings that are the whole's, beyond chance
PART, MOST, TOGETHER = 0.15, 0.85, 0.5  # of the whole's firings: each part, the largest, all


def swaps(
    dice: Float[np.ndarray, "n d_sae"], cosine: Float[np.ndarray, "n d_sae"]
) -> Int[np.ndarray, " d_sae"]:
    """The order of tuned latents in which each is at the index of the base latent it stands for.

    Pairs are taken from the most alike down. A latent gives up its own index where another one
    fires more like the base latent, in at least half of their firings, and more like it than like
    the base latent of its own index; the two then change places, if both together are more alike.
    An index at which firings agree by half is given up, on either side, only where the new partner
    points more alike too: several latents may fire on the same tokens, and then firing alone cannot
    tell which is which.

    Args:
        dice: Overlap of base and tuned latents; the first n of both share an index.
        cosine: Of their decoder rows.

    Example:
        >>> dice = np.array([[0.1, 0.0, 0.9], [0.0, 0.8, 0.0]])
        >>> swaps(dice, np.zeros((2, 3))).tolist()
        [2, 1, 0]
    """
    n, order = len(dice), np.arange(dice.shape[1])
    own, points = (each[np.arange(n), np.arange(n)] for each in (dice, cosine))
    is_free = (own[:, None] < ALIKE) | (cosine > points[:, None])
    is_free[:, :n] &= (own < ALIKE) | (cosine[:, :n] > points)
    better = np.argwhere((dice > own[:, None]) & (dice >= ALIKE) & is_free)
    taken = set()
    for base, tuned in better[np.argsort(-dice[tuple(better.T)], kind="stable")]:
        rival, left = (own[tuned], dice[tuned, base]) if tuned < n else (0.0, 0.0)
        is_worse = dice[base, tuned] + left <= own[base] + rival
        if base in taken or tuned in taken or rival >= dice[base, tuned] or is_worse:
            continue
        taken |= {base, tuned}
        order[base], order[tuned] = tuned, base
    return order


def steady(fitted: Firing, continued: Firing, n: int) -> Bool[np.ndarray, " n"]:
    """Latents that the same activations leave what they are when the dictionary goes on.

    A dictionary wider than what there is to find fills its last latents with mixtures that another
    run makes differently. What becomes of these in a tuned model says nothing of the model.

    Args:
        fitted: Of the dictionary, on the base model.
        continued: Of the dictionary continued on the base's own activations, on the base model.
        n: Latents of the dictionary.

    Returns:
        Where cosine is at least 0.7 and the Dice overlap at least 0.5.
    """
    cosine = np.einsum("ij,ij->i", fitted.rows[:n], continued.rows[:n])
    dice = dice_of_pairs(*(sparse.csr_array(each.z[:, :n]) for each in (fitted, continued)))
    return (cosine >= STEADY) & (dice >= ALIKE)


def standing(base: Firing, tuned: Firing, n: int) -> Pair:
    """The two models' latents, each tuned one at the index of the base latent it stands for.

    Args:
        base: Firing of the base model.
        tuned: Firing of the tuned model on the same tokens.
        n: Latents that both dictionaries continue.
    """
    pair = Pair(base, tuned, n)
    order = swaps(pair.dice[:n], pair.cosine[:n])
    return pair if (order == np.arange(len(order))).all() else pair.ordered(order)


def splits(pair: Pair) -> Bool[np.ndarray, " n"]:
    """Base latents whose firings several tuned latents share among themselves.

    A part fires within the whole for at least three tenths of its firings, has at least 15 % of the
    whole's and at most 85 %, and stands for no other base latent; on at least half of the whole's
    firings one part or another fires. A latent that nothing happened to has some 70 to 80 % of its
    firings again, so parts of a whole cannot be asked for more. The first share is beyond what
    firing at random would give, (share - rate) / (1 - rate), as a kappa is (Cohen 1960): a dense
    latent shares tokens with everything.

    Args:
        pair: Both models, each tuned latent at the index of the base latent it stands for.
    """
    return _parts(pair.dice[: pair.n], pair.base.z[:, : pair.n], pair.tuned.z).sum(axis=1) > 0


def merges(pair: Pair) -> Bool[np.ndarray, " n"]:
    """Base latents that are parts of one tuned latent, as parts of a split are of a base latent.

    Args:
        pair: Both models, each tuned latent at the index of the base latent it stands for.
    """
    return _parts(pair.dice[: pair.n].T, pair.tuned.z, pair.base.z[:, : pair.n]).sum(axis=0) > 0


def _parts(dice: np.ndarray, whole: sparse.csr_array, part: sparse.csr_array) -> np.ndarray:
    """Which columns are parts of which rows, of rows that have two parts or more."""
    diagonal = np.arange(min(dice.shape))
    n_whole, n_part = n_fires(whole), n_fires(part)
    both = dice * (n_whole[:, None] + n_part[None, :]) / 2
    share = both / np.maximum(n_whole, 1)[:, None]
    rate = n_whole[:, None] / shape(whole)[0]
    within = (both / np.maximum(n_part, 1) - rate) / np.maximum(1 - rate, 1e-9)
    own = np.zeros(dice.shape[1])
    own[diagonal] = dice[diagonal, diagonal]
    is_part = (within >= WITHIN) & (share >= PART) & (share <= MOST)
    is_other = own[None, :] >= np.where(dice > 0, dice, np.inf)
    is_other[diagonal, diagonal] = False
    is_part &= ~is_other
    is_part &= (is_part.sum(axis=1) >= 2)[:, None]
    rows = np.flatnonzero(is_part.any(axis=1))
    # Parts may fire on the same tokens, so these are counted, not firings.
    shared = fires(whole)[:, rows].multiply(fires(part) @ is_part[rows].T.astype(np.float32))
    is_part[rows] &= (n_fires(sparse.csr_array(shared)) >= TOGETHER * n_whole[rows])[:, None]
    return is_part
