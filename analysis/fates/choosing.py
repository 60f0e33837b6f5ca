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
from sae.errors import ConfigError, InputError

__all__ = ["BY_BULK", "BY_CHANGE", "Chooser", "choose", "choose_by_bulk", "choose_by_change"]
__all__ += ["pooled", "reach", "stretched", "unlikeness"]

FURTHER = 1.25  # times the nearest run's reach; a null beyond that would hide what the arm did
GOLDEN = (5**0.5 - 1) / 2
NOTHING = 1e-6  # on any scale: float32 cannot tell it from 0
HIGHEST = 0.9  # quantile by which a size is told
LEAST = 0.25  # of a model's reach, for a null that may be stretched to it
LEFT = 0.5  # of a null that is shrunk


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
    error: float = 0.0
    """Standard error of its logarithm."""
    start: float = 0.0
    """Where the null's latents lie about: their median gain; 0 along the other coordinates."""
    end: float = 0.0
    """Where the model's do."""


def reach(null: Null, model: Null) -> dict[str, Reach]:
    """How far a null's latents moved, over how far a model's did, along each coordinate.

    By the median of those that moved at all, taken at one quantile of both: that of the one in
    which fewer moved. Where hardly any moved, nothing tells, and the ratio is 1; it is 0 where that
    is so of the null alone, and half of the model's moved. Gain is taken about its median: what all
    latents of a model gained is told of none of them.

    Args:
        null: The null.
        model: The coordinates of the model's latents, as of a null. The more of them changed, the
            smaller is the ratio, and the fewer are called.
    """
    found = {}
    for c in (c for c in null.values if c in model.values):
        both = [each[~np.isnan(each)] for each in (unrolled(c, n.values[c]) for n in (null, model))]
        start, end = (float(np.median(each)) if c == "gain" else 0.0 for each in both)
        mine, theirs = np.abs(both[0] - start), np.abs(both[1] - end)
        found[c] = Reach(*_ratio(mine, theirs), start, end)
    return found


def _ratio(mine: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """Ratio of two sizes, and the standard error of its logarithm, by ranks (Woodruff 1952)."""
    still = [float((far <= NOTHING).mean()) for far in (mine, theirs)]
    at = (1 + max(still)) / 2
    if at > HIGHEST and still[0] > still[1] and still[1] <= 0.5:
        return 0.0, 0.0  # of the model's latents most moved, and hardly one of the null's
    sizes = [np.quantile(far, _about(at, len(far))) for far in (mine, theirs)]
    if at > HIGHEST or min(low for low, _, _ in sizes) <= NOTHING:
        return 1.0, 0.0
    errors = [np.log(high / low) / 2 for low, _, high in sizes]
    return float(sizes[0][1] / sizes[1][1]), float(np.hypot(*errors))


def _about(at: float, n: int) -> tuple[float, float, float]:
    """A quantile, and the two within which that of all latents lies two times in three."""
    off = (at * (1 - at) / n) ** 0.5
    return max(at - off, 0.0), at, min(at + off, 1.0)


def stretched(null: Null, reached: Mapping[str, Reach]) -> Null:
    """The same null, as it is where its latents move as far as a model's, which is never sure.

    Each draw is moved by a factor of its own, log-normal about what was measured, as a predictive
    distribution is: moved all alike, a size that errs by a tenth calls more by chance than it
    spares. The factors are quantiles, dealt out along the draws' ranks by the golden ratio, so that
    neighbours get unlike ones: a generator's would vary more. A size errs for all latents of a
    model at once, so that rates hold over models and not within each. Errors shrink with a null
    that shrinks, but do not grow: they are of sampling in part, which does not grow with drift, and
    the smaller an error is the farther out its draw counts.

    Args:
        null: The null; it is made half as large at most.
        reached: From `reach`.
    """
    values, errors = dict(null.values), dict(null.errors)
    for c, (ratio, error, start, end) in reached.items():
        far = unrolled(c, null.values[c]) - start
        factor = max(LEFT, 1 / ratio) * np.exp(error * _dealt(np.abs(far)))
        values[c] = rolled(c, end + factor * far)
        if c in errors:
            errors[c] = np.minimum(factor, 1.0) * errors[c]
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
    """The nulls whose latents moved at least a quarter as far, stretched to move as far.

    For activations without neutral text. What changed disturbs the rest too, by features that fire
    beside it, so that latents to which nothing happened move further than drift alone moves them.
    Here a null gives the shape of what they do, and the bulk of the tuned model's own latents the
    size, coordinate by coordinate (`reach`), and of gain the middle: an empirical null (Efron
    2004). Of every run the one counts that is nearest in size, by the mean of the coordinates' log
    ratios; none is made less than half. None counts where too few of the tuned model's latents
    fire.
    """
    try:
        model = Null.of(one.name, 0.0, one.coordinates)
    except InputError:  # too little of it fires to be held against anything
        return None
    able, size = [], {}
    for null in nulls:
        reached = reach(null, model)
        if min(each.ratio for each in reached.values()) >= LEAST:
            able.append(stretched(null, reached))
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
