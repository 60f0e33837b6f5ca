"""cache.py: what was harvested is what is read, or the damaged file is named."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from sae.errors import ConfigError, InputError
from sae.stream.activations import HookPoint, harvest
from sae.stream.cache import ActivationCache, save_cache, write_cache
from sae.stream.tokens import tokenize

HOOK = HookPoint(1, "resid_post")


@pytest.fixture(scope="module")
def text(documents, tiny_tokenizer):
    return tokenize(documents, tiny_tokenizer)


@pytest.fixture
def cache(tmp_path, tiny_model, text):
    return write_cache(tmp_path / "cache", tiny_model, text, HOOK, shard_tokens=100)


def test_what_is_read_is_what_was_harvested(cache, tiny_model, text):
    whole = torch.cat([found[HOOK] for _, found in harvest(tiny_model, text, [HOOK])])
    again = ActivationCache.open(cache.path)
    read = torch.cat([again.shard(i) for i in range(again.n_shards)])
    assert torch.equal(read, whole)
    assert (again.n_tokens, again.d_in, again.hook) == (text.n_tokens, 16, HOOK)
    plain = again.tokens.assign(is_outlier=False)
    pd.testing.assert_frame_equal(plain, text.table)
    rows = again.rows(2)
    assert (rows.start, rows.stop) == (200, 300)
    assert torch.equal(again.shard(2), whole[rows])
    sizes = [shard["n"] for shard in again.manifest["shards"]]
    assert sizes[:-1] == [100] * (len(sizes) - 1)
    assert sum(sizes) == text.n_tokens


def test_shards_that_divide_evenly_leave_no_empty_one(tmp_path, tiny_model, text):
    n = text.n_tokens
    cache = write_cache(tmp_path / "cache", tiny_model, text, HOOK, shard_tokens=n // 4)
    assert [shard["n"] for shard in cache.manifest["shards"]] == [n // 4] * 4
    cache = write_cache(tmp_path / "cache", tiny_model, text, HOOK, shard_tokens=10**9)
    assert [shard["n"] for shard in cache.manifest["shards"]] == [n]


def test_the_manifest_names_what_it_came_from(cache, tiny_model, text):
    manifest = json.loads((cache.path / "manifest.json").read_text())
    assert manifest["model"] == "LlamaForCausalLM"
    assert manifest["revision"] is None
    assert manifest["hook"] == "blocks.1.hook_resid_post"
    assert manifest["dtype"] == "float32"
    assert manifest["tokens_sha256"] == text.sha256
    assert manifest["weights_sha256"] == tiny_model.weights_sha256
    assert manifest["tokenizer_sha256"] == tiny_model.tokenizer_hash


def test_outliers_are_marked_over_the_whole_text(tmp_path, tiny_model, text, monkeypatch):
    token = text.table["token_id"].iloc[5]
    embedding = tiny_model.module.get_input_embeddings().weight
    monkeypatch.setattr(embedding, "data", embedding.data.clone())
    embedding.data[token] *= 100
    hook = HookPoint(0, "resid_pre")
    few = text.between(0, 2)  # a shard a token, so that no shard could tell by itself
    tokens = write_cache(tmp_path / "cache", tiny_model, few, hook, shard_tokens=1).tokens
    assert tokens["is_outlier"].any()
    assert (tokens["is_outlier"] == (tokens["token_id"] == token)).all()


@pytest.mark.parametrize("name", ["shard-00003.safetensors", "tokens.parquet"])
def test_one_changed_byte_is_found_and_the_file_named(cache, name):
    path = cache.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=name):
        read_all(cache.path)
    path.unlink()
    with pytest.raises(InputError, match=name):
        read_all(cache.path)


def read_all(path):
    cache = ActivationCache.open(path)
    return [cache.shard(i) for i in range(cache.n_shards)]


def test_damage_leaves_the_other_shards_readable(cache):
    (cache.path / "shard-00003.safetensors").write_bytes(b"")
    cache.shard(2)
    with pytest.raises(InputError, match="shard-00003"):
        cache.shard(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "schema None"),
        ('{"schema": "forelimb.activations/9"}', r"activations/9.*activations/1"),
        ('{"schema": "forelimb.activations/1", "hook": "x"}', r"without d_in, dtype"),
    ],
)
def test_a_foreign_manifest_is_an_input_error(cache, content, message):
    (cache.path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        ActivationCache.open(cache.path)
    assert "manifest.json" in str(caught.value) or "cache" in str(caught.value)


def edited(cache, **changes):
    (cache.path / "manifest.json").write_text(json.dumps({**cache.manifest, **changes}))
    return cache.path


def test_counts_must_agree(cache):
    path = edited(cache, n_tokens=7)
    with pytest.raises(InputError, match="counts of tokens"):
        ActivationCache.open(path)
    path = edited(cache, d_in=8)
    with pytest.raises(InputError, match=r"shard-00000.*\(100, 16\) for \(100, 8\)"):
        ActivationCache.open(path).shard(0)


def test_no_cache_there(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json"):
        ActivationCache.open(tmp_path)


def test_a_folder_of_something_else_is_not_overwritten(tmp_path, tiny_model, text):
    (tmp_path / "thesis.tex").touch()
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ConfigError, match="not a cache"):
            write_cache(path, tiny_model, text, HOOK)
    assert (tmp_path / "thesis.tex").exists()


def test_a_harvest_that_fails_leaves_the_old_cache(cache, tiny_model, text):
    before = {entry.name for entry in cache.path.parent.iterdir()}
    with pytest.raises(ConfigError, match="nearest"):
        write_cache(cache.path, tiny_model, text, HookPoint(9, "resid_pre"))
    assert {entry.name for entry in cache.path.parent.iterdir()} == before
    read_all(cache.path)


LABELS = {"doc": "a", "token_id": 0, "token": "x", "role": "narrator", "persona": "none"}
SAID = {"model": "mine", "hook": "blocks.0.hook_resid_post"}


def labelled(n):
    return pd.DataFrame({"pos": range(n)}).assign(**LABELS, context="story", split="fit")


def test_vectors_from_anywhere_make_a_cache(tmp_path):
    x = torch.arange(12.0).view(6, 2)
    x[5] *= 1000
    cache = save_cache(tmp_path / "c", x.split(4), labelled(6), SAID)
    assert (cache.n_shards, cache.d_in, str(cache.hook)) == (2, 2, SAID["hook"])
    assert torch.equal(torch.cat([cache.shard(0), cache.shard(1)]), x)
    assert cache.tokens["is_outlier"].tolist() == [False] * 5 + [True]
    assert not cache.tokens["is_special"].any()
    assert cache.manifest["tokens_sha256"] == cache.manifest["table_sha256"]


@pytest.mark.parametrize(
    ("shards", "why"),
    [
        ([torch.ones(5, 2)], "5 vectors of widths [2] for 6 tokens"),
        ([torch.ones(3, 2), torch.ones(3, 4)], "widths [2, 4]"),
        ([torch.full((6, 2), float("nan"))], "NaN or infinite"),
    ],
)
def test_vectors_that_do_not_fit_leave_nothing(shards, why, tmp_path):
    with pytest.raises(InputError, match=re.escape(why)):
        save_cache(tmp_path / "c", shards, labelled(6), SAID)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"model": "mine"}, "said without hook"),
        ({}, "said without hook, model"),
        (SAID | {"hook": " "}, "said with hook ' ', not a non-empty string"),
        (SAID | {"model": None}, "said with model None, not a non-empty string"),
        (SAID | {"seen": {1, 2}}, "set is not JSON serializable"),
    ],
)
def test_what_open_would_refuse_leaves_the_old_cache(said, why, tmp_path):
    path = save_cache(tmp_path / "c", [torch.ones(2, 3)], labelled(2), SAID).path
    drawn = []
    shards = (drawn.append(x) or x for x in [torch.zeros(2, 3)])
    with pytest.raises(InputError, match=re.escape(why)) as caught:
        save_cache(path, shards, labelled(2), said)
    assert drawn == []
    assert str(path) in str(caught.value)
    assert caught.value.do.startswith("give said")
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
    assert torch.equal(read_all(path)[0], torch.ones(2, 3))
    if not {"model", "hook"} <= said.keys():
        assert caught.value.do == "give said model and hook"


def test_a_cache_of_no_tokens_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "new" / "c"
    with pytest.raises(InputError, match="a table of no tokens"):
        save_cache(path, [torch.ones(0, 3)], labelled(0), SAID)
    assert not list(tmp_path.iterdir())


def test_a_manifest_may_be_said_again_for_other_vectors(tmp_path):
    said = {**save_cache(tmp_path / "a", [torch.ones(2, 3)], labelled(2), SAID).manifest}
    again = save_cache(tmp_path / "b", [torch.ones(2, 4)], labelled(2), said | {"schema": "x"})
    assert (again.manifest["schema"], again.d_in) == (said["schema"], 4)


@pytest.mark.parametrize(
    ("shards", "number", "found"),
    [
        ([np.ones((2, 3), np.float32)], 0, "a numpy.ndarray of shape (2, 3)"),
        (np.ones((2, 3)), 0, "a numpy.ndarray of shape (3,)"),
        (torch.ones(2, 3), 0, "a torch.float32 tensor of shape (3,)"),
        ([torch.ones(1, 3), torch.ones(3)], 1, "a torch.float32 tensor of shape (3,)"),
        ([torch.ones(1, 2, 3)], 0, "a torch.float32 tensor of shape (1, 2, 3)"),
        ([torch.tensor(1.0)], 0, "a torch.float32 tensor of shape ()"),
        ([torch.ones(2, 0)], 0, "a torch.float32 tensor of shape (2, 0)"),
        ([torch.ones(1, 3), torch.ones(1, 3).int()], 1, "a torch.int32 tensor of shape (1, 3)"),
        ([torch.ones(2, 3, dtype=torch.complex64)], 0, "a torch.complex64 tensor of"),
        ([torch.ones(2, 3).to_sparse()], 0, "a sparse torch.float32 tensor of shape (2, 3)"),
        ([[[1.0, 2.0]]], 0, "a list"),
        ([torch.tensor([[1.0, float("inf")]])], 0, "NaN or infinite"),
        ([torch.full((2, 2), 1e39, dtype=torch.float64)], 0, "NaN or infinite vectors as float32"),
    ],
)
def test_a_shard_that_is_none_is_named(shards, number, found, tmp_path):
    path = save_cache(tmp_path / "c", [torch.ones(2, 3)], labelled(2), SAID).path
    with pytest.raises(InputError, match=re.escape(found)) as caught:
        save_cache(path, iter(shards), labelled(2), SAID)
    assert caught.value.asked == f"shard {number} for {path}"
    if "NaN" not in found:
        do = "give floating vectors [n, d_in] as tensors, and wrap a lone tensor in a list"
        assert caught.value.do == do
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
    read_all(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("grad", [False, True])
def test_floating_vectors_of_any_width_are_kept_as_float32(dtype, grad, tmp_path):
    x = torch.tensor([[1.5, -2.0], [0.25, 3.0], [4.0, 4.0], [512.0, 1.0]], dtype=dtype)
    given = x.clone().requires_grad_(grad)
    shards = [given[:0], given.T[:, :3].T, given[3:]]  # an empty and an uneven one among them
    cache = save_cache(tmp_path / "c", shards, labelled(4), SAID)
    read = torch.cat(read_all(cache.path))
    assert (read.dtype, read.requires_grad) == (torch.float32, False)
    assert torch.equal(read, x.float())
    assert cache.tokens["is_outlier"].tolist() == [False] * 3 + [True]
