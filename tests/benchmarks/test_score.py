"""How dictionaries are scored against the truth, and what is said of the scores."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from benchmarks.truth import score, verdict
from benchmarks.truth.world import World, WorldConfig

N = 4096 + 100


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig(n_features=60, d_in=32, l0=2.0, n_roots=3, group_size=5))


def truth(world: World) -> np.ndarray:
    return np.concatenate([z for _, z in world.chunks("held-out", N)])


def seen(world: World, order: np.ndarray, signs: float = 1.0) -> score.Seen:
    """The truth as a dictionary, its latents in another order and its rows of another length."""
    z = truth(world)[:, order] * world.scale / 2
    rows = 2 * signs * world.directions[order]
    return score.Seen(rows, np.zeros(32, np.float32), csr_array(z))


class TestMatch:
    def test_pairs_by_the_largest_sum_not_one_by_one(self):
        # Row 0 likes both, row 1 only the first: one by one, row 0 would take it.
        a = np.array([[1.0, 0.0], [0.6, -0.8]])
        b = np.array([[0.96, -0.28], [0.8, 0.6]])
        found = score.match(a, b)
        assert found.latent.tolist() == [1, 0]
        assert found.cosine.tolist() == pytest.approx([0.8, 0.8])

    def test_disregards_sign_and_norm_and_leaves_over_what_is_too_many(self):
        found = score.match(np.eye(3)[:2], np.array([[0, 0, 1], [0, -5, 0], [2, 0, 0]]))
        assert found.latent.tolist() == [2, 1]
        assert found.cosine.tolist() == [1, 1]

    def test_a_row_of_zeros_has_cosine_0(self):
        assert score.match(np.eye(1, 2), np.zeros((1, 2))).cosine.tolist() == [0]

    def test_share_counts_features_without_a_pair(self):
        found = score.match(np.eye(2), np.array([[3.0, 0.0]]))
        assert score.matched_share(found, n_features=2) == 0.5
        near = score.match(np.array([[1.0, 0.0]]), np.array([[0.8, 0.6]]))
        assert score.matched_share(near, n_features=1) == 0


def test_f1_by_hand():
    # 2 of 4 found and 1 false: precision 2/3, recall 1/2.
    found = score.f1_scores(np.array([2, 0]), np.array([4, 0]), np.array([3, 5]))
    assert found[0] == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert math.isnan(found[1])


class TestScores:
    @pytest.mark.parametrize("is_permuted", [False, True])
    def test_of_the_truth_are_1_in_whatever_order(self, world, is_permuted):
        order = np.random.default_rng(0).permutation(60) if is_permuted else np.arange(60)
        found = score.scores(world, seen(world, order), "held-out")
        for name in ("matched_share", "matched_cosine", "f1", "f1_matched", "f1_parents"):
            assert found[name] == pytest.approx(1), name
        assert found["fvu"] == pytest.approx(score.noise_fvu(world, "held-out", N), rel=1e-4)
        assert found["l0"] == pytest.approx((truth(world) > 0).sum(1).mean())
        assert found["dead_share"] == (~(truth(world) > 0).any(0)).mean()

    def test_latents_that_fire_elsewhere_lose_f1_alone(self, world):
        right = seen(world, np.arange(60))
        moved = score.Seen(right.W_dec, right.b_dec, csr_array(right.z.toarray()[::-1]))
        found = score.scores(world, moved, "held-out")
        assert found["matched_share"] == 1
        assert found["f1"] < 0.3
        assert found["fvu"] > 0.9

    def test_dead_latents_are_counted(self, world):
        right = seen(world, np.arange(60))
        z = right.z.toarray()
        z[:, :15] = 0
        found = score.scores(world, score.Seen(right.W_dec, right.b_dec, csr_array(z)), "held-out")
        assert found["dead_share"] == pytest.approx(0.25, abs=0.02)
        assert found["matched_share"] == 1

    def test_random_directions_match_as_badly_as_random_directions(self, world):
        nulls = [score.random_directions(60, 32, seed) for seed in range(3)]
        matched = score.match(world.directions, nulls[0])
        assert score.matched_share(matched, 60) == 0
        assert score.agreement(nulls[1], nulls[2]) == pytest.approx(matched.cosine.mean(), abs=0.05)
        assert score.agreement(nulls[1], nulls[1][::-1]) == pytest.approx(1)


class TestVerdict:
    @staticmethod
    def everyone(ours: list[float], theirs: list[float], others: list[float]) -> dict:
        kinds = {"forelimb/default": ours, "saelens/a": theirs, "saelens/b": others}
        kinds["null/random"] = [9.0, 9.0]
        return {who: {"matched_share": values, "f1": values} for who, values in kinds.items()}

    def said(self, *values: list[float]) -> str:
        given = self.everyone(*values)
        return verdict.verdicts(given, "forelimb/default", ["saelens"])[0]

    def test_holds_ours_against_the_best_peer_and_not_the_null(self):
        said = self.said([0.80, 0.81, 0.82], [0.5, 0.51, 0.52], [0.6, 0.61, 0.62])
        assert "saelens/b 0.610" in said
        assert said.endswith("above, outside seed noise")

    def test_says_below_where_it_is(self):
        said = self.said([0.5, 0.51, 0.52], [0.80, 0.81, 0.82], [0.6, 0.61, 0.62])
        assert said.endswith("BELOW, outside seed noise")

    def test_says_when_seeds_do_not_tell_them_apart(self):
        said = self.said([0.5, 0.7, 0.6], [0.55, 0.75, 0.65], [0.1, 0.2, 0.3])
        assert said.endswith("BELOW, inside seed noise")

    def test_one_seed_tells_nothing_apart(self):
        assert self.said([0.9], [0.1], [0.1]).endswith("above, and one seed cannot tell seed noise")

    def test_without_a_peer_there_is_none(self):
        given = {"forelimb/default": {"f1": [1.0], "matched_share": [1.0]}}
        assert verdict.verdicts(given, "forelimb/default", ["saelens"])[0].startswith("no verdict")

    def test_the_interval_is_welchs(self):
        # Means 2 and 5, variances 1 and 4, three each: error sqrt(5/3), 2.94 degrees of freedom.
        difference, low, high = verdict.compared([1, 2, 3], [3, 5, 7])
        assert difference == -3
        assert (high - low) / 2 == pytest.approx(3.2178 * math.sqrt(5 / 3), rel=1e-3)

    def test_what_is_not_a_number_is_left_out_of_a_mean(self):
        found = verdict.spread([1.0, math.nan, 2.0])
        assert found == {"mean": 1.5, "sd": 0.70711, "each": [1.0, None, 2.0]}
