"""Which nulls a tuned model is held against: those that moved as far, of every run the nearest.

Two runs of a null are two draws of what drift does to each latent. Pooled they resolve p-values
twice as finely; checkpoints of one run would only repeat one draw.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from analysis.nulls import Null
from analysis.subjects import Seen
from sae.errors import ConfigError

__all__ = ["choose", "choose_by_bulk", "choose_by_change", "pooled", "unlikeness"]

FURTHER = 1.25  # times the nearest run's reach; a null beyond that would hide what the arm did
LEAST = 0.5  # of the reach of a null that may be stretched


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
    values, errors = (
        {c: np.concatenate([getattr(each, kind)[c] for each in nulls]) for c in measured}
        for kind in ("values", "errors")
    )
    bins = np.concatenate([each.bins for each in nulls])
    names = tuple(name for each in nulls for name in each.names)
    least = min(each.change for each in nulls)
    return Null(" + ".join(names), least, first.edges, bins, values, errors, names)


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
    """The nulls the bulk of whose latents moved at least half as far, stretched to move as far.

    For activations without neutral text. What changed disturbs the rest too, by features that fire
    beside it, so that latents to which nothing happened move further than drift alone moves them.
    Here a null gives the shape of what they do, and the bulk of the tuned model's own latents the
    size, coordinate by coordinate: an empirical null (Efron 2004). Of every run the one counts that
    is nearest in size, by the mean of the coordinates' log ratios; none is made smaller.
    """
    reach = {null.name: null.reach(one.coordinates) for null in nulls}
    stretched = [
        null.stretched({c: max(1.0, 1 / ratio) for c, ratio in reach[null.name].items()})
        for null in nulls
        if min(reach[null.name].values()) >= LEAST
    ]
    mean = {
        each.name: float(np.exp(np.mean(np.log([*reach[each.name].values()]))))
        for each in stretched
    }
    return choose(stretched, {name: unlikeness(each, 1.0) for name, each in mean.items()}, 1.0)


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
