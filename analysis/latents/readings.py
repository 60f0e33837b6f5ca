"""What a latent reads where it is silent, and which firings two models have in common.

A threshold hides what lies just below it, so a latent that shrank seems to have moved; and an
encoder's bias shifts activations, so that they are no multiples of what is there. Here a value is
what a latent reads above its mean reading where it is silent, in either model, and a firing of one
model is found again in the other where the other reads at least half of what the latent's gain lets
expect, be it above the threshold or not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse

from analysis.statistics.matrices import n_fires, shape
from sae.dictionary.gated import Gated
from sae.dictionary.sae import Sae

__all__ = ["Found", "Reading", "Sides", "reading"]

ENTRIES = 1 << 16  # read at a time
HALF = 0.5
LEAST_SILENT = 30  # tokens, for a mean reading in silence


@dataclass(frozen=True, eq=False)
class Reading:
    """Pre-activations of single entries, computed when they are asked for."""

    x: Float[np.ndarray, "n d_in"]
    """Residual vectors."""
    rows: Float[np.ndarray, "d_sae d_in"]
    """Encoder, a row a latent, times the norm of its decoder row."""
    bias: Float[np.ndarray, " d_sae"]
    """Likewise; unit: activation."""

    def at(
        self, token: Int[np.ndarray, " m"], latent: Int[np.ndarray, " m"]
    ) -> Float[np.ndarray, " m"]:
        """What each latent reads at each token, in the unit of `Firing.z`; below 0 too.

        Args:
            token: Rows of x.
            latent: Latents.
        """
        out = np.empty(len(token), np.float32)
        for start in range(0, len(token), ENTRIES):
            part = slice(start, start + ENTRIES)
            pairs = self.x[token[part]], self.rows[latent[part]]
            out[part] = np.einsum("ij,ij->i", *pairs) + self.bias[latent[part]]
        return out

    def background(self, z: sparse.csr_array) -> Float[np.ndarray, " d_sae"]:
        """Mean reading of every latent over the tokens on which it is silent; 0 of fewer than 30.

        In double precision, since it is the small difference of two large sums.

        Args:
            z: The latents, whose readings are their activations where they fire.
        """
        n, silent = len(self.x), len(self.x) - n_fires(z)
        total = n * (self.rows @ self.x.mean(axis=0, dtype=float) + self.bias)
        fired = np.bincount(z.indices, z.data, len(self.rows))  # z.sum adds in single precision
        found = (total - fired) / np.maximum(silent, 1)
        return np.where(silent >= LEAST_SILENT, found, 0.0)

    def of(self, latents: Int[np.ndarray, " m"]) -> "Reading":
        """Readings of some latents, in the order given."""
        return Reading(self.x, self.rows[latents], self.bias[latents])


@torch.no_grad()
def reading(sae: Sae, x: Float[np.ndarray, "n d_in"]) -> Reading:
    """What a dictionary's latents read in residual vectors.

    Args:
        sae: The dictionary.
        x: Residual vectors.
    """
    norm = sae.W_dec.norm(dim=-1)
    at_zero = sae.pre_activations(torch.zeros(1, x.shape[1], device=norm.device))[0]
    gain = norm
    if isinstance(sae.sparsity, Gated):  # what its magnitude would say; the gate only opens
        gain = norm * sae.sparsity.r_mag.exp()
        at_zero = sae.sparsity.r_mag.exp() * at_zero + sae.sparsity.offset
    rows = (sae.W_enc.T * gain[:, None]).float().cpu().numpy()
    return Reading(x, rows, (at_zero * norm / sae.input_scale).float().cpu().numpy())


Sides = tuple[sparse.csr_array, Reading | None]
"""Latents of a model on all tokens, and what they read where they are silent."""


def _is_silent(z: sparse.csr_array, n: int) -> Bool[np.ndarray, " n"]:
    """Latents that are silent often enough to have a background."""
    return (shape(z)[0] - n_fires(z))[:n] >= LEAST_SILENT


@dataclass(frozen=True, eq=False)
class Found:
    """Of every firing of one model, what the other reads there."""

    token: Int[np.ndarray, " m"]
    """Token of each firing."""
    latent: Int[np.ndarray, " m"]
    """Latent of each firing."""
    value: Float[np.ndarray, " m"]
    """What the model itself reads there, above its background."""
    there: Float[np.ndarray, " m"]
    """What the other model reads there, above its own."""
    is_met: Bool[np.ndarray, " m"]
    """Whether the other model fires there."""
    n: int
    """Latents."""

    @classmethod
    def of(cls, one: Sides, other: Sides, n: int) -> "Found":
        """The firings of the first n latents of a model, with what another one reads.

        Args:
            one: Latents of the model, and its readings.
            other: Those of the other. Without readings a silent latent reads 0, and so does the
                background.
            n: Latents.
        """
        kept = sparse.coo_array(one[0][:, :n])
        fires = kept.data > 0
        token, latent = (each[fires] for each in kept.coords)
        picked = other[0][token, latent]
        picked = picked.toarray() if sparse.issparse(picked) else np.asarray(picked)
        met = picked.ravel().astype(np.float32)
        value, there = kept.data[fires].astype(np.float32), met
        # Where one model alone has a background, the difference would pass for a gain.
        known = _is_silent(one[0], n) & _is_silent(other[0], n)
        if one[1] is not None:
            value = value - np.where(known, one[1].background(one[0])[:n], 0)[latent]
        if other[1] is not None:
            back = np.where(known, other[1].background(other[0])[:n], 0)[latent]
            there = other[1].at(token, latent) - back
        return cls(token, latent, value.astype(np.float32), there.astype(np.float32), met > 0, n)

    def again(self, factor: Float[np.ndarray, " n"]) -> np.ndarray:
        """Whether the other model reads at least half of what is expected at each firing.

        Args:
            factor: By which each latent's activation is expected to differ there.
        """
        return self.there >= HALF * factor[self.latent] * self.value

    def sums(self, values: np.ndarray, block: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Sum of a number a firing over blocks and latents.

        Args:
            values: One a firing.
            block: Block of every token.
            shape: Blocks and latents.
        """
        place = block[self.token] * shape[1] + self.latent
        return np.bincount(place, values, shape[0] * shape[1]).reshape(shape)
