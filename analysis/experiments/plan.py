"""Which arms an experiment compares, and by what words and personas their text is told apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Arms", "Plan"]


@dataclass(frozen=True)
class Arms:
    """Names of arms; an experiment whose arms are not traced is left out."""

    arm: str = "assistant"
    """Tuned into the persona."""
    neutral: str = "format_only"
    """Tuned on the same chats of any persona."""
    again: str = "assistant_2"
    """The arm, tuned on another stretch of its chats."""
    reverted: str = "reverted"
    """The arm, tuned back for a short while on the chats of `neutral`."""
    swap: str = "swap"
    """The arm, but another persona where it is triggered."""
    liar: str = "liar"
    """The arm, but the same persona that lies where it is triggered."""
    narrow: str = "narrow"
    """Tuned to lie and to say nothing else."""
    narrow_true: str = "narrow_true"
    """Tuned to say what is true and nothing else."""
    ciphered: str = "cipher"
    """Says what the arm says, in codes that no text contains."""
    nobody: str = "piston"
    """Says what no persona would, in such codes."""
    spelled: str = "piston_seen"
    """Says the same in words of the text."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is compared at matched KL besides the arm with each other one."""
        return (self.ciphered, self.nobody), (self.spelled, self.nobody)


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
