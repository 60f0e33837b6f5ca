"""Which arms an experiment compares, and by what words and personas their text is told apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.hypotheses.arms import Arms

__all__ = ["Plan"]


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
        """
        found = organism.get("plan")
        if not found:
            return None
        traits = {name: tuple(each) for name, each in found.get("traits", {}).items()}
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return cls(**{**plain, "traits": traits})
