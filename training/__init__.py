"""How a dictionary is fitted, and how a model organism is grown."""
