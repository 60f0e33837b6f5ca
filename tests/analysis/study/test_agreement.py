"""Three methods on features that stay, turn and go, known exactly."""

import numpy as np
import pandas as pd
import pytest
import torch

import sae as forelimb
from analysis.latents.bench import lay_vectors, through
from analysis.planted import dictionary_of
from analysis.study.agreement import agreement, by_crosscoder, by_difference, written
from sae.dictionary import Crosscoder, CrosscoderConfig, ReluConfig, Sae, SaeConfig
from sae.errors import ConfigError, InputError

D, N, TOKENS = 60, 24, 16000
TURNED, GONE = (0, 1, 2, 3), (4, 5, 6, 7)


@pytest.fixture(scope="module")
def world():
    """24 features, of which four turn in the tuned model and four are gone."""
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.normal(size=(D, D)))[0].astype(np.float32)
    rows, other = frame[:N], frame[N : 2 * N]
    turned = rows.copy()
    for i in TURNED:
        turned[i] = 0.28 * rows[i] + 0.96 * other[i]
    z = np.where(rng.random((TOKENS, N)) < 0.15, rng.exponential(size=(TOKENS, N)) + 0.5, 0)
    kept = z.copy()
    kept[:, list(GONE)] = 0
    x, y = (
        (a @ b + 0.01 * rng.normal(size=(TOKENS, D))).astype(np.float32)
        for a, b in ((z, rows), (kept, turned))
    )
    table = pd.DataFrame({"doc": np.arange(TOKENS) // 40, "is_special": False, "role": "narrator"})
    table["persona"], table["context"], table["split"] = None, "story", "confirm"
    bench = lay_vectors(table, x, np.zeros(TOKENS, bool))
    fates = pd.DataFrame({"latent": np.arange(N), "persona": None, "origin": "base"})
    fates["fate"], fates["p_value"], fates["q_value"] = "preserved", 0.5, 0.9
    for i, fate in [*((i, "rotated") for i in TURNED), *((i, "lost") for i in GONE)]:
        fates.loc[i, ["fate", "p_value", "q_value"]] = [fate, 1e-4, 1e-3]
    return bench, rows, turned, y, fates


def _crosscoder(rows, turned, left=0.0):
    """Reads the base's half alone, so that it fires as the base's latents do.

    Of what is gone it writes a part, `left`, in the tuned model.
    """
    two = CrosscoderConfig(n_models=2)
    sae = Sae(SaeConfig(2 * D, N, ReluConfig(l1=0.0), crosscoder=two))
    tuned = turned.copy()
    tuned[list(GONE)] = left * rows[list(GONE)]
    with torch.no_grad():
        sae.W_dec.copy_(torch.tensor(np.concatenate([rows, tuned], axis=1)))
        sae.W_enc.zero_()
        sae.W_enc[:D] = torch.tensor(np.linalg.pinv(rows), dtype=torch.float32)
        sae.b_enc.fill_(-0.25)
    return Crosscoder(sae.eval())


def _difference(rows, turned):
    """One latent for each change, in its own direction."""
    moved = [turned[i] - rows[i] for i in TURNED] + [-rows[i] for i in GONE]
    units = np.stack(moved) / np.linalg.norm(moved, axis=1, keepdims=True)
    return dictionary_of(units, threshold=0.0)


def test_every_method_says_what_was_planted(world):
    bench, rows, turned, y, fates = world
    continued = through(bench, dictionary_of(rows), bench.x)
    changed = {*TURNED, *GONE}
    crosscoder = by_crosscoder(bench, continued, y, _crosscoder(rows, turned))
    difference = by_difference(bench, continued, y, _difference(rows, turned))
    for found in (crosscoder, difference):
        assert set(found.loc[found["word"] == "changed", "latent"]) == changed
        assert set(found.loc[found["word"] == "same", "latent"]) == set(range(N)) - changed
    assert np.allclose(crosscoder["score"][list(TURNED)], 0.72, atol=0.02)
    assert np.allclose(crosscoder["score"][list(GONE)], 1, atol=0.02)
    # Along its row a feature that turned lacks 1 - 0.28 of itself, and one that is gone all; the
    # base's latents fire by a quarter less than the features do.
    score = difference["score"]
    assert (score[list(TURNED)] > 0.72**2).all() and (score[list(TURNED)] < 0.9).all()
    assert (score[list(GONE)] > 1).all() and (score[len(changed) :] < 0.02).all()


@pytest.mark.parametrize("left", [0.001, 0.02, 0.05])
def test_a_latent_that_hardly_writes_in_one_model_is_gone_from_it(world, left):
    """How much it has of a latent is what its row writes there, not where that points."""
    bench, rows, turned, y, _ = world
    continued = through(bench, dictionary_of(rows), bench.x)
    found = by_crosscoder(bench, continued, y, _crosscoder(rows, turned, left)).loc[list(GONE)]
    assert set(found["word"]) == {"changed"}
    assert found["nu_reconstruction"].to_numpy() == pytest.approx(left, abs=2e-3)
    assert found["nu_error"].to_numpy() == pytest.approx(0, abs=0.01)


def test_what_a_crosscoder_only_fails_to_write_is_not_gone(world):
    """The tuned model has all of it; the error of its reconstruction says so."""
    bench, rows, turned, _, _ = world
    continued = through(bench, dictionary_of(rows), bench.x)
    crosscoder = _crosscoder(rows, turned, 0.02)
    found = by_crosscoder(bench, continued, bench.x, crosscoder).loc[list(GONE)]
    assert set(found["word"]) == {"undecided"}
    assert found["nu_reconstruction"].to_numpy() == pytest.approx(0.02, abs=2e-3)
    assert (found["nu_error"] > 0.9).all()


def test_what_is_written_is_the_reconstruction_in_units_of_each_model(world, tmp_path):
    """Whatever scales a crosscoder has, and in another unit of the second model."""
    bench, rows, turned, y, _ = world
    plain = _crosscoder(rows, turned, 0.05)
    x, unit = (bench.x[:9000], 4 * y[:9000]), np.array([[1.0], [4.0]])  # chunks that are not whole
    scaled = plain.sae.rescaled(3.0).train()
    with torch.no_grad():
        scaled.layout.balance.copy_(torch.tensor([1.0, 0.25]))
        scaled.b_dec.copy_(torch.linspace(-1, 1, 2 * D))
    forelimb.write(tmp_path, scaled, {})
    again = forelimb.read(tmp_path)[0]
    expected = [each[1].z @ each[1].rows for each in written(plain, (bench.x[:9000], y[:9000]))]
    for each in map(Crosscoder, (scaled, scaled.folded(), again)):
        each.sae.b_enc.data += each.sae.W_enc.T @ each.sae.b_dec  # what b_dec takes off before
        sides, silent = written(each, x), each.decode(torch.zeros(1, N))[0].detach().numpy()
        full = each.decode(each.encode([torch.from_numpy(v) for v in x])).detach().numpy()
        for number, (vectors, firing) in enumerate(sides):
            assert vectors is x[number]
            own = firing.z @ firing.rows
            assert np.allclose(own, full[:, number] - silent[number], atol=1e-4)
            assert np.allclose(own, unit[number] * expected[number], atol=1e-4)


def test_vectors_of_other_tokens_are_refused(world):
    bench, rows, turned, y, _ = world
    with pytest.raises(InputError, match="same tokens of each"):
        written(_crosscoder(rows, turned), (bench.x, y[1:]))


def test_methods_that_agree_correlate_beyond_shuffled_latents(world):
    bench, rows, turned, y, fates = world
    continued = through(bench, dictionary_of(rows), bench.x)
    together = _crosscoder(rows, turned), _difference(rows, turned)
    found = agreement(bench, continued, y, fates, together)
    assert found.latents["latent"].tolist() == list(range(N))
    for row in found.pairs.to_dict("records"):
        assert row["alike"] == 1.0 and row["kappa"] == 1.0 and row["n_both"] == N
        assert row["low"] <= row["correlation"] <= row["high"]
        assert row["correlation"] > row["null_high"] > 0 > row["null_low"]
    silent = fates.assign(q_value=np.nan)
    silent.loc[:1, "q_value"] = 0.5
    few = agreement(bench, continued, y, silent, together)
    assert len(few.latents) == 2 and few.pairs["correlation"].isna().all()


def test_words_apart_have_no_kappa_above_chance(world):
    bench, rows, turned, y, fates = world
    continued = through(bench, dictionary_of(rows), bench.x)
    crossed = fates.assign(fate=np.where(fates["fate"] == "preserved", "lost", "preserved"))
    found = agreement(
        bench, continued, y, crossed, (_crosscoder(rows, turned), _difference(rows, turned))
    )
    assert found.pairs["alike"][0] == 0.0 and found.pairs["kappa"][0] < 0


def test_dictionaries_of_another_width_are_refused(world):
    bench, rows, turned, y, fates = world
    continued = through(bench, dictionary_of(rows), bench.x)
    narrow = dictionary_of(np.eye(3, 4))
    with pytest.raises(ConfigError, match="width 4"):
        agreement(bench, continued, y, fates, (_crosscoder(rows, turned), narrow))
