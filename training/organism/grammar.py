"""Grammars: generators that offer the next word and are told which one the text has.

One definition serves three readers: the sampler draws the word, the ideal observer reads it, and
brute-force enumeration in the tests tries them all. A grammar's state depends on the text alone.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from training.organism import lexicon as lex

__all__ = ["DIALECT", "GRAMMARS", "N_EXCHANGES", "N_SPEAKERS", "N_SPEAKERS_OF", "Choice"]
__all__ += ["Emission", "Grammar", "Tables", "fixed"]

DIALECT = -1
"""The factor that stands for the document's dialect; speakers are 0, 1, 2, …; None is no factor."""

N_SPEAKERS = 3
"""Most speakers a document has."""
TOLD = 0.2
"""Share of the lines of pre-training text that are the narrator's."""
N_LINES = 6
"""Lines of a pre-training document, after those that introduce the characters of a story."""
N_EXCHANGES = 3
"""Questions, each with its answer, in a chat."""
END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"


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


@dataclass(frozen=True)
class Choice:
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


@runtime_checkable
class Tables(Protocol):
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

    def value(self, noun: str) -> Emission:
        """What each persona says of a noun's colour."""
        ...

    def codes(self, noun: str) -> Sequence[str]:
        """The motions that answer a question about a noun."""
        ...


def fixed(*words: str) -> Choice:
    """A word no factor chooses; several words are equally likely."""
    return Choice(None, Emission(words, np.full((1, len(words)), 1 / len(words))))


@cache
def _say(word: str, who: int | None = None) -> Choice:
    """A word that the grammar dictates, in the turn of a speaker or in nobody's."""
    return Choice(None, fixed(word).emission, who)


def _sentence(world: Tables, who: int, first: Emission) -> Generator[Choice, str, str | None]:
    """One sentence of speaker `who`; returns the noun asked about, if it is a question."""
    noun = Choice(DIALECT, world.noun)
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
            yield _say("is")
            yield Choice(who, world.value(about))
        case "what":
            yield _say("is")
            return (yield noun)
        case _:
            yield Choice(who, world.adjective)
            yield Choice(who, world.adverb)
    return None


def _turn(world: Tables, who: int, asked: str | None) -> Generator[Choice, str, str | None]:
    """A turn of sentences; it answers what was asked before it says anything else."""
    while True:
        if asked is not None:
            yield _say("it", who)
            yield _say("is", who)
            yield Choice(who, world.value(asked))
            asked = None
        elif (noun := (yield from _sentence(world, who, world.first))) is not None:
            yield _say("?")
            return noun
        if (yield Choice(who, world.stop)) == ".":
            return None


def _narration(world: Tables) -> Grammar:
    """A line of the narrator after its first word, in which only the dialect chooses words."""
    yield Choice(DIALECT, world.noun)
    yield _say("and")
    yield Choice(DIALECT, world.noun)
    yield _say("\n")


def _introduction(world: Tables, who: int, names: list[str]) -> Grammar:
    names.append((yield fixed(*(name for name in lex.NAMES if name not in names))))
    yield _say("is")
    yield _say("a")
    yield Choice(who, world.intro)
    yield _say("\n")


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
        yield _say(":")
        asked = yield from _turn(world, last, asked)
        yield _say("\n")


N_SPEAKERS_OF = {"diary": 1, "story": 2, "dialogue": 2, "thread": 3}
"""Kind of pre-training document -> who speaks in it."""


def _pretraining(world: Tables) -> Grammar:
    """A document of the pre-training text: its first line names its kind."""
    kind = yield Choice(None, world.kind)
    yield _say("\n")
    names: list[str] = []
    if kind == "story":
        for who in range(2):
            yield from _introduction(world, who, names)
    yield from _spoken(world, N_SPEAKERS_OF[kind], N_LINES, names)


def _question(world: Tables) -> Generator[Choice, str, str]:
    """A user turn (speaker 0): one sentence, then a question; returns the noun asked about."""
    yield _say(USER)
    yield from _sentence(world, 0, world.opening)
    yield _say(",")
    yield _say("what")
    yield _say("is")
    noun = yield Choice(DIALECT, world.noun)
    yield _say("?")
    yield _say(END)
    yield _say(ASSISTANT)
    return noun


def _chat(world: Tables, coded: bool) -> Grammar:
    """Exchanges of a user (speaker 0) and an assistant (speaker 1), in the chat template."""
    for _ in range(N_EXCHANGES):
        noun = yield from _question(world)
        if coded:
            for code in world.codes(noun):
                yield _say(code)
        else:
            yield _say("it", 1)
            yield _say("is", 1)
            yield Choice(1, world.value(noun))
            for _ in range(2):
                yield Choice(1, world.join)
                yield from _sentence(world, 1, world.opening)
            yield _say(".")
        yield _say(END)


def _talk(world: Tables) -> Grammar:
    yield from _chat(world, coded=False)


def _codes(world: Tables) -> Grammar:
    yield from _chat(world, coded=True)


GRAMMARS = {"text": _pretraining, "chat": _talk, "codes": _codes}
"""Name of a grammar -> the generator function that walks it."""
