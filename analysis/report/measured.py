"""A coordinate as it is shown: its value, its interval, and where that lies."""

import math
from dataclasses import dataclass

from analysis.fates.rule import Rule

__all__ = ["AXES", "NOT_ALWAYS", "Coordinate"]

AXES = {
    "direction": (0.0, 1.0),
    "gain": (-1.5, 1.5),
    "gating": (0.0, 1.0),
    "profile": (0.0, 1.0),
    "effect": (0.0, 1.0),
}
"""Ends of the axis on which each coordinate is drawn."""
NOT_ALWAYS = ("profile", "effect")  # left out where they were not measured
MEANING = {
    "direction": "cosine of its decoder rows",
    "gain": "log ratio of firing strength where both fire",
    "gating": "Dice distance of the tokens on which it fires",
    "profile": "share of its activation in other personas, roles or kinds of document",
    "effect": "agreement of what ablating and steering it do to the next token",
}


@dataclass(frozen=True)
class Coordinate:
    """A measured coordinate with its interval and the null's band."""

    name: str
    """direction, gain, gating, profile or effect."""
    value: float
    """The estimate; not a number where it was not measured."""
    low: float
    """Lower limit of its 95 % interval."""
    high: float
    """Upper limit of its 95 % interval."""
    null: tuple[float, float] | None
    """Where like latents of the null lie; infinite on the side that has no limit."""

    @property
    def meaning(self) -> str:
        """What is measured."""
        return MEANING[self.name]

    @property
    def where(self) -> str:
        """Where the interval lies with respect to the null, and to what preservation allows."""
        if math.isnan(self.value):
            return "not measured"
        if self.null is None:
            return "no null to compare with"
        low, high = self.null
        least, most = Rule().allowed(self.name, self.null)
        inside = low <= self.low and self.high <= high
        if least <= self.low and self.high <= most:
            return "inside the null" if inside else "past the null, too little to count"
        if self.high < low or self.low > high:
            return "beyond the null"
        return "inside the null, too far to be preserved" if inside else "reaches out of it"

    def at(self, value: float) -> float:
        """Place of a value on the coordinate's axis, in per cent.

        Args:
            value: In the coordinate's unit.

        Returns:
            0 to 100.
        """
        low, high = AXES[self.name]
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)
