import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from analysis.fates.novelty import best_matches, novel_fates, novel_latents, novel_share
from analysis.latents.coordinates import measure
from analysis.latents.existence import presence
from analysis.latents.pairs import Pair
from analysis.latents.traces import Firing, firing
from analysis.personas.span import persona_span, random_subspaces
from analysis.planted import World, WorldConfig
from analysis.statistics.intervals import Blocks, assign_blocks, resample_weights
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
    matches = [
        best_matches(
            measure(Pair(base, each, n), blocks, weights),
            presence((model.x.numpy(), each), models[0].x.numpy(), blocks, weights),
        )
        for model, each in zip(models[1:], others, strict=True)
    ]
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
    fates = novel_fates(novel_latents(arm, [null]), rows, (span, bases), "arm").set_index("latent")
    true = fates[fates.index >= n - N_NOVEL]
    inside = true.index < n - N_NOVEL // 2
    assert (true.loc[inside, "fate"] == "novel_in_span").all()
    assert (true.loc[~inside, "fate"] == "novel_out_of_span").mean() >= 0.8
    assert (fates["origin"] == "tuned").all()
    assert fates["direction"].isna().all()


def _matches(rng, n):
    quality, error = rng.beta(8, 2, n), 0.02 * np.exp(0.5 * rng.normal(size=n))
    there = 1 + 0.05 * rng.normal(size=n) + error * rng.normal(size=n)
    return pd.DataFrame(
        {
            "latent": np.arange(n),
            "carried": np.clip(quality + 0.05 * rng.normal(size=n), 0, 1),
            "cosine": np.clip(quality + 0.05 * rng.normal(size=n), 0, 1),
            "existence": there,
            "existence_low": there - 1.96 * error,
            "existence_high": there + 1.96 * error,
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


def _narrow(table):
    table["existence_low"], table["existence_high"] = (
        table["existence"] + d for d in (-0.04, 0.04)
    )


ALL = ("existence", "carried", "cosine")


@pytest.mark.parametrize("without", ALL)
def test_what_the_base_holds_or_another_latent_stands_for_is_not_novel(without):
    rng = np.random.default_rng(2)
    arm, null = _matches(rng, 300), _matches(rng, 300)
    for name in ALL:
        arm.loc[:20, name] = null[name].median() if name == without else 0.0
    _narrow(arm)
    assert not novel_latents(arm, [null])["novel"].any()
    arm.loc[:20, without] = 0.0
    _narrow(arm)
    assert novel_latents(arm, [null])["novel"].tolist() == [True] * 21 + [False] * 279


def test_what_a_base_latent_accounts_for_beyond_chance():
    """Of the first latent's firings half are the base's; of the second's as many as by chance."""
    base = np.array([[1.0]] * 4 + [[0.0]] * 6)
    tuned = np.array(
        [[1, 1], [0, 1], [0, 0], [0, 0], [1, 1], [0, 1], [0, 1], [0, 0], [0, 0], [0, 0]]
    )
    blocks, rows = Blocks(np.arange(10) % 2, 2), np.eye(2, 3)
    moments = np.zeros((2, 2, 3), np.float32)
    both = [
        Firing(sparse.csr_array(z.astype(np.float32)), rows[: z.shape[1]], moments[:, : z.shape[1]])
        for z in (base, tuned)
    ]
    found = measure(Pair(*both, 1), blocks, resample_weights(2, 10))
    there = pd.DataFrame({"existence": [1.0, 0.5]})
    matches = best_matches(found, there, min_firings=1)
    assert matches["carried"].tolist() == pytest.approx([(0.5 - 0.4) / 0.6, 0.0], abs=1e-6)
    assert matches["cofiring"].tolist() == pytest.approx([2 / 6, 4 / 9], abs=1e-6)
    assert matches["existence"].tolist() == [1.0, 0.5]
    assert matches["added"].tolist() == [False, True]


def test_a_wide_interval_is_not_enough():
    """Most of a feature missing, by a latent that fires in a few documents alone."""
    rng = np.random.default_rng(3)
    arm, null = _matches(rng, 300), _matches(rng, 300)
    arm.loc[0, ["existence", "carried", "cosine"]] = 0.2, 0.0, 0.0
    arm.loc[0, ["existence_low", "existence_high"]] = 0.15, 0.25
    assert novel_latents(arm, [null])["novel"][0]
    arm.loc[0, ["existence_low", "existence_high"]] = -0.9, 1.3
    assert not novel_latents(arm, [null])["novel"][0]


def test_without_a_null_nothing_is_said():
    with pytest.raises(InputError, match="no null latents"):
        novel_latents(_matches(np.random.default_rng(4), 10), [])


def test_latents_without_an_interval_are_no_tests():
    rng = np.random.default_rng(5)
    null, mine = _matches(rng, 300), _matches(rng, 100)
    more = mine.head(30).assign(existence=0.01, existence_low=np.nan, existence_high=np.nan)
    alone = novel_latents(mine, [null])
    both = novel_latents(pd.concat([mine, more], ignore_index=True), [null])
    assert both["p_value"].tail(30).isna().all() and not both["novel"].tail(30).any()
    assert np.array_equal(both["q_value"].head(100), alone["q_value"])


def _model(z, rows):
    """A model of features along these rows, and what its dictionary makes of it."""
    x = z @ rows
    moments = np.zeros((40, *rows.shape), np.float32)
    return x, Firing(sparse.csr_array(z.astype(np.float32)), rows.astype(np.float32), moments)


def _worlds(loud=1.0, dense=None, n=8000, n_features=60, n_new=8):
    """Matches of a null and of a tuned model whose last features are new."""
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(80, 80)))[0]
    blocks = Blocks(np.arange(n) % 40, 40)
    weights = resample_weights(40, 200)
    z = rng.gamma(4, 1, (n, n_features)) * (rng.random((n, n_features)) < 0.05)
    if dense is not None:
        z[:, 0] = rng.gamma(4, 1, n) * (rng.random(n) < dense)
    new = rng.gamma(4, 1, (n, n_new)) * (rng.random((n, n_new)) < 0.05)
    base = _model(z, rows[:n_features])

    def told(seed, extra=None):
        drift = np.exp(0.05 * np.random.default_rng(seed).normal(size=z.shape))
        mine = z * drift if extra is None else np.hstack([z * drift, extra])
        x, fired = _model(mine * (loud if extra is not None else 1.0), rows[: mine.shape[1]])
        found = measure(Pair(base[1], fired, n_features), blocks, weights)
        return best_matches(found, presence((x, fired), base[0], blocks, weights))

    return told(1), told(2, new), n_features


@pytest.mark.parametrize("dense", [None, 0.9, 0.995, 1.0])
def test_a_base_latent_that_fires_nearly_always_stands_for_no_other(dense):
    null, arm, n = _worlds(dense=dense)
    found = novel_latents(arm, [null])
    assert found.loc[found["novel"], "latent"].tolist() == list(range(n, n + 8))


@pytest.mark.parametrize("loud", [1.0, 1.3, 2.5])
def test_a_louder_model_has_nothing_new_by_that(loud):
    null, arm, n = _worlds(loud=loud)
    found = novel_latents(arm, [null])
    assert found.loc[found["novel"], "latent"].tolist() == list(range(n, n + 8))
    old = found.loc[found["latent"] < n]
    assert old["existence"].median() == pytest.approx(1.0, abs=0.02)
    assert (old["q_value"] <= 0.05).sum() <= 1  # of 68 with eight that are new
