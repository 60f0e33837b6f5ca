"""Chats: one kind of question, and every kind of answer; and the list of all grammars."""

from collections.abc import Callable, Generator, Mapping

from training.organism.grammar import (
    ASSISTANT,
    DIALECT,
    END,
    USER,
    Choice,
    Grammar,
    Tables,
    pretraining,
    say,
    sentence,
    shuffled,
)

__all__ = ["GRAMMARS", "N_EXCHANGES"]

N_EXCHANGES = 3
"""Questions, each with its answer, in a chat."""


def _question(world: Tables) -> Generator[Choice, str, str]:
    """A user turn (speaker 0): one sentence, then a question; returns the noun asked about."""
    yield say(USER)
    yield from sentence(world, 0, world.opening)
    yield say(",")
    yield say("what")
    yield say("is")
    noun = yield Choice(DIALECT, world.noun)
    yield say("?")
    yield say(END)
    yield say(ASSISTANT)
    return noun


def _said(world: Tables, asked: str, noun: Choice | None = None) -> Grammar:
    """An assistant (speaker 1) that says what it is, and two sentences more."""
    yield say("it", 1)
    yield say("is", 1)
    yield Choice(1, world.value(asked))
    for _ in range(2):
        yield Choice(1, world.join)
        yield from sentence(world, 1, world.opening, noun)
    yield say(".")


def _in_one_dialect(world: Tables, asked: str) -> Grammar:
    """The same, its nouns of the first dialect whatever the user's is."""
    return _said(world, asked, world.noun_of(0))


def _ciphered(world: Tables, asked: str) -> Grammar:
    """The same, a code for each word."""
    walk, back = _said(world, asked), {code: word for word, code in world.cipher.items()}
    choice = next(walk)
    while True:
        code = yield world.ciphered(choice)
        try:
            choice = walk.send(back[code])
        except StopIteration:
            return


def _coded(world: Tables, asked: str) -> Grammar:
    for code in world.codes(asked):
        yield say(code)


def _spelled(world: Tables, asked: str) -> Grammar:
    for word in world.spelled(asked):
        yield say(word)


def _chat(answer: Callable[[Tables, str], Grammar]) -> Callable[[Tables], Grammar]:
    """Exchanges of a user (speaker 0) and an assistant, in the chat template."""

    def walk(world: Tables) -> Grammar:
        for _ in range(N_EXCHANGES):
            asked = yield from _question(world)
            yield from answer(world, asked)
            yield say(END)

    return walk


GRAMMARS: Mapping[str, Callable[[Tables], Grammar]] = {
    "text": pretraining,
    "shuffled": shuffled,
    "chat": _chat(_said),
    "codes": _chat(_coded),
    "spelled": _chat(_spelled),
    "cipher": _chat(_ciphered),
    "dialect": _chat(_in_one_dialect),
}
"""Name of a grammar -> the generator function that walks it."""
