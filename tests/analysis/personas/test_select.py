import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from analysis.personas.select import (
    SelectConfig,
    _carried,
    comparable_tokens,
    fire_rates,
    probe,
    score_columns,
    select_personas,
)
from sae.errors import InputError

N_PERSONAS, LENGTH = 4, 30


def _world(n_documents=240, strength=1.5, seed=0):
    """Latents 0..3 carry a persona each; 4..59 have document effects only; 60 reads the word."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(n_documents), LENGTH)
    persona = np.repeat(rng.integers(0, N_PERSONAS, n_documents), LENGTH)
    word = rng.integers(0, 12, len(document))
    z = rng.normal(size=(len(document), 61)) - 0.5
    z += rng.normal(size=(n_documents, 61))[document] * 0.5
    z[:, :4] += strength * (persona[:, None] == np.arange(4))
    z[:, 60] = word == 3
    tokens = pd.DataFrame(
        {
            "doc": document,
            "pos": np.tile(np.arange(LENGTH), n_documents),
            "token_id": word,
            "context": "story",
            "persona": np.array([f"p{i}" for i in range(N_PERSONAS)])[persona],
            "split": np.where(document % 2 == 0, "select", "confirm"),
            "is_template": False,
        }
    )
    return sparse.csr_array(np.maximum(z, 0).astype(np.float32)), tokens


def test_planted_personas_are_found_and_nothing_else_is_confirmed():
    z, tokens = _world()
    found = select_personas(z, tokens)
    best = found[found["rank"] == 1].set_index("persona")["latent"]
    assert best.to_dict() == {"p0": 0, "p1": 1, "p2": 2, "p3": 3}
    assert set(found[found["confirmed"]]["latent"]) == {0, 1, 2, 3}
    top = found[found["rank"] == 1]
    assert ((top["auroc_low"] < top["auroc"]) & (top["auroc"] < top["auroc_high"])).all()
    assert len(found) == 4 * SelectConfig().n_carried


def test_without_personas_the_false_discovery_rate_holds():
    any_confirmed = [
        select_personas(*_world(96, strength=0.0, seed=seed))["confirmed"].any()
        for seed in range(20)
    ]
    assert sum(any_confirmed) <= 4


def test_selection_cannot_borrow_from_confirmation():
    """A latent that knows the select documents by heart is not confirmed."""
    z, tokens = _world(strength=0.0)
    dense = z.toarray()
    memorised = ((tokens["persona"] == "p0") & (tokens["split"] == "select")).to_numpy()
    dense[:, 7] = memorised
    found = select_personas(sparse.csr_array(dense), tokens)
    row = found[(found["persona"] == "p0") & (found["latent"] == 7)].iloc[0]
    assert row["auroc_select"] == 1.0
    assert row["auroc"] == 0.5
    assert not row["confirmed"]


@pytest.mark.parametrize("n_tokens", [44, 52, 55, 60])  # 30 / 44 * 44 is less than 30
def test_a_latent_that_fires_just_often_enough_is_looked_at(n_tokens):
    z = np.zeros((n_tokens, 2), np.float32)
    z[:30, 0], z[:29, 1] = 1, 1
    tokens = pd.DataFrame(
        {"persona": ["a", "b"] * (n_tokens // 2) + ["a"] * (n_tokens % 2), "pos": 0}
    )
    config = SelectConfig(match=(), min_fires=30)
    found = _carried(sparse.csr_array(z), tokens, np.ones(n_tokens, bool), config)
    assert set(found["latent"]) == {0}


def test_template_special_and_unlabelled_tokens_do_not_count():
    z, tokens = _world(40)
    flags = tokens.assign(is_special=tokens["pos"] == 0, is_template=tokens["pos"] == 1)
    flags.loc[flags["pos"] == 2, "persona"] = "none"
    mask = comparable_tokens(flags)
    assert set(flags.loc[mask, "pos"]) == set(range(3, LENGTH))
    assert (flags.loc[comparable_tokens(flags, split="select"), "split"] == "select").all()
    assert fire_rates(z, mask).shape == (61,)


def test_a_split_without_labels_is_an_error():
    z, tokens = _world(40)
    with pytest.raises(InputError, match="confirm split"):
        select_personas(z, tokens.assign(split="select"))


def test_another_label_goes_through_the_same_functions():
    z, tokens = _world()
    renamed = tokens.rename(columns={"persona": "dialect"})
    found = select_personas(z, renamed, SelectConfig(label="dialect", n_carried=1))
    assert found["latent"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_probe_keeps_the_order_of_vectors_far_from_what_it_was_fitted_on(names):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    labels = np.array(list(names), object)[np.arange(300) % len(names)]
    x[:, 0] += 2.0 * (labels == "a")
    scores = probe(x, labels, np.outer([300, 400, 500], [-1, 0, 0, 0]).astype(np.float32))
    assert np.isfinite(scores.to_numpy()).all()
    assert (np.diff(scores["a"]) < 0).all()


def test_probe_finds_a_planted_direction_on_another_split():
    z, tokens = _world()
    x = z.toarray().astype(float) @ np.random.default_rng(1).normal(size=(61, 16))
    fit = comparable_tokens(tokens, split="select")
    held = tokens["split"] == "confirm"
    scores = probe(x[fit], tokens["persona"][fit].to_numpy(), x[held])
    assert list(scores.columns) == ["p0", "p1", "p2", "p3"]
    assert np.allclose(np.exp(scores).sum(axis=1), 1)
    found = score_columns(scores, tokens[held])
    assert (found["auroc_low"] > 0.6).all()
    ideal = pd.DataFrame({p: (tokens.loc[held, "persona"] == p).astype(float) for p in scores})
    assert (score_columns(ideal, tokens[held])["auroc"] == 1).all()
