"""A broken file of a trace folder is one line that names it, whatever is broken."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.artefact.folder import read_parts
from analysis.hypotheses.judge import judge_all
from analysis.hypotheses.parts import Read
from sae.errors import InputError


@pytest.fixture
def folder(new_trace, tmp_path):
    return new_trace(tmp_path)


def spoil(path, **columns):
    """Writes a table anew, with other columns or, for None, without them."""
    table = pd.read_parquet(path)
    gone = [name for name, each in columns.items() if each is None]
    kept = {name: each for name, each in columns.items() if each is not None}
    table.assign(**kept).drop(columns=gone).to_parquet(path)


def refused(folder):
    with pytest.raises(InputError) as caught:
        read_parts(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("column", ["n_fires", "direction", "gating", "p_value"])
def test_a_column_that_was_not_measured_is_null_and_so_are_claims_that_ask_for_it(folder, column):
    spoil(folder / "fates.parquet", **{column: None})
    parts = read_parts(folder)
    assert parts["fates"][column].isna().all()
    judged = judge_all([Read(parts["summary"], parts["fates"])])
    assert len(judged) == 10


@pytest.mark.parametrize("column", ["latent", "fate", "q_value", "persona"])
def test_fates_without_a_column_that_all_ask_for_are_refused(folder, column):
    spoil(folder / "fates.parquet", **{column: None})
    assert f"column '{column}' in" in refused(folder)


@pytest.mark.parametrize("name", ["fates", "traces", "examples"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, "three", True, 1e300], ids=str)
def test_a_latent_is_a_whole_number(folder, name, value):
    spoil(folder / f"{name}.parquet", latent=value)
    found = refused(folder)
    assert "whole numbers in column 'latent'" in found and f"{name}.parquet" in found


def test_whole_numbers_kept_as_floats_are_whole_numbers(folder):
    fates = pd.read_parquet(folder / "fates.parquet")
    spoil(folder / "fates.parquet", latent=fates["latent"].astype(float))
    assert read_parts(folder)["fates"]["latent"].dtype == np.int64


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("fates", "fate", 3),
        ("fates", "tuned", None),
        ("fates", "gating", "far"),
        ("fates", "profile", "other"),
        ("traces", "n_tokens", "many"),
        ("examples", "which", 1.0),
        ("examples", "pos", 0.5),
    ],
)
def test_a_column_holds_what_it_must(folder, name, column, value):
    spoil(folder / f"{name}.parquet", **{column: [value] * len(rows(folder, name))})
    found = refused(folder)
    assert f"column '{column}'" in found and f"{name}.parquet" in found


def rows(folder, name):
    return pd.read_parquet(folder / f"{name}.parquet")


def test_a_column_that_was_not_measured_may_be_empty(folder):
    spoil(folder / "fates.parquet", profile=[None] * len(rows(folder, "fates")))
    assert read_parts(folder)["fates"]["profile"].isna().all()


def test_a_table_of_no_rows_is_one(folder):
    rows(folder, "examples").head(0).to_parquet(folder / "examples.parquet")
    assert len(read_parts(folder)["examples"]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"z_base": [1.0, 2.0]}, "2 activations of 25 tokens"),
        ({"z_tuned": None}, "no lists"),
        ({"z_tuned": ["a"] * 25}, "no numbers"),
        ({"z_base": [np.inf] * 25}, "not finite"),
        ({"start": 41}, "its peak at token -1 of 25"),
        ({"start": 15}, "its peak at token 25 of 25"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_snippet_is_tokens_with_activations_and_a_peak(folder, more, said):
    n = len(rows(folder, "examples"))
    spoil(folder / "examples.parquet", **{name: [each] * n for name, each in more.items()})
    found = refused(folder)
    assert "a snippet in row 0 of" in found and said in found


@pytest.mark.parametrize(
    ("nulls", "said"),
    [
        ({"arms": []}, "key 'arms'"),
        ({"arms": {"assistant": []}}, "key 'arms.assistant'"),
        ({"arms": {"assistant": {"power": {}}}}, "key 'arms.assistant.power'"),
        ({"arms": {"assistant": {"power": [{}]}}}, "key 'arms.assistant.power.0.fire_rate_from'"),
        (
            {"arms": {"assistant": {"power": [{"fire_rate_from": 0, "gain_low": None}]}}},
            "key 'arms.assistant.power.0.direction'",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_null_whose_limits_are_not_there_is_refused(folder, nulls, said):
    (folder / "nulls.json").write_text(json.dumps(nulls))
    found = refused(folder)
    assert said in found and "nulls.json" in found


@pytest.mark.parametrize("nulls", [{}, {"arms": {"assistant": None, "piston": {"power": None}}}])
def test_an_arm_may_have_no_null(folder, nulls):
    (folder / "nulls.json").write_text(json.dumps(nulls))
    assert read_parts(folder)["nulls"] == nulls


@pytest.mark.parametrize("file", ["summary.json", "nulls.json", "provenance.json"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1e999", "larger than any float"),
        ("NaN", "no number"),
        ("-Infinity", "no number"),
        ("9" * 400, "larger than any float"),
        ("9" * 5000, "larger than any float"),
        ("[" * 100_000 + "]" * 100_000, "recursion"),
        ("[" * 200 + "]" * 200, "nested more than 100 deep"),
    ],
    ids=["infinite", "none", "below all", "long", "longer", "deepest", "deep"],
)
def test_json_that_no_one_can_reckon_with_is_refused(folder, file, value, said):
    text = (folder / file).read_text().strip()
    (folder / file).write_text(f'{text[:-1]}, "more": {value}}}')
    found = refused(folder)
    assert said in found and file in found and len(found) < 400
