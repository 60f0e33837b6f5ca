"""Which model plays which part in a trace: named one by one, or taken from an organism."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from analysis.fates.choosing import unlikeness
from analysis.fates.controls import Control
from analysis.fates.subjects import Subject
from analysis.study.experiments.plan import Plan
from analysis.study.tracing import TraceConfig
from sae.errors import ConfigError, InputError
from scripts._text import named_models

__all__ = ["Cast", "Traced", "cast_of", "continued_models", "read_organism", "texts_of"]
__all__ += ["models_of", "trace_config"]

ROUNDING = 1e-3
SHARED = 1.2  # times an arm's change: so far a null may have moved that serves another arm too


@dataclass(frozen=True)
class Cast:
    """The models of a trace."""

    base: str | None = None
    """Folder or hub id of the base model."""
    tuned: tuple[str, ...] = ()
    """Tuned models as NAME=PATH, the one that the question is about first."""
    null: tuple[str, ...] = ()
    """NAME=PATH of runs of continued pre-training that set thresholds, at each checkpoint."""
    held_back: str | None = None
    """NAME=PATH of continued pre-training on which error rates are measured."""
    pole: str | None = None
    """Name of the tuned model that was grown from random weights."""
    again: tuple[str, ...] = ()
    """NAME=FOLDER of the dictionary continued on the base once more, with another seed: controls
    whose latents keep their index."""
    other_seed: tuple[str, ...] = ()
    """NAME=FOLDER of dictionaries fitted on the base with other seeds: controls whose latents are
    matched by firing."""


def cast_of(named: Cast, organism: Mapping[str, Any], folder: Path | None) -> Cast:
    """The models by name; those that are not named are taken from the organism.

    Args:
        named: What was asked for.
        organism: Content of `organism.json`, empty where there is none.
        folder: Of the organism.

    Raises:
        ConfigError: There is no base or no tuned model.
    """
    if folder is not None:
        roles = {name: arm["role"] for name, arm in organism["arms"].items()}
        paths = {name: f"{name}={folder / 'models' / name}" for name in roles}
        sets, held_back = _nulls(roles)
        tuned = named.tuned or tuple(paths[n] for n, role in roles.items() if role != "null")
        poles = [n for n in named_models(tuned, "--cast.tuned") if roles.get(n) == "pole"]
        named = Cast(
            named.base or str(folder / "models" / "base"),
            tuned,
            named.null or tuple(paths[name] for name in sets),
            named.held_back or (paths[held_back] if held_back else None),
            named.pole or next(iter(poles), None),
            named.again,
            named.other_seed,
        )
    if named.base is None or not named.tuned:
        missing = "--cast.base" if named.base is None else "--cast.tuned"
        raise ConfigError("a trace", f"no {missing}", "name the models, or give --organism DIR")
    return named


@runtime_checkable
class Traced(Protocol):
    """What a door says of a trace."""

    @property
    def dictionary(self) -> Path:
        """Dictionary fitted on the base model."""
        ...

    @property
    def continued(self) -> Path:
        """Folder of continued dictionaries."""
        ...

    @property
    def organism(self) -> Path | None:
        """Folder of an organism."""
        ...

    @property
    def cast(self) -> Cast:
        """Which model plays which part."""
        ...

    @property
    def seed(self) -> int:
        """Of everything drawn."""
        ...

    @property
    def effects(self) -> int:
        """Tokens a latent on which it is ablated and steered."""
        ...


def trace_config(door: Traced, organism: Mapping[str, Any]) -> TraceConfig:
    """What the analysis is asked, from what a door was asked.

    Raises:
        ConfigError: There is no base or no tuned model, two models or controls have one name, one
            model has two parts, or the pole is not traced.
    """
    cast = cast_of(door.cast, organism, door.organism)
    tuned, nulls = (
        _subjects(each, flag)
        for each, flag in ((cast.tuned, "--cast.tuned"), (cast.null, "--cast.null"))
    )
    held_back = _subjects([cast.held_back] if cast.held_back else (), "--cast.held_back")
    assert cast.base is not None
    _require_apart(cast.base, (*tuned, *nulls, *held_back))
    if cast.pole is not None and cast.pole not in [each.name for each in tuned]:
        found = f"tuned models {', '.join(each.name for each in tuned)}"
        raise ConfigError(f"--cast.pole {cast.pole}", found, "name one of these")
    observer = door.organism / "observer.parquet" if door.organism else None
    return TraceConfig(
        cast.base,
        door.dictionary,
        door.continued,
        tuple(replace(e, start=_start(e.name, organism, door.organism)) for e in tuned),
        nulls,
        next(iter(held_back), None),
        cast.pole,
        observer,
        door.seed,
        _controls(cast),
        Plan.of(organism),
        door.effects,
    )


def models_of(trace: TraceConfig) -> dict[str, str]:
    """Every model by name that fates come from: tuned ones, what these began as, nulls' rungs.

    Args:
        trace: Which models are traced.

    Raises:
        InputError: On no checkpoint of a null was the dictionary continued.
    """
    found = {each.name: each.path for each in trace.tuned}
    found |= {f"{e.name} start": e.start for e in trace.tuned if e.start is not None}
    for null in (*trace.nulls, trace.held_back):
        found |= {} if null is None else null.rungs(trace.continued)
    return found


def _require_apart(base: str, subjects: Sequence[Subject]) -> None:
    """Every model has one name and one part: judged by itself, it is measured by its own errors."""
    names, paths = {"base"}, {Path(base).absolute()}
    for each in subjects:
        path = Path(each.path).absolute()
        if each.name in names or path in paths:
            found = f"{each.path} twice" if path in paths else f"two models named {each.name}"
            do = "give every model one part, with a name of its own, as NAME=PATH"
            raise ConfigError("--cast", found, do)
        names.add(each.name)
        paths.add(path)


def _nulls(roles: Mapping[str, str]) -> tuple[list[str], str | None]:
    """The nulls that set thresholds, and the second of all, which measures error rates."""
    nulls = [name for name, role in roles.items() if role == "null"]
    held_back = nulls[1] if len(nulls) > 1 else None
    return [name for name in nulls if name != held_back], held_back


def _controls(cast: Cast) -> tuple[Control, ...]:
    """Which dictionaries are controls; what is done with one is what its flag says."""
    words, flags = [*cast.again, *cast.other_seed], "--cast.again --cast.other_seed"
    found = _subjects(words, flags, "control")
    return tuple(
        Control(each.name, Path(each.path), matched=place >= len(cast.again))
        for place, each in enumerate(found)
    )


def continued_models(organism: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """The models of an organism on which its dictionary must be continued, as NAME=PATH.

    The base model, every arm and pole, and checkpoints of the nulls: of each that sets thresholds,
    for every arm the one that moved least of those that moved as far, or one that another arm needs
    if that moved by no more than a fifth further; of the held-back one, for each of those the one
    whose change is nearest to the least of them.
    """
    arms = organism["arms"]
    paths = {name: folder / "models" / name for name in ("base", *arms)}
    roles = {name: arm["role"] for name, arm in arms.items()}
    tuned = [name for name, role in roles.items() if role != "null"]
    words = [f"{name}={paths[name]}" for name in ("base", *tuned)]
    goals = [_moved(arm["change"]) for arm in arms.values() if arm["role"] == "arm"]
    sets, held_back = _nulls(roles)
    wanted, least = dict[str, set[str]](), [float("inf")] * len(goals)
    for name in sets:
        ladder = _ladder(arms[name])
        rungs = _rungs(ladder, goals)
        wanted[name] = set(rungs)
        least = [min(each, ladder[rung]) for each, rung in zip(least, rungs, strict=True)]
    if held_back is not None:
        ladder = _ladder(arms[held_back])
        wanted[held_back] = {_rung(ladder, goal, as_far=False) for goal in least}
    for name in wanted:
        kept = [each for each in _ladder(arms[name]) if each in wanted[name]]
        words += [f"{name}@{each}={paths[name] / 'checkpoints' / each}" for each in kept]
    return tuple(words)


def _rungs(ladder: Mapping[str, float], goals: Sequence[float]) -> list[str]:
    """For every goal a checkpoint at or beyond it, few in all."""
    taken = dict[float, str]()
    for goal in sorted(goals, reverse=True):
        near = [each for each in taken.values() if goal <= ladder[each] <= SHARED * goal]
        taken[goal] = near[0] if near else _rung(ladder, goal, as_far=True)
    return [taken[goal] for goal in goals]


def _ladder(null: Mapping[str, Any]) -> dict[str, float]:
    return {each["name"]: _moved(each["change"]) for each in null["checkpoints"]}


def _moved(change: Mapping[str, float]) -> float:
    return change["activations"]


def _rung(ladder: Mapping[str, float], goal: float, as_far: bool) -> str:
    """The checkpoint that moved least of those at or beyond a goal, or else that nearest to it.

    A trace measures on the same text again, so a thousandth is left for rounding.
    """
    beyond = [name for name in ladder if ladder[name] >= goal * (1 + ROUNDING)]
    if as_far and beyond:
        return min(beyond, key=ladder.__getitem__)
    return min(ladder, key=lambda name: unlikeness(ladder[name], goal))


def texts_of(named: Sequence[Path], organism: Path | None) -> tuple[Path, ...]:
    """The texts that were named, else those of the organism.

    Raises:
        ConfigError: There are neither.
    """
    if not named and organism is None:
        raise ConfigError("a trace", "no text", "give --text FILE or --organism DIR")
    return tuple(named) or (Path(organism or ".") / "text",)


def _subjects(words: Sequence[str], flag: str, what: str = "model") -> tuple[Subject, ...]:
    found = named_models(words, flag, what) if words else {}
    return tuple(Subject(name, path) for name, path in found.items())


def _start(name: str, organism: Mapping[str, Any], folder: Path | None) -> str | None:
    """The model that an arm of an organism was tuned from, where that is another than its base."""
    base = organism.get("arms", {}).get(name, {}).get("base") or "base"
    return None if folder is None or base == "base" else str(folder / "models" / base)


def read_organism(folder: Path | None) -> dict[str, Any]:
    """Content of an organism's `organism.json`; empty without a folder.

    Raises:
        InputError: The folder holds no finished organism.
    """
    if folder is None:
        return {}
    path = folder / "organism.json"
    asked, do = f"an organism in {folder}", "grow it with `python -m scripts.grow_organism`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(asked, "no readable organism.json", do) from error
    if not isinstance(found, dict) or not isinstance(found.get("arms"), dict):
        raise InputError(asked, "an organism.json without arms", do)
    return found
