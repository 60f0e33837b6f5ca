"""When the features of a planted world fire, and how much: what a dictionary has to find.

Features have Zipf frequencies with a rare tail, share topics, come in bursts, and vary in rate and
gain from document to document. Some carry a persona.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Activity", "PairsConfig"]

MAX_CHANCE = 0.6
N_TOPICS = 16
PART = 65536  # tokens that are held in float64 at a time
PERSONA_ODDS = (5.0, 0.4)  # of a persona's features, where it speaks and where another does


@dataclass(frozen=True)
class PairsConfig:
    """Size of a world, and what is planted in its tuned model."""

    n_features: int = 512
    """Features of the base model."""
    d_in: int = 128
    """Width."""
    n_documents: int = 800
    """Documents: half of split fit, a quarter each of select and confirm."""
    document_length: int = 250
    """Tokens a document."""
    l0: float = 6.0
    """Features a token, on average."""
    n_rare: int = 48
    """Features that fire on 0.05 to 0.5 % of tokens; a twelfth of them undergoes each change."""
    n_personas: int = 8
    """Personas; each speaks the whole of a document."""
    per_persona: int = 4
    """Features of each persona."""
    n_changed: int = 16
    """Features of each planted change, half as many of those that have no fate of their own."""
    n_novel: int = 12
    """Novel features inside, and as many outside, the span of the personas' features."""
    noise: float = 0.03
    """Standard deviation of what no feature explains, in each dimension."""
    seed: int = 0
    """Of everything that is drawn."""


class Activity:
    """Rates of the features of a world, novel ones last, and draws of their activations.

    Args:
        config: Sizes.
        rng: Of everything that is drawn once: rates, topics and effects of documents.
    """

    def __init__(self, config: PairsConfig, rng: np.random.Generator) -> None:
        self.config = c = config
        self.doc = np.repeat(np.arange(c.n_documents), c.document_length)
        self.pos = np.tile(np.arange(c.document_length), c.n_documents)
        self.speaks = rng.integers(c.n_personas, size=c.n_documents)[self.doc]
        self._frequencies(rng)
        topics = rng.integers(N_TOPICS, size=(c.n_documents, 3))
        is_hot = np.zeros((c.n_documents, N_TOPICS))
        np.put_along_axis(is_hot, topics, 1.0, axis=1)
        odds = is_hot[:, rng.integers(N_TOPICS, size=len(self.rate))]
        odds += 0.5 * rng.normal(size=odds.shape)
        self._odds = odds - np.log(np.exp(odds).mean(axis=0))
        self._gain = np.exp(0.15 * rng.normal(size=odds.shape))

    def _frequencies(self, rng: np.random.Generator) -> None:
        c = self.config
        usual = np.arange(1, c.n_features - c.n_rare + 1) ** -0.6
        usual = np.clip(usual / usual.sum() * c.l0, 0.006, 0.25)
        rare = np.exp(rng.uniform(np.log(5e-4), np.log(5e-3), c.n_rare))
        order = rng.permutation(c.n_features)
        novel = np.exp(rng.uniform(np.log(1e-3), np.log(5e-3), 2 * c.n_novel))
        self.rate = np.concatenate([np.concatenate([usual, rare])[order], novel])
        self.is_rare = (np.arange(c.n_features) >= len(usual))[order]
        n_own = c.n_personas * c.per_persona
        near = np.abs(np.log(self.rate[: c.n_features] / 0.01))
        chosen = np.argsort(near, kind="stable")[:n_own]
        self.persona = np.full(len(self.rate), -1)
        self.persona[chosen] = np.arange(n_own) % c.n_personas

    def drawn(
        self, rng: np.random.Generator, columns: Int[np.ndarray, " m"], elsewhere: int = 0
    ) -> Float[np.ndarray, "n_tokens m"]:
        """Fresh activations [n_tokens, m] at the features' rates in each document, in bursts.

        Features of a persona fire as those of the persona that many places on.
        """
        fires = np.empty((len(self.doc), len(columns)), bool)
        for part in self._parts:
            drawn = rng.random(fires[part].shape)
            fires[part] = drawn < 0.75 * self._chance(part, columns, elsewhere)
        later = np.roll(fires, int(rng.integers(1, 4)), axis=0) & (self.pos >= 3)[:, None]
        for part in self._parts:
            fires[part] |= later[part] & (rng.random(fires[part].shape) < 1 / 3)
        z = np.empty(fires.shape, np.float32)
        for part in self._parts:
            size = 1 + rng.exponential(0.6, fires[part].shape)
            z[part] = fires[part] * size * self._gain[:, columns][self.doc[part]]
        return z

    @property
    def _parts(self) -> list[slice]:
        """Parts of the tokens, one in float64 at a time; they draw what all at once would."""
        return [slice(at, at + PART) for at in range(0, len(self.doc), PART)]

    def _chance(self, part: slice, columns: Int[np.ndarray, " m"], elsewhere: int) -> np.ndarray:
        """How likely each token is to begin a burst, times 4 / 3."""
        chance = (self.rate[columns] * np.exp(self._odds[:, columns]))[self.doc[part]]
        own = self.persona[columns]
        speaks = (self.speaks[part, None] - elsewhere) % self.config.n_personas
        odds = np.where(speaks == own, *PERSONA_ODDS)
        return np.minimum(np.where(own >= 0, odds, 1.0) * chance, MAX_CHANCE)

    def moved(
        self,
        rng: np.random.Generator,
        z: np.ndarray,
        share: np.ndarray,
        columns: np.ndarray,
        elsewhere: int = 0,
    ) -> np.ndarray:
        """A share of each feature's firings taken away, and about as many elsewhere."""
        goes = np.empty(z.shape, bool)
        for part in self._parts:
            goes[part] = rng.random(z[part].shape) < share
        moved = self.drawn(rng, columns, elsewhere)
        for part in self._parts:
            comes = moved[part] * (rng.random(z[part].shape) < share)
            moved[part] = np.where(goes[part], 0, z[part]) + np.where(z[part] > 0, 0, comes)
        return moved
