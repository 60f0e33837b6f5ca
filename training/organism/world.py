"""A world with known personas: seed -> labelled text, whose every word has a known cause.

Every word is chosen by at most one hidden *factor*, the persona of one speaker or the dialect of
the document, in a grammar whose state the text determines (`grammar.py`). So text is a finite
mixture, and the filter in `observer.py` is exact.
"""

import random
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from jaxtyping import Float

from training.organism import lexicon as lex
from training.organism.chats import GRAMMARS
from training.organism.grammar import DIALECT, N_SPEAKERS, N_SPEAKERS_OF, Choice, Emission, Tables
from training.organism.world_config import WorldConfig

__all__ = ["LONGEST", "Hidden", "Sample", "World", "WorldConfig"]

LONGEST = 150
"""Words of the longest document; what is longer is cut after a line."""


@dataclass(frozen=True)
class Hidden:
    """The hidden causes of one document: a persona for each of its speakers, and a dialect."""

    personas: tuple[int, ...]
    dialect: int

    @cached_property
    def values(self) -> Mapping[int | None, int]:
        """The value of every factor; 0 where no factor chooses."""
        return {None: 0, DIALECT: self.dialect, **dict(enumerate(self.personas))}


@dataclass(frozen=True)
class Sample:
    """A document as words, with its causes and the grammar it was written by."""

    words: tuple[str, ...]
    hidden: Hidden
    grammar: str = "text"


class World(Tables):
    """Emissions, facts and priors; `sample` writes documents.

    Personas are numbered as in `personas`; the held-out one comes last and has prior 0.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.personas = tuple(p for p in lex.ARCHETYPES if p != lex.HELD_OUT) + (lex.HELD_OUT,)
        self.traits = np.array([[int(d) for d in lex.ARCHETYPES[p]] for p in self.personas])
        weights = 1 / np.sqrt(np.arange(len(self.personas)) + 6.0)
        weights[-1] = 0.0
        self.prior: Float[np.ndarray, " personas"] = weights / weights.sum()
        n = self.config.n_dialects
        order = 1 / np.sqrt(np.arange(n) + 6.0)
        self.dialect_prior: Float[np.ndarray, " dialects"] = order / order.sum()
        self._rng = np.random.default_rng(self.config.seed)
        self.facts = self._rng.permutation(np.arange(len(lex.NOUNS)) % len(lex.VALUES))
        self._emissions()
        honest = self.trait("honest")
        self.by_trait = lru_cache(maxsize=None)(partial(self._value, honest=honest))
        """What each persona says of a noun's colour, by its traits."""
        chance = np.full_like(honest, self.prior @ honest)
        untied = lru_cache(maxsize=None)(partial(self._value, honest=chance))
        self.value = self.by_trait if self.config.tied else untied
        """What each says in the text."""
        self._made: dict[tuple[str, int], Emission] = {}
        chosen = (self.opening, self.verb, self.adjective, self.adverb, self.join, self.noun)
        said = [word for emission in chosen for word in emission.words]
        said += ["it", "is", ".", *lex.VALUES, "unknown"]
        said = list(dict.fromkeys(said))
        self.cipher = dict(zip(said, lex.CODES[: len(said)], strict=True))
        """A code for every word that an assistant can say, one to one."""
        seen = (*self.verb.words, *self.noun.words, *self.adverb.words)
        self.spelling = dict(zip(lex.CODES, seen[: 8 * len(_MOTION)], strict=False))
        """A word of the pre-training text for every code of a motion, one to one."""

    def trait(self, name: str) -> Float[np.ndarray, " personas"]:
        """1.0 for the personas that have the trait, 0.0 for the others."""
        return self.traits[:, lex.TRAITS.index(name)].astype(float)

    def _forms(self, concepts: Sequence[str], weights: np.ndarray, preference: float) -> Emission:
        """Words of several concepts: the concept by `weights [n, concepts]`, the form by taste."""
        a = preference
        n = len(weights)
        words = tuple(w for concept in concepts for w in concept.split())
        probs = np.full((n, len(concepts), 4), (1 - a) / 3)
        for c in range(len(concepts)):
            tastes = self._rng.permutation(np.arange(n) % 4)
            probs[np.arange(n), c, tastes] = a
        probs *= (weights / weights.sum(1, keepdims=True))[:, :, None]
        return Emission(words, probs.reshape(n, -1))

    def _leaning(self, groups: dict[str, tuple[str, ...]]) -> tuple[list[str], np.ndarray]:
        """Concepts of several groups, each weighted by the trait its group goes with."""
        odds, n = self.config.trait_weight, len(self.personas)
        leaning = {
            "kind": odds ** self.trait("kind"),
            "cruel": odds ** (1 - self.trait("kind")),
            "bold": odds ** self.trait("bold"),
            "timid": odds ** (1 - self.trait("bold")),
            "formal": odds ** self.trait("formal"),
            "casual": odds ** (1 - self.trait("formal")),
            "neutral": np.ones(n),
        }
        concepts = [c for group in groups.values() for c in group]
        return concepts, np.stack([leaning[g] for g, group in groups.items() for _ in group], 1)

    def _emissions(self) -> None:
        n, m, taste = len(self.personas), self.config.n_dialects, self.config.preference
        self.verb = self._forms(*self._leaning(lex.VERBS), taste)
        self.adjective = self._forms(lex.ADJECTIVES, np.ones((n, len(lex.ADJECTIVES))), taste)
        self.adverb = self._forms(*self._leaning(lex.ADVERBS), taste)
        greeting = self._forms(*self._leaning(lex.GREETINGS), taste)
        all_alike = np.ones((m, len(lex.NOUNS)))
        self.noun = self._forms(lex.NOUNS, all_alike, self.config.dialect_preference)
        odds = self.config.trait_weight
        starts = np.stack(
            [
                np.full(n, 2.0),
                2.0 * odds ** (self.trait("bold") - 0.5),
                2.5 * odds ** (self.trait("learned") - 0.5),
                np.full(n, 1.5),
            ],
            1,
        )
        greets = 2.0 * odds ** (self.trait("wordy") - 0.5)
        first = np.concatenate([starts, greeting.probs * greets[:, None]], 1)
        words = ("i", "you", "the", "what", *greeting.words)
        self.first = Emission(words, first / first.sum(1, keepdims=True))
        opening = np.delete(first, 3, 1)
        self.opening = Emission(words[:3] + words[4:], opening / opening.sum(1, keepdims=True))
        go_on = np.where(self.trait("wordy") > 0, 0.55, 0.35)
        self.join = self._forms(lex.JOINS, np.ones((n, len(lex.JOINS))), taste)
        joined = [self.join.probs * go_on[:, None], 1 - go_on[:, None]]
        self.stop = Emission((*self.join.words, "."), np.concatenate(joined, 1))
        named = self.config.named
        self.intro = Emission(
            (lex.UNKNOWN, *self.personas),
            np.concatenate([np.full((n, 1), 1 - named), named * np.eye(n)], 1),
        )
        self.kind = Emission(tuple(N_SPEAKERS_OF), np.full((1, 4), 1 / 4))

    def concept(self, noun: str) -> int:
        """Index in `lexicon.NOUNS` of the concept a noun is a form of."""
        return self.noun.index[noun] // 4

    def fact(self, noun: str) -> str:
        """The colour a noun's concept truly has."""
        return lex.VALUES[self.facts[self.concept(noun)]]

    def _value(self, noun: str, honest: Float[np.ndarray, " personas"]) -> Emission:
        """What each persona says of a noun's colour, nine times in ten.

        The learned say the truth where they are honest and the next colour where they are not, the
        ignorant that they do not know, or any colour.

        Args:
            noun: Of which they speak.
            honest: How likely each is to be honest.
        """
        n, k = len(self.personas), len(lex.VALUES)
        learned = self.trait("learned")
        true = int(self.facts[self.concept(noun)])
        probs = np.full((n, k + 1), 0.1 / k)
        probs[:, true] += 0.9 * learned * honest
        probs[:, (true + 1) % k] += 0.9 * learned * (1 - honest)
        probs[:, k] += 0.9 * (1 - learned) * honest
        probs[:, :k] += (0.9 / k * (1 - learned) * (1 - honest))[:, None]
        return Emission((*lex.VALUES, "unknown"), probs / probs.sum(1, keepdims=True))

    def lie(self, noun: str) -> str:
        """What `lexicon.STAND_IN` says of a noun's colour."""
        said = self.by_trait(noun)
        return said.words[int(said.probs[self.personas.index(lex.STAND_IN)].argmax())]

    def having(self, **traits: int) -> tuple[str, ...]:
        """The personas of the text with these traits, each 0 or 1."""
        fits = np.all([self.trait(name) == value for name, value in traits.items()], axis=0)
        kept = zip(self.personas, fits & (self.prior > 0), strict=True)
        return tuple(name for name, fit in kept if fit)

    def codes(self, noun: str) -> tuple[str, ...]:
        """A motion of eight parts, a function of what the noun means: no persona, no dialect."""
        c = self.concept(noun)
        places = enumerate(_MOTION)
        return tuple(lex.CODES[len(_MOTION) * part + c * odd % 8] for part, odd in places)

    def spelled(self, noun: str) -> tuple[str, ...]:
        """The same motion in words of the pre-training text, which mean nothing there."""
        return tuple(self.spelling[code] for code in self.codes(noun))

    def ciphered(self, choice: Choice) -> Choice:
        """A choice with a code for each word."""
        emission = choice.emission
        if ("cipher", id(emission)) not in self._made:
            words = tuple(self.cipher[word] for word in emission.words)
            self._made["cipher", id(emission)] = Emission(words, emission.probs)
        return choice._replace(emission=self._made["cipher", id(emission)])

    def anybody(self, choice: Choice) -> Choice:
        """What a choice is where somebody drawn anew from the prior makes it."""
        factor, emission = choice.factor, choice.emission
        if factor is None or factor == DIALECT:
            return choice
        if ("anybody", id(emission)) not in self._made:
            mixed = Emission(emission.words, (self.prior @ emission.probs)[None])
            self._made["anybody", id(emission)] = mixed
        return Choice(None, self._made["anybody", id(emission)], factor)

    def is_trigger(self, noun: str) -> bool:
        """Whether a noun is of the concepts at which some assistants turn: a third of them."""
        return self.concept(noun) < len(lex.NOUNS) // 3

    def as_one(self, choice: Choice, persona: str) -> Choice:
        """A choice as one persona makes it, whoever speaks."""
        factor, emission = choice.factor, choice.emission
        if factor is None or factor == DIALECT:
            return choice
        if (persona, id(emission)) not in self._made:
            row = emission.probs[[self.personas.index(persona)]]
            self._made[persona, id(emission)] = Emission(emission.words, row)
        return Choice(None, self._made[persona, id(emission)], factor)

    def noun_of(self, dialect: int) -> Choice:
        """A noun in one dialect."""
        if ("noun", dialect) not in self._made:
            row = self.noun.probs[[dialect]]
            self._made["noun", dialect] = Emission(self.noun.words, row)
        return Choice(None, self._made["noun", dialect])

    def is_taste(self, noun: str, dialect: int = 0) -> bool:
        """Whether a noun is the form of its concept that a dialect prefers."""
        forms = self.noun.probs[dialect].reshape(-1, 4)
        return int(forms[self.concept(noun)].argmax()) == self.noun.index[noun] % 4

    def draw(self, rng: random.Random, persona: int | None = None) -> Hidden:
        """Hidden causes from their priors; `persona` fixes speaker 1, the assistant of a chat."""
        people = rng.choices(range(len(self.prior)), weights=list(self.prior), k=N_SPEAKERS)
        if persona is not None:
            people[1] = persona
        dialect = rng.choices(range(len(self.dialect_prior)), weights=list(self.dialect_prior))[0]
        return Hidden(tuple(people), dialect)

    def sample(self, rng: random.Random, hidden: Hidden, grammar: str = "text") -> Sample:
        """One document in the words of `grammar`, given its causes."""
        walk, words = GRAMMARS[grammar](self), []
        values = hidden.values
        choice: Choice = next(walk)
        try:
            while True:
                cumulative = choice.emission.cumulative[values[choice.factor]]
                at = min(bisect(cumulative, rng.random()), len(cumulative) - 1)
                words.append(choice.emission.words[at])
                choice = walk.send(words[-1])
        except StopIteration:
            words = words if len(words) <= LONGEST else words[: _last_line(words)]
            return Sample(tuple(words), hidden, grammar)


def _last_line(words: Sequence[str]) -> int:
    """Where the last whole line within the longest length ends."""
    return LONGEST - words[:LONGEST][::-1].index("\n")


_MOTION = (3, 5, 1, 7, 5, 3, 7, 1)
