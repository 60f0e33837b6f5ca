"""The same model agrees with itself, a rewired one does not, and sums are those by hand."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from analysis.latents import effects as module
from analysis.latents.bench import lay_bench
from analysis.latents.causal import Contexts, pushed
from analysis.latents.effects import effects, lay_effects
from analysis.latents.traces import Firing
from sae.errors import ConfigError
from sae.stream.activations import HookPoint
from sae.stream.model import load_model
from sae.stream.tokens import tokenize

HOOK = HookPoint(2, "resid_post")
N = 12


@pytest.fixture(scope="module")
def bench(documents, tiny_tokenizer, tiny_model):
    text = tokenize(documents, tiny_tokenizer)
    return lay_bench(tiny_model, HOOK, text)


@pytest.fixture(scope="module")
def firing(bench):
    """Twelve random directions that fire where the residual vector lies along them."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, bench.x.shape[1])).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    z = (bench.x - bench.x.mean(axis=0)) @ rows.T
    z = np.where(z > np.quantile(z, 0.7, axis=0), z, 0).astype(np.float32)
    z[:, -1] = 0
    return Firing(sparse.csr_array(z), rows)


@pytest.fixture(scope="module")
def base(bench, firing):
    return lay_effects(bench, firing, N, 24)


def rewired(model, row, seed=3):
    """The same model, but along one direction of the residual stream it speaks for other words."""
    twin = copy.deepcopy(model.module)
    along = torch.from_numpy(row) * twin.model.norm.weight.detach()
    along = along / along.norm()
    with torch.no_grad():
        head = twin.lm_head.weight
        speaks = head @ along
        order = torch.randperm(len(speaks), generator=torch.Generator().manual_seed(seed))
        head += (speaks[order] - speaks)[:, None] * along
    return load_model(twin, model.tokenizer)


def test_the_same_model_agrees_with_itself(bench, base, firing, tiny_model):
    found = effects(bench, base, tiny_model, firing)
    assert found.table["effect"].to_numpy()[:-1] == pytest.approx(1.0, abs=1e-5)
    assert found.replicates[:, :-1] == pytest.approx(1.0, abs=1e-5)
    assert found.table.iloc[-1].isna().all()  # the silent one


def test_a_latent_that_is_wired_to_other_words_agrees_no_more(bench, base, firing, tiny_model):
    found = effects(bench, base, rewired(tiny_model, firing.rows[4]), firing).table["effect"]
    assert found[4] < 0.7
    assert found.drop([4, N - 1]).min() > found[4] + 0.2


def test_it_is_the_cosine_of_changed_predictions(bench, base, firing, tiny_model):
    """By passes of whole documents, and log-probabilities less their mean."""
    tuned = rewired(tiny_model, firing.rows[4])
    found = effects(bench, base, tuned, firing)
    for latent in (2, 4):
        mine = base.latent == latent
        rows = np.flatnonzero(bench.counted)[base.row[mine]]
        z = firing.z.toarray()[base.row[mine], latent]
        assert base.dose[latent] == pytest.approx(z.mean(), rel=1e-5)
        along = firing.rows[latent]
        cosines = []
        for push in (-z[:, None] * along, np.tile(base.dose[latent] * along, (len(z), 1))):
            changed = []
            for model in (tiny_model, tuned):
                places = Contexts(bench.text, rows)
                change = pushed(model, HOOK, places, push) - pushed(model, HOOK, places, None)
                changed.append(change - change.mean(axis=1, keepdims=True))
            a, b = changed
            cosines.append((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
        assert found.table["effect"][latent] == pytest.approx(np.mean(cosines), abs=1e-4)


def test_its_interval_comes_of_documents(bench, base, firing, tiny_model):
    found = effects(bench, base, rewired(tiny_model, firing.rows[4]), firing).table
    assert found["effect_low"][4] < found["effect"][4] < found["effect_high"][4]
    assert (found["effect_high"] - found["effect_low"])[4] < 0.6


def test_tokens_on_which_the_tuned_model_is_silent_do_not_count(bench, base, firing, tiny_model):
    z = firing.z.toarray()
    z[base.row[base.latent == 3][module.LEAST - 1 :], 3] = 0
    found = effects(bench, base, tiny_model, Firing(sparse.csr_array(z), firing.rows))
    assert np.isnan(found.table["effect"][3])
    assert found.table["effect"].notna().sum() == N - 2


def test_tokens_are_spread_over_documents(bench, base, firing):
    document = bench.tokens["doc"].to_numpy()
    for latent in range(N - 1):
        mine = base.row[base.latent == latent]
        assert (firing.z.toarray()[mine, latent] > 0).all()
        assert len(np.unique(mine)) == len(mine) <= 24
        fires_in = len(np.unique(document[firing.z.toarray()[:, latent] > 0]))
        assert len(np.unique(document[mine])) == min(fires_in, len(mine))
    again = lay_effects(bench, firing, N, 24)
    assert (again.row == base.row).all()
    assert not np.array_equal(lay_effects(bench, firing, N, 24, seed=1).row, base.row)


def test_of_many_latents_some_are_drawn(bench, firing, monkeypatch):
    monkeypatch.setattr(module, "LATENTS", 5)
    assert len(np.unique(lay_effects(bench, firing, N, 8).latent)) == 5


def test_effects_stand_beside_the_other_coordinates(bench, base, firing, tiny_model):
    from analysis.latents.coordinates import Coordinates

    found = effects(bench, base, tiny_model, firing)
    table = pd.DataFrame({"latent": np.arange(N)})
    apart, counts = np.eye(N, dtype=np.float32), np.zeros(N, int)
    beside = Coordinates(table, {}, apart, apart, counts, counts, 9).beside(found)
    assert beside.table["effect"].equals(found.table["effect"])
    assert beside.replicates["effect"].shape == (len(bench.weights), N)


def test_a_model_that_cannot_be_read_token_by_token_is_refused(
    bench, base, firing, tiny_model, monkeypatch
):
    monkeypatch.setattr("sae.stream.pushed.TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="--effects 0"):
        effects(bench, base, tiny_model, firing)
