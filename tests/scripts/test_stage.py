"""Stages: skipped when done, redone after a change, never taken for done when interrupted."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sae.errors import ConfigError, InputError
from scripts._stage import PROVENANCE, SCHEMA, changes, fingerprint, git_commit, require_own, stage


@dataclass(frozen=True)
class Config:
    """A config with a path, a tuple and a seed."""

    out: Path
    sizes: tuple[int, ...] = (1, 2)
    seed: int = 7


@pytest.fixture
def config(tmp_path):
    return Config(tmp_path / "out")


def counted(config, inputs, calls):
    def work():
        calls.append(1)
        (config.out / "artefact.txt").write_text("made")
        return {"n_tokens": 5}

    return stage(config.out, inputs, config, work)


def test_a_stage_is_done_once(config, capsys):
    calls = []
    assert counted(config, {"text": "aa"}, calls)
    assert not counted(config, {"text": "aa"}, calls)
    assert len(calls) == 1
    assert capsys.readouterr().err == f"forelimb: {config.out} is up to date\n"


def test_a_changed_input_or_config_does_it_again_and_is_named(config, capsys):
    calls = []
    counted(config, {"text": "aa"}, calls)
    counted(config, {"text": "bb", "model": "cc"}, calls)
    assert "for a change in input model, input text" in capsys.readouterr().err
    counted(replace(config, seed=8), {"text": "bb", "model": "cc"}, calls)
    assert capsys.readouterr().err.endswith("for a change in seed\n")
    assert len(calls) == 3


def test_what_another_command_made_is_not_made_anew(config, monkeypatch):
    calls = []
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "scripts.fit_dictionary", "--seed", "7"])
    counted(config, {"text": "aa"}, calls)
    other = ["python", "-m", "scripts.convert_dictionary", "scripts.fit_dictionary"]
    monkeypatch.setattr("sys.orig_argv", other)
    with pytest.raises(ConfigError, match="what fit_dictionary made"):
        counted(config, {"text": "bb"}, calls)
    assert (config.out / PROVENANCE).exists() and len(calls) == 1
    assert not counted(config, {"text": "aa"}, calls)  # up to date for whoever asks
    monkeypatch.setattr("sys.orig_argv", ["python", "/x/scripts/fit_dictionary.py"])
    assert counted(config, {"text": "bb"}, calls)


def test_provenance_says_where_the_folder_came_from(config):
    counted(config, {"text": "aa"}, [])
    record = json.loads((config.out / PROVENANCE).read_text())
    assert list(record) == [
        "schema", "command", "config", "inputs", "git", "versions", "seeds",
        "start_utc", "end_utc", "seconds", "facts", "artefact",
    ]  # fmt: skip
    assert record["schema"] == SCHEMA
    assert record["config"] == {"out": str(config.out), "sizes": [1, 2], "seed": 7}
    assert record["seeds"] == {"seed": 7}
    assert record["facts"] == {"n_tokens": 5}
    assert record["start_utc"] <= record["end_utc"]
    assert record["start_utc"].endswith("+00:00")
    assert record["versions"]["torch"]
    assert set(record["git"]) == {"commit", "dirty"}


def test_an_interrupted_stage_is_not_taken_for_done(config):
    counted(config, {"text": "aa"}, [])

    def breaks():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        stage(config.out, {"text": "bb"}, config, breaks)
    assert not (config.out / PROVENANCE).exists()
    assert counted(config, {"text": "aa"}, [])


def test_changes_are_told_without_doing_anything(config):
    assert changes(config.out, {}, config) is None
    counted(config, {"text": "aa"}, [])
    assert changes(config.out, {"text": "aa"}, config) == []
    assert changes(config.out, {"text": "bb"}, replace(config, seed=1)) == ["input text", "seed"]


def test_a_failure_before_anything_is_written_leaves_no_folder(tmp_path):
    def breaks():
        raise InputError("text", "none", "give some")

    (tmp_path / "here").mkdir()
    for out in (tmp_path / "here" / "a" / "b", tmp_path / "here"):
        with pytest.raises(InputError):
            stage(out, {}, {}, breaks)
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_a_folder_of_other_things_is_not_written_to(tmp_path):
    require_own(tmp_path / "new", "a cache", "manifest.json")
    require_own(tmp_path, "a cache", "manifest.json")
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match=r"a folder of other things \(thesis.tex\); do: choose"):
        require_own(tmp_path, "a cache", "manifest.json")
    with pytest.raises(ConfigError, match="found: a file"):
        require_own(tmp_path / "thesis.tex", "a cache", "manifest.json")
    (tmp_path / "manifest.json").write_text("{}")
    require_own(tmp_path, "a cache", "manifest.json")


def test_the_commit_is_that_of_the_provenance(config):
    counted(config, {}, [])
    assert json.loads((config.out / PROVENANCE).read_text())["git"]["commit"] == git_commit()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "other/1"}'])
def test_a_damaged_or_foreign_provenance_counts_as_none(config, text):
    counted(config, {"text": "aa"}, [])
    (config.out / PROVENANCE).write_text(text)
    assert counted(config, {"text": "aa"}, [])


def test_what_the_work_wrote_as_provenance_is_kept(config):
    def work():
        (config.out / PROVENANCE).write_text('{"hook": "blocks.0.hook_resid_post"}')

    stage(config.out, {}, config, work)
    record = json.loads((config.out / PROVENANCE).read_text())
    assert record["artefact"] == {"hook": "blocks.0.hook_resid_post"}
    assert not stage(config.out, {}, config, work)


def test_fingerprint_is_of_names_and_contents(tmp_path):
    folder = tmp_path / "a"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.txt").write_text("1")
    first = fingerprint(folder)
    (folder / PROVENANCE).write_text("any time")
    for state in (folder / "state", folder / "sub" / "state"):
        (state / "parts").mkdir(parents=True)
        (state / "parts" / "moments").write_text("any")
    assert fingerprint(folder) == first
    (folder / "sub" / "x.txt").rename(folder / "sub" / "y.txt")
    second = fingerprint(folder)
    (folder / "sub" / "y.txt").write_text("2")
    assert len({first, second, fingerprint(folder), fingerprint(folder / "sub" / "y.txt")}) == 4


def test_a_manifest_stands_for_its_folder(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    first = fingerprint(tmp_path)
    (tmp_path / "shard-00000.safetensors").write_bytes(b"x")
    assert fingerprint(tmp_path) == first == fingerprint(tmp_path / "manifest.json")


def test_nothing_has_no_fingerprint(tmp_path):
    with pytest.raises(InputError, match="nothing there"):
        fingerprint(tmp_path / "absent")
