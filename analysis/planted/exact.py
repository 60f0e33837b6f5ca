"""Planted fates of features that the dictionary knows exactly.

A world has sparse features with document-level effects. A tuned model of it drifts (every feature
turns, grows and fires a little differently) and carries the changes planted in it. Its dictionary
knows the features exactly, so that what the rules make of it is theirs alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.config import ReluConfig, SaeConfig
from sae.dictionary.sae import Sae
from sae.errors import ConfigError

__all__ = ["PLANTABLE", "Model", "World", "WorldConfig", "dictionary_of"]

PLANTABLE = ("amplified", "suppressed", "re_gated", "rotated", "lost")
"""Changes that can be planted, by the fate they ought to get."""
THRESHOLD = 0.25


@dataclass(frozen=True)
class WorldConfig:
    """Size of a planted world and of the drift of its models."""

    n_features: int = 240
    """Features of the base model."""
    d_in: int = 360
    """Width; above n_features, so that a linear encoder can tell features apart."""
    n_documents: int = 150
    """Documents."""
    document_length: int = 100
    """Tokens a document."""
    document_effect: float = 0.7
    """Standard deviation over documents of a feature's log odds of firing."""
    turn: float = 0.15
    """Typical tangent of the angle by which drift turns a feature."""
    growth: float = 0.05
    """Standard deviation of the log gain of drift."""
    restlessness: float = 0.05
    """Mean share of a feature's firings that drift moves to other tokens."""
    noise: float = 0.03
    """Standard deviation of what no feature explains, in each dimension."""
    seed: int = 0
    """Seed of the features and the documents."""


@dataclass(frozen=True)
class Model:
    """One model of a world: its activations and the dictionary that knows its features."""

    x: Float[Tensor, "n d_in"]
    """Residual vectors, a row a token."""
    sae: Sae
    """Its dictionary."""


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def dictionary_of(rows: Float[np.ndarray, "n d_in"], threshold: float = THRESHOLD) -> Sae:
    """A ReLU dictionary with given directions, whose encoder inverts them exactly.

    Args:
        rows: Directions, linearly independent.
        threshold: Activation below which a latent stays silent; subtracted above it.

    Returns:
        The dictionary.

    Example:
        >>> sae = dictionary_of(np.eye(2), threshold=0.0)
        >>> sae.encode(torch.tensor([[2.0, -1.0]])).tolist()
        [[2.0, 0.0]]
    """
    sae = Sae(SaeConfig(rows.shape[1], rows.shape[0], ReluConfig(l1=0.0)))
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor(rows, dtype=torch.float32))
        sae.W_enc.copy_(torch.tensor(np.linalg.pinv(rows), dtype=torch.float32))
        sae.b_enc.fill_(-threshold)
    return sae.eval()


class World:
    """Features, documents, and models that share them.

    Args:
        config: Sizes; the default ones where absent.

    Example:
        >>> world = World(WorldConfig(n_features=20, d_in=30, n_documents=8, document_length=5))
        >>> world.tuned(seed=1, changes={3: "lost"}).x.shape
        torch.Size([40, 30])
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = c = config or WorldConfig()
        rng = np.random.default_rng(c.seed)
        self.rows = _units(rng.normal(size=(c.n_features, c.d_in)))
        self.doc = np.repeat(np.arange(c.n_documents), c.document_length)
        self._odds = np.log(rng.uniform(0.01, 0.06, c.n_features))
        self._odds = self._odds + c.document_effect * rng.normal(size=(c.n_documents, c.n_features))
        self._draws = self._activity(rng)

    def _activity(self, rng: np.random.Generator, columns: np.ndarray | None = None) -> np.ndarray:
        """Fresh activations [n_tokens, features] with the features' rates in each document."""
        odds = self._odds if columns is None else self._odds[:, columns]
        chance = np.minimum(np.exp(odds), 0.5)[self.doc]
        fires = rng.random(chance.shape) < chance
        return fires * (1 + rng.exponential(0.7, chance.shape))

    def base(self, seed: int = 0) -> Model:
        """The base model, with its dictionary continued on its own activations.

        Args:
            seed: Seed of the noise.

        Returns:
            The model, without drift.
        """
        still = replace(self.config, turn=0.01, growth=0.0, restlessness=0.0)
        return self._model(np.random.default_rng([seed, 1]), still, {}, None)

    def tuned(
        self,
        seed: int,
        changes: Mapping[int, str] | None = None,
        novel: Float[np.ndarray, "n_novel d_in"] | None = None,
    ) -> Model:
        """A model that drifted from the base, with changes planted in it.

        Args:
            seed: Seed of drift and noise; two seeds are two runs.
            changes: Planted fate of some features, one of PLANTABLE.
            novel: Directions of features that the base has not; the dictionary gives them up for
                its last ones, which go on firing unseen.

        Returns:
            The model.

        Raises:
            ConfigError: A change that cannot be planted.
        """
        return self._model(np.random.default_rng([seed, 2]), self.config, changes or {}, novel)

    def _model(
        self,
        rng: np.random.Generator,
        c: WorldConfig,
        changes: Mapping[int, str],
        novel: np.ndarray | None,
    ) -> Model:
        n = c.n_features
        turn = c.turn * np.exp(0.4 * rng.normal(size=n))
        away = _units(rng.normal(size=self.rows.shape))
        rows = _units(self.rows + turn[:, None] * away)
        z = self._draws * np.exp(c.growth * rng.normal(size=n))
        moved = c.restlessness * rng.gamma(4, 0.25, n)
        z = self._moved(rng, z, moved)
        for feature, change in changes.items():
            rows, z = self._changed(rng, rows, z, feature, change)
        known = rows
        if novel is not None:
            last = np.arange(n - len(novel), n)
            known = np.concatenate([rows[: n - len(novel)], _units(novel)])
            rows = np.concatenate([rows, _units(novel)])
            z = np.concatenate([z, self._activity(rng, last)], axis=1)
        x = z @ rows + c.noise * rng.normal(size=(len(z), c.d_in))
        return Model(torch.tensor(x, dtype=torch.float32), dictionary_of(known))

    def _moved(self, rng: np.random.Generator, z: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Take a share of each feature's firings away and give it about as many elsewhere."""
        goes = rng.random(z.shape) < share
        fresh = self._activity(rng) * (rng.random(z.shape) < share)
        return np.where(goes, 0, z) + np.where(z > 0, 0, fresh)

    def _changed(
        self, rng: np.random.Generator, rows: np.ndarray, z: np.ndarray, feature: int, change: str
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, z = rows.copy(), z.copy()
        match change:
            case "amplified":
                z[:, feature] *= 2
            case "suppressed":
                z[:, feature] *= 0.55
            case "lost":
                z[:, feature] = 0
            case "rotated":
                rows[feature] = _units(
                    0.6 * rows[[feature]] + 0.8 * _units(rng.normal(size=(1, rows.shape[1])))
                )[0]
            case "re_gated":
                share = np.zeros(z.shape[1])
                share[feature] = 0.5
                z = self._moved(rng, z, share)
            case _:
                raise ConfigError(
                    f"a planted change {change!r}", "no such change", f"one of {PLANTABLE}"
                )
        return rows, z
