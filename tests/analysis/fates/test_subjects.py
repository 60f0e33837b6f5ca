"""Latent scaling of fates where the dictionaries of two models are not as wide."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sae
from analysis.fates.subjects import Seen, Subject, open_continued, with_scaling
from analysis.latents.bench import lay_vectors
from analysis.latents.coordinates import Coordinates
from analysis.latents.traces import Firing
from analysis.statistics.intervals import Interval
from sae.change import Change
from sae.errors import ConfigError, InputError

TOKENS, D, N = 1600, 12, 6


@pytest.fixture(scope="module")
def world():
    """Six inherited features, of which the tuned model has the last by a third; its own is one."""
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(D, D)))[0].astype(np.float32)
    z = rng.exponential(size=(TOKENS, D)) * (rng.random((TOKENS, D)) < 0.2)
    mine, other = z.copy(), z.copy()
    mine[:, 9:], other[:, 5], other[:, N:9] = 0, z[:, 5] / 3, 0
    table = pd.DataFrame({"doc": np.arange(TOKENS) // 40, "is_special": False, "role": "narrator"})
    table["persona"], table["context"], table["split"] = None, "story", "confirm"
    x, y = ((each @ rows).astype(np.float32) for each in (mine, other))
    return lay_vectors(table, x, np.zeros(TOKENS, bool)), rows, (mine, other), y


def _firing(z, rows, kept):
    return Firing(sparse.csr_array(z[:, kept].astype(np.float32)), rows[kept])


def _seen(x, firing):
    none = pd.DataFrame()
    blank = Coordinates(none, {}, *([np.zeros((0, 0))] * 2), *([np.zeros(0, int)] * 2), 0)
    nothing = Change(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.0)
    return Seen("tuned", nothing[0], x, firing, nothing[1], blank, none, none, nothing[1])


@pytest.mark.parametrize("n_added", [0, 1, 3, 6])
def test_inherited_latents_have_their_like_however_many_are_added(world, n_added):
    """The base's dictionary has three added latents, the tuned model's fewer, as many or more."""
    bench, rows, (mine, other), y = world
    added = [9, 10, 11, 6, 7, 8][:n_added]
    continued = _firing(mine, rows, [*range(9)])
    one = _seen(y, _firing(other, rows, [*range(N), *added]))
    fates = pd.DataFrame({"latent": [*range(N), *range(N, N + n_added)]})
    fates["origin"], fates["read_by"] = ["base"] * N + ["tuned"] * n_added, "continued"
    for name in ("nu_error", "nu_reconstruction", "information"):
        fates[name] = np.nan
    found = with_scaling(bench, continued, one, fates)
    assert found[["latent", "origin"]].equals(fates[["latent", "origin"]])
    inherited = found.iloc[:N]
    for name in ("nu_error", "nu_reconstruction"):
        assert inherited[name].to_numpy() == pytest.approx([1] * 5 + [1 / 3], abs=1e-3)
    new = found.iloc[N : N + min(n_added, 3)]
    assert (new[["nu_error", "nu_reconstruction"]].abs() < 1e-3).all(axis=None)


def test_an_inherited_latent_that_the_other_dictionary_lacks_is_read_as_without_a_like(world):
    """All of it is in the error then, since nothing of it is reconstructed."""
    bench, rows, (mine, other), y = world
    one = _seen(y, _firing(other, rows, [*range(N - 1)]))
    fates = pd.DataFrame({"latent": [*range(N)], "origin": "base", "read_by": "continued"})
    found = with_scaling(bench, _firing(mine, rows, [*range(9)]), one, fates)
    assert found["nu_error"].to_numpy() == pytest.approx([1] * 5 + [1 / 3], abs=1e-3)
    assert found["nu_reconstruction"].to_numpy() == pytest.approx([1] * 5 + [0], abs=1e-3)


def test_a_latent_that_the_continued_dictionary_let_go_has_no_like_there(world):
    """What stands at its index fires elsewhere, and is not to be put back into the error."""
    bench, rows, (mine, other), y = world
    one = _seen(y, _firing(other, rows, [1, *range(1, N)]))
    fates = pd.DataFrame({"latent": [*range(N)], "origin": "base", "read_by": "continued"})
    fates.loc[0, "read_by"] = "base"
    found = with_scaling(bench, _firing(mine, rows, [*range(9)]), one, fates)
    assert found["nu_error"].iloc[0] == pytest.approx(1, abs=1e-3)
    assert found["nu_reconstruction"].iloc[0] == pytest.approx(0, abs=0.05)


def test_information_is_what_a_linear_map_predicts_on_the_other_split(world):
    """All of what both models have, at whatever strength, nothing of what one has alone."""
    bench, rows, (mine, other), y = world
    tokens = bench.tokens.assign(split=np.where(bench.tokens["doc"] % 2, "select", "confirm"))
    fates = pd.DataFrame({"latent": [*range(N), 7, N], "origin": ["base"] * (N + 1) + ["tuned"]})
    fates["read_by"] = "continued"
    continued, one = _firing(mine, rows, [*range(9)]), _firing(other, rows, [*range(N), 10, 9, 11])
    found = with_scaling(replace(bench, tokens=tokens), continued, _seen(y, one), fates)
    assert found["information"].iloc[:N].to_numpy() == pytest.approx(1, abs=1e-3)
    assert found["information"].iloc[N:].to_numpy() == pytest.approx(0, abs=0.05)
    assert with_scaling(bench, continued, _seen(y, one), fates)["information"].isna().all()


def test_a_null_without_a_continued_checkpoint_is_an_error_and_does_not_vanish(tmp_path):
    for name in (
        "m/checkpoints/step-1",
        "m/checkpoints/step-2",
        "continued/a",
        "continued/a@step-2",
    ):
        (tmp_path / name).mkdir(parents=True)
    model, folder = str(tmp_path / "m"), tmp_path / "continued"
    assert list(Subject("a", model).rungs(folder)) == ["a@step-2"]
    with pytest.raises(InputError, match="continued on checkpoints of b"):
        Subject("b", model).rungs(folder)


def _written(folder, d_in=4, d_sae=8, **meta):
    sae.write(folder, sae.Sae(sae.SaeConfig(d_in, d_sae, sae.TopKConfig(2))), meta)
    return folder


def test_a_continuation_is_seen_to_be_of_the_model_the_hook_and_the_run(tmp_path, tiny_model):
    shape = sae.SaeConfig(4, 8, sae.TopKConfig(2))
    base, told = sae.Sae(shape), {"hook": "blocks.0.hook_resid_post", "train": {"lr": 0.1}}
    mine = {**told, "model": "m", "model_sha256": tiny_model.weights_sha256}
    right = _written(tmp_path / "right", d_sae=9, **mine)
    assert open_continued(right, base, told, tiny_model)[0].config.d_sae == 9
    wrong = {
        "other weights": {**mine, "model_sha256": "0"},
        "another hook": {**mine, "hook": "blocks.1.hook_resid_post"},
        "another train": {**mine, "train": {"lr": 0.2}},
    }
    for found, meta in wrong.items():
        with pytest.raises(ConfigError, match=found):
            open_continued(_written(tmp_path / found, **meta), base, told, tiny_model)
    for found, sizes in {"width 5, not 4": {"d_in": 5}, "7 latents for 8": {"d_sae": 7}}.items():
        with pytest.raises(InputError, match=found):
            open_continued(_written(tmp_path / found, **sizes, **mine), base, told, tiny_model)


def test_checkpoints_come_in_order_of_training_however_they_are_numbered(tmp_path):
    for name in ("checkpoint-1000", "checkpoint-500", "checkpoint-1500"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert list(Subject("a", str(tmp_path)).checkpoints()) == [
        "a@checkpoint-500",
        "a@checkpoint-1000",
        "a@checkpoint-1500",
    ]
