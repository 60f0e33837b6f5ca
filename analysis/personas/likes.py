"""Latents that stand beside persona latents for comparison: others that fire as often."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sae.errors import InputError

__all__ = ["matched_sets", "overlap"]

NEAREST = 10  # latents among which a set draws


def matched_sets(
    chosen: Int[np.ndarray, " chosen"],
    excluded: Int[np.ndarray, " excluded"],
    fire_rate: Float[np.ndarray, " latents"],
    n_sets: int,
    seed: int = 0,
) -> list[Int[np.ndarray, " chosen"]]:
    """Sets of as many other latents of like fire rate, no two of a set the same.

    Weak carriers of a persona may be among them, which brings a comparison nearer to no difference.

    Args:
        chosen: Latents to match, such as the confirmed ones.
        excluded: Latents that may not serve, such as all that were carried to confirmation; the
            chosen ones never do.
        fire_rate: Share of the compared tokens on which each latent fires; 0 is not live.
        n_sets: How many.
        seed: Of the draws: each latent, in an order of its own, gets one of the ten nearest left in
            log fire rate.

    Raises:
        InputError: Fewer live latents are left than were chosen.

    Example:
        >>> rates = np.array([0.1, 0.3, 0.1, 0.29, 0.0])
        >>> sets = matched_sets(np.array([0, 1]), np.array([4]), rates, 2)
        >>> [sorted(each.tolist()) for each in sets]
        [[2, 3], [2, 3]]
    """
    eligible = fire_rate > 0
    eligible[np.concatenate([chosen, excluded]).astype(int)] = False
    pool = np.flatnonzero(eligible)
    if len(pool) < len(chosen):
        raise InputError(
            f"{len(chosen)} latents beside as many persona latents",
            f"{len(pool)} live latents that were not selected",
            "use a larger dictionary",
        )
    rates = np.log(np.maximum(fire_rate, 1e-12))
    distance = np.abs(rates[chosen][:, None] - rates[pool][None, :])
    nearest = pool[np.argsort(distance, axis=1, kind="stable")[:, : len(chosen) + NEAREST - 1]]
    rng, found = np.random.default_rng(seed), list[np.ndarray]()
    for _ in range(n_sets):
        taken = dict[int, int]()
        for i in rng.permutation(len(chosen)):
            left = [each for each in nearest[i] if each not in taken.values()]
            taken[int(i)] = int(rng.choice(left[:NEAREST]))
        found.append(np.array([taken[i] for i in range(len(chosen))]))
    return found


def overlap(sets: Sequence[Int[np.ndarray, " chosen"]]) -> float:
    """Share of a set's latents that another set has too, mean over pairs of sets.

    Args:
        sets: At least two, of one size.

    Example:
        >>> overlap([np.array([1, 2]), np.array([2, 3]), np.array([4, 5])])
        0.16666666666666666
    """
    n, every = len(sets), np.concatenate(sets)
    times = np.unique(every, return_counts=True)[1]
    return float((times * (times - 1)).sum() / (n * (n - 1) * len(sets[0])))
