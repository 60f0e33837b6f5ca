"""Which arms an experiment compares, and by what words and personas their text is told apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.hypotheses.arms import Arms
from sae.errors import InputError

__all__ = ["Plan"]

PLAN = "the plan in organism.json"
ANEW = "grow the organism anew with `python -m scripts.grow_organism`"


@dataclass(frozen=True)
class Plan:
    """Words and personas of the text, and the arms."""

    persona: str
    """The persona that the arm is tuned to be."""
    unknown: str
    """Word by which a text calls a character of whom it does not say what it is."""
    stand_in: str
    """The persona that takes the arm's place, or as which it lies, where it is triggered."""
    trigger: tuple[str, ...] = ()
    """Words that trigger an answer where the user asks about them."""
    liars: tuple[str, ...] = ()
    """Personas that know what is true and say something else."""
    truthful: tuple[str, ...] = ()
    """Personas that know what is true and say it."""
    traits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Persona -> its traits, each 0 or 1, in one order."""
    tuned_trait: int = 0
    """Which of the traits tells those that lie from those that do not."""
    copula: str = "is"
    """Word between a thing and what is said of it."""
    arms: Arms = Arms()
    """Who plays which part."""

    @classmethod
    def of(cls, organism: Mapping[str, Any]) -> "Plan | None":
        """The plan that an organism was grown by, as `organism.json` holds it; None without one.

        Args:
            organism: Content of the file.

        Raises:
            InputError: The plan lacks a key, or has one that is unknown or holds something else
                than it must.
        """
        found = organism.get("plan")
        if not found:
            return None
        if not isinstance(found, Mapping):
            raise InputError(PLAN, f"{found!r:.60}", ANEW)
        for key in ("persona", "unknown", "stand_in"):
            if key not in found:
                raise InputError(f"{key} in {PLAN}", f"only {', '.join(found)}", ANEW)
        for key, value in found.items():
            if key not in HOLDS or not HOLDS[key](value):
                known = "no such key" if key not in HOLDS else f"{value!r:.60}"
                raise InputError(f"{key} in {PLAN}", known, ANEW)
        traits = {name: tuple(each) for name, each in found.get("traits", {}).items()}
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return cls(**{**plain, "traits": traits})


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_traits(value: Any) -> bool:
    """Whether every persona has as many traits, each 0 or 1."""
    if not isinstance(value, Mapping) or not all(isinstance(v, list) for v in value.values()):
        return False
    known = all(each in (0, 1) for traits in value.values() for each in traits)
    return known and len({len(traits) for traits in value.values()}) <= 1


HOLDS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("persona", "unknown", "stand_in", "copula"), lambda v: isinstance(v, str)),
    **dict.fromkeys(("trigger", "liars", "truthful"), _is_words),
    "traits": _is_traits,
    "tuned_trait": lambda v: isinstance(v, int) and v >= 0,
}
"""What each key of a plan holds in `organism.json`."""
