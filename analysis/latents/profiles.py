"""Profile: in which kinds of tokens a latent has its activation, and how much of it moved.

Token by token, a firing pattern counts where a latent fires hardest. So a latent that falls silent
in a whole kind of text, where it used to fire often and weakly, keeps most of its pattern. Here
tokens are put into strata, by persona, role and kind of document, template tokens a role of their
own, and the activation is counted as it is, not squared.
"""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.latents.pairs import Pair
from analysis.latents.traces import roles
from analysis.statistics.intervals import Blocks
from analysis.statistics.quantiles import quantiles

__all__ = ["profiles", "strata"]

LABELS = ("persona", "context")
CELLS = 4096  # strata times latents, in all resamples at once
MOST = 256  # strata; the rarest beyond are one


def strata(tokens: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """The stratum of every token: a persona, role and kind of document that occur together.

    Args:
        tokens: Labels, one row a token: persona, role, context, and is_template where known.

    Returns:
        Numbers from 0, the most frequent first; of more than 256 the rarest are one.
    """
    labels = {each: tokens[each].astype(object) for each in LABELS}
    keys = pd.DataFrame({"role": roles(tokens), **labels})
    number = keys.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()
    rank = np.argsort(np.argsort(-np.bincount(number), kind="stable"), kind="stable")
    return np.minimum(rank[number], MOST - 1)


def profiles(
    pair: Pair,
    stratum: Int[np.ndarray, " n_tokens"],
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples blocks"],
) -> tuple[Float[np.ndarray, "1 latents"], Float[np.ndarray, "resamples latents"]]:
    """Share of each latent's activation that would have to move to other strata.

    Half the sum of absolute differences of two profiles (total variation). A profile is the share
    of a model's activation in each stratum, over all tokens on which the latent fires in either
    model; where it is below its threshold its reading counts, if above 0, so that a latent that
    only grew or shrank keeps its profile.

    Args:
        pair: Both models.
        stratum: Of every token.
        blocks: Resampling block of every token.
        weights: Resamples.

    Returns:
        From 0 to 1, measured and in every resample, which are put where the measured one is their
        median; not a number for a latent that has no activation in one of the models.
    """
    shape = blocks.n_blocks, int(stratum.max()) + 1, pair.n
    sums = _sums(pair, blocks.of_token * shape[1] + stratum, shape)
    once, drawn = np.ones((1, shape[0]), np.float32), np.empty((len(weights), pair.n), np.float32)
    point, step = np.empty((1, pair.n)), max(CELLS // shape[1], 1)
    for start in range(0, pair.n, step):
        part = slice(start, start + step)
        base, tuned = (each[..., part].reshape(shape[0], -1) for each in sums)
        for out, by in ((point, once), (drawn, weights.astype(np.float32))):
            out[:, part] = _apart(by @ base, by @ tuned, shape[1])
    return point, np.clip(drawn - quantiles(drawn, [0.5]) + point, 0, 1)


def _sums(pair: Pair, cell: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Activation of base and tuned model in every block, stratum and latent.

    Args:
        pair: Both models.
        cell: Block and stratum of every token, as one number.
        shape: Blocks, strata and latents.
    """
    before, after = pair.before, pair.after
    alone = ~after.is_met  # the tuned model's other firings are among the base model's
    token, latent = (
        np.concatenate([getattr(before, each), getattr(after, each)[alone]])
        for each in ("token", "latent")
    )
    place = cell[token] * shape[2] + latent
    sides = (before.value, after.there[alone]), (before.there, after.value[alone])
    return [
        np.bincount(place, np.maximum(np.concatenate(each), 0), math.prod(shape))
        .astype(np.float32)
        .reshape(shape)
        for each in sides
    ]


def _apart(base: np.ndarray, tuned: np.ndarray, n_strata: int) -> np.ndarray:
    """Total variation of profiles, from activation [draws, strata * latents]."""
    shares = []
    for each in (base, tuned):
        by_stratum = each.reshape(len(each), n_strata, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares.append(by_stratum / by_stratum.sum(axis=1, keepdims=True))
    apart = np.subtract(*shares, out=shares[0])
    return np.abs(apart, out=apart).sum(axis=1) / 2
