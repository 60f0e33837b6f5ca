"""Activations with planted fates: the benches on which rules are calibrated.

`exact` knows every feature's direction, so that what the rules make of it is theirs alone; `pairs`
has more features than dimensions, and leaves the dictionary to be fitted. `rewired` plants in a
model what shows only downstream.
"""

from analysis.planted.exact import PLANTABLE, Model, World, WorldConfig, dictionary_of
from analysis.planted.pairs import Pairs, PairsConfig, Planted
from analysis.planted.rewired import rewired, turning

__all__ = ["PLANTABLE", "Model", "Pairs", "PairsConfig", "Planted", "World", "WorldConfig"]
__all__ += ["dictionary_of", "rewired", "turning"]
