"""Dictionaries of the base model itself: matched by firing, judged as tuned models are."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import sae
from analysis.fates.controls import (
    Control,
    _reordered,
    judge_control,
    lay_control,
    open_control,
    partners,
)
from analysis.fates.decide import decide
from analysis.fates.nulls import Null
from analysis.fates.subjects import Reference
from analysis.latents.bench import Bench, through
from analysis.latents.coordinates import measure
from analysis.latents.pairs import Pair
from analysis.latents.traces import Firing, firing
from analysis.planted import Model, World, WorldConfig, dictionary_of
from analysis.statistics.intervals import assign_blocks, resample_weights
from sae.errors import ConfigError, InputError

AGAIN = Control("same_weights", Path("again"), matched=False)
OTHER = Control("dictionary_seed", Path("other"), matched=True)
NOBODY = pd.DataFrame({"persona": [], "latent": [], "auroc": [], "confirmed": []})


def _firing(z, rows):
    return Firing(sparse.csr_array(np.asarray(z, np.float32)), np.asarray(rows, np.float32))


def _fires(n_tokens, *latents):
    """A column a latent, 1 on the tokens named."""
    z = np.zeros((n_tokens, len(latents)))
    for place, tokens in enumerate(latents):
        z[list(tokens), place] = 1
    return z


EVERYWHERE = np.ones(12, bool)
APART = np.eye(3)


def test_partners_are_the_best_pairs_together_and_not_each_latents_own_best():
    """Dice of 0 is 6/7 with 0 and 2/3 with 1; of 1, 2/3 and 0. So 0 leaves its best to 1."""
    reference = _firing(_fires(12, [0, 1, 2, 3], [1, 2, 4]), APART[:2])
    other = _firing(_fires(12, [0, 1, 2], [0, 3], [9]), APART)
    assert partners(reference, other, 2, EVERYWHERE).tolist() == [1, 0]


def test_direction_settles_ties_of_firing_and_nothing_else():
    reference = _firing(_fires(12, [0, 1], [0, 1]), [[1, 0], [0, 1]])
    swapped = _firing(_fires(12, [0, 1], [0, 1]), [[0, 1], [1, 0]])
    assert partners(reference, swapped, 2, EVERYWHERE).tolist() == [1, 0]
    fired = _firing(_fires(12, [0, 1], [0, 2]), [[0, 1], [1, 0]])
    apart = _firing(_fires(12, [0, 1], [0, 2]), [[1, 0], [0, 1]])
    assert partners(apart, fired, 2, EVERYWHERE).tolist() == [0, 1]


def test_only_the_tokens_given_are_compared():
    """On all tokens the Dice is 6/10 straight and 4/10 crossed, on the first six 0 and 1."""
    reference = _firing(_fires(12, [0, 1, 6, 7, 8], [2, 3, 9, 10, 11]), APART[:2])
    other = _firing(_fires(12, [2, 3, 6, 7, 8], [0, 1, 9, 10, 11]), APART[:2])
    assert partners(reference, other, 2, EVERYWHERE).tolist() == [0, 1]
    assert partners(reference, other, 2, np.arange(12) < 6).tolist() == [1, 0]


@pytest.fixture(scope="module")
def world():
    """A world, its reference, a null, the reference again and the same with latents shuffled."""
    world = World(WorldConfig(n_documents=80))
    blocks = assign_blocks(world.doc)
    again = world.base(seed=5)
    order = np.random.default_rng(0).permutation(world.config.n_features)
    shuffled = Model(again.x, dictionary_of(again.sae.W_dec.detach().numpy()[order]))
    models = [world.base(), world.tuned(1), again, shuffled]
    found = [firing(m.sae, m.x.split(4096), blocks) for m in models]
    return order, blocks, resample_weights(blocks.n_blocks, 100), found


def _measured(world, other):
    order, blocks, weights, (reference, *_) = world
    return measure(Pair(reference, other, len(order)), blocks, weights)


@pytest.fixture(scope="module")
def null(world):
    return Null.of("null", 1.0, _measured(world, world[3][1]))


def _rates(controlled, name="null"):
    table = controlled.errors[name].set_index(["family", "call"])
    return table.loc[("all", "changed")], table.loc[("all", "preserved")]


def test_the_same_weights_again_are_not_called_changed(world, null):
    changed, preserved = _rates(judge_control(AGAIN, _measured(world, world[3][2]), [null], NOBODY))
    assert changed["n"] > 200
    assert changed["n_called"] == 0
    assert 0 < changed["share_high"] < 0.02
    assert preserved["share"] > 0.9


def test_matching_finds_shuffled_latents_and_an_index_does_not(world, null):
    order, _, _, (reference, _, again, shuffled) = world
    tokens = np.arange(reference.z.shape[0]) % 2 == 0
    found = partners(reference, shuffled, len(order), tokens)
    assert order[found].tolist() == list(range(len(order)))
    matched = _measured(world, _reordered(shuffled, found))
    straight = _measured(world, again)
    pd.testing.assert_frame_equal(matched.table, straight.table, atol=1e-4, rtol=1e-3)
    by_index = _rates(judge_control(OTHER, _measured(world, shuffled), [null], NOBODY))
    assert by_index[1]["share"] < 0.05
    assert _rates(judge_control(OTHER, matched, [null], NOBODY))[1]["share"] > 0.9


def _with(kind, **fields):
    """One that has only these of its fields."""
    made = object.__new__(kind)
    for name, value in fields.items():
        with suppress(AttributeError):  # a property of those that are set
            object.__setattr__(made, name, value)
    return made


def test_latents_that_a_control_lost_are_not_read_by_the_reference(null):
    """Twenty latents point anywhere: the reference itself would find them where they were."""
    world = World(WorldConfig(n_documents=80))
    blocks, base = assign_blocks(world.doc), world.base()
    x, rows = base.x.numpy(), base.sae.W_dec.detach().numpy().copy()
    rows[:20] = np.random.default_rng(99).normal(size=rows[:20].shape)
    rows[:20] /= np.linalg.norm(rows[:20], axis=1, keepdims=True)
    weights = resample_weights(blocks.n_blocks, 100)
    strata = np.zeros(len(x), int)
    bench = _with(Bench, x=x, blocks=blocks, weights=weights, strata=strata)
    steady, before = np.ones(len(rows), bool), through(bench, base.sae, x)
    reference = _with(Reference, dictionary=base.sae, n=len(rows), continued=before, steady=steady)
    fates = decide(lay_control(bench, reference, AGAIN, dictionary_of(rows)), null, NOBODY)["fate"]
    assert not (fates[:20] == "preserved").any()
    assert (fates[20:] == "preserved").mean() > 0.8


def test_latents_without_a_match_come_last():
    z = _fires(4, [0], [1], [2], [3])
    found = _reordered(_firing(z, np.eye(4)), np.array([2, 0]))
    assert found.rows.argmax(axis=1).tolist() == [2, 0, 1, 3]
    assert found.z.toarray().argmax(axis=0).tolist() == [2, 0, 1, 3]


def test_the_null_that_moved_least_comes_first_and_none_twice(world, null):
    table = _measured(world, world[3][2])
    nulls = [Null(name, far, null.edges, null.bins, null.values) for name, far in MOVED.items()]
    found = judge_control(AGAIN, table, nulls, NOBODY, [nulls[0], nulls[0], nulls[1]])
    assert list(found.errors) == ["near", "far"]
    assert judge_control(AGAIN, table, [], NOBODY).errors == {}


MOVED = {"far": 0.9, "near": 0.2, "middle": 0.5}
TOLD = {"hook": "blocks.1.hook_resid_post", "model_sha256": "ab"}


def _written(folder, rows, **told):
    made = dictionary_of(np.asarray(rows, float))
    sae.write(folder, made, {**TOLD, **told})
    return made


def test_what_is_no_control_is_refused(tmp_path):
    base = _written(tmp_path / "base", np.eye(2, 3))
    reference = _written(tmp_path / "reference", [[1, 0.1, 0], [0, 1, 0]])

    def opened(name):
        return open_control(Control(name, tmp_path / name, False), (base, TOLD), reference)

    _written(tmp_path / "fine", [[1, 0, 0.1], [0, 1, 0], [0, 0, 1]])
    assert torch.equal(opened("fine").W_dec[1], torch.tensor([0.0, 1, 0]))
    _written(tmp_path / "hook", np.eye(2, 3), hook="blocks.0.hook_resid_post")
    _written(tmp_path / "model", np.eye(2, 3), model_sha256="cd")
    _written(tmp_path / "wide", np.eye(2, 4))
    _written(tmp_path / "few", np.eye(1, 3))
    for name, error, said in (
        ("hook", ConfigError, r"hook blocks\.0\.hook_resid_post, not blocks\.1"),
        ("model", ConfigError, "model_sha256 cd, not ab"),
        ("wide", ConfigError, "width 4, not 3"),
        ("few", InputError, "1 latents for 2 in the base's"),
        ("reference", ConfigError, r"cannot differ; do: continue it with another --train\.seed"),
        ("nothing", InputError, "nothing"),
    ):
        with pytest.raises(error, match=said):
            opened(name)
