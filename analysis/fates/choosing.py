"""Which nulls a tuned model is held against: those that moved as far, of every run the nearest.

Two runs of a null are two draws of what drift does to each latent. Pooled they resolve p-values
twice as finely; checkpoints of one run would only repeat one draw. And they tell which latents
drift replaces by others: these are set apart, from a tuned model where either displaced them, from
the draws of one run where the other did. So a draw has passed one test fewer than a latent that is
judged, and errs towards large p-values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from analysis.fates.nulls import Null
from analysis.fates.subjects import Seen
from analysis.fates.tails import rolled, unrolled
from analysis.latents.coordinates import Coordinates
from sae.errors import ConfigError

__all__ = ["BY_BULK", "BY_CHANGE", "Chooser", "choose", "choose_by_bulk", "choose_by_change"]
__all__ += ["pooled", "reach", "stretched", "unlikeness"]

FURTHER = 1.25  # times the nearest run's reach; a null beyond that would hide what the arm did
GOLDEN = (5**0.5 - 1) / 2
LEAST = 0.5  # of the reach of a null that may be stretched, and of what is left of one


def pooled(nulls: Sequence[Null]) -> Null:
    """Several nulls as one: their draws together, the change of the one that moved least.

    Args:
        nulls: Of one base model, so that a latent is in the same fire-rate bin in all.

    Raises:
        ConfigError: There are none, or they were measured on different base models or tokens.
    """
    if not nulls:
        raise ConfigError("a pooled null", "no nulls", "give at least one")
    first, *others = nulls
    if any(not np.array_equal(first.edges, each.edges) for each in others):
        do = "measure all on the same tokens of one base model"
        raise ConfigError("a pooled null", "nulls of different fire rates", do)
    if not others:
        return first
    measured = [c for c in first.values if all(c in each.values for each in others)]
    kept = [_stay(null, nulls) for null in nulls]

    def joined(of: Callable[[Null], np.ndarray]) -> np.ndarray:
        return np.concatenate([of(each)[mine] for each, mine in zip(nulls, kept, strict=True)])

    names = tuple(name for each in nulls for name in each.names)
    return Null(
        " + ".join(names),
        min(each.change for each in nulls),
        first.edges,
        joined(lambda each: each.bins),
        {c: joined(lambda each, c=c: each.values[c]) for c in measured},
        {c: joined(lambda each, c=c: each.errors[c]) for c in measured},
        parts=names,
        latent=joined(lambda each: each.latent),
        fragile=np.unique(np.concatenate([each.displaced for each in nulls])),
    )


def _stay(null: Null, nulls: Sequence[Null]) -> Bool[np.ndarray, " latents"]:
    """Draws of latents that no other null displaced; its own displaced ones are draws like all."""
    gone = [each.displaced for each in nulls if each is not null]
    return ~np.isin(null.latent, np.concatenate(gone))


class Reach(NamedTuple):
    """How far a null's latents moved, over how far a model's did, along one coordinate."""

    ratio: float
    """Of medians, on the scale on which latents are judged."""
    error: float
    """Standard error of its logarithm."""


def reach(null: Null, coordinates: Coordinates) -> dict[str, Reach]:
    """How far a null's latents moved, over how far a model's did, along each coordinate.

    Args:
        null: The null.
        coordinates: Of the model. The more of its latents changed, the smaller is the ratio, and
            the fewer are called.
    """
    other = Null.of("", 0.0, coordinates)
    both = [c for c in null.values if c in other.values]
    mine, theirs = (
        {c: _size(np.abs(unrolled(c, one.values[c]))) for c in both} for one in (null, other)
    )
    return {
        c: Reach(mine[c][0] / theirs[c][0], float(np.hypot(mine[c][1], theirs[c][1]))) for c in both
    }


def _size(far: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Median, and the standard error of its logarithm, by ranks (Woodruff 1952)."""
    off = 0.5 / int((~np.isnan(far)).sum()) ** 0.5
    low, middle, high = np.nanquantile(far, [0.5 - off, 0.5, 0.5 + off]).clip(1e-12)
    return float(middle), float(np.log(high / low) / 2)


def stretched(null: Null, by: Mapping[str, float], unsure: Mapping[str, float]) -> Null:
    """The same null, as it is where its latents move further, and how much further is unsure.

    Each draw is moved by a factor of its own, log-normal about what was measured, as a predictive
    distribution is: moved all alike, a size that errs by a tenth calls more by chance than it
    spares. The factors are quantiles, dealt out along the draws' ranks by the golden ratio, so that
    neighbours get unlike ones and nothing is left to a seed. Errors shrink with a null that
    shrinks, but do not grow: they are of sampling in part, which does not grow with drift, and the
    smaller an error is the farther out its draw counts.

    Args:
        null: The null.
        by: Factor of each coordinate, on the scale on which latents are judged.
        unsure: Standard error of the logarithm of each factor.
    """
    far = {c: unrolled(c, each) for c, each in null.values.items()}
    factors = {c: by[c] * np.exp(unsure[c] * _dealt(np.abs(far[c]))) for c in far}
    values = {c: rolled(c, factors[c] * far[c]) for c in far}
    errors = {c: np.minimum(factors[c], 1.0) * each for c, each in null.errors.items()}
    return replace(null, values=values, errors=errors)


def _dealt(far: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A quantile of the normal distribution to each draw, unlike that of draws next in rank."""
    return stats.norm.ppf((0.5 + GOLDEN * np.argsort(np.argsort(far))) % 1)


def choose(nulls: Sequence[Null], reach: Mapping[str, float], goal: float) -> Null | None:
    """Of every run the checkpoint that moved least of those that moved as far, pooled.

    A run that has none is left out, as is one whose nearest moved over 1.25 times as far as
    the nearest of all.

    Args:
        nulls: Each named RUN or RUN@CHECKPOINT.
        reach: How far each moved, by name.
        goal: How far the tuned model moved, in the same unit.

    Returns:
        The null, or None where none moved as far: then nothing can be called.
    """
    enough = [null for null in nulls if reach[null.name] >= goal]
    runs = groupby(sorted(enough, key=_run), key=_run)
    nearest = [min(run, key=lambda null: reach[null.name]) for _, run in runs]
    limit = FURTHER * min((reach[null.name] for null in nearest), default=0.0)
    kept = [null for null in nearest if reach[null.name] <= limit]
    return pooled(kept) if kept else None


def _run(null: Null) -> str:
    return null.name.partition("@")[0]


def choose_by_change(nulls: Sequence[Null], one: Seen) -> Null | None:
    """The nulls whose activations moved as far on neutral text, as `choose` takes them."""
    return choose(nulls, {null.name: null.change for null in nulls}, one.change.activations)


def choose_by_bulk(nulls: Sequence[Null], one: Seen) -> Null | None:
    """The nulls whose latents moved at least half as far, stretched to move as far.

    For activations without neutral text. What changed disturbs the rest too, by features that fire
    beside it, so that latents to which nothing happened move further than drift alone moves them.
    Here a null gives the shape of what they do, and the bulk of the tuned model's own latents the
    size, coordinate by coordinate (`reach`): an empirical null (Efron 2004). Of every run the one
    counts that is nearest in size, by the mean of the coordinates' log ratios; none is made less
    than half.
    """
    able, size = [], {}
    for null in nulls:
        reached = reach(null, one.coordinates)
        if min(each.ratio for each in reached.values()) < LEAST:
            continue
        by = {c: max(LEAST, 1 / each.ratio) for c, each in reached.items()}
        able.append(stretched(null, by, {c: each.error for c, each in reached.items()}))
        mean = np.mean([np.log(each.ratio) for each in reached.values()])
        size[null.name] = unlikeness(float(np.exp(mean)), 1.0)
    return choose(able, size, 1.0)


def unlikeness(change: float, other: float) -> float:
    """How far apart two sizes of change are, as the ratio of the larger to the smaller.

    Args:
        change: Of one model, 0 or more.
        other: Of the other, in the same unit.

    Example:
        >>> unlikeness(0.5, 0.25), unlikeness(0.25, 0.5)
        (2.0, 2.0)
    """
    small, large = sorted((change, other))
    return large / max(small, 1e-12)


@dataclass(frozen=True)
class Chooser:
    """Which nulls a tuned model is held against, and at which size a held-back one is."""

    choose: Callable[[Sequence[Null], Seen], Null | None]
    """Of the nulls and a tuned model, the null; None where none moved as far."""
    resize: Callable[[Null, Sequence[Null], Seen], Null | None]
    """Of the null that was chosen, the nulls and a held-back model: the same runs, as far as that
    model moved. Else a null that was stretched for a tuned model would spare a held-back one."""


def _of_bulk(null: Null, nulls: Sequence[Null], one: Seen) -> Null | None:
    return choose_by_bulk([each for each in nulls if each.name in null.names], one)


BY_CHANGE = Chooser(choose_by_change, lambda null, nulls, one: null)
"""By how far activations moved on neutral text; nothing is stretched."""
BY_BULK = Chooser(choose_by_bulk, _of_bulk)
"""By how far the bulk of the latents moved."""
