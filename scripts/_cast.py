"""Which model plays which part in a trace: named one by one, or taken from an organism."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from analysis.controls import Control
from analysis.nulls import unlikeness
from analysis.subjects import Subject
from analysis.tracing import TraceConfig
from sae.errors import ConfigError, InputError
from scripts._text import named_models

__all__ = ["Cast", "Traced", "cast_of", "continued_models", "read_organism", "texts_of"]
__all__ += ["trace_config"]

ROUNDING = 1e-3


@dataclass(frozen=True)
class Cast:
    """The models of a trace."""

    base: str | None = None
    """Folder or hub id of the base model."""
    tuned: tuple[str, ...] = ()
    """Tuned models as NAME=PATH, the one that the question is about first."""
    null: str | None = None
    """NAME=PATH of continued pre-training that sets thresholds, at each of its checkpoints."""
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
        nulls = [paths[name] for name, role in roles.items() if role == "null"]
        poles = [name for name, role in roles.items() if role == "pole"]
        tuned = tuple(paths[name] for name, role in roles.items() if role != "null")
        named = Cast(
            named.base or str(folder / "models" / "base"),
            named.tuned or tuned,
            named.null or next(iter(nulls), None),
            named.held_back or next(iter(nulls[1:]), None),
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


def trace_config(door: Traced, organism: Mapping[str, Any]) -> TraceConfig:
    """What the analysis is asked, from what a door was asked.

    Raises:
        ConfigError: There is no base or no tuned model, or two models or controls have one name.
    """
    cast = cast_of(door.cast, organism, door.organism)
    null, held_back = (
        next(iter(_subjects([w] if w else ())), None) for w in (cast.null, cast.held_back)
    )
    assert cast.base is not None
    observer = door.organism / "observer.parquet" if door.organism else None
    return TraceConfig(
        cast.base,
        door.dictionary,
        door.continued,
        _subjects(cast.tuned),
        null,
        held_back,
        cast.pole,
        observer,
        door.seed,
        _controls(cast),
    )


def _controls(cast: Cast) -> tuple[Control, ...]:
    """Which dictionaries are controls; what is done with one is what its flag says."""
    found = _subjects([*cast.again, *cast.other_seed])
    return tuple(
        Control(each.name, Path(each.path), matched=place >= len(cast.again))
        for place, each in enumerate(found)
    )


def continued_models(organism: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """The models of an organism on which its dictionary must be continued, as NAME=PATH.

    The base model, every arm and pole, and checkpoints of the nulls: of the first null, for every
    arm the one that moved least of those that moved as far; of the second null, for each of those
    the one whose change is nearest to its.
    """
    arms = organism["arms"]
    paths = {name: folder / "models" / name for name in ("base", *arms)}
    tuned = [name for name, arm in arms.items() if arm["role"] != "null"]
    words = [f"{name}={paths[name]}" for name in ("base", *tuned)]
    moved = {name: _moved(arm["change"]) for name, arm in arms.items() if arm["role"] == "arm"}
    nulls = [name for name, arm in arms.items() if arm["role"] == "null"]
    ladders = {
        name: {c["name"]: _moved(c["change"]) for c in arms[name]["checkpoints"]} for name in nulls
    }
    goals, as_far = list(moved.values()), True
    for name, ladder in ladders.items():
        wanted = {_rung(ladder, goal, as_far) for goal in goals}
        kept = [each for each in ladder if each in wanted]
        words += [f"{name}@{each}={paths[name] / 'checkpoints' / each}" for each in kept]
        goals, as_far = [ladder[each] for each in kept], False
    return tuple(words)


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


def _subjects(words: Sequence[str]) -> tuple[Subject, ...]:
    found = named_models(words) if words else {}
    return tuple(Subject(name, path) for name, path in found.items())


def read_organism(folder: Path | None) -> dict[str, Any]:
    """Content of an organism's `organism.json`; empty without a folder.

    Raises:
        InputError: The folder holds no finished organism.
    """
    if folder is None:
        return {}
    path = folder / "organism.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        do = "grow it with `python -m scripts.grow_organism`"
        raise InputError(f"an organism in {folder}", "no readable organism.json", do) from error
