"""The door of hypotheses: a table, a file, and one line where a trace cannot be read."""

import json

from scripts import judge_hypotheses
from scripts._judging import read_trace


def test_claims_are_judged_and_written(tiny_trace, door, tmp_path):
    given = ["--traces", tiny_trace / "trace", "--out", tmp_path / "o"]
    code, _ = door(judge_hypotheses, *given)
    assert code == 0
    claims = json.loads((tmp_path / "o" / "hypotheses.json").read_text())["claims"]
    assert [each["name"] for each in claims] == [f"H{n}" for n in range(1, 11)]
    words = {"supported", "refuted", "undecided", "not measured"}
    assert {each["verdict"] for each in claims} <= words
    assert all(each["parts"] or each["reason"] for each in claims)


def test_the_base_model_of_a_trace_is_known_by_its_files(tiny_trace):
    read = read_trace(tiny_trace / "trace", "assistant", "piston")
    inputs = json.loads((tiny_trace / "trace" / "provenance.json").read_text())["inputs"]
    assert read.base == inputs["model base"] and len(read.base) == 64


def test_a_folder_that_is_no_trace_is_refused(door, tmp_path):
    (tmp_path / "empty").mkdir()
    code, said = door(judge_hypotheses, "--traces", tmp_path / "empty", "--out", tmp_path / "o")
    assert code != 0
    assert "scripts.trace_personas" in said or "trace_personas wrote" in said
    assert not (tmp_path / "o").exists()
