"""A latent that the continued dictionary let go, read by the dictionary as it was.

Continuing may give a latent's index to something else though nothing happened to what it stood for:
one in fifty does so on a base model that only went on. So where the continued latent no longer
fires as the base's does, and the base's own dictionary still reads that on the tuned model's
activations, the latent is measured by that one, its decoder rows refitted there together.
Nulls are measured likewise. A rotation is not hidden: where the continued latent follows it, that
one is measured.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from analysis.latents.coordinates import Coordinates, measure
from analysis.latents.matching import ALIKE
from analysis.latents.pairs import Pair
from analysis.latents.traces import Firing
from analysis.statistics.intervals import Blocks
from analysis.statistics.matrices import dice_of_pairs, shape

__all__ = ["let_go", "read_again"]

STAY = 0.01  # of a latent's energy
OF_ALL = ("chance_cofiring", "chance_cosine", "is_merged", "is_split", "latent", "steady")


def let_go(pair: Pair, frozen: Firing) -> Int[np.ndarray, " m"]:
    """Latents that only the dictionary as it was still reads, in at least half of all firings.

    Args:
        pair: The two models.
        frozen: The base's own dictionary on the tuned model.
    """
    own = np.diagonal(pair.dice)[: pair.n]
    still = dice_of_pairs(pair.base.z[:, : pair.n], frozen.z[:, : pair.n])
    return np.flatnonzero((own < ALIKE) & (still >= ALIKE))


def read_again(
    found: Coordinates,
    pair: Pair,
    frozen: Firing,
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples blocks"],
    strata: Int[np.ndarray, " n_tokens"],
) -> Coordinates:
    """Coordinates, those of latents that were let go measured by the dictionary as it was.

    Args:
        found: Of the continued dictionary.
        pair: What it was measured from.
        frozen: The base's own dictionary on the tuned model, summed over these blocks.
        blocks: As for `measure`.
        weights: As for `measure`.
        strata: As for `measure`.

    Returns:
        The coordinates, with a column `frozen` that tells which they are.
    """
    gone = let_go(pair, frozen)
    table = found.table.assign(frozen=np.isin(found.table["latent"], gone))
    if not len(gone):
        return replace(found, table=table)
    sides = pair.base.of(gone), _refitted(frozen, gone, blocks)
    again = measure(Pair(*sides, len(gone)), blocks, weights, strata)
    replicates = {name: each.copy() for name, each in found.replicates.items()}
    for name, each in again.replicates.items():
        replicates[name][:, gone] = each
    for name in again.table.columns.difference(OF_ALL):
        table.loc[gone, name] = again.table[name].to_numpy()
    return replace(found, table=table, replicates=replicates)


def _refitted(one: Firing, gone: np.ndarray, blocks: Blocks) -> Firing:
    """Some latents of a dictionary, their decoder rows refitted together with all others.

    By least squares, with a hundredth of each latent's energy for staying where it was. Activations
    stay those of the encoder, so that gain compares like with like.
    """
    assert one.residual_moments is not None  # `through` sums them
    gram = sparse.csr_array(one.z.T @ one.z).toarray().astype(float)
    left = one.residual_moments.sum(axis=0).astype(float)
    energy = np.maximum(np.diagonal(gram), 1e-12)
    step = np.linalg.solve(gram + STAY * np.diag(energy), left)
    rows = one.rows[gone] + step[gone]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    moments = one.residual_moments[:, gone] - (_grams(one.z, gone, blocks) @ step)
    moved = rows.astype(np.float32), moments.astype(np.float32)
    return replace(one.of(gone), rows=moved[0], residual_moments=moved[1])


def _grams(
    z: sparse.csr_array, gone: np.ndarray, blocks: Blocks
) -> Float[np.ndarray, "blocks m d_sae"]:
    """Products of some latents with all, summed over each block."""
    mine = sparse.coo_array(z[:, gone])
    token, latent = mine.coords
    place = blocks.of_token[token] * len(gone) + latent
    n, d_sae = shape(z)
    by_block = sparse.csr_array((mine.data, (place, token)), (blocks.n_blocks * len(gone), n))
    return sparse.csr_array(by_block @ z).toarray().reshape(blocks.n_blocks, len(gone), d_sae)
