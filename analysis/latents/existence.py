"""Whether what one model's latent carries is there in another model's activations.

*Latent scaling* asks how much of a latent's contribution the other model's reconstruction, or what
that leaves over, still holds (Minder et al. 2025). *Information* asks whether its activations can
be read out of the other model's at all. A latent can be new by its direction and old by what it
tells.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import linalg, sparse

from analysis.latents.traces import Firing
from analysis.statistics.intervals import Blocks, bounds
from sae.errors import InputError

__all__ = ["Laid", "information", "latent_scaling", "presence", "scaling"]

RIDGE = 1e-4  # of the mean variance of a dimension

Laid = tuple[Float[np.ndarray, "_ d_in"], Firing]
"""Residual vectors of a model, and the latents of its dictionary on them."""


def scaling(
    z: sparse.csr_array,
    rows: Float[np.ndarray, "latents d_in"],
    targets: Sequence[Float[np.ndarray, "n d_in"]],
    blocks: Blocks,
) -> Float[np.ndarray, "targets blocks latents"]:
    """Sum over each block of (z - mean) (row . target): beta's numerator for every target.

    beta = sum z (d . t) / (|d|^2 sum (z - mean)^2) minimises sum |beta z d + c - t|^2 for a target
    of mean 0. Over all tokens the mean of z adds nothing; in a resample, whose targets have another
    mean, it would. No more than one block's moments are held at a time.

    Args:
        z: Latents.
        rows: Their decoder rows.
        targets: What they are to explain, each of mean 0 over all tokens.
        blocks: Resampling block of every token.
    """
    out = np.zeros((len(targets), blocks.n_blocks, len(rows)))
    order = np.argsort(blocks.of_token, kind="stable")
    ends = np.searchsorted(blocks.of_token[order], np.arange(blocks.n_blocks + 1))
    mean = np.asarray(z.sum(axis=0, dtype=float)).ravel() / max(len(order), 1)
    for b in range(blocks.n_blocks):
        mine = order[ends[b] : ends[b + 1]]
        moments = sparse.csr_array(z[mine]).T @ np.hstack([each[mine] for each in targets])
        parts = moments.reshape(len(rows), len(targets), -1)
        out[:, b] = np.einsum("itj,ij->ti", parts, rows)
        out[:, b] -= mean * np.array([rows @ each[mine].sum(axis=0) for each in targets])
    return out


def presence(
    own: Laid,
    x: Float[np.ndarray, "n d_in"],
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples blocks"],
) -> pd.DataFrame:
    """How much of what each latent points at is in another model's activations where it fires.

    The ratio of two betas whose targets are the activations themselves, less their means: that of
    the other model over that of the latent's own. No second dictionary is asked, so it does not
    depend on what one covers. 1 where the other model has all of it there, 0 where it has none.

    Args:
        own: The model whose latents these are.
        x: The other model's residual vectors.
        blocks: Resampling block of every token.
        weights: Resamples.

    Returns:
        One row a latent: existence, existence_low, existence_high (95 %, over documents).
    """
    targets = [_centred(x), _centred(own[0])]
    top, bottom = scaling(own[1].z, own[1].rows, targets, blocks)
    one = np.ones((1, blocks.n_blocks))
    low, high = bounds(_over(weights @ top, weights @ bottom), blocks.n_blocks)
    point = _over(one @ top, one @ bottom)[0]
    return pd.DataFrame({"existence": point, "existence_low": low, "existence_high": high})


def latent_scaling(
    own: Laid,
    other: Laid,
    partner: Int[np.ndarray, " latents"],
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples blocks"],
) -> pd.DataFrame:
    """How much of each latent another model has (Minder et al. 2025), with document intervals.

    Fitted with a constant, so that a shift of the mean is no part of any latent. The error target
    of a model has the latent's own part put back, in the other model that of its partner.

    Args:
        own: The model whose latents these are.
        other: The other model, on the same tokens.
        partner: For every latent its like in the other dictionary, or -1.
        blocks: Resampling block of every token.
        weights: Resamples.

    Returns:
        One row a latent: beta_{error,reconstruction}_{own,other}; nu_error and nu_reconstruction,
        the ratios of other to own, with _low and _high (95 %); not a number where a latent never
        fires. Minder et al. call a latent specific to its model where nu_reconstruction < 0.5 and
        nu_error < 0.2.

    Raises:
        InputError: The models differ in tokens, or not every latent has a partner or -1.
    """
    (_, firing), (_, theirs) = own, other
    if len(own[0]) != len(other[0]) or len(partner) != len(firing.rows):
        found = f"{len(own[0])} and {len(other[0])} tokens, {len(partner)} partners"
        raise InputError("latent scaling", found, "give both models on one token table")
    z, rows = firing.z, firing.rows
    itself = np.arange(len(rows))
    energy = _common(firing, firing, itself, blocks)
    common = _common(firing, theirs, partner, blocks)
    names, targets = list[str](), list[np.ndarray]()
    for side, (x, one) in (("own", own), ("other", other)):
        part = _centred(one.z @ one.rows)
        names += [f"reconstruction_{side}", f"error_{side}"]
        targets += [part, _centred(x) - part]
    found = dict(zip(names, scaling(z, rows, targets, blocks), strict=True))
    found["error_own"] += energy
    found["error_other"] += common
    one = np.ones((1, blocks.n_blocks))
    table = pd.DataFrame({f"beta_{k}": _over(one @ v, one @ energy)[0] for k, v in found.items()})
    for kind in ("error", "reconstruction"):
        top, bottom = found[f"{kind}_other"], found[f"{kind}_own"]
        low, high = bounds(_over(weights @ top, weights @ bottom), blocks.n_blocks)
        table[f"nu_{kind}"] = _over(one @ top, one @ bottom)[0]
        table[f"nu_{kind}_low"], table[f"nu_{kind}_high"] = low, high
    return table


def _common(
    firing: Firing, theirs: Firing, partner: np.ndarray, blocks: Blocks
) -> Float[np.ndarray, "blocks latents"]:
    """Sum of (z - mean) row . (its partner's), what putting the partner's part back adds."""
    has = np.flatnonzero(partner >= 0)
    out = np.zeros((blocks.n_blocks, len(partner)))
    mine, other = sparse.csr_array(firing.z[:, has]), sparse.csr_array(theirs.z[:, partner[has]])
    cosine = np.einsum("ij,ij->i", firing.rows[has], theirs.rows[partner[has]])
    n = np.bincount(blocks.of_token, minlength=blocks.n_blocks)[:, None]
    first, second = _by_block(mine, blocks), _by_block(other, blocks)
    a, b = first.sum(axis=0) / n.sum(), second.sum(axis=0) / n.sum()
    products = _by_block(mine.multiply(other), blocks)
    out[:, has] = (products - first * b - second * a + n * a * b) * cosine
    return out


def _by_block(values: sparse.csr_array, blocks: Blocks) -> Float[np.ndarray, "blocks latents"]:
    sums = sparse.csr_array(blocks.indicator()).astype(np.float64) @ sparse.csr_array(values)
    return sparse.csr_array(sums).toarray()


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=0, dtype=np.float64).astype(x.dtype)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom != 0, top / bottom, np.nan)


def information(
    z: sparse.csr_array,
    x: Float[np.ndarray, "n d_in"],
    parts: Sequence[Bool[np.ndarray, " n"]],
) -> Float[np.ndarray, " latents"]:
    """Share of each latent's variance that a linear map of residual vectors predicts.

    Args:
        z: Latents of one model.
        x: Residual vectors of another, on the same tokens.
        parts: Tokens on which the map is fitted (ridge regression), and others on which it is
            scored.

    Returns:
        R squared on the second part, which can be below 0; not a number where z is constant there.

    Raises:
        InputError: A part is empty.
    """
    if not all(part.any() for part in parts):
        raise InputError("information", "no tokens in a part", "give tokens of two splits")
    # About a point near all: squares of vectors that lie far out leave the rest to rounding.
    near = x[parts[0]].mean(axis=0, dtype=np.float64).astype(x.dtype)
    fit, score = (_Moments(z, x[part] - near, part) for part in parts)
    middle, mean = fit.x / fit.n, fit.z / fit.n
    gram, cross, _ = fit.about(middle, mean)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    map_ = linalg.solve(gram, cross, assume_a="pos")
    gram, cross, total = score.about(middle, mean)
    left = total - 2 * (map_ * cross).sum(axis=0) + (map_ * (gram @ map_)).sum(axis=0)
    spread = score.about(score.x / score.n, score.z / score.n)[2]
    return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), np.nan)


class _Moments:
    """Sums of first and second order over some tokens."""

    def __init__(self, z: sparse.csr_array, vectors: np.ndarray, part: np.ndarray) -> None:
        mine = sparse.csr_array(z[np.flatnonzero(part)])
        self.n, self.x = len(vectors), vectors.sum(axis=0, dtype=np.float64)
        self.z = np.asarray(mine.sum(axis=0, dtype=np.float64)).ravel()
        self.xx = (vectors.T @ vectors).astype(np.float64)
        self.xz = (mine.T @ vectors).T.astype(np.float64)
        self.zz = np.asarray(mine.multiply(mine).sum(axis=0, dtype=np.float64)).ravel()

    def about(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums of (x - a)(x - a)', (x - a)(z - b) and (z - b) squared."""
        n = self.n
        gram = self.xx - np.outer(self.x, x) - np.outer(x, self.x) + n * np.outer(x, x)
        cross = self.xz - np.outer(x, self.z) - np.outer(self.x, z) + n * np.outer(x, z)
        return gram, cross, self.zz - 2 * z * self.z + n * z * z
