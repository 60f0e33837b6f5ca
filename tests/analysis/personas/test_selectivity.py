import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from analysis.personas.selectivity import auroc, auroc_interval, strata_of, stratified_auroc
from analysis.statistics.intervals import Blocks, assign_blocks


def _by_pairs(score, positive, strata):
    wins = pairs = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive & (strata == strata[i])):
            pairs += 1
            wins += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
    return wins / pairs if pairs else np.nan


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_dense_and_sparse_agree_with_counting_pairs(seed):
    rng = np.random.default_rng(seed)
    z = np.round(np.maximum(rng.normal(size=(60, 3)), 0), 1)
    persona = rng.integers(0, 4, 60)
    strata = rng.integers(0, 5, 60)
    one_hot = persona[:, None] == np.arange(4)
    bulk = stratified_auroc(sparse.csr_array(z), one_hot, strata)
    for latent in range(3):
        for p in range(4):
            expected = _by_pairs(z[:, latent], one_hot[:, p], strata)
            assert bulk[latent, p] == pytest.approx(expected, nan_ok=True)
            assert auroc(z[:, latent], one_hot[:, p], strata) == pytest.approx(
                expected, nan_ok=True
            )


def test_one_stratum_is_sklearns_auroc():
    rng = np.random.default_rng(0)
    positive = rng.random(500) < 0.3
    score = np.round(rng.normal(size=500) + positive, 1)
    score[score < 0.5] = 0
    expected = roc_auc_score(positive, score)
    one = np.zeros(500, int)
    assert auroc(score, positive, one) == pytest.approx(expected)
    bulk = stratified_auroc(sparse.csr_array(score[:, None]), positive[:, None], one)
    assert bulk[0, 0] == pytest.approx(expected)


def test_a_latent_that_knows_only_the_word_scores_one_half():
    """The persona decides which words are said; the latent only reads the word."""
    rng = np.random.default_rng(0)
    persona = rng.integers(0, 2, 20_000)
    word = np.where(rng.random(20_000) < 0.8, persona, 1 - persona)
    score = word + 0.1 * rng.normal(size=20_000)
    positive = persona == 1
    assert roc_auc_score(positive, score) > 0.75
    tokens = pd.DataFrame({"token_id": word, "context": "story", "pos": 5})
    assert auroc(score, positive, strata_of(tokens)) == pytest.approx(0.5, abs=0.01)


def test_a_latent_that_knows_only_the_kind_of_document_scores_one_half():
    rng = np.random.default_rng(1)
    persona = rng.integers(0, 2, 20_000)
    context = np.where(rng.random(20_000) < 0.8, persona, 1 - persona)
    tokens = pd.DataFrame({"token_id": 7, "context": context.astype(str), "pos": 5})
    score = context + 0.1 * rng.normal(size=20_000)
    assert auroc(score, persona == 1, strata_of(tokens)) == pytest.approx(0.5, abs=0.01)


def test_position_buckets_are_powers_of_two():
    tokens = pd.DataFrame({"token_id": 1, "context": "c", "pos": [0, 1, 2, 3, 6, 7]})
    assert strata_of(tokens).tolist() == [0, 1, 1, 2, 2, 3]


def test_a_persona_without_matched_pairs_is_not_a_number():
    z = sparse.csr_array(np.ones((3, 1)))
    persona = np.array([[True, False], [True, False], [False, False]])
    assert np.isnan(stratified_auroc(z, persona, np.arange(3))).all()
    blocks = Blocks(np.arange(3), 3)
    assert np.isnan(auroc_interval(np.ones(3), persona[:, 1], np.zeros(3, int), blocks).p_value)
    assert np.isnan(auroc(np.ones(3), persona[:, 0], np.arange(3)))


def test_a_dead_latent_scores_one_half():
    z = sparse.csr_array((4, 2))
    persona = np.array([[True], [False], [True], [False]])
    assert stratified_auroc(z, persona, np.zeros(4, int)).tolist() == [[0.5], [0.5]]


def _documents(rng, n_documents=160, length=40, n_personas=4):
    """Latent with a document effect and no persona; personas belong to whole documents."""
    document = np.repeat(np.arange(n_documents), length)
    persona = np.repeat(rng.integers(0, n_personas, n_documents), length)
    effect = np.repeat(rng.normal(size=n_documents), length)
    score = np.maximum(effect + 0.5 * rng.normal(size=len(document)), 0)
    return document, persona, score, rng.integers(0, 10, len(document))


def test_p_values_are_uniform_when_documents_differ_but_personas_do_not():
    rng = np.random.default_rng(5)
    p_values, covered = [], 0
    for seed in range(300):
        document, persona, score, strata = _documents(rng)
        found = auroc_interval(score, persona == 0, strata, assign_blocks(document, 64, seed))
        p_values.append(found.p_value)
        covered += found.low <= 0.5 <= found.high
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert covered / 300 >= 0.915


def test_three_documents_cannot_confirm_a_persona():
    document, _, _, strata = _documents(np.random.default_rng(6))
    positive = document < 3
    found = auroc_interval(positive.astype(float), positive, strata, assign_blocks(document))
    assert found.auroc == 1.0
    assert found.p_value >= 0.125


def test_a_perfect_latent_in_many_documents_is_confirmed():
    document, persona, _, strata = _documents(np.random.default_rng(7))
    positive = persona == 0
    found = auroc_interval(positive.astype(float), positive, strata, assign_blocks(document))
    assert (found.auroc, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p_value < 1e-6
    silent = auroc_interval(np.zeros(len(document)), positive, strata, assign_blocks(document))
    assert (silent.auroc, silent.p_value) == (0.5, 1.0)
