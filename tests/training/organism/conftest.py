import random

import numpy as np
import pytest

from training.organism.chats import GRAMMARS
from training.organism.grammar import DIALECT
from training.organism.world import World


@pytest.fixture(scope="session")
def world():
    return World()


def walked(world, words, grammar):
    """Every choice of a document with the word it has there."""
    walk = GRAMMARS[grammar](world)
    choice = next(walk)
    for i, word in enumerate(words):
        yield choice, word
        if i + 1 < len(words):
            choice = walk.send(word)


def wandering(world, grammar, seed, n):
    """`n` choices met on walks that take every offered word alike, whatever its probability."""
    rng = random.Random(seed)
    walk = GRAMMARS[grammar](world)
    choice = next(walk)
    for _ in range(n):
        yield choice
        try:
            choice = walk.send(rng.choice(choice.emission.words))
        except StopIteration:
            walk = GRAMMARS[grammar](world)
            choice = next(walk)


class Enumeration:
    """Bayes by brute force: the joint of three personas and a dialect, word by word."""

    def __init__(self, world):
        p, d = world.prior, world.dialect_prior
        self.joint = np.einsum("a,b,c,d->abcd", p, p, p, d)

    def predict(self, choice):
        """Probability of every offered word, by a sum over all mixtures."""
        return self._along(choice)[0]

    def read(self, choice, word):
        _, likelihood = self._along(choice)
        at = choice.emission.words.index(word)
        shape = [1, 1, 1, 1]
        if choice.factor is None:
            column = likelihood[:1, at]
        else:
            column = likelihood[:, at]
            shape[choice.factor] = -1  # dialect, -1, is the last axis
        self.joint = self.joint * column.reshape(shape)
        self.joint /= self.joint.sum()

    def _along(self, choice):
        probs = choice.emission.probs
        if choice.factor is None:
            return probs[0], probs
        return self.marginal(choice.factor) @ probs, probs

    def marginal(self, factor):
        axis = 3 if factor == DIALECT else factor
        return self.joint.sum(tuple(i for i in range(4) if i != axis))


@pytest.fixture(name="walked")
def walked_fixture():
    return walked


@pytest.fixture(name="wandering")
def wandering_fixture():
    return wandering


@pytest.fixture
def enumeration():
    return Enumeration
