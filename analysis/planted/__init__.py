"""Activations with planted fates: the benches on which rules are calibrated.

`exact` knows every feature's direction, so that what the rules make of it is theirs alone; `pairs`
has more features than dimensions, and leaves the dictionary to be fitted.
"""

from analysis.planted.exact import PLANTABLE, Model, World, WorldConfig, dictionary_of
from analysis.planted.pairs import Pairs, PairsConfig, Planted

__all__ = ["PLANTABLE", "Model", "Pairs", "PairsConfig", "Planted", "World", "WorldConfig"]
__all__ += ["dictionary_of"]
