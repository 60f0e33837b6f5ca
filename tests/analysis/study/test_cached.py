"""cached.py: caches that do not belong together, or are too little to trace, are refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.fates.subjects import Subject
from analysis.study.cached import CachesConfig, caches_of, tokens_of
from analysis.study.opened import open_caches
from sae.errors import ConfigError, InputError
from sae.stream.cache import ActivationCache, save_cache

N_DOCUMENTS, LENGTH = 36, 5
SAID = {"model": "mine", "hook": "blocks.0.hook_resid_post"}


@pytest.fixture
def table():
    """36 documents of 5 tokens, a third of each split; personas a and b."""
    number = np.repeat(np.arange(N_DOCUMENTS), LENGTH)
    return pd.DataFrame(
        {
            "doc": [f"d{each}" for each in number],
            "pos": np.tile(np.arange(LENGTH), N_DOCUMENTS),
            "token_id": 0,
            "token": "x",
            "role": "narrator",
            "persona": np.where(number // 3 % 2, "a", "b"),
            "context": "story",
            "split": np.array(["fit", "select", "confirm"])[number % 3],
        }
    )


@pytest.fixture
def write(tmp_path):
    def written(name, tokens, **said):
        draw = torch.Generator().manual_seed(sum(map(ord, name)))
        x = torch.randn(len(tokens), 4, generator=draw)
        return save_cache(tmp_path / name, [x], tokens, SAID | said).path

    return written


@pytest.fixture
def config(write, table, tmp_path):
    """What is asked of caches over a table: of base, tuned, null and held."""

    def of(tokens=table):
        base, *others = (write(each, tokens) for each in ("base", "tuned", "null", "held"))
        tuned, null, held = [(Subject(each.name, str(each)),) for each in others]
        folders = tmp_path / "dictionary", tmp_path / "continued"
        return CachesConfig(base, *folders, tuned, null, held)

    return of


def test_caches_that_suffice_are_given_by_name(config):
    caches = caches_of(config())
    assert list(caches) == ["base", "tuned", "null", "held"]
    assert all(each.path.name == name for name, each in caches.items())


@pytest.mark.parametrize("which", ["base", "other"])
def test_another_hook_is_refused_and_so_is_none(which, write, table):
    paths = [write(each, table) for each in ("base", "other")]
    with pytest.raises(InputError, match=r"hook blocks\.1\.hook_resid_post, not blocks\.0\."):
        open_caches(paths[0], [write("third", table, hook="blocks.1.hook_resid_post")])
    path = (paths[0] if which == "base" else paths[1]) / "manifest.json"
    for hook in ({"hook": None}, {}):
        manifest = json.loads(path.read_text())
        del manifest["hook"]
        path.write_text(json.dumps(manifest | hook))
        with pytest.raises(InputError, match="hook"):
            open_caches(paths[0], paths[1:])
        path.write_text(json.dumps(manifest | SAID))


def test_a_document_in_two_splits_is_named(write, table):
    tokens = table.assign(split=table["split"].mask(table.index == 3 * LENGTH, "confirm"))
    paths = [write(each, tokens) for each in ("base", "other")]
    with pytest.raises(InputError, match="document d3 in splits confirm and fit"):
        open_caches(paths[0], paths[1:])


@pytest.mark.parametrize("name", ["doc", "pos", "token_id", "role", "context", "split"])
def test_a_token_without_a_label_that_sorts_it_is_refused(name, write, table):
    tokens = table.assign(**{name: table[name].astype(object).mask(table.index % 7 == 4, None)})
    paths = [write(each, tokens) for each in ("base", "other")]
    with pytest.raises(InputError, match=f"no {name} for 26 tokens, first 4;"):
        open_caches(paths[0], paths[1:])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("pos", "0", "pos of .* values"),
        ("pos", 0.5, "pos of float64 values"),
        ("is_special", "no", "is_special with values"),
        ("is_outlier", None, "is_outlier with values"),
    ],
)
def test_a_label_that_is_reckoned_with_is_a_number_or_a_flag(write, table, name, value, said):
    tokens = table.assign(**{name: [value] * len(table)})
    paths = [write(each, tokens) for each in ("base", "other")]
    with pytest.raises(InputError, match=said):
        open_caches(paths[0], paths[1:])


@pytest.mark.parametrize("name", ["persona", "role", "context"])
@pytest.mark.parametrize("value", [1, 0.5, True])
def test_labels_that_are_no_text_are_refused(name, value, write, table):
    """Numbers would never be found again among names, and nothing would be told of them."""
    path = write("base", table.assign(**{name: [value] * len(table)}))
    with pytest.raises(InputError, match=rf"{name} {value}, of type .*; do: write each {name}"):
        open_caches(path, [])


@pytest.mark.parametrize("name", ["is_special", "is_outlier"])
def test_a_cache_written_by_hand_says_which_tokens_do_not_count(name, write, table):
    path = write("base", table)
    tokens = pd.read_parquet(path / "tokens.parquet").drop(columns=name)
    tokens.to_parquet(path / "tokens.parquet")
    manifest = json.loads((path / "manifest.json").read_text())
    digest = hashlib.sha256((path / "tokens.parquet").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest | {"table_sha256": digest}))
    with pytest.raises(InputError, match=f"no column {name}"):
        open_caches(path, [])


def test_a_token_without_a_persona_is_one_without_a_label(config, table):
    tokens = table.assign(persona=table["persona"].mask(table.index % 7 == 4, None))
    assert len(caches_of(config(tokens))) == 4


def test_of_one_name_there_is_one(config, tmp_path):
    asked = config()
    for name in ("base", "tuned"):
        null = Subject(name, asked.nulls[0].path)
        again = CachesConfig(asked.base, tmp_path, tmp_path, asked.tuned, (null,))
        with pytest.raises(ConfigError, match=f"base, tuned, {name}"):
            caches_of(again)


def test_one_cache_of_two_models_is_refused(config, tmp_path):
    asked = config()
    again = Subject("again", asked.nulls[0].path)
    twice = CachesConfig(asked.base, tmp_path, tmp_path, asked.tuned, asked.nulls, (again,))
    with pytest.raises(InputError, match=r"null null beside held back again; found: the same"):
        caches_of(twice)


def test_one_model_in_other_shards_is_that_model(config, table, tmp_path):
    asked = config()
    x = ActivationCache.open(Path(asked.nulls[0].path)).shard(0)
    for name, vectors in (
        ("again", x),
        ("apart", x + 1e-6 * (torch.arange(len(x)) > 170)[:, None]),
    ):
        path = save_cache(tmp_path / name, list(vectors.split(50)), table, SAID).path
        held = (Subject(name, str(path)),)
        parts = asked.tuned, asked.nulls, held
        if name == "again":
            with pytest.raises(InputError, match="the same vectors"):
                caches_of(CachesConfig(asked.base, tmp_path, tmp_path, *parts))
        else:
            assert len(caches_of(CachesConfig(asked.base, tmp_path, tmp_path, *parts))) == 4


def test_eight_documents_are_enough_and_seven_are_not(config, table):
    kept = [f"d{each}" for each in (*range(1, N_DOCUMENTS, 3), *range(2, N_DOCUMENTS, 3))]
    held = table["split"] != "fit"
    plain = table.assign(persona="none")
    few = plain.loc[~held | plain["doc"].isin(["d1", *kept[-7:]])].reset_index(drop=True)
    assert len(caches_of(config(few))) == 4
    fewer = few.loc[few["doc"] != kept[-1]].reset_index(drop=True)
    with pytest.raises(InputError, match="of split select or confirm in .*: 7 documents, .* 8 doc"):
        caches_of(config(fewer))


def test_a_document_of_special_tokens_is_none(config, table):
    held = [f"d{each}" for each in (1, 2, 4, 5, 7, 8, 10, 11)]
    plain = table.assign(persona="none")
    few = plain.loc[plain["split"].eq("fit") | plain["doc"].isin(held)].reset_index(drop=True)
    with pytest.raises(InputError, match="7 documents"):
        caches_of(config(few.assign(is_special=few["doc"] == "d11")))


def test_personas_that_are_told_apart_need_documents_to_confirm_on(config, table):
    """Else the search for persona latents would fail after the fits."""
    few = table["split"].eq("confirm") & ~table["doc"].isin([f"d{each}" for each in (2, 5, 8)])
    tokens = table.assign(persona=table["persona"].mask(few, "none"))
    with pytest.raises(InputError, match="split confirm with a persona in .* 3 documents"):
        caches_of(config(tokens))
    alike = tokens["split"] == "confirm"
    assert len(caches_of(config(tokens.assign(persona=tokens["persona"].mask(alike, "a"))))) == 4


def test_tokens_that_count_are_those_of_splits_or_of_the_others(write, table):
    marked = table.assign(is_special=table["pos"] == 0, is_outlier=table["pos"] == 1)
    cache = ActivationCache.open(write("base", marked))
    kept = tokens_of(cache, ("fit",))
    assert set(marked.loc[kept, "split"]) == {"fit"}
    assert set(marked.loc[kept, "pos"]) == {2, 3, 4}
    others = tokens_of(cache, ("select", "confirm"), is_in=False)
    np.testing.assert_array_equal(kept, others)
    with pytest.raises(InputError, match=r"tokens of split train in .*found: none;"):
        tokens_of(cache, ("train",))
    with pytest.raises(InputError, match="special ones and outliers only"):
        tokens_of(ActivationCache.open(write("b", table.assign(is_special=True))), ("fit",))
