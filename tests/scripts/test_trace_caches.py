"""Traces from caches alone: a whole folder, and one line for whatever does not fit together."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import sae
from analysis.planted import Pairs, PairsConfig
from sae.errors import InputError
from sae.stream.cache import save_cache
from scripts import trace_caches
from scripts._caching import Caches, Config

SMALL = PairsConfig(
    n_features=48,
    d_in=24,
    n_documents=48,
    document_length=60,
    l0=4.0,
    n_rare=4,
    n_personas=3,
    per_persona=2,
    n_changed=2,
    n_novel=1,
)
FLAGS = ("--train.n_tokens", "40000", "--again.n_tokens", "20000", "--n_added", "4", "--ks", "[8]")
SAID = {"model": "planted", "hook": "blocks.0.hook_resid_post"}


def cached(path, x, tokens, **said):
    return save_cache(path, torch.from_numpy(x).split(1000), tokens, SAID | said).path


@pytest.fixture(scope="module")
def world():
    return Pairs(SMALL)


@pytest.fixture(scope="module")
def caches(world, tmp_path_factory):
    home = tmp_path_factory.mktemp("caches")
    models = {"base": world.base(), "tuned": world.tuned(0), "null": world.drifted(1, 4.0)}
    models["held"] = world.drifted(2)
    return {name: cached(home / name, each.x, world.tokens) for name, each in models.items()}


def words(caches, out, **more):
    named = {"base": caches["base"], "tuned": caches["tuned"], "null": caches["null"], **more}
    return [*flags_of(named), "--out", out, *FLAGS]


def flags_of(named):
    return [word for name, path in named.items() for word in (f"--{name}", path)]


@pytest.fixture
def turned_away(refused, tmp_path):
    """What is said, in one line and before anything is fitted, of caches that cannot be traced."""

    def opened(code, caches, **more):
        named = {name: caches[name] for name in ("base", "tuned", "null")} | more
        return refused(trace_caches, code, tmp_path / "o", *flags_of(named), *FLAGS)

    return opened


@pytest.fixture(scope="module")
def traced(caches, tmp_path_factory):
    from scripts._cli import run

    out = tmp_path_factory.mktemp("trace") / "out"
    given = words(caches, out, held_back=caches["held"])
    code = run(trace_caches.main, trace_caches.Config, [str(each) for each in given])
    return code, out


def test_a_trace_without_a_language_model(traced, caches):
    code, out = traced
    assert code == 0
    fates = pd.read_parquet(out / "fates.parquet")
    inherited = fates.query("origin == 'base'")
    assert inherited["latent"].tolist() == list(range(8 * SMALL.d_in + 4))
    assert set(fates["tuned"]) == {"tuned"}
    assert fates["effect"].isna().all()
    assert inherited["direction"].notna().any()
    fires = inherited["n_fires"] > 0
    assert inherited.loc[fires, ["nu_error", "nu_reconstruction"]].notna().all(axis=None)
    still = inherited["fate"] == "preserved"
    assert inherited.loc[still, "nu_error"].median() > 0.5
    summary = json.loads((out / "summary.json").read_text())
    assert summary["arms"]["tuned"]["size"]["kl"] is None
    assert summary["arms"]["tuned"]["size"]["activations"] > 0
    shift = summary["arms"]["tuned"]["mean_shift"]
    assert 0 < shift["low"] <= shift["value"] <= shift["high"] < 1
    assert shift["null_high"] < shift["low"]  # the tuned model alone has one
    assert summary["error_rates"]
    assert json.loads((out / "nulls.json").read_text())["arms"]["tuned"]["held_back"] == "held"
    assert (out / "report.html").stat().st_size > 10_000


def test_a_model_that_adds_one_vector_is_traced_but_has_no_shares(door, tmp_path):
    """A steering vector, say: nothing varies, so nothing lies within a span or outside."""
    world = Pairs(replace(SMALL, n_documents=96))
    role = np.where(np.arange(len(world.tokens)) % 2, "assistant", "narrator")
    base, always = world.base().x, np.random.default_rng(0).normal(size=SMALL.d_in)
    models = {"base": base, "steered": base + always.astype(np.float32)}
    models |= {"tuned": world.tuned(0).x, "null": world.drifted(1, 4.0).x}
    tokens = world.tokens.assign(role=role)
    made = {name: cached(tmp_path / name, x, tokens) for name, x in models.items()}
    given = ["--base", made["base"], "--tuned", made["steered"], made["tuned"]]
    code, _ = door(trace_caches, *given, "--null", made["null"], *FLAGS, "--out", tmp_path / "o")
    assert code == 0
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    steered, tuned = (summary["arms"][name] for name in ("steered", "tuned"))
    assert steered["mean_shift"]["value"] > 0.99 and steered["in_span_share"] is None
    assert 0 < tuned["in_span_share"]["low"] < tuned["in_span_share"]["high"] < 1
    said = [note for note in summary["notes"] if "differs by nothing but one vector" in note]
    assert [note.split()[0] for note in said] == ["steered"]


def test_it_is_done_once(traced, caches, door):
    _, out = traced
    code, said = door(trace_caches, *words(caches, out, held_back=caches["held"]))
    assert (code, said.count("up to date")) == (0, 7)


def test_a_change_of_the_null_keeps_the_base_dictionary(traced, caches, door, tmp_path):
    """Only what comes of another cache is made anew."""
    _, out = traced
    stamp = (out / "dictionary" / "dictionary.safetensors").stat().st_mtime_ns
    code, _ = door(trace_caches, *words(caches, out))
    assert code == 0
    assert (out / "dictionary" / "dictionary.safetensors").stat().st_mtime_ns == stamp


def test_k_is_chosen_where_several_are_given(caches, door, tmp_path):
    given = ["--base", caches["base"], "--tuned", caches["tuned"], "--out", tmp_path / "o", *FLAGS]
    given[given.index("[8]")] = "[1,2,4,8,16]"
    code, said = door(trace_caches, *given)
    assert code == 0
    table = json.loads((tmp_path / "o" / "k" / "trials.json").read_text())
    shortest = min(table["trials"], key=lambda each: each["nats"])
    assert table["k"] == shortest["k"]
    assert f"k {table['k']}: l0" in said
    for name in ("first", "dictionary", "continued/tuned"):
        dictionary, _ = sae.read(tmp_path / "o" / name)
        assert dictionary.config.sparsity.k == table["k"]
    stamp = (tmp_path / "o" / "k" / "trials.json").stat().st_mtime_ns
    for each in (tmp_path / "o").iterdir():  # as if it had been stopped after its first stage
        if each.is_dir() and each.name != "k":
            shutil.rmtree(each)
        elif each.is_file():
            each.unlink()
    assert door(trace_caches, *given)[0] == 0
    code, said = door(trace_caches, *given)
    assert (code, said.count("up to date")) == (0, 6)
    assert (tmp_path / "o" / "k" / "trials.json").stat().st_mtime_ns == stamp
    for damage in ('{"k": 8', "[8]", '{"k": -1}', '{"k": "8"}', "[" * 100_000):
        (tmp_path / "o" / "k" / "trials.json").write_text(damage)
        code, said = door(trace_caches, *given)
        assert code == 3
        assert "trials.json" in said and "to try every k again" in said


def test_a_sparsity_without_a_k_has_none_to_choose(caches, door, tmp_path):
    given = ["--base", caches["base"], "--tuned", caches["tuned"], "--out", tmp_path / "o", *FLAGS]
    given += ["--sae.sparsity.kind", "relu", "--sae.sparsity.l1", "0.1"]
    assert door(trace_caches, *given)[0] == 0
    assert not (tmp_path / "o" / "k").exists()
    dictionary, _ = sae.read(tmp_path / "o" / "dictionary")
    assert dictionary.config.sparsity.kind == "relu"


def test_without_a_null_nothing_is_called(caches, door, tmp_path):
    given = ["--base", caches["base"], "--tuned", caches["tuned"], "--out", tmp_path / "o", *FLAGS]
    code, said = door(trace_caches, *given)
    assert code == 0
    assert said.startswith("forelimb: no --null: ")  # before anything is fitted
    assert "undetermined" in said.partition("\n")[0]
    fates = pd.read_parquet(tmp_path / "o" / "fates.parquet")
    assert set(fates["fate"]) == {"undetermined"}
    assert "no null moved as far" in set(fates["reason"])


def test_without_personas_the_rest_is_told(world, door, tmp_path):
    tokens = world.tokens.assign(persona="none")
    models = {"base": world.base(), "tuned": world.tuned(0), "null": world.drifted(1, 4.0)}
    caches = {name: cached(tmp_path / name, each.x, tokens) for name, each in models.items()}
    assert door(trace_caches, *words(caches, tmp_path / "o"))[0] == 0
    fates = pd.read_parquet(tmp_path / "o" / "fates.parquet")
    assert fates["persona"].isna().all()
    assert fates["direction"].notna().any()


def others(world, x):
    """Caches that do not fit, and a word of why."""
    tokens = world.tokens
    order = np.argsort(-world.activity.doc, kind="stable")
    return {
        "width": (np.concatenate([x, x], axis=1), tokens, "width 48, not 24"),
        "fewer": (x[:-60], tokens.iloc[:-60], "2820 tokens, not 2880"),
        "order": (x[order], tokens.iloc[order].reset_index(drop=True), "another doc from token 0"),
        "words": (x, tokens.assign(token_id=1 + tokens["token_id"]), "another token_id from token"),
        "bare": (x, tokens.drop(columns="doc"), "another doc from token 0"),
        "roles": (x, tokens.assign(role="nobody"), "another role from token 0"),
        "splits": (x, tokens.assign(split=tokens["split"][::-1].to_numpy()), "another split from"),
    }


def test_of_a_null_that_is_given_nothing_is_said(traced, caches, door):
    _, out = traced
    assert "no --null" not in door(trace_caches, *words(caches, out))[1]


@pytest.mark.parametrize("which", ["width", "fewer", "order", "words", "bare", "roles", "splits"])
def test_a_cache_of_something_else_is_refused(which, world, caches, door, tmp_path):
    x = world.base().x
    given, tokens, why = others(world, x)[which]
    path = cached(tmp_path / "bad", given, tokens)
    code, said = door(trace_caches, *words(caches, tmp_path / "o", tuned=path))
    assert code != 0
    assert why in said
    assert not (tmp_path / "o").exists()


def few(table):
    """Held-out documents are 3 of split select and 4 of split confirm."""
    held = table.groupby("doc")["split"].first()
    kept = [*held[held == "select"].index[:3], *held[held == "confirm"].index[:4]]
    moved = table["split"].ne("fit") & ~table["doc"].isin(kept)
    return table.assign(split=table["split"].mask(moved, "fit"))


def special(*splits):
    return lambda table: table.assign(is_special=table["split"].isin(splits))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table.drop(columns=["role", "split"]), "no column role, split"),
        (lambda table: table.assign(doc="one"), "document one in splits "),
        (lambda table: table.assign(split="fit"), "of split select in "),
        (lambda table: table.replace({"split": {"select": "fit"}}), "of split select in "),
        (lambda table: table.replace({"split": {"confirm": "fit"}}), "of split confirm in "),
        (lambda table: table.replace({"split": {"fit": "select"}}), "not of split select or"),
        (special("select"), "of split select in "),
        (special("confirm"), "found: special ones and outliers only"),
        (special("fit"), "not of split select or confirm"),
        (few, "7 documents, which is too few to be measurable; do: give at least 8 documents"),
    ],
)
def test_a_table_that_cannot_be_traced_is_refused_before_a_fit(
    change, why, world, turned_away, tmp_path
):
    models = {"base": world.base(), "tuned": world.tuned(0), "null": world.drifted(1, 4.0)}
    tokens = change(world.tokens)
    caches = {name: cached(tmp_path / name, each.x, tokens) for name, each in models.items()}
    said = turned_away(3, caches)
    assert why in said


def missing(shard):
    shard.unlink()


def cut(shard):
    shard.write_bytes(shard.read_bytes()[:-4])


def shorter(shard):
    save_file({"x": torch.ones(7, SMALL.d_in)}, shard)


def narrower(shard):
    save_file({"x": torch.ones(1000, 3)}, shard)


def nameless(shard):
    save_file({"y": torch.ones(1000, SMALL.d_in)}, shard)


@pytest.mark.parametrize("damage", [missing, cut, shorter, narrower, nameless])
@pytest.mark.parametrize("which", ["base", "held_back"])
def test_a_shard_that_is_not_whole_is_named_before_a_fit(damage, which, world, caches, tmp_path):
    home = tmp_path / which
    shutil.copytree(caches["base" if which == "base" else "held"], home)
    shard = home / "shard-00001.safetensors"
    damage(shard)
    parts = {"tuned": (str(caches["tuned"]),), "held_back": (str(caches["held"]),)}
    given = {"base": caches["base"], **parts, which: home if which == "base" else (str(home),)}
    with pytest.raises(InputError, match=shard.name):
        Caches(Config(**given, out=tmp_path / "o"))


def test_a_damaged_shard_is_named(world, caches, door, tmp_path):
    path = tmp_path / "bad"
    shutil.copytree(caches["held"], path)
    shard = next(path.glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    code, said = door(trace_caches, *words(caches, tmp_path / "o", tuned=path))
    assert code != 0
    assert shard.name in said


def test_caches_of_two_hooks_are_refused(world, caches, turned_away, tmp_path):
    hook = "blocks.1.hook_resid_post"
    path = cached(tmp_path / "late", world.tuned(0).x, world.tokens, hook=hook)
    said = turned_away(3, caches, tuned=path)
    assert f"hook {hook}, not {SAID['hook']}" in said


@pytest.mark.parametrize(
    ("more", "both"),
    [
        ({"null": "x={tuned}"}, "tuned tuned beside null x"),
        ({"held_back": "x={null}"}, "null null beside held back x"),
        ({"tuned": "x={base}"}, "base beside tuned x"),
        ({"null": "x={base}"}, "base beside null x"),
        ({"tuned": "[{tuned},x={tuned}]"}, "tuned tuned beside tuned x"),
    ],
)
@pytest.mark.parametrize("is_copied", [False, True])
def test_one_cache_as_two_models_is_refused(more, both, is_copied, caches, turned_away, tmp_path):
    """A null that is judged, or measures errors, would vouch for itself."""
    paths = dict(caches)
    if is_copied:
        for name in caches:
            shutil.copytree(caches[name], tmp_path / name)
            manifest = json.loads((tmp_path / name / "manifest.json").read_text())
            manifest["model"] = "the same by another name"
            (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        paths = {name: f"{tmp_path / name}" for name in caches}
    asked = {name: each.format(**paths) for name, each in more.items()}
    said = turned_away(3, caches, **asked)
    assert f"asked: {both}; found: the same vectors, " in said


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"tuned": "[]"}, "asked: --tuned; found: no cache; do: give one or more, as NAME=PATH"),
        ({"tuned": "[a/x,b/x]"}, "asked: --tuned; found: two caches named x: a/x and b/x; do: "),
        ({"null": "[a/x,b/x]"}, "asked: --null; found: two caches named x: a/x and b/x; do: "),
        ({"null": "tuned=a"}, "asked: --tuned --null; found: two caches named tuned: "),
        ({"held_back": "[=a]"}, "asked: --held_back =a; found: no name for a folder"),
        ({"null": "a/base"}, "asked: a cache named base"),
    ],
)
def test_names_of_caches_are_folders_of_their_own(more, why, caches, turned_away, tmp_path):
    assert why in turned_away(2, caches, **more)


def test_a_cache_given_twice_is_told_to_be_given_once(caches, turned_away, tmp_path):
    said = turned_away(2, caches, null=caches["tuned"])
    assert f"asked: --tuned --null; found: {caches['tuned']} twice" in said
    assert "do: give every cache once" in said
