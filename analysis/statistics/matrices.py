"""Small facts about sparse firing matrices [n_tokens, latents] and pairs of their latents."""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from sae.errors import InputError

__all__ = ["cofiring", "cosines", "dice_of_pairs", "fires", "n_fires", "shape"]


def shape(matrix: sparse.csr_array | sparse.csc_array) -> tuple[int, int]:
    """Rows and columns.

    Args:
        matrix: A sparse matrix.

    Returns:
        Its two lengths.
    """
    lengths = np.asarray(matrix.shape)
    return int(lengths[0]), int(lengths[1])


def fires(z: sparse.csr_array) -> sparse.csr_array:
    """One where a latent fires (z > 0).

    Args:
        z: Latents.

    Returns:
        A matrix of ones, zeros left out.
    """
    out = sparse.csr_array(((z.data > 0).astype(np.float32), z.indices, z.indptr), shape=shape(z))
    if not out.data.all():
        out = out.copy()  # eliminating zeros would rewrite the indices shared with z
        out.eliminate_zeros()
    return out


def n_fires(z: sparse.csr_array) -> Int[np.ndarray, " latents"]:
    """Tokens on which each latent fires.

    Args:
        z: Latents.

    Returns:
        The counts.
    """
    return np.bincount(z.indices[z.data > 0], minlength=shape(z)[1])


def cofiring(base: sparse.csr_array, tuned: sparse.csr_array) -> Float[np.ndarray, "base tuned"]:
    """Dice overlap of the firing patterns of every base latent with every tuned latent.

    Args:
        base: Latents of the base model, [n_tokens, base].
        tuned: Latents of the tuned model on the same tokens, [n_tokens, tuned].

    Returns:
        2 n_both / (n_base + n_tuned), in [0, 1]; 0 where neither fires.

    Example:
        >>> one = sparse.csr_array(np.array([[1.0], [1.0], [0.0]]))
        >>> cofiring(one, sparse.csr_array(np.array([[0.0, 5.0], [2.0, 5.0], [0.0, 5.0]]))).round(2)
        array([[0.67, 0.8 ]], dtype=float32)
    """
    if shape(base)[0] != shape(tuned)[0]:
        raise InputError(
            "the same tokens through both models",
            f"{shape(base)[0]} and {shape(tuned)[0]} tokens",
            "run both models on one token table",
        )
    both = sparse.csr_array(sparse.csr_array(fires(base).T) @ fires(tuned)).toarray()
    total = n_fires(base)[:, None] + n_fires(tuned)[None, :]
    return (2 * both / np.maximum(total, 1)).astype(np.float32)


def dice_of_pairs(base: sparse.csr_array, tuned: sparse.csr_array) -> Float[np.ndarray, " latents"]:
    """Dice overlap of every base latent with the tuned latent of its own index.

    Args:
        base: Latents of the base model, [n_tokens, latents].
        tuned: As many of the tuned model, on the same tokens.

    Returns:
        The diagonal of `cofiring`.
    """
    both = np.asarray(fires(base).multiply(fires(tuned)).sum(axis=0)).ravel()
    return 2 * both / np.maximum(n_fires(base) + n_fires(tuned), 1)


def cosines(
    base: Float[np.ndarray, "base d_in"], tuned: Float[np.ndarray, "tuned d_in"]
) -> Float[np.ndarray, "base tuned"]:
    """Cosine of every base row with every tuned row.

    Args:
        base: Directions.
        tuned: Directions.

    Returns:
        Cosines in [-1, 1]; 0 for a row of zeros.
    """
    units = [
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        for rows in (base, tuned)
    ]
    return np.clip(units[0] @ units[1].T, -1, 1)
