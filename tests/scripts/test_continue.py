"""The door of continuing: one dictionary a model, on the same tokens, from the same start."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

import sae
from sae.dictionary.config import SaeConfig, TopKConfig
from sae.errors import InputError
from sae.formats.native import own_words
from sae.stream.activations import HookPoint, harvest
from sae.stream.model import load_model
from scripts import _continuing, continue_dictionary, fit_dictionary
from scripts._continuing import Continuation, _continued
from scripts._recipe import TrainChanges
from scripts._source import shared_source, with_shared_outliers
from scripts._text import ReadConfig, by_length, enough, read_text, sha256_of_model
from training.optim import width_lr
from training.state import TrainState
from training.track import read_rows

ROOT = Path(__file__).parents[2]
HOOK = "blocks.1.hook_resid_post"
RUN = [
    "--sae.d_sae=48", "--sae.sparsity.kind=batch_topk", "--sae.sparsity.k=4", "--sae.prefixes=[]",
    "--train.n_tokens=12800", "--train.batch_tokens=256", "--train.lr=3e-3",
]  # fmt: skip


@pytest.fixture
def dictionary(door, models, corpus, tmp_path_factory):
    """A finished dictionary of the base model; made once."""
    out = tmp_path_factory.getbasetemp() / "to-continue"
    flags = ["--model", models / "base", "--text", corpus, "--hook", HOOK, *RUN, "--out", out]
    assert door(fit_dictionary, *flags)[0] == 0
    return out


@pytest.fixture
def words(dictionary, corpus):
    return [
        "--dictionary", dictionary, "--text", corpus, "--n_added=8",
        "--judge_documents=500", "--train.lr=3e-3", "--train.n_tokens=6400",
    ]  # fmt: skip


@pytest.fixture
def done(door, words, models, tmp_path_factory):
    """Folder of dictionaries continued on three models; made once."""
    out = tmp_path_factory.getbasetemp() / "continued"
    named = ["--models", f"twin@00100={models / 'twin'}", models / "other", models / "base"]
    assert door(continue_dictionary, *words, *named, "--out", out)[0] == 0
    return out


@pytest.mark.parametrize(
    ("recorded", "given", "rate"),
    [
        ({"n_tokens": 100, "lr": 4e-3}, {}, 1e-3),
        ({"n_tokens": 100, "lr": 4e-3}, {"lr": 5e-3}, 5e-3),
        ({"n_tokens": 100, "lr": None}, {}, 0.25 * width_lr(48)),
        (None, {"n_tokens": 50}, 0.25 * width_lr(48)),
    ],
)
def test_a_dictionary_goes_on_at_a_quarter_of_its_rate_unless_one_is_given(recorded, given, rate):
    shape = SaeConfig(8, 48, TopKConfig(k=2))
    run = _continued({"train": recorded}, shape, TrainChanges(**given))
    assert run.lr == pytest.approx(rate)


def losses(folder):
    return [each["loss/total"] for each in read_rows(folder / "metrics.jsonl") if "step" in each]


def same(one, other):
    weights = [sae.read(each)[0].state_dict() for each in (one, other)]
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_every_model_gets_a_folder_of_its_name(done, dictionary, models):
    assert {each.name for each in done.iterdir()} == {"twin@00100", "other", "base"}
    old, _ = sae.read(dictionary)
    for name, model in {"twin@00100": "twin", "other": "other"}.items():
        new, meta = sae.read(done / name)
        assert (new.config.d_sae, new.config.d_in) == (56, 16)
        assert (meta["model"], meta["hook"]) == (str(models / model), HOOK)
        assert (meta["base_model"], meta["base_d_sae"]) == (str(models / "base"), 48)
        assert meta["train"] == {**sae.read(dictionary)[1]["train"], "n_tokens": 6400}
        near = torch.cosine_similarity(new.W_dec[:48], old.W_dec, dim=1)
        assert near.median() > 0.8
        assert len(losses(done / name)) == 25


def test_the_numbers_are_of_the_dictionary_before_and_after(done, dictionary):
    found = {each.name: json.loads((each / "eval.json").read_text()) for each in done.iterdir()}
    before = json.loads((dictionary / "eval.json").read_text())
    assert found["base"]["base"]["fvu"] == pytest.approx(before["fvu"], rel=1e-5)
    assert found["other"]["fvu"] < found["other"]["base"]["fvu"]
    assert found["twin@00100"]["base"]["fvu"] != found["other"]["base"]["fvu"]


def test_the_same_model_by_two_names_gives_the_same_dictionary(door, done, words, models, tmp_path):
    again = ["--models", f"again={models / 'other'}", "--out", tmp_path / "c"]
    assert door(continue_dictionary, *words, *again)[0] == 0
    assert losses(tmp_path / "c" / "again") == losses(done / "other")


def test_all_see_the_same_tokens_whatever_they_find_an_outlier(models, corpus):
    base, tuned = (load_model(models / each) for each in ("base", "twin"))
    hook = HookPoint.parse(HOOK)
    text = read_text(base, [corpus], None, ReadConfig(max_documents=9), ["fit"])
    with torch.no_grad():
        # A word that is an outlier for the tuned model alone.
        tuned.module.get_input_embeddings().weight[int(text.ids[0][3])] *= 1e4
    marked = with_shared_outliers(base, text, hook)
    chunks = [shared_source(each, marked, hook).chunk(0) for each in (base, tuned)]
    kept = ~(text.table["is_special"].to_numpy(dtype=bool))
    for model, chunk in zip((base, tuned), chunks, strict=True):
        x = torch.cat([found[hook] for _, found in harvest(model, text, [hook])])
        assert torch.equal(chunk, x[torch.tensor(kept)])


def test_all_begin_with_the_same_latents_and_run(door, words, models, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(_continuing, "fit_into", lambda job, _: jobs.append(job) or {})
    named = ["--models", models / "twin", models / "other", "--train.seed=5"]
    assert door(continue_dictionary, *words, *named, "--out", tmp_path / "c")[0] == 0
    one, other = (
        job.begin(size * torch.ones(4, 16)) for job, size in zip(jobs, (1, 3), strict=True)
    )
    assert torch.equal(one.W_dec, other.W_dec)
    assert torch.equal(one.W_enc, other.W_enc)
    assert one.input_scale != other.input_scale
    assert jobs[0].train == jobs[1].train
    assert jobs[0].train.seed == 5


def test_done_models_are_skipped_and_new_ones_added(door, done, words, models, tmp_path):
    shutil.copytree(done, tmp_path / "c")
    flags = [*words, "--out", tmp_path / "c", "--models"]
    code, said = door(continue_dictionary, *flags, models / "other", models / "base")
    assert code == 0
    assert said == "".join(
        f"forelimb: {tmp_path / 'c' / each} is up to date\n" for each in ("other", "base")
    )
    code, said = door(continue_dictionary, *flags, models / "other", f"more={models / 'twin'}")
    assert code == 0
    assert f"{tmp_path / 'c' / 'other'} is up to date" in said
    assert losses(tmp_path / "c" / "more") == losses(done / "twin@00100")


def test_a_stopped_run_goes_on(door, done, words, models, tmp_path):
    out = tmp_path / "c" / "other"
    shutil.copytree(done / "other", out)
    for each in ("dictionary.safetensors", "provenance.json"):
        (out / each).unlink()
    code, _ = door(
        continue_dictionary, *words, "--models", models / "other", "--out", tmp_path / "c"
    )
    (mine, _), (theirs, _) = sae.read(out), sae.read(done / "other")
    assert code == 0
    assert torch.equal(mine.W_dec, theirs.W_dec)
    assert losses(out) == losses(done / "other")


@pytest.fixture
def command():
    """Starts the door as a command of several threads, in a group of processes of its own."""

    def started(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.continue_dictionary", *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return started


def test_two_processes_give_what_one_gives_and_say_it(command, done, words, models, tmp_path):
    named = ["--models", models / "twin", models / "other", models / "base"]
    run = command(*words, *named, "--out", tmp_path)
    said = run.communicate(timeout=200)[1]
    assert run.returncode == 0, said
    for name, other in {"twin": "twin@00100", "other": "other", "base": "base"}.items():
        assert losses(tmp_path / name) == losses(done / other)
        assert same(tmp_path / name, done / other)
        lines = [line for line in said.splitlines() if line.startswith(f"{name}: ")]
        assert any("6400/6400 token (100%)" in line and "fvu" in line for line in lines), said
        record = json.loads((tmp_path / name / "provenance.json").read_text())
        assert "scripts.continue_dictionary --dictionary" in record["command"]


def test_one_model_that_fails_ends_all_in_one_line(command, words, models, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").touch()
    named = ["--models", models / "twin", models / "other", "--train.n_tokens=99999"]
    run = command(*words, *named, "--out", tmp_path)
    said = run.communicate(timeout=200)[1]
    assert run.returncode == 2
    assert "a folder of other things (letter)" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "twin" / "provenance.json").exists()


@pytest.fixture
def longer(words, models):
    """What continues two models for as long as it takes to end them by a signal."""
    return [*words, "--train.n_tokens=32000", "--models", models / "twin", models / "other"]


@pytest.fixture
def whole(door, longer, tmp_path_factory):
    """Folder of these dictionaries where nobody interrupted; made once."""
    out = tmp_path_factory.getbasetemp() / "continued-whole"
    assert door(continue_dictionary, *longer, "--out", out)[0] == 0
    return out


@pytest.mark.parametrize("ending", ["SIGINT to all", "SIGTERM to the first"])
def test_a_signal_stops_all_and_they_go_on(command, door, longer, whole, tmp_path, ending):
    run = command(*longer, "--out", tmp_path / "c")
    folders = [tmp_path / "c" / name for name in ("twin", "other")]
    until = time.monotonic() + 200
    while not all((each / "metrics.jsonl").exists() for each in folders):
        assert time.monotonic() < until and run.poll() is None
        time.sleep(0.02)
    number = getattr(signal, ending.partition(" ")[0])
    (os.killpg if ending.endswith("all") else os.kill)(run.pid, number)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == -number
    assert "Traceback" not in said and "asked:" not in said
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:  # what counts their files ends after them
            os.killpg(run.pid, 0)
    for each in folders:
        assert 0 < TrainState.load(each / "state").step < 125
        assert not (each / "provenance.json").exists()
    assert door(continue_dictionary, *longer, "--out", tmp_path / "c")[0] == 0
    for name in ("twin", "other"):
        assert losses(tmp_path / "c" / name) == losses(whole / name)
        assert same(tmp_path / "c" / name, whole / name)


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "found"), [("words", "tokenizer_hash"), ("wide", "d_in 16 against 32")]
    )
    def test_a_model_that_is_no_twin(self, refused, words, models, tmp_path, model, found):
        named = ["--models", models / "twin", models / model]
        said = refused(continue_dictionary, 2, tmp_path / "c", *words, *named)
        assert f"{models / 'base'} and {models / model} as base and tuned; found: {found}" in said

    def test_a_model_that_computes_nan_before_any_other_is_begun(
        self, refused, words, models, tmp_path
    ):
        named = ["--models", models / "twin", models / "nan"]
        said = refused(continue_dictionary, 3, tmp_path / "c", *words, *named)
        assert "NaN or infinite activations" in said

    def test_a_missing_model_or_dictionary(self, refused, words, models, tmp_path):
        named = ["--models", models / "gone"]
        assert "no such folder" in refused(continue_dictionary, 3, tmp_path / "c", *words, *named)
        words[1] = tmp_path / "gone"
        named = ["--models", models / "twin"]
        said = refused(continue_dictionary, 3, tmp_path / "c", *words, *named)
        assert f"dictionary {tmp_path / 'gone'}" in said

    def test_a_damaged_dictionary(self, refused, words, models, tmp_path):
        raw = bytearray((words[1] / "dictionary.safetensors").read_bytes())
        raw[-1] ^= 1
        words[1] = tmp_path / "d.safetensors"
        words[1].write_bytes(raw)
        named = ["--models", models / "twin"]
        said = refused(continue_dictionary, 3, tmp_path / "c", *words, *named)
        assert "content that does not match its own sha256" in said

    def test_a_base_that_is_not_its_model(self, refused, words, models, tmp_path):
        flags = ["--models", models / "twin", "--base", models / "other"]
        said = refused(continue_dictionary, 2, tmp_path / "c", *words, *flags)
        assert "do: name the model it was fitted on with --base" in said

    def test_a_dictionary_that_does_not_say_what_it_is_of(self, refused, words, models, tmp_path):
        dictionary, meta = sae.read(words[1])
        named = ["--models", models / "twin"]
        known = {"model": meta["model"], "hook": HOOK, "train": meta["train"]}
        for left_out, asked in {
            "model": "--base",
            "hook": "the hook of",
            "train": "--train.n_tokens",
        }.items():
            folder = tmp_path / f"without-{left_out}"
            sae.write(folder, dictionary, {k: v for k, v in known.items() if k != left_out})
            flags = ["--dictionary", folder, *words[2:-1], *named]
            said = refused(continue_dictionary, 2, tmp_path / "c", *flags)
            assert f"asked: {asked}" in said

    def test_names_and_numbers(self, refused, words, models, tmp_path):
        flags = ["--models", models / "twin", f"twin={models / 'other'}"]
        said = refused(continue_dictionary, 2, tmp_path / "c", *words, *flags)
        assert f"two models named twin: {models / 'twin'} and {models / 'other'}; do: " in said
        flags = ["--models", models / "twin", "--n_added=-1"]
        assert "n_added=-1" in refused(continue_dictionary, 2, tmp_path / "c", *words, *flags)
        said = refused(continue_dictionary, 2, tmp_path / "c", *words, "--model", "x")
        assert "did you mean --models?" in said


def test_a_run_reads_no_more_text_than_it_fits_on(models, corpus):
    text = read_text(load_model(models / "base"), [corpus], None, ReadConfig(), ["fit"])

    def n_counted(part):
        return int((~part.table["is_special"]).sum())

    n_all = n_counted(text)
    some = enough(text, n_all // 2)
    longest = max(map(len, text.ids))
    assert n_all // 2 <= n_counted(some) <= 1.02 * n_all / 2 + 3 * longest
    assert len(some.ids) < len(text.ids)
    assert some.documents[0] == text.documents[0]
    for n_tokens in (n_all, 10 * n_all):
        assert enough(text, n_tokens).documents == text.documents


def test_dictionaries_are_judged_on_some_documents_evenly_spaced(
    door, words, models, tmp_path, done
):
    few = [*words[:-2], words[-1], "--models", models / "base", "--out", tmp_path]
    assert door(continue_dictionary, *few, "--judge_documents=2")[0] == 0
    n = json.loads((tmp_path / "base" / "eval.json").read_text())["n_tokens"]
    assert n < json.loads((done / "base" / "eval.json").read_text())["n_tokens"]
    code, said = door(continue_dictionary, *few, "--judge_documents=0")
    assert code == 2 and "judge_documents=0" in said


def test_the_shortest_documents_come_first_with_their_own_labels(models, corpus):
    text = read_text(load_model(models / "base"), [corpus], None, ReadConfig(), ["fit"])
    found = by_length(text)
    lengths = [len(ids) for ids in found.ids]
    assert lengths == sorted(lengths)
    assert sorted(found.documents) == sorted(text.documents)
    assert found.table["token_id"].tolist() == [i for ids in found.ids for i in ids]
    assert found.table.groupby("doc", sort=False)["pos"].max().tolist() == [n - 1 for n in lengths]


def test_another_librarys_dictionary_is_continued_once_it_explains_the_base(
    door, dictionary, words, models, tmp_path
):
    own, meta = sae.read(dictionary)
    words[1] = tmp_path / "foreign"
    words += ["--train.batch_tokens=256", "--models", models / "other"]
    sae.write(words[1], own, own_words(meta), "saelens")
    assert door(continue_dictionary, *words, "--out", tmp_path / "out")[0] == 0
    assert sae.read(tmp_path / "out" / "other")[0].config.d_sae == 56
    with torch.no_grad():
        own.W_dec *= -1
    sae.write(words[1], own, own_words(meta), "saelens")
    code, said = door(continue_dictionary, *words, "--out", tmp_path / "worse")
    assert (code, "check model, hook and layer" in said) == (3, True)
    assert not (tmp_path / "worse").exists()


@pytest.fixture
def wrong(dictionary, tmp_path):
    """Another library's dictionary, which does not explain the base model."""
    own, meta = sae.read(dictionary)
    with torch.no_grad():
        own.W_dec *= -1
    sae.write(tmp_path / "wrong", own, own_words(meta), "saelens")
    return tmp_path / "wrong"


def test_whether_it_explains_the_base_is_seen_without_asserts_too(wrong, corpus, models, tmp_path):
    plain = ModuleType("scripts._continuing_plain")
    source = Path(_continuing.__file__).read_text(encoding="utf-8")
    exec(compile(source, plain.__name__, "exec", optimize=1), plain.__dict__)
    changes = TrainChanges(n_tokens=100, batch_tokens=10)
    config = plain.Config(wrong, (), (corpus,), tmp_path / "c", train=changes)
    with pytest.raises(InputError, match="check model, hook and layer"):
        plain.Continuation(config).open(str(models / "other"))


def test_the_revision_is_of_the_base_that_is_named(dictionary, corpus, tmp_path):
    read = ReadConfig(revision="v2")
    config = _continuing.Config(dictionary, (), (corpus,), tmp_path, base="org/model", read=read)
    assert Continuation(config).inputs["base"] == sha256_of_model("org/model", "v2")
    fitted_on = sae.read(dictionary)[1]["model"]
    found = Continuation(replace(config, base=None)).inputs["base"]
    assert found == sha256_of_model(fitted_on, None)
