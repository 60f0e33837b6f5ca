"""The door of fitting: a dictionary, exact resume after any end, one line for what is wrong."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import sae
from sae.stream.cache import ActivationCache
from scripts import fit_dictionary, harvest
from training import state as states
from training.state import TrainState
from training.track import read_rows

ROOT = Path(__file__).parents[2]
SMALL_BUFFER = 150_000  # bytes
HOOK = "blocks.1.hook_resid_post"
N_STEPS = 100
RUN = [
    "--sae.d_sae=48", "--sae.sparsity.kind=batch_topk", "--sae.sparsity.k=4", "--sae.prefixes=[]",
    f"--train.n_tokens={N_STEPS * 256}", "--train.batch_tokens=256", "--train.lr=3e-3",
    "--train.dead_after_tokens=2000", "--run.save_tokens=5120",
]  # fmt: skip


@pytest.fixture(scope="module")
def words(models, corpus):
    return ["--model", models / "base", "--text", corpus, "--hook", HOOK, *RUN]


@pytest.fixture(autouse=True)
def _refills(request, monkeypatch):
    """A buffer smaller than the text, so that it is filled anew; a shard of a cache is larger."""
    if request.cls is not TestACache:
        monkeypatch.setattr("scripts._fit.BUFFER_BYTES", SMALL_BUFFER)


@pytest.fixture
def whole(door, words, tmp_path_factory):
    """The folder of a run nothing came in the way of; made once."""
    out = tmp_path_factory.getbasetemp() / "fitted-whole"
    if not (out / "provenance.json").exists():
        assert door(fit_dictionary, *words, "--out", out)[0] == 0
    return out


def losses(out):
    rows = [each for each in read_rows(out / "metrics.jsonl") if "step" in each]
    assert [each["step"] for each in rows] == list(range(1, len(rows) + 1))
    return [each["loss/total"] for each in rows]


def same_weights(one, other):
    (mine, _), (theirs, _) = sae.read(one), sae.read(other)
    pairs = zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class TestTheFolder:
    def test_it_explains_itself(self, whole, models):
        dictionary, meta = sae.read(whole)
        assert (dictionary.config.d_in, dictionary.config.d_sae) == (16, 48)
        assert (meta["hook"], meta["model"]) == (HOOK, str(models / "base"))
        assert meta["n_tokens"] == N_STEPS * 256
        assert len(meta["tokenizer_sha256"]) == len(meta["model_sha256"]) == 64
        assert (meta["train"]["lr"], meta["train"]["n_tokens"]) == (3e-3, N_STEPS * 256)
        held = {each.name for each in whole.iterdir()}
        assert held == {
            "dictionary.safetensors", "config.json", "metrics.jsonl", "eval.json",
            "provenance.json", "state",
        }  # fmt: skip

    def test_its_numbers_are_of_held_out_documents(self, whole):
        found = json.loads((whole / "eval.json").read_text())
        assert found == sae.read(whole)[1]["metrics"]
        assert 0 < found["fvu"] < 0.5
        assert 1 < found["l0"] < 8
        assert all(found[f"ce_{each}"] > 0 for each in ("clean", "patched", "ablated"))
        assert 0 <= found["dead_fraction"] < 1
        histogram = found["fire_rates"]
        assert len(histogram["counts"]) == len(histogram["log10_edges"]) - 1
        assert sum(histogram["counts"]) == round(48 * (1 - found["dead_fraction"]))

    def test_metrics_hold_every_step_and_the_judgement(self, whole):
        rows = read_rows(whole / "metrics.jsonl")
        assert len(losses(whole)) == N_STEPS
        last = {key: each[key] for each in rows[-3:] for key in each}
        assert last["tokens"] == N_STEPS * 256
        assert last["eval/fvu"] == json.loads((whole / "eval.json").read_text())["fvu"]
        assert len(last["eval/fire_rates"]["counts"]) > 0
        assert losses(whole)[-1] < losses(whole)[0] / 3

    def test_it_is_done_once(self, door, words, whole):
        before = (whole / "dictionary.safetensors").stat().st_mtime_ns
        said = door(fit_dictionary, *words, "--out", whole)
        assert said == (0, f"forelimb: {whole} is up to date\n")
        assert (whole / "dictionary.safetensors").stat().st_mtime_ns == before

    def test_a_finished_one_is_made_anew_for_another_config(self, door, words, whole, tmp_path):
        shutil.copytree(whole, tmp_path / "d")
        again = [*words, "--out", tmp_path / "d", "--train.n_tokens", "2560"]
        code, said = door(fit_dictionary, *again)
        assert (code, "anew, for a change in train.n_tokens" in said) == (0, True)
        assert sae.read(tmp_path / "d")[1]["n_tokens"] == 2560
        assert len(losses(tmp_path / "d")) == 10

    def test_a_lost_provenance_costs_no_step(self, door, words, whole, tmp_path):
        shutil.copytree(whole, tmp_path / "d")
        (tmp_path / "d" / "provenance.json").unlink()
        assert door(fit_dictionary, *words, "--out", tmp_path / "d")[0] == 0
        assert len((tmp_path / "d" / "state" / "latest").read_text()) > 0
        assert losses(tmp_path / "d") == losses(whole)
        assert same_weights(tmp_path / "d", whole)

    def test_a_recipe_by_its_name_and_only_for_its_width(self, refused, words, tmp_path):
        said = refused(fit_dictionary, 2, tmp_path / "d", *words, "--recipe", "organism")
        assert "recipe 'organism' for activations of width 16" in said
        said = refused(fit_dictionary, 2, tmp_path / "d", *words, "--recipe", "organsm")
        assert "did you mean 'organism'?" in said


class TestACache:
    @pytest.fixture
    def cache(self, door, models, corpus, tmp_path):
        flags = ["--model", models / "base", "--text", corpus, "--hook", HOOK]
        door(harvest, *flags, "--out", tmp_path / "cache", "--splits", "fit", "select")
        return tmp_path / "cache"

    def test_it_gives_the_same_quality(self, door, words, whole, cache, tmp_path):
        out = tmp_path / "d"
        code, _ = door(fit_dictionary, *words, "--out", out, "--activations", cache)
        mine, theirs = (json.loads((each / "eval.json").read_text()) for each in (out, whole))
        assert code == 0
        assert mine["fvu"] == pytest.approx(theirs["fvu"], rel=0.2)
        inputs = json.loads((out / "provenance.json").read_text())["inputs"]
        assert set(inputs) == {"model", "text", "activations"}

    def test_a_damaged_shard_is_named(self, refused, words, cache, tmp_path):
        shard = cache / "shard-00000.safetensors"
        raw = bytearray(shard.read_bytes())
        raw[-1] ^= 1
        shard.write_bytes(raw)
        flags = [*words, "--activations", cache]
        assert f"file {shard}; found: not what" in refused(
            fit_dictionary, 3, tmp_path / "d", *flags
        )

    def test_one_of_another_hook_or_model_is_refused(self, refused, words, cache, models, tmp_path):
        flags = [*words, "--activations", cache]
        said = refused(fit_dictionary, 2, tmp_path / "d", *flags, "--hook=blocks.0.hook_resid_pre")
        assert f"a cache of hook {HOOK}, not blocks.0" in said
        said = refused(fit_dictionary, 2, tmp_path / "d", *flags, "--model", models / "twin")
        assert "a cache of weights_sha256" in said

    def test_one_without_text_to_fit_on(self, door, refused, words, models, corpus, tmp_path):
        flags = ["--model", models / "base", "--text", corpus, "--hook", HOOK]
        door(harvest, *flags, "--out", tmp_path / "cache", "--splits", "select")
        flags = [*words, "--activations", tmp_path / "cache"]
        said = refused(fit_dictionary, 3, tmp_path / "d", *flags)
        assert "do: harvest with --splits fit" in said
        assert ActivationCache.open(tmp_path / "cache").n_tokens > 0


class TestRefusals:
    def test_an_unknown_key_names_the_nearest(self, refused, words, tmp_path):
        said = refused(fit_dictionary, 2, tmp_path / "d", *words, "--train.sed", "1")
        assert "did you mean --train.seed?" in said

    def test_a_hook_the_model_lacks_names_those_it_has(self, refused, words, tmp_path):
        flags = [*words, "--hook", "blocks.3.hook_resid_post"]
        said = refused(fit_dictionary, 2, tmp_path / "d", *flags)
        assert "blocks.2.hook_resid_post; do: nearest is" in said

    def test_a_model_that_computes_nan(self, refused, words, models, tmp_path):
        flags = [*words, "--model", models / "nan"]
        assert "NaN or infinite" in refused(fit_dictionary, 3, tmp_path / "d", *flags)

    def test_no_document_to_judge_by(self, refused, words, corpus, tmp_path):
        text = tmp_path / "fit.jsonl"
        lines = [each for each in corpus.read_text().splitlines() if '"split": "fit"' in each]
        text.write_text("\n".join(lines))
        flags = [*words, "--text", text]
        said = refused(fit_dictionary, 3, tmp_path / "d", *flags)
        assert "documents of split confirm" in said

    def test_a_value_out_of_range(self, refused, words, tmp_path):
        for flag, asked in {"--train.warmup=2": "warmup", "--sae.sparsity.k=99": "k=99"}.items():
            assert asked in refused(fit_dictionary, 2, tmp_path / "d", *words, flag)
        assert "save_tokens=0" in refused(
            fit_dictionary, 2, tmp_path / "d", *words, "--run.save_tokens=0"
        )

    def test_a_folder_of_other_things_is_left_alone(self, door, words, tmp_path):
        (tmp_path / "thesis.tex").write_text("years")
        code, said = door(fit_dictionary, *words, "--out", tmp_path)
        assert (code, "a folder of other things (thesis.tex)" in said) == (2, True)

    def test_a_diverging_run_is_code_4_and_keeps_what_it_saved(self, door, words, tmp_path):
        flags = ["--out", tmp_path / "d", "--train.lr=1e30", "--train.warmup=0.5"]
        code, said = door(fit_dictionary, *words, *flags, "--run.save_tokens=256")
        assert (code, said.splitlines()[-1][:31]) == (4, "forelimb: asked: a finite loss;")
        assert not (tmp_path / "d" / "dictionary.safetensors").exists()


# Each ends a run by a signal to itself, at a moment that could not be hit from outside. Torch is
# loaded once; every run is a process of its own.
DRIVER = '''
import json, os, signal, sys, time
from pathlib import Path
import scripts._fit
from scripts.fit_dictionary import Config, main, run
from sae.stream.buffer import ModelSource
from training.track import JsonlTracker

def on_call(owner, name, number, act, after=False):
    """Does `act` at the given call of a method."""
    plain, count = getattr(owner, name), [0]
    def patched(*args, **kwargs):
        count[0] += 1
        if count[0] == number and not after:
            act()
        result = plain(*args, **kwargs)
        if count[0] == number and after:
            act()
        return result
    setattr(owner, name, patched)

def send(number):
    def act():
        os.kill(os.getpid(), number)
        time.sleep(0.05)
    return act

def twice(number):
    return lambda: (os.kill(os.getpid(), number), os.kill(os.getpid(), number))

SCENES = {
    "step-SIGINT": lambda: on_call(JsonlTracker, "log", 37, send(signal.SIGINT)),
    "step-SIGTERM": lambda: on_call(JsonlTracker, "log", 61, send(signal.SIGTERM), after=True),
    "refill-SIGINT": lambda: on_call(ModelSource, "chunk", 9, send(signal.SIGINT)),
    "refill-SIGTERM": lambda: on_call(ModelSource, "chunk", 13, send(signal.SIGTERM)),
    "sample-SIGTERM": lambda: on_call(ModelSource, "chunk", 1, send(signal.SIGTERM)),
    "save-SIGINT": lambda: on_call(os, "fsync", 9, send(signal.SIGINT)),
    "save-SIGTERM": lambda: on_call(os, "fsync", 12, send(signal.SIGTERM)),
    "save-SIGKILL": lambda: on_call(Path, "rename", 3, send(signal.SIGKILL)),
    "pointer-SIGKILL": lambda: on_call(os, "fsync", 9, send(signal.SIGKILL)),
    "hasty-SIGTERM": lambda: on_call(JsonlTracker, "log", 50, twice(signal.SIGTERM)),
}
home, buffer_bytes, *argv = sys.argv[1:]
scripts._fit.BUFFER_BYTES = int(buffer_bytes)
ends = {}
for name, patch in SCENES.items():
    child = os.fork()
    if child == 0:
        patch()
        with open(f"{home}/{name}.err", "w") as said:
            os.dup2(said.fileno(), 2)
            os._exit(run(main, Config, [*argv, "--out", f"{home}/{name}"]))
    ends[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(ends))
'''
SCENES = (
    "step-SIGINT", "step-SIGTERM", "refill-SIGINT", "refill-SIGTERM", "sample-SIGTERM",
    "save-SIGINT", "save-SIGTERM", "save-SIGKILL", "pointer-SIGKILL", "hasty-SIGTERM",
)  # fmt: skip


@pytest.fixture(scope="module")
def ends(words, tmp_path_factory):
    """Folder and exit code of every scene."""
    home = tmp_path_factory.mktemp("scenes")
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(home), str(SMALL_BUFFER), *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    shutil.copytree(home, f"{home}-as-left")
    return home, json.loads(done.stdout)


class TestSignals:
    @pytest.mark.parametrize("scene", SCENES)
    def test_the_run_ends_by_it_and_goes_on_bit_for_bit(self, door, words, whole, ends, scene):
        home, codes = ends
        said = (home / f"{scene}.err").read_text()
        assert codes[scene] == -getattr(signal, scene.partition("-")[2]), said
        assert "Traceback" not in said
        assert "asked:" not in said
        out = home / scene
        assert not (out / "provenance.json").exists()
        assert not (out / "dictionary.safetensors").exists()
        stopped = TrainState.load(out / "state").step if (out / "state").exists() else 0
        assert (stopped == 0) == (scene == "sample-SIGTERM")
        code, said = door(fit_dictionary, *words, "--out", out)
        assert code == 0, said
        assert losses(out) == losses(whole)
        assert same_weights(out, whole)
        assert list(out.rglob(".*")) == []

    @pytest.mark.parametrize(
        ("scene", "step"),
        [
            ("step-SIGINT", 37),
            ("step-SIGTERM", 61),
            ("save-SIGINT", 41),
            ("save-SIGKILL", 40),
            ("pointer-SIGKILL", 20),
            ("hasty-SIGTERM", 40),
        ],
    )
    def test_what_is_saved_is_the_last_step_there_was_time_for(self, ends, scene, step):
        left = Path(f"{ends[0]}-as-left") / scene
        assert TrainState.load(left / "state").step == step
        if step % 20:  # ended politely
            assert len(losses(left)) == step

    @pytest.mark.parametrize("scene", ["refill-SIGINT", "refill-SIGTERM"])
    def test_a_refill_is_left_between_two_steps(self, ends, scene):
        left = Path(f"{ends[0]}-as-left") / scene
        assert TrainState.load(left / "state").step == len(losses(left)) > 0

    def test_from_outside_the_module_ends_by_the_signal(self, words, tmp_path):
        command = [sys.executable, "-m", "scripts.fit_dictionary", *map(str, words)]
        process = subprocess.Popen(
            [*command, "--train.n_tokens", "50000000", "--out", str(tmp_path / "d")],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        rows, deadline = tmp_path / "d" / "metrics.jsonl", time.monotonic() + 60
        while not rows.exists() or rows.read_bytes().count(b"\n") < 5:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT, said
        n_rows = rows.read_bytes().count(b"\n")
        assert TrainState.load(tmp_path / "d" / "state").step == n_rows


class TestAnUnfinishedRun:
    @pytest.fixture
    def stopped(self, ends, tmp_path):
        """A run that was killed, not yet gone on with."""
        shutil.copytree(Path(f"{ends[0]}-as-left") / "save-SIGKILL", tmp_path / "d")
        return tmp_path / "d"

    def test_under_another_config_it_is_refused_by_the_keys(self, door, words, stopped):
        before = {each: each.read_bytes() for each in stopped.rglob("*") if each.is_file()}
        code, said = door(
            fit_dictionary, *words, "--out", stopped, "--train.lr=0.1", "--train.seed=3"
        )
        assert (code, said.count("\n")) == (2, 1)
        assert "train.lr was 0.003, is 0.1; train.seed was None, is 3; do: repeat" in said
        assert before == {each: each.read_bytes() for each in stopped.rglob("*") if each.is_file()}

    def test_on_other_text_it_is_refused(self, door, words, stopped, corpus, tmp_path):
        (tmp_path / "more.jsonl").write_text(corpus.read_text() + "\n")
        code, said = door(
            fit_dictionary, *words, "--out", stopped, "--text", tmp_path / "more.jsonl"
        )
        assert (code, "input.text was" in said) == (2, True)

    def test_a_damaged_state_or_note_is_code_3(self, door, words, stopped):
        (stopped / "state" / "run.json").write_text("{")
        code, said = door(fit_dictionary, *words, "--out", stopped)
        assert (code, "a damaged" in said and "run.json" in said) == (3, True)

    def test_a_damaged_tensor_file_is_code_3(self, door, words, stopped):
        folder = stopped / "state" / (stopped / "state" / "latest").read_text().strip()
        (folder / "tensors.safetensors").write_bytes(b"torn")
        code, said = door(fit_dictionary, *words, "--out", stopped)
        assert (code, f"a state in {folder}; found: a damaged one" in said) == (3, True)

    def test_a_full_disk_keeps_the_state_before_it(self, door, words, whole, tmp_path, monkeypatch):
        plain, count = os.fsync, [0]

        def full(descriptor):
            count[0] += 1
            if count[0] == 6:
                raise OSError(errno.ENOSPC, "No space left on device", "state")
            plain(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(states.os, "fsync", full)
            code, said = door(fit_dictionary, *words, "--out", tmp_path / "d")
        assert (code, "do: free some space" in said.splitlines()[-1]) == (3, True)
        assert TrainState.load(tmp_path / "d" / "state").step == 20
        assert door(fit_dictionary, *words, "--out", tmp_path / "d")[0] == 0
        assert losses(tmp_path / "d") == losses(whole)
