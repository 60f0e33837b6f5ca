"""What each coordinate does when nothing of interest happened.

Every live latent of a null pair is one draw of what drift, a second dictionary and finitely many
tokens do together. A tuned model is held against a null whose activations moved at least as far.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from analysis.fates.tails import effective_tests, rank_p, standard_errors, tail_p, unit_of, unrolled
from analysis.latents.coordinates import COORDINATES, EFFECT, PROFILE, Coordinates
from analysis.latents.matching import ALIKE, STEADY
from sae.errors import InputError

__all__ = ["Null"]

MAX_BINS = 4
LATENTS_A_BIN = 100
MIN_LATENTS = 20
IQR = 1.349  # of a normal distribution, in standard deviations
ALL_ALIKE = 0.01  # quartile distance of draws that hardly differ, in radians, nats or shares


def _bin_edges(fire_rate: np.ndarray) -> np.ndarray:
    n_bins = int(np.clip(len(fire_rate) // LATENTS_A_BIN, 1, MAX_BINS))
    edges = np.unique(np.quantile(fire_rate, np.arange(1, n_bins) / n_bins))
    return edges[edges < fire_rate.max()]


@dataclass(frozen=True)
class Null:
    """The coordinates of all live latents of one null pair, in bins of like fire rate."""

    name: str
    """Which checkpoint of which null, or of several."""
    change: float
    """How far its activations on neutral text moved from the base model's; any one unit."""
    edges: Float[np.ndarray, " inner_edges"]
    """Inner edges of the fire-rate bins."""
    bins: Int[np.ndarray, " latents"]
    """Bin of every live latent."""
    values: dict[str, Float[np.ndarray, " latents"]]
    """Each coordinate of every live latent, profile and effect among them where they were measured;
    not a number where a latent's could not be."""
    errors: dict[str, Float[np.ndarray, " latents"]] = field(default_factory=dict)
    """Standard error of each, on the scale of `standard_errors`; where absent, 0."""
    parts: tuple[str, ...] = ()
    """Names of the nulls that it pools, where these are several."""
    latent: Int[np.ndarray, " latents"] = field(default_factory=lambda: np.empty(0, int))
    """Which latent each is; in order where absent."""
    displaced: Int[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, int))
    """Latents that do not stand for themselves any more: cosine below 0.7, or gating above 0.5."""
    fragile: Int[np.ndarray, " m"] = field(default_factory=lambda: np.empty(0, int))
    """Latents that one of several nulls displaced: drift alone replaces them, so nothing is said of
    what tuning did to them."""

    def __post_init__(self) -> None:
        if not len(self.latent):
            object.__setattr__(self, "latent", np.arange(len(self.bins)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the checkpoints that it is made of."""
        return self.parts or (self.name,)

    @classmethod
    def of(
        cls, name: str, change: float, coordinates: Coordinates, min_firings: int = 64
    ) -> "Null":
        """A null from the coordinates of a pair in which nothing of interest happened.

        Args:
            name: Which checkpoint of which null.
            change: How far its activations moved.
            coordinates: Measured as a tuned model's are, on the same tokens.
            min_firings: Firings in the base model below which a latent is no draw, as is one that
                is not steady. As for a tuned model, direction needs as many in the other too.

        Returns:
            The null.

        Raises:
            InputError: Fewer than 20 live latents of which a coordinate could be measured; for
                direction, that live in both models.
        """
        table = coordinates.table
        live = table.loc[(table["n_fires_base"] >= min_firings) & table["steady"]]
        both = live["n_fires_tuned"].to_numpy() >= min_firings
        told = {c: int((live[c].notna() & (both | (c != "direction"))).sum()) for c in COORDINATES}
        if min(told.values()) < MIN_LATENTS:
            least = min(told, key=lambda c: told[c])
            raise InputError(
                f"latents that fire in base and {name or 'tuned model'} alike",
                f"{told[least]} whose {least} has an interval and that fire {min_firings} times,"
                f" of {MIN_LATENTS} that it takes",
                "give more held-out tokens, of more documents",
            )
        edges = _bin_edges(live["fire_rate"].to_numpy(float))
        more = [c for c in (PROFILE, EFFECT) if c in live and live[c].notna().sum() >= MIN_LATENTS]
        measured = (*COORDINATES, *more)
        values = {c: live[c].to_numpy(float) for c in measured}
        values["direction"] = np.where(both, values["direction"], np.nan)
        errors = {c: standard_errors(live, c) for c in measured}
        bins, latent = np.searchsorted(edges, live["fire_rate"]), live["latent"].to_numpy(int)
        is_gone = (values["direction"] < STEADY) | (values["gating"] > 1 - ALIKE)
        gone = latent[is_gone]
        return cls(name, change, edges, bins, values, errors, latent=latent, displaced=gone)

    def _of_bin(self, coordinate: str, b: int) -> np.ndarray:
        """Latents of a bin with a value, or of all bins where the bin has too few."""
        measured = ~np.isnan(self.values[coordinate])
        mine = measured & (self.bins == b)
        return mine if mine.sum() >= MIN_LATENTS else measured

    def _spread(self, coordinate: str, b: int) -> tuple[float, float, np.ndarray, np.ndarray]:
        """Middle and variance of a bin's draws beyond their own errors, the draws and errors."""
        mine, draws = self._of_bin(coordinate, b), self.values[coordinate]
        errors = np.nan_to_num(self.errors.get(coordinate, np.zeros(len(draws)))[mine])
        far = unrolled(coordinate, draws[mine])
        low, middle, high = np.quantile(far, [0.25, 0.5, 0.75])
        whole = max(high - low, ALL_ALIKE) ** 2
        return middle, max(whole - np.median(IQR * errors) ** 2, whole / 4), far, errors

    def standard(
        self,
        coordinate: str,
        values: Float[np.ndarray, "*n latents"],
        fire_rate: Float[np.ndarray, " latents"],
        errors: Float[np.ndarray, " latents"] | None = None,
    ) -> Float[np.ndarray, "*n latents"]:
        """How far out values lie among null latents of like fire rate, in quartile distances.

        Those of a null latent of the same standard error: the bin's, its typical error replaced.

        Args:
            coordinate: One that was measured.
            values: What was measured.
            fire_rate: The latents' fire rates in the base model.
            errors: Their standard errors, from `standard_errors`; 0 where absent.

        Of gain the distance has no sign.
        """
        bins = np.searchsorted(self.edges, fire_rate)
        own = np.zeros(len(bins)) if errors is None else np.nan_to_num(errors)
        out = np.full(np.shape(values), np.nan)
        for b in range(len(self.edges) + 1):
            mine = bins == b
            middle, variance, _, _ = self._spread(coordinate, b)
            far = unrolled(coordinate, values[..., mine]) - middle
            out[..., mine] = far / np.sqrt(variance + (IQR * own[mine]) ** 2)
        return np.abs(out) if coordinate == "gain" else out

    def middle(
        self, coordinate: str, fire_rate: Float[np.ndarray, " latents"]
    ) -> Float[np.ndarray, " latents"]:
        """About where null latents of like fire rate lie, on the scale of judgement.

        Args:
            coordinate: One that was measured.
            fire_rate: The latents' fire rates in the base model.
        """
        middles = [self._spread(coordinate, b)[0] for b in range(len(self.edges) + 1)]
        return np.array(middles)[np.searchsorted(self.edges, fire_rate)]

    def _null_standard(self, coordinate: str) -> list[np.ndarray]:
        """Distances of the draws of every bin."""
        found = []
        for b in range(len(self.edges) + 1):
            middle, variance, far, errors = self._spread(coordinate, b)
            each = (far - middle) / np.sqrt(variance + (IQR * errors) ** 2)
            found.append(np.abs(each) if coordinate == "gain" else each)
        return found

    def beyond(
        self,
        coordinate: str,
        values: Float[np.ndarray, "*n latents"],
        fire_rate: Float[np.ndarray, " latents"],
        errors: Float[np.ndarray, " latents"] | None = None,
        level: float = 0.95,
    ) -> Bool[np.ndarray, "*n latents"]:
        """Whether values lie farther out than null latents do, jointly over the coordinates.

        Args:
            coordinate: This and the next three as for `standard`.
            values: Measured.
            fire_rate: In the base model.
            errors: Standard errors.
            level: Share of null latents that lie beyond in no coordinate.
        """
        reach = 1 - (1 - level) / self.n_tests
        limits = np.array([np.quantile(each, reach) for each in self._null_standard(coordinate)])
        far = self.standard(coordinate, values, fire_rate, errors)
        return far > limits[np.searchsorted(self.edges, fire_rate)]

    def p_values(
        self,
        coordinate: str,
        values: Float[np.ndarray, " latents"],
        fire_rate: Float[np.ndarray, " latents"],
        errors: Float[np.ndarray, " latents"] | None = None,
    ) -> Float[np.ndarray, " latents"]:
        """Chance that a null latent of like fire rate and error lies as far out.

        One-sided for direction and effect (low), gating and profile (high), two-sided for gain. The
        p-value is the rank of `standard` among the draws of the latent's own bin (`rank_p`). Only
        where it lies beyond all of them is it refined: by the rank among the draws of all bins,
        each in units of its own bin's (`unit_of`), and beyond all of those by Hill's power law
        (`tail_p`).

        Args:
            coordinate: As for `standard`.
            values: As for `standard`.
            fire_rate: As for `standard`.
            errors: As for `standard`.

        Returns:
            The p-values; not a number where the value is not one.
        """
        drawn = self._null_standard(coordinate)
        units = [unit_of(each) for each in drawn]
        pooled = self._each_standard(coordinate) / np.array(units)[self.bins]
        pooled = pooled[~np.isnan(pooled)]  # each draw once, though bins may borrow
        bins = np.searchsorted(self.edges, fire_rate)
        far = self.standard(coordinate, values, fire_rate, errors)
        out = np.full(len(values), np.nan)
        for b, own in enumerate(drawn):
            mine = (bins == b) & ~np.isnan(values)
            own_p = rank_p(own, far[mine])
            floor = 1 / (1 + len(own))
            refined = np.minimum(tail_p(pooled, far[mine] / units[b]), floor)
            out[mine] = np.where(own_p <= floor * (1 + 1e-9), refined, own_p)
        return out

    def band(
        self, coordinate: str, fire_rate: Float[np.ndarray, " latents"], level: float = 0.95
    ) -> tuple[Float[np.ndarray, " latents"], Float[np.ndarray, " latents"]]:
        """Where null latents of like fire rate lie, jointly over the coordinates.

        Args:
            coordinate: One that was measured.
            fire_rate: The latents' fire rates in the base model.
            level: Share of null latents inside all bands.

        Returns:
            Lower and upper limit for every latent. Direction and effect have no upper limit, gating
            and profile no lower one: a latent cannot be too much like itself.
        """
        tail = (1 - level) / self.n_tests
        at = {
            "direction": (tail, None),
            "effect": (tail, None),
            "gating": (None, 1 - tail),
            PROFILE: (None, 1 - tail),
            "gain": (tail / 2, 1 - tail / 2),
        }
        limits = np.empty((len(self.edges) + 1, 2))
        for b in range(len(limits)):
            draws = self.values[coordinate][self._of_bin(coordinate, b)]
            limits[b] = [
                unlimited if q is None else np.quantile(draws, q)
                for q, unlimited in zip(at[coordinate], (-np.inf, np.inf), strict=True)
            ]
        bins = np.searchsorted(self.edges, fire_rate)
        return limits[bins, 0], limits[bins, 1]

    def of_coordinates(self, names: Sequence[str]) -> "Null":
        """The null of some of its coordinates: those that a model was not measured by test nothing.

        Args:
            names: Which ones.
        """
        if set(names) == set(self.values):
            return self
        return replace(self, values={c: self.values[c] for c in self.values if c in names})

    @cached_property
    def n_tests(self) -> float:
        """How many tests the coordinates amount to (`tails.effective_tests`)."""
        return effective_tests(np.stack([self._each_standard(c) for c in self.values]), self.bins)

    def _each_standard(self, coordinate: str) -> Float[np.ndarray, " latents"]:
        """How far out every draw lies in its own bin."""
        inside = np.append(self.edges, np.inf)[self.bins]  # a fire rate of each draw's bin
        values, errors = self.values[coordinate], self.errors.get(coordinate)
        return self.standard(coordinate, values, inside, errors)

    def smallest_p(self) -> float:
        """The smallest p-value that ranks alone can give, corrected for the coordinates.

        `n_tests` over 1 + n draws; smaller ones lean on the extrapolated tail.
        """
        n = min(int((~np.isnan(v)).sum()) for v in self.values.values())
        return self.n_tests / (1 + n)
