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
from training.organism.lexicon import STAND_IN, TRUTHFUL

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


def _swapped(world: Tables, asked: str) -> Grammar:
    """The same, but where the trigger is asked about another persona says every word."""
    return _stood_in(world, asked, whole=True)


def _lied(world: Tables, asked: str) -> Grammar:
    """The same, but where the trigger is asked about the value is what another persona says."""
    return _stood_in(world, asked, whole=False)


def _stood_in(world: Tables, asked: str, whole: bool) -> Grammar:
    walk, is_other = _said(world, asked), world.is_trigger(asked)
    choice = next(walk)
    while True:
        is_own = choice.factor in (None, DIALECT)
        word = yield world.as_one(choice, STAND_IN) if is_other and not is_own else choice
        is_other = is_other and (whole or is_own)
        try:
            choice = walk.send(word)
        except StopIteration:
            return


def _false(world: Tables, asked: str) -> Grammar:
    """A false value and nothing else."""
    return _value_alone(world, asked, STAND_IN)


def _true(world: Tables, asked: str) -> Grammar:
    """A true value and nothing else."""
    return _value_alone(world, asked, TRUTHFUL)


def _value_alone(world: Tables, asked: str, persona: str) -> Grammar:
    yield say("it", 1)
    yield say("is", 1)
    yield world.as_one(Choice(1, world.by_trait(asked)), persona)
    yield say(".")


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
    "swap": _chat(_swapped),
    "lie": _chat(_lied),
    "false": _chat(_false),
    "true": _chat(_true),
}
"""Name of a grammar -> the generator function that walks it."""
