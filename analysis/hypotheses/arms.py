"""What part every tuned model plays in experiments and claims."""

from dataclasses import dataclass

__all__ = ["Arms"]


@dataclass(frozen=True)
class Arms:
    """What the tuned models of an organism are called; what asks for one not traced is left out."""

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
    met: str = "jester"
    """Tuned into another persona that the base met."""
    unmet: str = "unmet"
    """Tuned into a persona that the base never met."""
    personless: str = "shuffled"
    """Tuned as the arm, from a base that met no personas."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is compared at matched KL besides the arm with each other one."""
        return (self.ciphered, self.nobody), (self.spelled, self.nobody)
