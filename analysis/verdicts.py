"""From what was seen of tuned models and nulls to one fate a latent, with measured error rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.choosing import unlikeness
from analysis.contrasts import Span
from analysis.error_rates import error_rates
from analysis.fates import decide
from analysis.intervals import Interval
from analysis.novelty import best_matches, novel_fates, novel_latents, novel_share
from analysis.nulls import Null
from analysis.subjects import Seen

__all__ = ["NullSide", "Verdict", "judge", "null_side"]


@dataclass(frozen=True, eq=False)
class NullSide:
    """Checkpoints of nulls, each with what its latents did while nothing happened."""

    nulls: Sequence[Null]
    """Coordinates of each checkpoint."""
    matches: Mapping[str, pd.DataFrame]
    """By checkpoint, how well its latents are matched."""
    seen: Mapping[str, Seen]
    """By checkpoint, what was seen of it."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said of one tuned model."""

    name: str
    """The tuned model."""
    fates: pd.DataFrame
    """Rows of `fates.parquet`: inherited latents, then novel ones."""
    null: Null | None
    """The null it was held against; None where no null moved as far."""
    novel: Interval | None
    """Share of its live latents that are novel; None without a null."""
    held_back: str | None
    """The checkpoint of the held-back null on which error rates were measured."""
    errors: pd.DataFrame | None
    """What `error_rates` says of that checkpoint, held against the same null."""


def null_side(seen: Sequence[Seen]) -> NullSide:
    """Checkpoints of a null, ready to be held against.

    Args:
        seen: What was seen of each of its checkpoints.

    Raises:
        InputError: A checkpoint has too few latents that fire often enough.
    """
    return NullSide(
        [Null.of(one.name, one.change.activations, one.coordinates) for one in seen],
        {one.name: best_matches(one.coordinates, one.presence) for one in seen},
        {one.name: one for one in seen},
    )


def judge(
    one: Seen,
    null: Null | None,
    thresholds: NullSide,
    held_back: NullSide,
    personas: pd.DataFrame,
    span: Span | None,
) -> Verdict:
    """The fates of one tuned model, against the null that moved as far as it did.

    Args:
        one: What was seen of the model.
        null: That null, of `thresholds`; None where none moved as far.
        thresholds: The nulls that set thresholds.
        held_back: The null on which error rates are measured; it sets none.
        personas: The selected personas.
        span: Of the persona latents; without one no latent is called novel.
    """
    fates = decide(one.coordinates, null, personas, one.name)
    if null is None:
        return Verdict(one.name, fates, None, None, None, None)
    matches = best_matches(one.coordinates, one.presence)
    found = novel_latents(matches, [thresholds.matches[name] for name in null.names])
    if span is not None:
        novel = novel_fates(found, one.firing.rows, span.basis, span.null, one.name)
        fates = pd.concat([fates, novel], ignore_index=True) if len(novel) else fates
    name, errors = _errors(null, held_back, personas)
    return Verdict(one.name, fates, null, novel_share(found), name, errors)


def _errors(
    null: Null, held_back: NullSide, personas: pd.DataFrame
) -> tuple[str | None, pd.DataFrame | None]:
    """Error rates on the held-back checkpoint whose change is nearest to that of the null."""
    if not held_back.nulls:
        return None, None
    nearest = min(held_back.nulls, key=lambda each: unlikeness(each.change, null.change))
    seen = held_back.seen[nearest.name]
    return nearest.name, error_rates(decide(seen.coordinates, null, personas, nearest.name))
