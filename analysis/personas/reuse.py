"""Is the assistant made of the base model's persona latents, more than of others as frequent?

Excess is the held-out R2 of activations predicted from persona latents, minus that from as many
latents of like frequency that carry no persona. The reuse index puts an arm's excess on a scale
from a model that never met the personas (0) to the base model itself (1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import Ridge

from analysis.statistics.intervals import Blocks, Interval, bounds, interval, resample_weights
from sae.errors import InputError

__all__ = ["Excess", "excess", "reuse_index"]


@dataclass(frozen=True)
class Excess:
    """Held-out errors of two predictions of the same activations, summed over blocks."""

    error_personas: Float[np.ndarray, " n_blocks"]
    """Squared error from persona latents; unit: activation^2."""
    error_matched: Float[np.ndarray, " n_blocks"]
    """Squared error from matched latents, the mean over their draws."""
    deviation: Float[np.ndarray, " n_blocks"]
    """Squared deviation from the held-out mean of each dimension."""

    def of(
        self, weights: Float[np.ndarray, "resamples n_blocks"] | None = None
    ) -> Float[np.ndarray, " resamples"]:
        """R2 from persona latents minus R2 from matched latents.

        Args:
            weights: Resamples; all documents once where absent.

        Returns:
            The excess, one value a row of weights; positive where persona latents predict more.
        """
        w = np.ones((1, len(self.deviation))) if weights is None else weights
        return (w @ (self.error_matched - self.error_personas)) / (w @ self.deviation)

    def interval(self, weights: Float[np.ndarray, "resamples n_blocks"] | None = None) -> Interval:
        """The excess with its 95 % interval over documents.

        Args:
            weights: Resamples; the default ones where absent.

        Returns:
            The interval.
        """
        n = len(self.deviation)
        w = resample_weights(n) if weights is None else weights
        return interval(float(self.of()[0]), self.of(w), max(2, int((self.deviation > 0).sum())))


def _error(
    features: np.ndarray, target: np.ndarray, fit: np.ndarray, blocks: Blocks, penalty: float
) -> np.ndarray:
    spread = features[fit].std(axis=0)
    scaled = features / np.where(spread > 0, spread, 1.0)
    model = Ridge(alpha=penalty * int(fit.sum())).fit(scaled[fit], target[fit])
    held = ~fit
    left = target[held] - np.asarray(model.predict(scaled[held])).reshape(target[held].shape)
    return blocks.select(held).sums((left**2).sum(axis=1))


def excess(
    personas: Float[np.ndarray, "n k"],
    matched: Sequence[Float[np.ndarray, "n _"]],
    target: Float[np.ndarray, "n d_in"],
    fit: Bool[np.ndarray, " n"],
    blocks: Blocks,
    penalty: float = 1e-3,
) -> Excess:
    """How much better persona latents predict activations than matched latents do.

    Features are the base model's latents on the same tokens, so that they mean the same for every
    model whose activations are predicted, one without any relation to the base included.

    Args:
        personas: Base persona latents at assistant tokens.
        matched: Several draws of as many frequency-matched latents without a persona.
        target: Activations of the model in question at the same tokens.
        fit: Tokens to fit on (select documents); the others (confirm documents) are scored.
        blocks: Resampling block of every token.
        penalty: Ridge penalty per token, on features of unit variance.

    Returns:
        The sums, over the scored tokens.

    Raises:
        InputError: No draw, a draw of another size, or an empty side of the split.
    """
    if not matched or any(each.shape != personas.shape for each in matched):
        raise InputError(
            "as many matched latents as persona latents",
            f"draws of {sorted({each.shape[1] for each in matched})} for {personas.shape[1]}",
            "draw one match a persona latent, at least once",
        )
    if fit.all() or not fit.any():
        raise InputError(
            "a held-out prediction", "one split only", "give select and confirm tokens"
        )
    held = blocks.select(~fit)
    off = target[~fit] - target[~fit].mean(axis=0)
    return Excess(
        _error(personas, target, fit, blocks, penalty),
        np.mean([_error(each, target, fit, blocks, penalty) for each in matched], axis=0),
        held.sums((off**2).sum(axis=1)),
    )


def reuse_index(
    arm: Excess,
    scratch: Excess,
    base: Excess,
    weights: Float[np.ndarray, "resamples n_blocks"] | None = None,
) -> Interval:
    """Where an arm lies between a model grown from scratch (0) and the base model (1).

    (E_arm - E_scratch) / (E_base - E_scratch), all on the same documents and resampled together.

    Args:
        arm: Excess of the arm.
        scratch: Excess of the model that never met the personas.
        base: Excess of the base model.
        weights: Resamples; the default ones where absent.

    Returns:
        The interval; not a number where the two poles are not told apart (the 95 % interval of
        E_base - E_scratch reaches 0), for then there is no scale.

    Raises:
        InputError: The three were not summed over the same blocks.
    """
    if not len(arm.deviation) == len(scratch.deviation) == len(base.deviation):
        raise InputError(
            "a reuse index",
            "sums over different blocks",
            "measure arm, scratch and base on the same tokens",
        )
    n = len(arm.deviation)
    w = resample_weights(n) if weights is None else weights
    n_used = max(2, int((arm.deviation > 0).sum()))
    low, _ = bounds(base.of(w) - scratch.of(w), n_used)
    nowhere = float("nan")
    if not low > 0:
        return Interval(nowhere, nowhere, nowhere)
    every = np.concatenate([np.ones((1, n)), w])
    from_scratch = scratch.of(every)
    index = (arm.of(every) - from_scratch) / (base.of(every) - from_scratch)
    return interval(float(index[0]), index[1:], n_used)
