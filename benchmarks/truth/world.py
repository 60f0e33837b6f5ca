"""Activations made from a dictionary that is known: what a fitted one is to find again.

Each token is a sum of the directions of the features that fire on it, times how strongly they do,
plus noise. How often features fire falls with a power of their rank (Zipf). A third of them, spread
over all frequencies, stand in a hierarchy (a child fires only where its parent does), a third in
groups that fire together, a third fire on their own. Needs numpy alone.

Differs from SynthSAEBench (Chanin 2026), which has the same ingredients: frequencies hold exactly
under hierarchy and groups, since they are divided out, and a group is a topic that is on or off
where that benchmark has a low-rank correlation.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["World", "WorldConfig", "frequencies"]

ALONE, CHILD_OR_PARENT, GROUPED = 0, 1, 2
CHUNK = 4096
"""Tokens drawn at a time; part of what a seed means."""


@dataclass(frozen=True)
class WorldConfig:
    """What is true of the activations."""

    n_features: int = 2048
    """True features, most frequent first."""
    d_in: int = 256
    """Width of the activations."""
    l0: float = 6.0
    """Features that fire on a token, on average."""
    exponent: float = 0.5
    """Frequency falls with rank to this power. Zipf's own is 1, by which half of the features would
    fire a few hundred times in a million tokens; 0.5 is SynthSAEBench's."""
    most: float = 0.25
    """Frequency that no feature exceeds; those that would all have it."""
    n_roots: int = 32
    """Features of the hierarchy that have no parent."""
    n_children: int = 4
    """Children of a parent, themselves parents while features last."""
    group_size: int = 16
    """Features that share a topic."""
    topic: float = 1 / 32
    """Share of tokens on which a group's topic is on; half of a member's firings lie there."""
    noise: float = 0.05
    """Standard deviation of the noise in each dimension, where a direction has norm 1."""
    seed: int = 0
    """Of directions, tokens and everything else drawn."""


def frequencies(config: WorldConfig) -> np.ndarray:
    """Share of tokens on which each feature fires, `[n_features]`, falling.

    `min(most, c / rank ** exponent)`, with c such that they add up to `l0`.

    Raises:
        ValueError: So many cannot fire.

    Example:
        >>> found = frequencies(WorldConfig(n_features=4, l0=0.5, exponent=1.0, most=1.0))
        >>> [round(each, 3) for each in found.tolist()]
        [0.24, 0.12, 0.08, 0.06]
    """
    if not 0 < config.l0 < config.most * config.n_features:
        raise ValueError(f"{config.n_features} features cannot fire {config.l0} times a token")
    shape = np.arange(1, config.n_features + 1) ** -config.exponent
    low, high = 0.0, config.most / shape[-1]
    for _ in range(200):
        middle = (low + high) / 2
        is_low = np.minimum(config.most, middle * shape).sum() < config.l0
        low, high = (middle, high) if is_low else (low, middle)
    return np.minimum(config.most, high * shape)


class World:
    """Directions, and tokens drawn from them.

    Chunk i of a stream is the same whoever asks for it, and in whatever order.

    Args:
        config: What is true.
    """

    def __init__(self, config: WorldConfig) -> None:
        rng = np.random.default_rng([config.seed, 0])
        self.config = config
        self.frequency = frequencies(config)
        """Share of tokens on which each feature fires, `[n_features]`."""
        rows = rng.standard_normal((config.n_features, config.d_in))
        self.directions = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        """Directions of the features, `[n_features, d_in]`, each of norm 1."""
        self._kind = _kinds(config.n_features, rng)
        self.parent = _parents(self._kind, config)
        """Parent of each feature, `[n_features]`, always a more frequent one; -1 for none."""
        self.group = _groups(self._kind, config, rng)
        """Group of each feature, `[n_features]`; -1 for none."""
        above = np.where(self.parent >= 0, self.frequency[self.parent], 1.0)
        self._chance = (self.frequency / above).astype(np.float32)
        # Lifted where the topic is on, by as much as lets half of the firings lie there; a frequent
        # feature then fires always, and less than half of its firings do.
        p, topic = self.frequency, config.topic
        self._on = np.minimum(1.0, p / (2 * topic)).astype(np.float32)
        self._off = ((p - topic * self._on) / (1 - topic)).astype(np.float32)
        self.scale = 1.0
        """What vectors are multiplied by so that their mean squared norm is d_in."""
        sample = np.concatenate([self.chunk("scale", number)[0] for number in range(4)])
        self.scale = float((config.d_in / np.square(sample).sum(1).mean()) ** 0.5)

    def chunk(self, stream: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        """4,096 tokens: `x [4096, d_in]`, and how strongly features fire, `[4096, n_features]`.

        Args:
            stream: Name of the stream, such as "fit"; no two streams share a token.
            number: Of the chunk.
        """
        rng = np.random.default_rng([self.config.seed, 1, *stream.encode(), number])
        z = self._fires(rng).astype(np.float32)
        at = np.nonzero(z)
        z[at] = 0.5 + rng.random(len(at[0]), np.float32)
        noise = rng.standard_normal((CHUNK, self.config.d_in), np.float32)
        x = z @ self.directions + np.float32(self.config.noise) * noise
        return np.float32(self.scale) * x, z

    def chunks(self, stream: str, n_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The first tokens of a stream, the last chunk cut.

        Args:
            stream: Its name.
            n_tokens: How many.
        """
        for number in range(-(-n_tokens // CHUNK)):
            x, z = self.chunk(stream, number)
            left = n_tokens - number * CHUNK
            yield x[:left], z[:left]

    def write(self, path: Path, stream: str, n_tokens: int) -> None:
        """Keeps the vectors of the first tokens of a stream as an npy file of float32.

        Args:
            path: The file.
            stream: Its name.
            n_tokens: How many.
        """
        shape = (n_tokens, self.config.d_in)
        out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        first = 0
        for x, _ in self.chunks(stream, n_tokens):
            out[first : first + len(x)] = x
            first += len(x)
        out.flush()

    def facts(self) -> dict[str, Any]:
        """What is true, for the record."""
        return asdict(self.config) | {"n_parents": len(self.parents)}

    @property
    def parents(self) -> np.ndarray:
        """Features that have children, `[n_parents]`."""
        return np.unique(self.parent[self.parent >= 0])

    def _fires(self, rng: np.random.Generator) -> np.ndarray:
        """Which features fire, `[4096, n_features]`."""
        drawn = rng.random((CHUNK, self.config.n_features), np.float32)
        fires = drawn < self._chance
        members = np.nonzero(self.group >= 0)[0]
        if len(members):
            topics = rng.random((CHUNK, int(self.group.max()) + 1)) < self.config.topic
            is_on = topics[:, self.group[members]]
            chance = np.where(is_on, self._on[members], self._off[members])
            fires[:, members] = drawn[:, members] < chance
        # Parents come before their children, so level by level from the roots down.
        level = np.nonzero(self.parent < 0)[0]
        while len(level := np.nonzero(np.isin(self.parent, level))[0]):
            fires[:, level] &= fires[:, self.parent[level]]
        return fires


def _kinds(n: int, rng: np.random.Generator) -> np.ndarray:
    """One of each kind among every three neighbours in rank, in an order drawn for them."""
    threes = np.tile([ALONE, CHILD_OR_PARENT, GROUPED], (-(-n // 3), 1))
    return rng.permuted(threes, axis=1).ravel()[:n]


def _parents(kind: np.ndarray, config: WorldConfig) -> np.ndarray:
    """Trees filled in order of frequency: the roots, all their children, all theirs."""
    inside = np.nonzero(kind == CHILD_OR_PARENT)[0]
    parent = np.full(len(kind), -1)
    places = np.arange(len(inside) - config.n_roots)
    parent[inside[config.n_roots :]] = inside[places // config.n_children]
    return parent


def _groups(kind: np.ndarray, config: WorldConfig, rng: np.random.Generator) -> np.ndarray:
    """Groups drawn among the features of that kind, whatever their frequencies."""
    inside = rng.permutation(np.nonzero(kind == GROUPED)[0])
    group = np.full(len(kind), -1)
    group[inside] = np.arange(len(inside)) // config.group_size
    return group
