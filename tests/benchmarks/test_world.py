"""What is true of the activations that `bench_truth` fits on."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.truth.world import World, WorldConfig, frequencies

SMALL = WorldConfig(n_features=120, d_in=16, l0=4.0, n_roots=4, n_children=3, group_size=8)
N_CHUNKS = 12


@pytest.fixture(scope="module")
def world() -> World:
    return World(SMALL)


@pytest.fixture(scope="module")
def fires(world) -> np.ndarray:
    """Which features fire on some 49,000 tokens."""
    return np.concatenate([world.chunk("fit", n)[1] > 0 for n in range(N_CHUNKS)])


def rates_hold(fires, wanted, at) -> bool:
    """Within five standard errors, for each of the features."""
    error = np.sqrt(wanted * (1 - wanted) / len(fires))
    return bool((np.abs(fires.mean(0) - wanted) < 5 * error + 1e-9)[at].all())


class TestFrequencies:
    def test_follow_zipf_below_the_cap_and_add_up(self):
        config = WorldConfig(l0=12.0, exponent=1.0, most=0.25)
        found = frequencies(config)
        free = np.nonzero(found < config.most)[0]
        assert 0 < free[0] < 20
        assert np.allclose(found[free] * (free + 1), found[free[0]] * (free[0] + 1))
        assert found.sum() == pytest.approx(12)
        assert found.max() == pytest.approx(0.25)

    def test_are_a_power_of_rank_by_default(self):
        found = frequencies(WorldConfig())
        assert found.sum() == pytest.approx(WorldConfig().l0)
        assert np.allclose(found / found[0], np.arange(1, 2049) ** -0.5)

    def test_are_refused_where_they_cannot_add_up(self):
        with pytest.raises(ValueError, match="120 features cannot fire 40.0 times"):
            frequencies(replace(SMALL, l0=40.0))

    @pytest.mark.parametrize("kind", ["alone", "in a tree", "in a group"])
    def test_are_met_by_features_of_every_kind(self, world, fires, kind):
        inside = {"in a tree": np.isin(np.arange(120), world.parents) | (world.parent >= 0)}
        inside["in a group"] = world.group >= 0
        inside["alone"] = ~inside["in a tree"] & ~inside["in a group"]
        assert inside[kind].sum() > 20
        assert rates_hold(fires, world.frequency, inside[kind])


class TestStructure:
    def test_a_child_fires_only_where_its_parent_does(self, world, fires):
        children = np.nonzero(world.parent >= 0)[0]
        assert len(children) == 40 - SMALL.n_roots
        assert not (fires[:, children] & ~fires[:, world.parent[children]]).any()
        assert (world.parent[children] < children).all()

    def test_parents_have_parents(self, world):
        depth = np.isin(world.parent, np.nonzero(world.parent >= 0)[0])
        assert depth.any()

    def test_members_of_a_group_fire_together_and_strangers_do_not(self, world, fires):
        def lift(a: int, b: int) -> float:
            both = (fires[:, a] & fires[:, b]).mean()
            return both / (fires[:, a].mean() * fires[:, b].mean())

        alone = [n for n in range(120) if world.group[n] < 0 and world.parent[n] < 0][2:6]
        members = np.nonzero(world.group == world.group[np.nonzero(world.group >= 0)[0][0]])[0]
        together = [lift(a, b) for a in members for b in members if a < b]
        apart = [lift(a, b) for a in alone for b in alone if a < b]
        assert np.mean(together) > 2
        assert np.mean(apart) == pytest.approx(1, abs=0.2)

    def test_half_of_a_rare_members_firings_lie_in_its_topic(self, world):
        on, topic = world._on, SMALL.topic
        rare = (world.group >= 0) & (world.frequency < topic)
        assert rare.any()
        assert np.allclose((topic * on)[rare], world.frequency[rare] / 2, rtol=1e-5)


class TestVectors:
    def test_are_sums_of_directions_and_noise_at_a_mean_square_of_d_in(self, world):
        x, z = world.chunk("fit", 0)
        noise = x / world.scale - z @ world.directions
        assert noise.std() == pytest.approx(SMALL.noise, rel=0.05)
        assert np.square(x).sum(1).mean() == pytest.approx(SMALL.d_in, rel=0.05)
        assert x.dtype == z.dtype == np.float32
        assert z[z > 0].min() >= 0.5
        assert z.max() < 1.5

    def test_are_the_same_for_a_seed_and_others_for_another(self, world):
        again, other = World(SMALL), World(replace(SMALL, seed=1))
        assert (again.chunk("fit", 3)[0] == world.chunk("fit", 3)[0]).all()
        assert (again.parent == world.parent).all()
        assert not np.allclose(other.directions, world.directions)

    def test_streams_and_chunks_share_no_token(self, world):
        first, second, held = (
            world.chunk(*which)[0] for which in (("fit", 0), ("fit", 1), ("held-out", 0))
        )
        assert not (first == second).all(1).any()
        assert not (first == held).all(1).any()

    def test_are_cut_where_a_number_of_tokens_ends(self, world, tmp_path):
        world.write(tmp_path / "x.npy", "fit", 5000)
        kept = np.load(tmp_path / "x.npy")
        assert kept.shape == (5000, 16)
        assert (kept[:4096] == world.chunk("fit", 0)[0]).all()
        assert [len(x) for x, _ in world.chunks("fit", 5000)] == [4096, 904]
