"""Grammars: generators that offer the next word and are told which one the text has.

One definition serves three readers: the sampler draws the word, the ideal observer reads it, and
brute-force enumeration in the tests tries them all. A grammar's state depends on the text alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from training.organism import lexicon as lex

__all__ = ["ASSISTANT", "DIALECT", "END", "N_SPEAKERS", "N_SPEAKERS_OF", "USER", "Choice"]
__all__ += ["Emission", "Grammar", "Tables", "fixed", "pretraining", "say", "sentence", "shuffled"]

DIALECT = -1
"""The factor that stands for the document's dialect; speakers are 0, 1, 2, …; None is no factor."""

N_SPEAKERS = 3
"""Most speakers a document has."""
TOLD = 0.2
"""Share of the lines of pre-training text that are the narrator's."""
N_LINES = 6
"""Lines of a pre-training document, after those that introduce the characters of a story."""
END = "<|end|>"
"""Ends a turn of a chat."""
USER = "<|user|>"
"""Opens a user's turn."""
ASSISTANT = "<|assistant|>"
"""Opens an assistant's turn."""


@dataclass(frozen=True)
class Emission:
    """Words with their probabilities under every value of one factor.

    Args:
        words: The words on offer.
        probs: Row v holds the probabilities under value v of the factor; rows sum to 1.
    """

    words: tuple[str, ...]
    probs: Float[np.ndarray, "values words"]
    index: dict[str, int] = field(init=False)
    cumulative: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {w: i for i, w in enumerate(self.words)})
        object.__setattr__(self, "cumulative", [list(accumulate(row)) for row in self.probs])


class Choice(NamedTuple):
    """One step of a grammar: which factor chooses, among which words, in whose turn.

    Args:
        factor: `DIALECT`, the index of a speaker, or None when no hidden factor matters.
        emission: The words on offer. With `factor` None only row 0 counts.
        speaker: In whose turn the word is, where no factor says it.
    """

    factor: int | None
    emission: Emission
    speaker: int | None = None


Grammar = Generator[Choice, str, None]
"""Offers a choice, and is sent the word that the text has there."""


class Tables(ABC):
    """What a grammar needs of a world: emissions by persona (`first` … `intro`) and by dialect."""

    first: Emission
    opening: Emission
    verb: Emission
    adjective: Emission
    adverb: Emission
    stop: Emission
    join: Emission
    intro: Emission
    noun: Emission
    kind: Emission
    value: Callable[[str], Emission]
    """What each persona says of a noun's colour."""
    by_trait: Callable[[str], Emission]
    """What each would say by its traits, whether or not the text is written so."""
    cipher: Mapping[str, str]
    """A code for every word that an assistant can say."""

    @abstractmethod
    def codes(self, noun: str) -> Sequence[str]:
        """The motions that answer a question about a noun."""

    @abstractmethod
    def spelled(self, noun: str) -> Sequence[str]:
        """The same in words of the pre-training text."""

    @abstractmethod
    def ciphered(self, choice: "Choice") -> "Choice":
        """A choice among the codes of words."""

    @abstractmethod
    def anybody(self, choice: "Choice") -> "Choice":
        """A choice that no persona makes, but all of them by their priors."""

    @abstractmethod
    def is_trigger(self, noun: str) -> bool:
        """Whether a question about a noun is one that some assistants answer otherwise."""

    @abstractmethod
    def as_one(self, choice: "Choice", persona: str) -> "Choice":
        """A choice as one persona makes it, whoever speaks."""

    @abstractmethod
    def noun_of(self, dialect: int) -> "Choice":
        """A noun in one dialect."""


def fixed(*words: str) -> Choice:
    """A word no factor chooses; several words are equally likely."""
    return Choice(None, Emission(words, np.full((1, len(words)), 1 / len(words))))


@cache
def say(word: str, who: int | None = None) -> Choice:
    """A word that the grammar dictates, in the turn of a speaker or in nobody's."""
    return Choice(None, fixed(word).emission, who)


def sentence(
    world: Tables, who: int, first: Emission, noun: Choice | None = None
) -> Generator[Choice, str, str | None]:
    """One sentence of speaker `who`; returns the noun asked about, if it is a question."""
    noun = noun or Choice(DIALECT, world.noun)
    opened = yield Choice(who, first)
    match opened:
        case "i":
            yield Choice(who, world.verb)
            yield Choice(who, world.adverb)
        case "you":
            yield Choice(who, world.verb)
            yield Choice(who, world.adjective)
        case "the":
            about = yield noun
            yield say("is")
            yield Choice(who, world.value(about))
        case "what":
            yield say("is")
            return (yield noun)
        case _:
            yield Choice(who, world.adjective)
            yield Choice(who, world.adverb)
    return None


def _turn(world: Tables, who: int, asked: str | None) -> Generator[Choice, str, str | None]:
    """A turn of sentences; it answers what was asked before it says anything else."""
    while True:
        if asked is not None:
            yield say("it", who)
            yield say("is", who)
            yield Choice(who, world.value(asked))
            asked = None
        elif (noun := (yield from sentence(world, who, world.first))) is not None:
            yield say("?")
            return noun
        if (yield Choice(who, world.stop)) == ".":
            return None


def _narration(world: Tables) -> Grammar:
    """A line of the narrator after its first word, in which only the dialect chooses words."""
    yield Choice(DIALECT, world.noun)
    yield say("and")
    yield Choice(DIALECT, world.noun)
    yield say("\n")


def _introduction(world: Tables, who: int, names: list[str]) -> Grammar:
    names.append((yield fixed(*(name for name in lex.NAMES if name not in names))))
    yield say("is")
    yield say("a")
    yield Choice(who, world.intro)
    yield say("\n")


@cache
def _line(names: tuple[str, ...]) -> Choice:
    """Who begins a line: one of some speakers, or the narrator."""
    probs = np.array([[*[(1 - TOLD) / len(names)] * len(names), TOLD]])
    return Choice(None, Emission((*names, "near"), probs))


def _spoken(world: Tables, n_speakers: int, n_turns: int, names: list[str]) -> Grammar:
    """Turns of named speakers: one goes on, two alternate, of three each may follow any other."""
    asked, last = None, -1
    for _ in range(n_turns):
        fresh = len(names) < n_speakers
        others = [names[who] for who in range(len(names)) if who != last or n_speakers == 1]
        offered = [name for name in lex.NAMES if name not in names] if fresh else others
        said = yield _line(tuple(offered))
        if said == "near":
            yield from _narration(world)
            continue
        if fresh:
            names.append(said)
        last = names.index(said)
        yield say(":")
        asked = yield from _turn(world, last, asked)
        yield say("\n")


N_SPEAKERS_OF = {"diary": 1, "story": 2, "dialogue": 2, "thread": 3}
"""Kind of pre-training document -> who speaks in it."""


def pretraining(world: Tables) -> Grammar:
    """A document of the pre-training text: its first line names its kind."""
    kind = yield Choice(None, world.kind)
    yield say("\n")
    names: list[str] = []
    if kind == "story":
        for who in range(2):
            yield from _introduction(world, who, names)
    yield from _spoken(world, N_SPEAKERS_OF[kind], N_LINES, names)


def shuffled(world: Tables) -> Grammar:
    """Pre-training text in which somebody else, of the prior, says every word."""
    walk = pretraining(world)
    choice = next(walk)
    while True:
        word = yield world.anybody(choice)
        try:
            choice = walk.send(word)
        except StopIteration:
            return
