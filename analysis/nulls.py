"""What each coordinate does when nothing of interest happened: the base model merely trained on.

Every live latent of a null pair is one draw of what drift, a second dictionary and finitely many
tokens do together. A tuned model is held against a null whose activations moved at least as far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.coordinates import COORDINATES, Coordinates
from sae.errors import ConfigError, InputError

__all__ = ["Null", "choose", "unlikeness"]

MAX_BINS = 4
LATENTS_A_BIN = 100
MIN_LATENTS = 20


def _unrolled(coordinate: str, values: np.ndarray) -> np.ndarray:
    """The coordinate on a scale where large is far from the base and spreads are comparable."""
    match coordinate:
        case "direction":
            return np.arccos(np.clip(values, -1, 1))
        case "gating":
            return np.arcsin(np.sqrt(np.clip(values, 0, 1)))
        case "gain":
            return values
    raise ConfigError(coordinate, "no such coordinate", f"choose among {', '.join(COORDINATES)}")


def _bin_edges(fire_rate: np.ndarray) -> np.ndarray:
    n_bins = int(np.clip(len(fire_rate) // LATENTS_A_BIN, 1, MAX_BINS))
    edges = np.unique(np.quantile(fire_rate, np.arange(1, n_bins) / n_bins))
    return edges[edges < fire_rate.max()]


@dataclass(frozen=True)
class Null:
    """The coordinates of all live latents of one null pair, in bins of like fire rate."""

    name: str
    """Which checkpoint of which null."""
    change: float
    """How far its activations on neutral text moved from the base model's; any one unit."""
    edges: Float[np.ndarray, " inner_edges"]
    """Inner edges of the fire-rate bins."""
    bins: Int[np.ndarray, " latents"]
    """Bin of every live latent."""
    values: dict[str, Float[np.ndarray, " latents"]]
    """Each coordinate of every live latent; not a number where it could not be measured."""

    @classmethod
    def of(
        cls, name: str, change: float, coordinates: Coordinates, min_firings: int = 30
    ) -> "Null":
        """A null from the coordinates of a pair in which nothing of interest happened.

        Args:
            name: Which checkpoint of which null.
            change: How far its activations moved.
            coordinates: Measured as a tuned model's are, on the same tokens.
            min_firings: Firings in the base model below which a latent is no draw. As for a tuned
                model, direction and gain need as many in the other model too.

        Returns:
            The null.

        Raises:
            InputError: Fewer than 20 live latents, or fewer than 20 that live in both models.
        """
        table = coordinates.table
        live = table.loc[table["n_fires_base"] >= min_firings]
        both = live["n_fires_tuned"].to_numpy() >= min_firings
        if both.sum() < MIN_LATENTS:
            raise InputError(
                f"a null from {name}",
                f"{both.sum()} latents with {min_firings} firings in both models",
                "give more held-out tokens",
            )
        edges = _bin_edges(live["fire_rate"].to_numpy(float))
        values = {c: live[c].to_numpy(float) for c in COORDINATES}
        for c in ("direction", "gain"):
            values[c] = np.where(both, values[c], np.nan)
        return cls(name, change, edges, np.searchsorted(edges, live["fire_rate"]), values)

    def _draws(self, coordinate: str, b: int) -> np.ndarray:
        """Measured null values of a bin, or of all bins where the bin has too few."""
        draws = self.values[coordinate]
        measured = ~np.isnan(draws)
        mine = measured & (self.bins == b)
        return draws[mine if mine.sum() >= MIN_LATENTS else measured]

    def _standard(self, coordinate: str, b: int, values: np.ndarray) -> np.ndarray:
        """How far out values lie, in the bin's own median and quartile distance."""
        draws = _unrolled(coordinate, self._draws(coordinate, b))
        low, middle, high = np.quantile(draws, [0.25, 0.5, 0.75])
        far = (_unrolled(coordinate, values) - middle) / max(high - low, 1e-9)
        return np.abs(far) if coordinate == "gain" else far

    def p_values(
        self,
        coordinate: str,
        values: Float[np.ndarray, " latents"],
        fire_rate: Float[np.ndarray, " latents"],
    ) -> Float[np.ndarray, " latents"]:
        """Chance that a null latent of like fire rate lies as far out.

        One-sided for direction (low) and gating (high), two-sided for gain. The p-value is the
        rank among the draws of the latent's own bin, (1 + n as extreme) / (1 + n). Only where it
        lies beyond all of them is it refined: by the rank among the draws of all bins, each in
        units of its own bin's median and quartile distance, and beyond all of those too by a power
        law with the lower 95 % limit of Hill's exponent. A power law is heavier than the tails of
        drift, so the refinement errs towards large p-values.

        Args:
            coordinate: One of direction, gain, gating.
            values: What was measured.
            fire_rate: The latents' fire rates in the base model.

        Returns:
            The p-values; not a number where the value is not one.
        """
        n_bins = len(self.edges) + 1
        pooled = np.concatenate(
            [self._standard(coordinate, b, self._draws(coordinate, b)) for b in range(n_bins)]
        )
        bins = np.searchsorted(self.edges, fire_rate)
        out = np.full(len(values), np.nan)
        for b in range(n_bins):
            mine = (bins == b) & ~np.isnan(values)
            far = self._standard(coordinate, b, values[mine])
            own = self._standard(coordinate, b, self._draws(coordinate, b))
            own_p = _rank_p(own, far)
            floor = 1 / (1 + len(own))
            refined = np.minimum(own_p, _tail_p(pooled, far))
            out[mine] = np.where(own_p <= floor * (1 + 1e-9), refined, own_p)
        return out

    def band(
        self, coordinate: str, fire_rate: Float[np.ndarray, " latents"], level: float = 0.95
    ) -> tuple[Float[np.ndarray, " latents"], Float[np.ndarray, " latents"]]:
        """Where null latents of like fire rate lie, jointly over the three coordinates.

        Args:
            coordinate: One of direction, gain, gating.
            fire_rate: The latents' fire rates in the base model.
            level: Share of null latents inside all three bands, at least (Bonferroni).

        Returns:
            Lower and upper limit for every latent. Direction has no upper limit and gating no lower
            one: a latent cannot be too much like itself.
        """
        tail = (1 - level) / len(COORDINATES)
        at = {
            "direction": (tail, None),
            "gating": (None, 1 - tail),
            "gain": (tail / 2, 1 - tail / 2),
        }
        limits = np.empty((len(self.edges) + 1, 2))
        for b in range(len(limits)):
            draws = self._draws(coordinate, b)
            limits[b] = [
                unlimited if q is None else np.quantile(draws, q)
                for q, unlimited in zip(at[coordinate], (-np.inf, np.inf), strict=True)
            ]
        bins = np.searchsorted(self.edges, fire_rate)
        return limits[bins, 0], limits[bins, 1]

    def smallest_p(self) -> float:
        """The smallest p-value that ranks alone can give, corrected for three coordinates.

        Returns:
            3 / (1 + n draws). Smaller p-values lean on the extrapolated tail.
        """
        n = min(int((~np.isnan(v)).sum()) for v in self.values.values())
        return len(COORDINATES) / (1 + n)

    def power(self, level: float = 0.95) -> pd.DataFrame:
        """The smallest change of each coordinate that leaves the null's band, per fire-rate bin.

        Args:
            level: As for `band`.

        Returns:
            One row a bin: fire_rate_from (0 for the first), n_latents, direction (cosines below
            are beyond), gain_low, gain_high, gating (distances above are beyond).
        """
        # A rate on an inner edge belongs to the bin below it, so step just above.
        starts = np.concatenate([[0.0], np.nextafter(self.edges, np.inf)])
        gain_low, gain_high = self.band("gain", starts, level)
        return pd.DataFrame(
            {
                "fire_rate_from": starts,
                "n_latents": np.bincount(self.bins, minlength=len(starts)),
                "direction": self.band("direction", starts, level)[0],
                "gain_low": gain_low,
                "gain_high": gain_high,
                "gating": self.band("gating", starts, level)[1],
            }
        )


def _rank_p(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(1 + draws at least as large) / (1 + draws)."""
    ordered = np.sort(draws)
    as_extreme = len(ordered) - np.searchsorted(ordered, values, side="left")
    return (1 + as_extreme) / (1 + len(ordered))


def _tail_p(draws: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank p-values, extended beyond the largest draw by a power law (Hill 1975)."""
    ordered = np.sort(draws)
    n_top = max(len(ordered) // 10, 2)
    threshold, largest = ordered[-n_top - 1], ordered[-1]
    p = _rank_p(draws, values)
    if threshold <= 0 or largest <= threshold:
        return p
    hill = n_top / np.log(ordered[-n_top:] / threshold).sum()
    exponent = hill * max(1 - 1.96 / np.sqrt(n_top), 0)
    return p * (largest / np.maximum(values, largest)) ** exponent


def choose(nulls: Sequence[Null], change: float) -> Null | None:
    """The null that moved least among those that moved at least as far as a tuned model.

    Args:
        nulls: Checkpoints of the null.
        change: How far the tuned model's activations moved, in the nulls' unit.

    Returns:
        The null, or None where no null moved as far: then nothing can be called.
    """
    enough = [null for null in nulls if null.change >= change]
    return min(enough, key=lambda null: null.change) if enough else None


def unlikeness(change: float, other: float) -> float:
    """How far apart two sizes of change are, as the ratio of the larger to the smaller.

    Args:
        change: Of one model, 0 or more.
        other: Of the other, in the same unit.

    Example:
        >>> unlikeness(0.5, 0.25), unlikeness(0.25, 0.5)
        (2.0, 2.0)
    """
    small, large = sorted((change, other))
    return large / max(small, 1e-12)
