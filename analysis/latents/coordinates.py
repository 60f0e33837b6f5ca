"""Where a latent stands after fine-tuning: direction, gain and gating, each with its interval.

The two dictionaries continue one finished dictionary, one on the base model's own activations and
one on the tuned model's, so that an inherited latent keeps its index. Effects, which take the
models themselves, are put beside them (`effects.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import sparse

from analysis.latents.effects import Effects
from analysis.latents.matching import merges, splits
from analysis.latents.pairs import Pair
from analysis.latents.profiles import profiles
from analysis.latents.readings import Found
from analysis.latents.traces import Firing
from analysis.statistics.intervals import Blocks, bounds, resample_weights
from analysis.statistics.matrices import n_fires
from analysis.statistics.quantiles import quantiles
from sae.errors import InputError

__all__ = ["COORDINATES", "EFFECT", "OFTEN", "Coordinates", "measure"]

COORDINATES = ("direction", "gain", "gating")
"""The coordinates that are measured from activations alone."""
PROFILE = "profile"
"""The one that takes strata of tokens."""
EFFECT = "effect"
"""The one that takes the models."""
LATENTS_AT_ONCE = 128
LEAST_FACTOR = 0.2  # on activations that is ever expected: less cannot be told from silence
MIN_BOTH = 30  # tokens on which both fire, for a gain from these alone
OFTEN = 0.5
"""Share of the base model's firings from which a latent is not lost, wherever it fires."""
CHANCE = 0.995


@dataclass(frozen=True)
class Coordinates:
    """The measured coordinates of every inherited latent, and how documents would vary them.

    `direction` is the cosine of the two decoder rows. `gain` is the log ratio of summed readings
    over tokens on which both fire, in nats (0 is none); where these are fewer than 30, that of
    `kept`, or nothing of a latent that fires elsewhere, beside these, at least half as often as the
    base model's did: what it kept there is its gating. `gating` is the Dice distance of the two
    firing patterns, token by token, weighted by squared readings: 0 the same tokens, 1 none in
    common. A firing counts as common where the other model reads at least half of what the gain
    lets expect, so that a latent that only grew or shrank across its threshold keeps a low
    distance. `profile` is the share of its activation that lies in other strata of tokens
    (`profiles.py`). `kept` is the slope of what the tuned model reads on what the base model has,
    over the base model's firings: 1 for all of it, 0 for nothing, whatever thresholds hide.
    `rate_ratio` is the tuned model's number of firings over the base model's.
    """

    table: pd.DataFrame
    """One row an inherited latent: latent, steady, n_fires_base, n_fires_tuned, fire_rate (base),
    each coordinate and kept with _low and _high (95 %), rate_ratio, chance_cofiring and
    chance_cosine (what 99.5 % of its pairs with other latents stay below), is_split and is_merged
    (`matching.py`). A coordinate is not a number where it fires in too few documents for an
    interval."""
    replicates: Mapping[str, Float[np.ndarray, "resamples latents"]]
    """Each coordinate and kept in every resample of the documents."""
    cofiring: Float[np.ndarray, "d_sae d_sae_tuned"]
    """Dice overlap of every base latent with every tuned latent, added ones included."""
    cosine: Float[np.ndarray, "d_sae d_sae_tuned"]
    """Cosine of their decoder rows."""
    n_fires_base: Int[np.ndarray, " d_sae"]
    """Firings of every base latent, added ones included."""
    n_fires_tuned: Int[np.ndarray, " d_sae_tuned"]
    """Firings of every tuned latent, added ones included."""
    n_tokens: int
    """Tokens."""

    def beside(self, effects: Effects) -> "Coordinates":
        """These, with effects beside them; none of latents that another dictionary was read for.

        Args:
            effects: Of the same latents, in the same resamples, by the continued dictionaries.
        """
        table = pd.concat([self.table, effects.table], axis=1)
        other = np.zeros(len(table), bool)
        if "frozen" in self.table:
            other = self.table["frozen"].to_numpy(bool)
        table.loc[other, list(effects.table)] = np.nan
        replicates = {**self.replicates, EFFECT: np.where(other, np.nan, effects.replicates)}
        return replace(self, table=table, replicates=replicates)


def measure(
    pair: Pair,
    blocks: Blocks,
    weights: Float[np.ndarray, "resamples blocks"] | None = None,
    strata: Int[np.ndarray, " n_tokens"] | None = None,
    steady: Bool[np.ndarray, " inherited"] | None = None,
) -> Coordinates:
    """Measure every inherited latent on the same held-out tokens through both models.

    Args:
        pair: Both models; each firing was summed over these blocks.
        blocks: Resampling block of every token.
        weights: Resamples; the default ones where absent. Pass the same ones for every tuned model.
        strata: Stratum of every token; without them no profile is measured.
        steady: Inherited latents that another run on the base would find again; all where absent.

    Returns:
        The coordinates.

    Raises:
        InputError: The firings differ in tokens, or were not summed over these blocks.
    """
    for one in (pair.base, pair.tuned):
        if one.residual_moments is None or len(one.residual_moments) != blocks.n_blocks:
            raise InputError(
                "an interval on directions",
                "firing that was not summed over these blocks",
                "pass the same blocks to firing and to measure",
            )
    n, dice, cosine = pair.n, pair.dice, pair.cosine
    weights = resample_weights(blocks.n_blocks) if weights is None else weights
    counts = n_fires(pair.base.z), n_fires(pair.tuned.z)
    one = np.ones((1, blocks.n_blocks))
    seen = _Seen(pair, blocks)
    factor = np.exp(np.nan_to_num(seen.gain(one)[0])).clip(LEAST_FACTOR)
    point, replicates = seen.ratios(one, factor), seen.ratios(weights, factor)
    if strata is not None:
        point["profile"], replicates["profile"] = profiles(pair, strata, blocks, weights)
    rows = _row_cosines(pair, blocks, weights)
    direction = np.diagonal(cosine)[:n].astype(float)
    table = pd.DataFrame({"latent": np.arange(n)})
    table["steady"] = np.ones(n, bool) if steady is None else steady
    table["n_fires_base"], table["n_fires_tuned"] = (each[:n] for each in counts)
    table["fire_rate"] = table["n_fires_base"] / len(blocks.of_token)
    reach = bounds(np.abs(rows - direction), blocks.n_blocks, 0.90)[1]
    table["direction"], table["direction_low"] = direction, direction - reach
    table["direction_high"] = np.minimum(direction + reach, 1)
    for name, drawn in replicates.items():
        low, high = bounds(drawn, blocks.n_blocks)
        table[name], table[f"{name}_low"], table[f"{name}_high"] = point[name][0], low, high
    for name in ("direction", *replicates):  # what no interval can be put to says nothing
        table.loc[table[f"{name}_low"].isna() | table[f"{name}_high"].isna(), name] = np.nan
    table["rate_ratio"] = _over(*table[["n_fires_tuned", "n_fires_base"]].to_numpy(float).T)
    live = counts[1] > 0
    table["chance_cofiring"] = _chance(dice, live, n)
    table["chance_cosine"] = _chance(cosine, live, n)
    table["is_split"], table["is_merged"] = splits(pair), merges(pair)
    centred = rows - quantiles(rows, [0.5]) + direction
    replicates["direction"] = centred.astype(np.float32)
    return Coordinates(table, replicates, dice, cosine, *counts, len(blocks.of_token))


class _Seen:
    """Sums over blocks, as ratios for every row of weights."""

    def __init__(self, pair: Pair, blocks: Blocks) -> None:
        self.before, self.after, n = pair.before, pair.after, pair.n
        self.block, self.shape = blocks.of_token, (blocks.n_blocks, n)
        there, value, met = self.before.there, self.before.value, self.before.is_met
        self.both = [self._sums(self.before, np.where(met, each, 0)) for each in (there, value)]
        sides = self.before.latent, self.after.latent, self.before.latent[met]
        before, after, common = (np.bincount(each, minlength=n) for each in sides)
        self.is_met = common >= MIN_BOTH
        self.is_elsewhere = ~self.is_met & (after - common >= OFTEN * before)
        self.slope = [self._sums(self.before, each * value) for each in (there, value)]

    def _sums(self, one: Found, values: np.ndarray) -> np.ndarray:
        return one.sums(values, self.block, self.shape)

    def gain(self, weights: np.ndarray) -> np.ndarray:
        """Log ratio over tokens on which both fire; where these are few, log of kept or nothing."""
        tuned, base = (weights @ each for each in self.both)
        few = np.where(self.is_elsewhere, np.nan, self.kept(weights))
        ratio = np.where(self.is_met, _over(tuned, base), few)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.log(ratio)
        return np.where(np.isfinite(gain), gain, np.nan)

    def kept(self, weights: np.ndarray) -> np.ndarray:
        """Slope of the tuned model's readings on the base model's."""
        top, bottom = (weights @ each for each in self.slope)
        return _over(top, bottom)

    def ratios(self, weights: np.ndarray, factor: np.ndarray) -> dict[str, np.ndarray]:
        """Gain, gating and kept, a reading being expected to differ by a factor."""
        again = every = np.zeros(self.shape)
        sides = (self.before, factor, np.ones_like(factor)), (self.after, 1 / factor, 1 / factor)
        for one, by, unit in sides:  # squared readings of both in the base model's unit
            energy = (one.value * unit[one.latent]) ** 2
            again = again + self._sums(one, energy * one.again(by))
            every = every + self._sums(one, energy)
        gating = 1 - _over(weights @ again, weights @ every)
        return {"gain": self.gain(weights), "gating": gating, "kept": self.kept(weights)}


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _row_cosines(pair: Pair, blocks: Blocks, weights: np.ndarray) -> np.ndarray:
    """Cosine of the two decoder rows in every resample, each row refitted by one step.

    The refit moves row i by sum z_i (x - x_hat) / sum z_i^2; a resample's row is the fitted row
    plus how far its refit lies from that of all documents. So it is a combination of n_blocks + 1
    vectors, and inner products of these are all that the cosines need: no resample's row is formed.
    """
    sides, n = (pair.base, pair.tuned), pair.n
    energies = [_energies(one, blocks, n) for one in sides]
    w = weights.astype(np.float32)
    pairs = np.triu_indices(blocks.n_blocks)
    products = w[:, pairs[0]] * w[:, pairs[1]]
    drawn = [_over(energy.sum(axis=0), w @ energy) for energy in energies]
    out = np.empty((len(weights), n), np.float32)
    for start in range(0, n, LATENTS_AT_ONCE):
        part = slice(start, min(start + LATENTS_AT_ONCE, n))
        refits = [
            _refits(one, energy[:, part], part) for one, energy in zip(sides, energies, strict=True)
        ]
        shares = [each[:, part] for each in drawn]
        first, second, both = (
            _inner(refits[i] @ refits[j].swapaxes(1, 2), w, products, (shares[i], shares[j]))
            for i, j in ((0, 0), (1, 1), (0, 1))
        )
        out[:, part] = both / np.sqrt(first * second)
    return out


def _energies(one: Firing, blocks: Blocks, n: int) -> np.ndarray:
    """Sum of z^2 over each block, in single precision."""
    z = sparse.csr_array(one.z[:, :n])
    place = np.repeat(blocks.of_token, np.diff(z.indptr)) * n + z.indices
    squares = np.bincount(place, z.data.astype(float) ** 2, blocks.n_blocks * n)
    return squares.reshape(blocks.n_blocks, n).astype(np.float32)


def _refits(one: Firing, energy: np.ndarray, part: slice) -> np.ndarray:
    """Of every latent: its row less the refit of all documents, then the refit of each block.

    The refit of a block is its moment over the energy of all blocks, so that the refit of a
    resample is that energy over the resample's, times the refits of the blocks it drew.
    """
    assert one.residual_moments is not None  # checked by measure
    total = energy.sum(axis=0)
    moments = one.residual_moments[:, part] / np.where(total > 0, total, np.nan)[:, None]
    rows = one.rows[part].astype(np.float32) - moments.sum(axis=0)
    return np.concatenate([rows[None], moments]).swapaxes(0, 1)


def _inner(
    gram: np.ndarray,
    w: np.ndarray,
    products: np.ndarray,
    shares: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Inner product of two refitted rows in every resample, from those of what they are made of.

    Args:
        gram: [latents, 1 + blocks, 1 + blocks], the rows first.
        w: Resamples.
        products: Products of every two weights of a resample, [resamples, pairs], i <= j.
        shares: Energy of all documents over that of the resample, of either side.
    """
    blocks = gram[:, 1:, 1:]
    symmetric = blocks + blocks.swapaxes(1, 2)
    i, j = np.triu_indices(blocks.shape[1])
    pairs = np.where(i == j, np.float32(0.5), np.float32(1)) * symmetric[:, i, j]
    mine, theirs = shares
    out = products @ pairs.T
    out *= mine * theirs
    out += (w @ gram[:, 1:, 0].T) * mine
    out += (w @ gram[:, 0, 1:].T) * theirs
    return out + gram[:, 0, 0]


def _chance(pairs: np.ndarray, live: np.ndarray, n: int) -> np.ndarray:
    """What 99.5 % of each latent's pairs with live tuned latents of another index stay below."""
    others = pairs[:n][:, live].astype(float)
    own = np.flatnonzero(live[:n])
    others[own, np.arange(len(own))] = np.nan
    if not others.shape[1]:
        return np.full(n, 1.0)
    return np.nan_to_num(quantiles(others.T, [CHANCE])[0], nan=1.0)
