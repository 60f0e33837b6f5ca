import numpy as np
import pandas as pd
import pytest

from analysis.coordinates import measure
from analysis.intervals import assign_blocks, resample_weights
from analysis.novelty import best_matches, novel_fates, novel_latents, novel_share
from analysis.planted import World, WorldConfig
from analysis.span import persona_span, random_subspaces
from analysis.traces import firing
from sae.errors import InputError

N_NOVEL = 30


@pytest.fixture(scope="module")
def planted():
    world = World(WorldConfig(n_documents=80))
    blocks = assign_blocks(world.doc)
    weights = resample_weights(blocks.n_blocks, 20)
    rng = np.random.default_rng(0)
    span = persona_span(world.rows[:12])
    inside = rng.normal(size=(N_NOVEL // 2, len(span))) @ span
    outside = rng.normal(size=(N_NOVEL // 2, world.config.d_in))
    models = [
        world.base(),
        world.tuned(1),
        world.tuned(2),
        world.tuned(3, novel=np.concatenate([inside, outside])),
    ]
    base, *others = [firing(m.sae, m.x.split(4096), blocks) for m in models]
    n = world.config.n_features
    matches = [best_matches(measure(base, each, blocks, n, weights)) for each in others]
    return world, span, models[3], matches


def test_planted_novel_latents_are_found_and_only_those(planted):
    world, _, _, (null, held, arm) = planted
    n = world.config.n_features
    found = novel_latents(arm, [null])
    novel = set(found.loc[found["novel"], "latent"])
    assert len(novel & set(range(n - N_NOVEL, n))) >= 0.8 * N_NOVEL
    assert len(novel - set(range(n - N_NOVEL, n))) <= 2
    share = novel_share(found)
    assert share.low <= N_NOVEL / n <= share.high
    assert not novel_latents(held, [null])["novel"].any()


def test_matching_is_by_firing_and_never_by_index(planted):
    world, _, _, (_, held, _) = planted
    assert (held["match"] == held["latent"]).mean() > 0.99
    assert not held["added"].any()


def test_novel_latents_are_placed_inside_or_outside_the_span(planted):
    world, span, model, (null, _, arm) = planted
    n = world.config.n_features
    bases = random_subspaces(np.eye(world.config.d_in), len(span))
    rows = model.sae.W_dec.detach().numpy()
    fates = novel_fates(novel_latents(arm, [null]), rows, span, bases, "arm").set_index("latent")
    true = fates[fates.index >= n - N_NOVEL]
    inside = true.index < n - N_NOVEL // 2
    assert (true.loc[inside, "fate"] == "novel_in_span").all()
    assert (true.loc[~inside, "fate"] == "novel_out_of_span").mean() >= 0.8
    assert (fates["origin"] == "tuned").all()
    assert fates["direction"].isna().all()


def _matches(rng, n, added=0):
    quality = rng.beta(8, 2, n)
    return pd.DataFrame(
        {
            "latent": np.arange(n),
            "added": np.arange(n) >= n - added,
            "cofiring": np.clip(quality + 0.05 * rng.normal(size=n), 0, 1),
            "cosine": np.clip(quality + 0.05 * rng.normal(size=n), 0, 1),
        }
    )


def test_p_values_are_not_small_under_the_null():
    rng = np.random.default_rng(1)
    p = np.concatenate(
        [
            novel_latents(_matches(rng, 300), [_matches(rng, 300)])["p_value"].to_numpy()
            for _ in range(40)
        ]
    )
    for level in (0.5, 0.1, 0.05, 0.01):
        assert np.mean(p <= level) <= level * 1.15 + 0.003
    assert np.mean(p <= 0.1) >= 0.08


def test_one_bad_match_is_not_enough():
    rng = np.random.default_rng(2)
    arm, null = _matches(rng, 300), _matches(rng, 300)
    arm.loc[:60, "cofiring"] = 0.0
    assert not novel_latents(arm, [null])["novel"].any()
    arm.loc[:60, "cosine"] = 0.0
    found = novel_latents(arm, [null])["novel"]
    assert found[:61].all()
    assert found[61:].sum() <= 3


def test_added_latents_are_held_against_added_ones():
    """An added latent lands anywhere, in a null too: that alone is no novelty."""
    rng = np.random.default_rng(3)
    arm, null = _matches(rng, 300, added=50), _matches(rng, 300, added=50)
    for each in (arm, null):
        each.loc[each["added"], ["cofiring", "cosine"]] *= 0.1
    assert not novel_latents(arm, [null])["novel"].any()


def test_without_a_null_nothing_is_said():
    with pytest.raises(InputError, match="no null latents"):
        novel_latents(_matches(np.random.default_rng(4), 10), [])
