"""manifest.py: what a cache says of itself is checked, and its files are those of its folder."""

import copy
import json
import re
import shutil

import pandas as pd
import pytest
import torch

from sae.errors import InputError
from sae.stream.cache import ActivationCache, save_cache

LABELS = {"doc": "a", "token_id": 0, "token": "x", "role": "narrator", "persona": "none"}
SAID = {"model": "mine", "hook": "blocks.0.hook_resid_post"}
COUNT = "a whole number, 0 or more"
TEXT = "a non-empty string"
NAME = "the bare name of a file in the folder"


@pytest.fixture
def path(tmp_path):
    tokens = pd.DataFrame({"pos": range(6)}).assign(**LABELS, context="story", split="fit")
    return save_cache(tmp_path / "cache", torch.ones(6, 2).split(3), tokens, SAID).path


def edited(path, change):
    """Writes the manifest anew, as ``change`` leaves it."""
    manifest = copy.deepcopy(dict(ActivationCache.open(path).manifest))
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def refusal(path):
    with pytest.raises(InputError) as caught:
        ActivationCache.open(path)
    assert caught.value.asked == f"activation cache {path}"
    assert str(path / "manifest.json") in caught.value.found
    return caught.value.found


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("d_in", "64", "a whole number above 0"),
        ("d_in", 2.0, "a whole number above 0"),
        ("d_in", True, "a whole number above 0"),
        ("d_in", 0, "a whole number above 0"),
        ("d_in", -2, "a whole number above 0"),
        ("n_tokens", "6", COUNT),
        ("n_tokens", None, COUNT),
        ("n_tokens", -6, COUNT),
        ("n_tokens", float("nan"), COUNT),
        ("dtype", 32, TEXT),
        ("dtype", None, TEXT),
        ("model", None, TEXT),
        ("hook", 3, TEXT),
        ("hook", "", TEXT),
        ("table_sha256", None, TEXT),
        ("table_sha256", ["a"], TEXT),
        ("shards", None, "a list"),
        ("shards", {"0": "a"}, "a list"),
        ("shards", "ab", "a list"),
        ("shards", 2, "a list"),
    ],
)
def test_a_field_of_another_type_is_named(path, field, value, kind):
    edited(path, lambda manifest: manifest.update({field: value}))
    assert f"with {field} {value!r}, not {kind}" in refusal(path)


@pytest.mark.parametrize("shards", [["a", "b"], [None, {}], [1], [[]]])
def test_a_shard_must_be_an_entry(path, shards):
    edited(path, lambda manifest: manifest.update(shards=shards))
    assert f"with shard 0 {shards[0]!r}, not an entry of" in refusal(path)


@pytest.mark.parametrize("field", ["file", "n", "sha256"])
def test_a_shard_without_a_field_is_named(path, field):
    edited(path, lambda manifest: manifest["shards"][1].pop(field))
    assert refusal(path).endswith(f"shard 1 of {path / 'manifest.json'} without {field}")


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("n", -3, COUNT),
        ("n", "3", COUNT),
        ("n", 3.0, COUNT),
        ("sha256", None, TEXT),
        ("file", None, NAME),
        ("file", 7, NAME),
    ],
)
def test_a_field_of_a_shard_of_another_type_is_named(path, field, value, kind):
    edited(path, lambda manifest: manifest["shards"][1].update({field: value}))
    found = refusal(path)
    assert f"shard 1 of {path}" in found
    assert f"with {field} {value!r}, not {kind}" in found


def test_counts_below_zero_do_not_cancel_out(path):
    def change(manifest):
        manifest["shards"][0]["n"], manifest["shards"][1]["n"] = -1, 7

    edited(path, change)
    assert "with n -1" in refusal(path)


def test_a_long_value_is_cut(path):
    edited(path, lambda manifest: manifest.update(d_in="6" * 1000))
    assert len(refusal(path)) < 200 + len(str(path))


@pytest.mark.parametrize(
    "name",
    [
        "../other/shard-00000.safetensors",
        "../../other/shard-00000.safetensors",
        "/etc/passwd",
        "sub/shard-00000.safetensors",
        "./shard-00000.safetensors",
        "..\\shard-00000.safetensors",
        "C:shard-00000.safetensors",
        "..",
        ".",
        "",
        "a\0b",
    ],
)
def test_names_that_leave_the_folder_are_refused(path, name):
    shutil.copytree(path, path.parent / "other")
    shutil.copytree(path, path / "sub")
    edited(path, lambda manifest: manifest["shards"][0].update(file=name))
    assert f"with file {name!r}, not {NAME}" in refusal(path)


def read_all(path):
    cache = ActivationCache.open(path)
    return [cache.shard(i) for i in range(cache.n_shards)]


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "tokens.parquet"])
def test_a_link_is_followed_to_what_has_the_hash_and_to_nothing_else(path, name):
    """As a hub's downloads are, which lie beside the folder."""
    moved = (path / name).rename(path.parent / name)
    (path / name).symlink_to(moved)
    assert len(read_all(path)) == 2
    moved.write_bytes(b"another file")
    with pytest.raises(InputError, match="not what was written"):
        read_all(path)


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "tokens.parquet"])
def test_a_link_that_goes_in_a_circle_is_refused(path, name):
    (path / name).unlink()
    (path / name).symlink_to(path / name)
    with pytest.raises(InputError, match=re.escape(f"file {path / name}")):
        read_all(path)


def test_links_within_the_folder_and_to_it_are_followed(path, monkeypatch):
    moved = (path / "shard-00001.safetensors").rename(path / "kept")
    (path / "shard-00001.safetensors").symlink_to(moved.name)
    link = path.parent / "link"
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    for each in (path, link, "cache", "link"):
        assert len(read_all(each)) == 2


def test_a_file_in_place_of_the_folder_or_a_folder_of_the_manifest(path, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"no manifest\.json"):
        ActivationCache.open(tmp_path / "file")
    (path / "manifest.json").unlink()
    (path / "manifest.json").mkdir()
    assert "Is a directory" in refusal(path)
