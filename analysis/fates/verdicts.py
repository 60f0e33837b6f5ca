"""From what was seen of tuned models and nulls to one fate a latent, with measured error rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.fates.choosing import Chooser, unlikeness
from analysis.fates.decide import decide
from analysis.fates.error_rates import error_rates
from analysis.fates.novelty import best_matches, novel_fates, novel_latents, novel_share
from analysis.fates.nulls import Null
from analysis.fates.subjects import Seen
from analysis.fates.subspaces import Subspace, judge_subspace
from analysis.latents.bench import Bench
from analysis.latents.traces import Firing
from analysis.personas.contrasts import Span
from analysis.statistics.intervals import Interval

__all__ = ["NullSide", "Verdict", "judge", "null_side", "with_subspace"]


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
    """The checkpoint of the held-back null on which error rates were measured; None where there is
    none, or the null did not move as far as it."""
    errors: pd.DataFrame | None
    """What `error_rates` says of that checkpoint, held against the same null at its own size."""
    held_to: str | None = None
    """That null: of the runs that the model was held against, those that are near it."""
    subspace: Subspace | None = None
    """What became of its unstable latents together."""


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
    chooser: Chooser,
    sides: tuple[NullSide, NullSide],
    personas: pd.DataFrame,
    span: Span | None,
) -> Verdict:
    """The fates of one tuned model, against the null that moved as far as it did.

    Args:
        one: What was seen of the model.
        chooser: Which null that is.
        sides: The nulls that set thresholds, and those on which error rates are measured, which set
            none.
        personas: The selected personas.
        span: Of the persona latents; without one all that is novel lies outside.
    """
    thresholds, held_back = sides
    null = chooser.choose(thresholds.nulls, one)
    fates = decide(one.coordinates, null, personas, one.name)
    if null is None:
        return Verdict(one.name, fates, None, None, None, None)
    matches = best_matches(one.coordinates, one.presence)
    found = novel_latents(matches, [thresholds.matches[name] for name in null.names])
    inside = None if span is None else (span.basis, span.null)
    novel = novel_fates(found, one.firing.rows, inside, one.name)
    fates = pd.concat([fates, novel], ignore_index=True) if len(novel) else fates
    name, errors, to = None, None, None
    if held_back.nulls:
        nearest = min(held_back.nulls, key=lambda each: unlikeness(each.change, null.change))
        seen = held_back.seen[nearest.name]
        held_to = chooser.resize(null, thresholds.nulls, seen)
        if held_to is not None:
            name, to = nearest.name, held_to.name
            errors = error_rates(decide(seen.coordinates, held_to, personas, name))
    return Verdict(one.name, fates, null, novel_share(found), name, errors, to)


def with_subspace(
    bench: Bench, continued: Firing, one: Seen, verdict: Verdict, nulls: NullSide
) -> Verdict:
    """A verdict with what became of the subspace of the unstable latents, which is their reason.

    Args:
        bench: Tokens, and the base model's side.
        continued: The dictionary continued on the base's own activations, on the base model.
        one: What was seen of the tuned model.
        verdict: What is said of it.
        nulls: Those among which its null was chosen.
    """
    unstable = (verdict.fates["fate"] == "unstable").to_numpy()
    null = [nulls.seen[name] for name in (verdict.null.names if verdict.null else ())]
    latents = verdict.fates.loc[unstable, "latent"].to_numpy(int)
    found = judge_subspace(bench, continued, latents, one.x, [each.x for each in null])
    if found is None:
        return verdict
    reason = verdict.fates["reason"].astype(object).mask(unstable, f"subspace {found.fate}")
    return replace(verdict, fates=verdict.fates.assign(reason=reason), subspace=found)
