"""A dictionary's latents in two models on the same tokens, index by index."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from analysis.latents.readings import Found, Sides
from analysis.latents.traces import Firing
from analysis.statistics.matrices import cofiring, cosines

__all__ = ["Pair"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Firing of a base and of a tuned model; what is asked for twice is computed once."""

    base: Firing
    """Base model through the dictionary continued on its own activations."""
    tuned: Firing
    """Tuned model through the dictionary continued on its activations, on the same tokens."""
    n: int
    """Latents that both dictionaries continue; later ones share an index by accident."""

    @cached_property
    def dice(self) -> Float[np.ndarray, "d_sae d_sae_tuned"]:
        """Dice overlap of every base latent with every tuned latent, added ones included."""
        return cofiring(self.base.z, self.tuned.z)

    @cached_property
    def cosine(self) -> Float[np.ndarray, "d_sae d_sae_tuned"]:
        """Cosine of their decoder rows."""
        return cosines(self.base.rows, self.tuned.rows)

    @cached_property
    def before(self) -> Found:
        """Firings of inherited latents in the base model, and what the tuned one reads there."""
        return Found.of(*self._sides, self.n)

    @cached_property
    def after(self) -> Found:
        """Firings of inherited latents in the tuned model, and what the base one reads there."""
        base, tuned = self._sides
        return Found.of(tuned, base, self.n)

    @property
    def _sides(self) -> tuple[Sides, Sides]:
        base, tuned = self.base, self.tuned
        return (base.z, base.reading), (tuned.z, tuned.reading)

    def ordered(self, order: Int[np.ndarray, " d_sae_tuned"]) -> "Pair":
        """The same, the tuned latents in another order.

        Args:
            order: Index that each has now.
        """
        found = Pair(self.base, self.tuned.of(order), self.n)
        vars(found).update(dice=self.dice[:, order], cosine=self.cosine[:, order])
        return found
