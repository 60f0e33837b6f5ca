"""Latents without a persona that fire as often as persona latents do."""

import numpy as np
from jaxtyping import Float, Int

from sae.errors import InputError

__all__ = ["matched_latents", "matched_sets"]

NEAREST = 10  # latents among which a set draws


def matched_latents(
    chosen: Int[np.ndarray, " chosen"],
    excluded: Int[np.ndarray, " excluded"],
    fire_rate: Float[np.ndarray, " latents"],
    n_matches: int = 5,
) -> Int[np.ndarray, "chosen n_matches"]:
    """For every persona latent, the live latents nearest in fire rate that were not selected.

    A match may serve several persona latents, and weak carriers of a persona may be among the
    matches; both bring the comparison nearer to no difference, never further from it.

    Args:
        chosen: Latents to match, such as the confirmed ones.
        excluded: Latents that may not serve, such as all that were carried to confirmation; the
            chosen ones never serve.
        fire_rate: Share of the compared tokens on which each latent fires; 0 is not live.
        n_matches: Matches a latent.

    Returns:
        Matches, nearest in log fire rate first.

    Raises:
        InputError: Fewer live latents are left than matches asked.

    Example:
        >>> matched_latents(np.array([0]), np.array([1]), np.array([.1, .1, .2, .09, 0.]), 2)
        array([[3, 2]])
    """
    eligible = fire_rate > 0
    eligible[np.concatenate([chosen, excluded]).astype(int)] = False
    pool = np.flatnonzero(eligible)
    if len(pool) < n_matches:
        raise InputError(
            f"{n_matches} latents to match each persona latent",
            f"{len(pool)} live latents that were not selected",
            "ask for fewer matches or use a larger dictionary",
        )
    rates = np.log(np.maximum(fire_rate, 1e-12))
    distance = np.abs(rates[chosen][:, None] - rates[pool][None, :])
    return pool[np.argsort(distance, axis=1, kind="stable")[:, :n_matches]]


def matched_sets(
    chosen: Int[np.ndarray, " chosen"],
    excluded: Int[np.ndarray, " excluded"],
    fire_rate: Float[np.ndarray, " latents"],
    n_sets: int,
    seed: int = 0,
) -> list[Int[np.ndarray, " chosen"]]:
    """Sets of as many other latents of like fire rate, no two of a set the same.

    Args:
        chosen: Latents to match.
        excluded: Latents that may not serve; the chosen ones never do.
        fire_rate: Of every latent; 0 is not live.
        n_sets: How many.
        seed: Of the draws: each latent, in an order of its own, gets one of the ten nearest left.

    Raises:
        InputError: Fewer live latents are left than were chosen.

    Example:
        >>> rates = np.array([0.1, 0.3, 0.1, 0.29, 0.0])
        >>> sets = matched_sets(np.array([0, 1]), np.array([4]), rates, 2)
        >>> [sorted(each.tolist()) for each in sets]
        [[2, 3], [2, 3]]
    """
    nearest = matched_latents(chosen, excluded, fire_rate, len(chosen))
    rng, found = np.random.default_rng(seed), list[np.ndarray]()
    for _ in range(n_sets):
        taken = dict[int, int]()
        for i in rng.permutation(len(chosen)):
            left = [each for each in nearest[i] if each not in taken.values()]
            taken[int(i)] = int(rng.choice(left[:NEAREST]))
        found.append(np.array([taken[i] for i in range(len(chosen))]))
    return found
