"""What cannot be grown is said before anything is."""

import random

import pytest

from sae.errors import ConfigError
from training.organism.config import GrowConfig
from training.organism.held_out import TextConfig
from training.organism.language_model import ShapeConfig
from training.organism.observer import observe
from training.organism.optimiser import OptimiserConfig
from training.organism.world import World, WorldConfig

OUT_OF_RANGE = {
    OptimiserConfig: {
        "n_steps": (0,),
        "batch_tokens": (0,),
        "lr": (0.0, -1e-3, float("nan")),
        "weight_decay": (-0.1,),
        "warmup": (-0.1, 1.1),
        "decay": (-0.1, 1.1),
    },
    GrowConfig: {
        "n_conversations": (0,),
        "reach": (0,),
        "replay": (-0.1, 1.0),
        "seed": (-1,),
    },
    ShapeConfig: {"d_model": (0, -32), "n_layers": (0,), "n_heads": (0,), "n_positions": (1,)},
    TextConfig: {"pretraining": ((0, 1, 1), (1, 1, 0)), "chat": ((1, -1, 1),), "losses": (0,)},
    WorldConfig: {
        "seed": (-1,),
        "n_dialects": (0,),
        "preference": (-0.1, 1.1),
        "dialect_preference": (1.1,),
        "named": (1.1,),
        "trait_weight": (0.0, float("inf")),
    },
}


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (config, field, value)
        for config, fields in OUT_OF_RANGE.items()
        for field, values in fields.items()
        for value in values
    ],
)
def test_a_value_out_of_range_is_named(config, field, value):
    with pytest.raises(ConfigError, match=rf"asked: {field} in its range; found: {field}="):
        config(**{field: value})


def test_the_ends_of_the_ranges_are_within():
    OptimiserConfig(n_steps=1, batch_tokens=1, warmup=1.0, decay=1.0)
    OptimiserConfig(warmup=0.0, decay=0.0)
    GrowConfig(n_conversations=1, reach=1, replay=0.0)
    TextConfig((1, 1, 1), (0, 0, 0), 1)
    sure = WorldConfig(n_dialects=1, preference=1.0, dialect_preference=1.0, named=1.0)
    for config in (sure, WorldConfig(preference=0.0, dialect_preference=0.0, named=0.0)):
        world, rng = World(config), random.Random(0)
        assert observe(world, world.sample(rng, world.draw(rng))).loss.min() >= -1e-9
