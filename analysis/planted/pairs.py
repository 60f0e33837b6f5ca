"""Planted fates in superposition: documents whose features outnumber the dimensions.

Features have Zipf frequencies with a rare tail, share topics, come in bursts, and vary in rate and
gain from document to document. Some carry a persona. A tuned model drifts in everything, moves by a
constant, and carries planted changes whose sizes reach down to what nobody could detect.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.planted.activity import Activity, PairsConfig
from sae.errors import ConfigError

__all__ = ["UNTOLD", "Pairs", "PairsConfig", "Planted"]

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
UNTOLD = ("re_encoded", "merged")
"""Changes that have no fate of their own: a direction is lost and a novel one has its trigger; two
features become one direction. Both are undetermined."""


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
        n_planted = len(SIZES) * c.n_changed + c.n_rare + len(UNTOLD) * (c.n_changed // 2)
        if n_planted > c.n_features:
            asked = f"{n_planted} changed or rare features"
            raise ConfigError(asked, f"{c.n_features} features", "plant fewer")
        rng = np.random.default_rng([c.seed, 0])
        self.rows = _units(rng.normal(size=(c.n_features, c.d_in)))
        self.activity = Activity(c, rng)
        self.z = self.activity.drawn(rng, np.arange(c.n_features))

    @property
    def tokens(self) -> pd.DataFrame:
        """Labels of every token, as a cache wants them."""
        rng = np.random.default_rng([self.config.seed, 9])
        word = rng.integers(24, size=len(self.activity.doc))
        split = np.array(["fit", "select", "fit", "confirm"])[self.activity.doc % 4]
        role = np.where((self.activity.pos // 25) % 2, "character", "narrator")
        return pd.DataFrame(
            {
                "doc": [f"d{number:05d}" for number in self.activity.doc],
                "pos": self.activity.pos,
                "token_id": word,
                "token": [f"w{each}" for each in word],
                "role": role,
                "persona": [f"p{each}" for each in self.activity.speaks],
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
        z = self.activity.moved(rng, z, share, np.arange(n)) if drift else z
        truth = pd.DataFrame({"feature": np.arange(n), "fate": "preserved", "size": np.nan})
        truth["rate"], truth["is_rare"] = self.activity.rate[:n], self.activity.is_rare
        truth["persona"] = self.activity.persona[:n]
        if not is_tuned:
            return Planted(self._seen(rng, z, rows), truth, rows)
        halves, second = self._changed(rng, z, rows, truth)
        fires, novel, more = self._novel(rng, rows)
        x = self._seen(rng, z, rows) + halves @ second + fires @ novel.astype(np.float32)
        x += 0.3 * _units(rng.normal(size=c.d_in))
        truth = pd.concat([truth, more], ignore_index=True)
        return Planted(x.astype(np.float32), truth, np.concatenate([rows, novel]))

    def _seen(self, rng: np.random.Generator, z: np.ndarray, rows: np.ndarray) -> np.ndarray:
        x = z @ rows.astype(np.float32)
        return x + self.config.noise * rng.standard_normal(x.shape, np.float32)

    def _changed(
        self, rng: np.random.Generator, z: np.ndarray, rows: np.ndarray, truth: pd.DataFrame
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every planted change, in place; second halves of split features, and their directions."""
        halves, second = list[np.ndarray](), list[np.ndarray]()
        for fate, features in self._chosen(rng).items():
            low, high = np.log(SIZES.get(fate, (1.0, 1.0)))
            sizes = np.exp(rng.uniform(low, high, len(features)))
            truth.loc[features, "fate"] = fate
            truth.loc[features, "size"] = sizes if fate in SIZES else np.nan
            if fate == "merged":
                rows[features] = np.repeat(_units(rows[features[::2]] + rows[features[1::2]]), 2, 0)
            for feature, size in zip(features.tolist(), sizes.tolist(), strict=True):
                if fate == "split":
                    halves.append(self._half(rng, z, feature))
                    second.append(_turned(rng, rows[feature], size))
                    rows[feature] = _turned(rng, rows[feature], size)
                else:
                    self._change(rng, fate, (z, rows), feature, size)
        return np.column_stack(halves), np.array(second)

    def _half(self, rng: np.random.Generator, z: np.ndarray, feature: int) -> np.ndarray:
        """A feature's activity in half of the documents, where it is taken away."""
        other = rng.random(self.config.n_documents)[self.activity.doc] < 0.5
        half = np.where(other, z[:, feature], 0)
        z[other, feature] = 0
        return half

    def _change(
        self,
        rng: np.random.Generator,
        fate: str,
        model: tuple[np.ndarray, np.ndarray],
        feature: int,
        size: float,
    ) -> None:
        z, rows = model
        match fate:
            case "amplified" | "suppressed":
                z[:, feature] *= np.float32(size)
            case "lost":
                z[:, feature] = 0
            case "rotated":
                rows[feature] = _turned(rng, rows[feature], size)
            case "re_encoded":
                rows[feature] = _units(rng.normal(size=self.config.d_in))
            case "re_gated":
                own = z[:, [feature]], np.array([size]), np.array([feature])
                z[:, [feature]] = self.activity.moved(rng, *own, elsewhere=1)

    def _chosen(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Features by change; of those that are re-gated half carry a persona."""
        c = self.config
        is_rare, persona = self.activity.is_rare, self.activity.persona
        usual = rng.permutation(np.flatnonzero(~is_rare))
        rare = rng.permutation(np.flatnonzero(is_rare))
        own = usual[persona[usual] >= 0][: c.n_changed // 2]
        usual = usual[~np.isin(usual, own)]
        chosen = {}
        for place, fate in enumerate(SIZES):
            mine = own if fate == "re_gated" else own[:0]
            n, few = c.n_changed - len(mine), c.n_rare // 12
            also = rare[place * few :][:few]
            chosen[fate], usual = np.concatenate([mine, usual[:n], also]), usual[n:]
        half = c.n_changed // 2
        chosen["re_encoded"], usual = usual[:half], usual[half:]
        return chosen | {"merged": usual[: half // 2 * 2]}

    def _novel(
        self, rng: np.random.Generator, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """Activity, directions and truth of novel features, those in the personas' span first."""
        c, n = self.config, self.config.n_novel
        own = rows[self.activity.persona[: c.n_features] >= 0]
        basis = np.linalg.qr(own.T)[0]
        inside, outside = rng.normal(size=(n, len(own))) @ own, rng.normal(size=(n, c.d_in))
        directions = _units(np.concatenate([inside, outside - outside @ basis @ basis.T]))
        columns = c.n_features + np.arange(2 * n)
        fate = ["novel_in_span"] * n + ["novel_out_of_span"] * n
        truth = pd.DataFrame({"feature": columns, "fate": fate, "size": np.nan})
        truth = truth.assign(rate=self.activity.rate[columns], is_rare=False, persona=-1)
        return self.activity.drawn(rng, columns), directions, truth


def _turned(rng: np.random.Generator, row: np.ndarray, cosine: float) -> np.ndarray:
    """A unit vector at a cosine from another, in a direction that is drawn."""
    away = rng.normal(size=len(row))
    away = _units(away - away @ row * row)
    return cosine * row + np.sqrt(1 - cosine**2) * away
