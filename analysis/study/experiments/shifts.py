"""Two shifts of activations beside each other: how alike they are, and what is left of one.

Both are read inside the span of persona latents and inside random subspaces of its rank, drawn with
the covariance of the residuals, since any subspace holds something of any shift.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from analysis.artefact.schema import Measured
from analysis.personas.contrasts import Span
from analysis.statistics.intervals import Blocks, interval

__all__ = ["alike", "left_over"]

Sums = Float[np.ndarray, "n_blocks d_in"]


def alike(
    first: tuple[Float[np.ndarray, "n d_in"], Blocks],
    second: tuple[Float[np.ndarray, "m d_in"], Blocks],
    span: Span,
    weights: Float[np.ndarray, "resamples n_blocks"],
) -> Measured:
    """Cosine of two mean shifts inside a span.

    Args:
        first: A shift at each of some tokens, and the resampling block of each.
        second: The same of another shift, maybe on other tokens of the same documents.
        span: The span.
        weights: Resamples.

    Returns:
        The cosine of their means with its 95 % interval over documents, and the central 95 % of
        that inside random subspaces.
    """
    (one, one_blocks), (other, other_blocks) = first, second
    every = np.concatenate([np.ones((1, weights.shape[1])), weights])
    means = [
        (every @ blocks.sums(shift)) / (every @ blocks.sums(np.ones(len(shift))))[:, None]
        for shift, blocks in ((one, one_blocks), (other, other_blocks))
    ]
    inside = [mean @ span.basis.T for mean in means]
    found = _cosines(*inside)
    null = _cosines(*(span.null @ mean[0] for mean in means))
    used = [set(blocks.of_token.tolist()) for blocks in (one_blocks, other_blocks)]
    low, high = np.quantile(null, [0.025, 0.975])
    whole = interval(float(found[0]), found[1:], max(2, min(map(len, used))))
    return Measured(*map(float, whole), null_low=float(low), null_high=float(high))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def left_over(
    before: Float[np.ndarray, "n d_in"],
    after: Float[np.ndarray, "n d_in"],
    instrument: Float[np.ndarray, "n d_in"],
    span: Span,
    within: tuple[Blocks, Float[np.ndarray, "resamples n_blocks"]],
) -> Measured:
    """How much more of a shift is left outside a span than inside it.

    What is left is the ratio of the products with a third shift, token by token: 1 where nothing
    went, 0 where all did. What is noise in both shifts, as that of a model both are taken from,
    would count as left in a plain regression; with the third, whose noise is its own, it does not.

    Args:
        before: The shift, at every token.
        after: What became of it, at the same tokens.
        instrument: The same shift, measured once more with other noise.
        span: The span.
        within: Resampling block of every token, and resamples.

    Returns:
        The part left outside less the part left inside, with its 95 % interval over documents, and
        the central 95 % of the same for random subspaces.
    """
    blocks, weights = within
    every = np.concatenate([np.ones((1, weights.shape[1])), weights])
    both, own = (after, before), instrument @ span.basis.T
    whole = [every @ blocks.sums((each * instrument).sum(1)) for each in both]
    inside = [every @ blocks.sums((each @ span.basis.T * own).sum(1)) for each in both]
    found = _outside_less_inside(whole, inside)
    crossed = [each.T @ instrument for each in both]
    drawn = [
        np.einsum("krd,de,kre->k", span.null, each, span.null, optimize=True) for each in crossed
    ]
    null = _outside_less_inside([each[:1] for each in whole], drawn)
    n_used = max(2, len(set(blocks.of_token.tolist())))
    low, high = np.quantile(null, [0.025, 0.975])
    told = interval(float(found[0]), found[1:], n_used)
    return Measured(*map(float, told), null_low=float(low), null_high=float(high))


def _outside_less_inside(
    whole: Sequence[np.ndarray], inside: Sequence[np.ndarray]
) -> Float[np.ndarray, " k"]:
    rest = [all_ - part for all_, part in zip(whole, inside, strict=True)]
    return rest[0] / rest[1] - inside[0] / inside[1]
