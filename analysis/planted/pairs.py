"""Planted fates in superposition: documents whose features outnumber the dimensions.

Features have Zipf frequencies with a rare tail, share topics, come in bursts, and vary in rate and
gain from document to document. Some carry a persona. A tuned model drifts in everything, moves by a
constant, and carries planted changes whose sizes reach down to what nobody could detect.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sae.errors import ConfigError

__all__ = ["Pairs", "PairsConfig", "Planted"]

SIZES = {
    "amplified": (1.35, 3.0),
    "suppressed": (0.3, 0.74),
    "re_gated": (0.2, 1.0),
    "rotated": (0.2, 0.95),
    "split": (0.3, 0.8),
    "lost": (1.0, 1.0),
}
"""Range of each change: factor on activations, share of firings moved, cosine of old and new
direction, cosine of the halves with it."""
MAX_CHANCE = 0.6
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
    """Features that fire on 0.05 to 0.5 % of tokens."""
    n_personas: int = 8
    """Personas; each speaks the whole of a document."""
    per_persona: int = 4
    """Features of each persona."""
    n_changed: int = 16
    """Features of each planted change."""
    n_novel: int = 12
    """Novel features inside, and as many outside, the span of the personas' features."""
    noise: float = 0.03
    """Standard deviation of what no feature explains, in each dimension."""
    seed: int = 0
    """Of everything that is drawn."""


@dataclass(frozen=True, eq=False)
class Planted:
    """One model of a world."""

    x: Float[np.ndarray, "n d_in"]
    """Residual vectors, a row a token."""
    truth: pd.DataFrame
    """One row a feature, novel ones last: feature, fate, size, rate, is_rare, persona."""
    rows: Float[np.ndarray, "n_features d_in"]
    """Direction of every feature in this model; of a split one that of the first half."""


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Pairs:
    """A base model, and models tuned from it.

    Args:
        config: Sizes; the default ones where absent.

    Raises:
        ConfigError: More is to be planted than there are features.

    Example:
        >>> small = PairsConfig(n_features=64, d_in=16, n_documents=8, document_length=20,
        ...     n_rare=4, n_personas=2, per_persona=2, n_changed=2, n_novel=1)
        >>> found = Pairs(small).tuned(seed=1)
        >>> found.x.shape, found.truth["fate"].tolist().count("lost")
        ((160, 16), 2)
    """

    def __init__(self, config: PairsConfig | None = None) -> None:
        self.config = c = config or PairsConfig()
        n_planted = len(SIZES) * c.n_changed + c.n_rare
        if n_planted > c.n_features:
            asked = f"{n_planted} changed or rare features"
            raise ConfigError(asked, f"{c.n_features} features", "plant fewer")
        rng = np.random.default_rng([c.seed, 0])
        self.rows = _units(rng.normal(size=(c.n_features, c.d_in)))
        self.doc = np.repeat(np.arange(c.n_documents), c.document_length)
        self.pos = np.tile(np.arange(c.document_length), c.n_documents)
        self.speaks = rng.integers(c.n_personas, size=c.n_documents)[self.doc]
        self._frequencies(rng)
        n_topics = 16
        topics = rng.integers(n_topics, size=(c.n_documents, 3))
        is_hot = np.zeros((c.n_documents, n_topics))
        np.put_along_axis(is_hot, topics, 1.0, axis=1)
        odds = is_hot[:, rng.integers(n_topics, size=c.n_features)]
        odds += 0.5 * rng.normal(size=odds.shape)
        self._odds = odds - np.log(np.exp(odds).mean(axis=0))
        self._gain = np.exp(0.15 * rng.normal(size=odds.shape))
        self.z = self._activity(rng, np.arange(c.n_features))

    def _frequencies(self, rng: np.random.Generator) -> None:
        c = self.config
        usual = np.arange(1, c.n_features - c.n_rare + 1) ** -0.6
        usual = np.clip(usual / usual.sum() * c.l0, 0.006, 0.25)
        rare = np.exp(rng.uniform(np.log(5e-4), np.log(5e-3), c.n_rare))
        order = rng.permutation(c.n_features)
        self.rate = np.concatenate([usual, rare])[order]
        self.is_rare = (np.arange(c.n_features) >= len(usual))[order]
        n_own = c.n_personas * c.per_persona
        chosen = np.argsort(np.abs(np.log(self.rate / 0.01)), kind="stable")[:n_own]
        self.persona = np.full(c.n_features, -1)
        self.persona[chosen] = np.arange(n_own) % c.n_personas

    def _activity(self, rng: np.random.Generator, columns: Int[np.ndarray, " m"]) -> np.ndarray:
        """Fresh activations [n_tokens, m] at the features' rates in each document, in bursts."""
        fires = np.empty((len(self.doc), len(columns)), bool)
        for part in self._parts:
            drawn = rng.random(fires[part].shape)
            fires[part] = drawn < 0.75 * self._chance(part, columns)
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

    def _chance(self, part: slice, columns: Int[np.ndarray, " m"]) -> np.ndarray:
        """How likely each token is to begin a burst, times 4 / 3."""
        chance = (self.rate[columns] * np.exp(self._odds[:, columns]))[self.doc[part]]
        own = self.persona[columns]
        odds = np.where(self.speaks[part, None] == own, *PERSONA_ODDS)
        return np.minimum(np.where(own >= 0, odds, 1.0) * chance, MAX_CHANCE)

    @property
    def tokens(self) -> pd.DataFrame:
        """Labels of every token, as a cache wants them."""
        rng = np.random.default_rng([self.config.seed, 9])
        word = rng.integers(24, size=len(self.doc))
        split = np.array(["fit", "select", "fit", "confirm"])[self.doc % 4]
        role = np.where((self.pos // 25) % 2, "character", "narrator")
        return pd.DataFrame(
            {
                "doc": [f"d{number:05d}" for number in self.doc],
                "pos": self.pos,
                "token_id": word,
                "token": [f"w{each}" for each in word],
                "role": role,
                "persona": [f"p{each}" for each in self.speaks],
                "context": "story",
                "split": split,
                "is_special": False,
            }
        )

    def base(self) -> Planted:
        """The base model."""
        return self._model(np.random.default_rng([self.config.seed, 1]), 0.0, is_tuned=False)

    def drifted(self, seed: int, drift: float = 1.0) -> Planted:
        """A model to which nothing happened but drift.

        Args:
            seed: Of the drift.
            drift: How much of it; a tuned model has 1.
        """
        return self._model(np.random.default_rng([self.config.seed, 2, seed]), drift, False)

    def tuned(self, seed: int, drift: float = 1.0) -> Planted:
        """A model with planted changes.

        Args:
            seed: Of drift and changes.
            drift: How much of it.
        """
        return self._model(np.random.default_rng([self.config.seed, 3, seed]), drift, True)

    def _model(self, rng: np.random.Generator, drift: float, is_tuned: bool) -> Planted:
        c, n = self.config, self.config.n_features
        turn = 0.15 * drift * np.exp(0.4 * rng.normal(size=n))
        rows = _units(self.rows + turn[:, None] * _units(rng.normal(size=self.rows.shape)))
        z = self.z * np.exp(0.06 * drift * rng.normal(size=n)).astype(np.float32)
        share = np.minimum(0.04 * drift * rng.gamma(4, 0.25, n), 0.5)
        z = self._moved(rng, z, share, np.arange(n)) if drift else z
        truth = pd.DataFrame({"feature": np.arange(n), "fate": "preserved", "size": np.nan})
        truth["rate"], truth["is_rare"], truth["persona"] = self.rate, self.is_rare, self.persona
        if not is_tuned:
            return Planted(self._seen(rng, z, rows), truth, rows)
        halves, second = self._changed(rng, z, rows, truth)
        fires, novel, more = self._novel(rng, rows)
        x = self._seen(rng, z, rows) + halves @ second + fires @ novel
        x += 0.3 * _units(rng.normal(size=c.d_in))
        truth = pd.concat([truth, more], ignore_index=True)
        return Planted(x.astype(np.float32), truth, np.concatenate([rows, novel]))

    def _seen(self, rng: np.random.Generator, z: np.ndarray, rows: np.ndarray) -> np.ndarray:
        x = z @ rows.astype(np.float32)
        return x + self.config.noise * rng.standard_normal(x.shape, np.float32)

    def _moved(
        self, rng: np.random.Generator, z: np.ndarray, share: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """A share of each feature's firings taken away, and about as many elsewhere."""
        goes = np.empty(z.shape, bool)
        for part in self._parts:
            goes[part] = rng.random(z[part].shape) < share
        moved = self._activity(rng, columns)
        for part in self._parts:
            comes = moved[part] * (rng.random(z[part].shape) < share)
            moved[part] = np.where(goes[part], 0, z[part]) + np.where(z[part] > 0, 0, comes)
        return moved

    def _changed(
        self, rng: np.random.Generator, z: np.ndarray, rows: np.ndarray, truth: pd.DataFrame
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every planted change, in place; second halves of split features, and their directions."""
        usual = rng.permutation(np.flatnonzero(~self.is_rare))
        halves, second = [], []
        for place, (fate, (low, high)) in enumerate(SIZES.items()):
            for feature in usual[place * self.config.n_changed :][: self.config.n_changed]:
                size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
                truth.loc[feature, ["fate", "size"]] = [fate, size]
                match fate:
                    case "amplified" | "suppressed":
                        z[:, feature] *= size
                    case "lost":
                        z[:, feature] = 0
                    case "rotated":
                        rows[feature] = _turned(rng, rows[feature], size)
                    case "re_gated":
                        own = z[:, [feature]], np.array([size]), np.array([feature])
                        z[:, [feature]] = self._moved(rng, *own)
                    case "split":
                        other = rng.random(self.config.n_documents)[self.doc] < 0.5
                        halves.append(np.where(other, z[:, feature], 0))
                        z[other, feature] = 0
                        second.append(_turned(rng, rows[feature], size))
                        rows[feature] = _turned(rng, rows[feature], size)
        return np.column_stack(halves), np.array(second)

    def _novel(
        self, rng: np.random.Generator, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """Activity, directions and truth of novel features, those in the personas' span first."""
        c, n = self.config, self.config.n_novel
        own = rows[self.persona >= 0]
        basis = np.linalg.qr(own.T)[0]
        inside, outside = rng.normal(size=(n, len(own))) @ own, rng.normal(size=(n, c.d_in))
        directions = _units(np.concatenate([inside, outside - outside @ basis @ basis.T]))
        rate = np.exp(rng.uniform(np.log(1e-3), np.log(5e-3), 2 * n))
        fires = rng.random((len(self.doc), 2 * n)) < rate
        fate = ["novel_in_span"] * n + ["novel_out_of_span"] * n
        truth = pd.DataFrame({"feature": c.n_features + np.arange(2 * n), "fate": fate})
        truth = truth.assign(size=np.nan, rate=rate, is_rare=False, persona=-1)
        return fires * (1 + rng.exponential(0.6, fires.shape)), directions, truth


def _turned(rng: np.random.Generator, row: np.ndarray, cosine: float) -> np.ndarray:
    """A unit vector at a cosine from another, in a direction that is drawn."""
    away = rng.normal(size=len(row))
    away = _units(away - away @ row * row)
    return cosine * row + np.sqrt(1 - cosine**2) * away
