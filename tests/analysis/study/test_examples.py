import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from analysis.artefact.names import EXAMPLE_COLUMNS, GROUPS
from analysis.report.snippets import TITLES
from analysis.study.examples import ExamplesConfig, examples
from sae.errors import InputError

N_DOCS, LENGTH = 12, 30
LOUD, PIRATE = 0, 2
SMALL = ExamplesConfig(n_top=3, n_other=2, window=4)


@pytest.fixture
def tokens():
    doc = np.repeat([f"doc-{i}" for i in range(N_DOCS)], LENGTH)
    pos = np.tile(np.arange(LENGTH), N_DOCS)
    return pd.DataFrame(
        {
            "doc": doc,
            "pos": pos,
            "token": [f" w{d[4:]}.{p}" for d, p in zip(doc, pos, strict=True)],
            "role": "character",
            "persona": np.where(np.arange(len(doc)) % 60 < 30, "pirate", "sage"),
            "context": "story",
            "is_template": pos < 2,
            "is_special": pos == 0,
            "is_outlier": False,
        }
    )


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    shape = (N_DOCS * LENGTH, 4)
    return [sparse.csr_array(np.maximum(rng.normal(size=shape) - 0.5, 0)) for _ in range(2)]


@pytest.fixture
def table(pair, tokens):
    return examples(*pair, tokens, {LOUD: "pirate", PIRATE: "sage"}, "assistant", SMALL)


def test_the_table_has_its_columns_and_groups(table):
    assert tuple(table) == EXAMPLE_COLUMNS
    assert set(table["tuned"]) == {"assistant"}
    counts = table[table["latent"] == LOUD].groupby("which").size().to_dict()
    assert counts == {"base": 3, "tuned": 3, "near": 2, "silent": 2}


def test_the_first_snippet_holds_the_largest_firing_of_either_model(pair, tokens, table):
    may_peak = ~tokens["is_template"].to_numpy()
    for which, z in zip(("base", "tuned"), pair, strict=True):
        column = z.toarray()[:, LOUD] * may_peak
        first = table[(table["latent"] == LOUD) & (table["which"] == which)].iloc[0]
        peak = tokens.iloc[int(column.argmax())]
        assert (first["doc"], first["pos"], first["rank"]) == (peak["doc"], peak["pos"], 0)


def test_both_models_are_shown_over_the_same_tokens_of_one_document(pair, tokens, table):
    by_place = tokens.reset_index().set_index(["doc", "pos"])
    for row in table.to_dict("records"):
        n = len(row["tokens"])
        assert n == len(row["z_base"]) == len(row["z_tuned"]) <= 2 * SMALL.window + 1
        places = [(row["doc"], row["start"] + i) for i in range(n)]
        assert row["start"] <= row["pos"] < row["start"] + n
        assert by_place.loc[places, "token"].tolist() == row["tokens"]
        index = by_place.loc[places, "index"].to_numpy()
        for column, z in zip(("z_base", "z_tuned"), pair, strict=True):
            np.testing.assert_allclose(row[column], z.toarray()[index, row["latent"]], rtol=1e-6)


def test_a_peak_stands_where_pos_less_start_says_though_places_are_left_out(pair, tokens, table):
    again = examples(*pair, tokens.assign(pos=3 * tokens["pos"]), [LOUD], "assistant", SMALL)
    for row in again.query("which != 'silent'").to_dict("records"):
        assert row["tokens"][row["pos"] - row["start"]].split(".")[1] == str(row["pos"] // 3)


def test_no_peak_is_a_template_token_and_no_document_comes_twice(table):
    assert (table["pos"] >= 2).all()
    assert not table.duplicated(["latent", "which", "doc"]).any()


def test_silent_snippets_are_of_the_persona_and_fire_in_neither_model(table):
    silent = table[table["which"] == "silent"]
    assert set(silent.loc[silent["latent"] == LOUD, "persona"]) == {"pirate"}
    for row in silent.to_dict("records"):
        peak = row["pos"] - row["start"]
        assert row["z_base"][peak] == row["z_tuned"][peak] == 0


def test_the_same_words_are_shown_once(pair, tokens):
    tokens["token"] = [f" w{p}" for p in tokens["pos"]]
    z = np.zeros((len(tokens), 1))
    z[tokens["pos"] == 15] = 1.0
    same = sparse.csr_array(z)
    found = examples(same, same, tokens, [0], "assistant", SMALL)
    assert found.groupby("which").size().to_dict() == {"base": 1, "near": 1, "tuned": 1}


def test_a_latent_that_never_fires_has_no_rows(tokens):
    empty = sparse.csr_array((len(tokens), 3))
    found = examples(empty, empty, tokens, [1], "assistant")
    assert len(found) == 0
    assert tuple(found) == EXAMPLE_COLUMNS


def test_the_table_survives_parquet(table, tmp_path):
    table.to_parquet(tmp_path / "examples.parquet")
    again = pd.read_parquet(tmp_path / "examples.parquet")
    assert [list(each) for each in again["tokens"]] == table["tokens"].tolist()


def test_every_group_has_a_title():
    assert tuple(TITLES) == GROUPS


def test_other_tokens_are_refused(pair, tokens):
    with pytest.raises(InputError, match="run both models on this table, whole"):
        examples(*pair, tokens.iloc[1:], [0], "assistant")
