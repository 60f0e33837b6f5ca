"""The door of fine-tuning on KL: a new dictionary, the old one's numbers beside its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sae
from scripts import finetune_dictionary, fit_dictionary, fit_together

ROOT = Path(__file__).parents[2]
HOOK = "blocks.1.hook_resid_post"
RUN = [
    "--sae.d_sae=48", "--sae.sparsity.kind=batch_topk", "--sae.sparsity.k=4", "--sae.prefixes=[]",
    "--train.n_tokens=12800", "--train.batch_tokens=256", "--train.lr=3e-3",
]  # fmt: skip


@pytest.fixture
def dictionary(door, models, corpus, tmp_path_factory):
    """A finished dictionary of the base model; made once."""
    out = tmp_path_factory.getbasetemp() / "to-fine-tune"
    flags = ["--model", models / "base", "--text", corpus, "--hook", HOOK, *RUN, "--out", out]
    assert door(fit_dictionary, *flags)[0] == 0
    return out


@pytest.fixture
def words(dictionary, corpus):
    return ["--dictionary", dictionary, "--text", corpus, "--train.n_tokens=4000"]


@pytest.fixture
def done(door, words, tmp_path_factory):
    """Folder of the dictionary tuned; made once."""
    out = tmp_path_factory.getbasetemp() / "fine-tuned"
    code, said = door(finetune_dictionary, *words, "--out", out)
    assert code == 0, said
    return out


def test_it_says_what_it_is_and_what_it_was_before(done, dictionary):
    (old, was), (new, now) = sae.read(dictionary), sae.read(done)
    assert new.config == old.config
    assert (now["hook"], now["model"], now["train"]) == (HOOK, was["model"], was["train"])
    told = now["finetuned"]
    assert told["on"] == "kl"
    assert told["train"]["lr"] == pytest.approx(3e-3 / 4)
    assert (told["train"]["decay"], told["train"]["n_tokens"]) == (1.0, 4000)
    assert told["n_tokens"] >= 4000
    assert now["n_tokens"] == was["n_tokens"] + told["n_tokens"]
    found = json.loads((done / "eval.json").read_text())
    before = json.loads((dictionary / "eval.json").read_text())
    for name in ("kl", "fvu", "l0", "ce_patched"):
        assert found["before"][name] == pytest.approx(before[name], rel=0.2)
    assert found["kl"] < found["before"]["kl"]
    assert torch.allclose(new.W_dec.norm(dim=1), torch.ones(48), atol=1e-5)


def test_left_alone_it_takes_a_twentieth_of_the_tokens(door, dictionary, corpus, tmp_path):
    flags = ["--dictionary", dictionary, "--text", corpus, "--out", tmp_path / "d"]
    assert door(finetune_dictionary, *flags)[0] == 0
    assert sae.read(tmp_path / "d")[1]["finetuned"]["train"]["n_tokens"] == 640


def test_what_is_done_is_not_done_again_and_the_same_twice(door, done, words, tmp_path):
    code, said = door(finetune_dictionary, *words, "--out", done)
    assert (code, said) == (0, f"forelimb: {done} is up to date\n")
    assert door(finetune_dictionary, *words, "--out", tmp_path / "again")[0] == 0
    (one, _), (two, _) = sae.read(done), sae.read(tmp_path / "again")
    assert torch.equal(one.W_dec, two.W_dec)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(words, tmp_path, number):
    program = f"""
import os, sys
from scripts import _finetuning, finetune_dictionary as door
from scripts._cli import run
tune = _finetuning.finetune
def stopped(*given):
    for record in tune(*given):
        if record.step == 3:
            os.kill(os.getpid(), {int(number)})
        assert record.step <= 3
        yield record
_finetuning.finetune = stopped
sys.exit(run(door.main, door.Config))
"""
    flags = [str(each) for each in (*words, "--out", tmp_path / "d")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", program, *flags],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == -number, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "d").exists()


class TestRefusals:
    def test_a_crosscoder_or_a_dictionary_of_differences(
        self, door, refused, models, corpus, words, tmp_path
    ):
        pair = ["--models", models / "base", models / "twin", "--text", corpus, "--hook", HOOK]
        for kind in ("crosscoder", "difference"):
            flags = [*pair, *RUN, f"--of.kind={kind}", "--out", tmp_path / kind]
            assert door(fit_together, *flags)[0] == 0
            words[1] = tmp_path / kind
            said = refused(finetune_dictionary, 2, tmp_path / "d", *words)
            assert f"asked: to fine-tune on KL {tmp_path / kind}; found: a {kind} of" in said

    def test_another_model(self, refused, words, models, tmp_path):
        said = refused(finetune_dictionary, 2, tmp_path / "d", *words, "--model", models / "other")
        assert "as the model of" in said
        assert "do: name the model it was fitted on with --model" in said

    def test_its_own_folder_or_a_folder_of_other_things(self, door, words, tmp_path):
        code, said = door(finetune_dictionary, *words, "--out", words[1])
        assert code == 2 and "found: the dictionary to fine-tune itself; do: choose" in said
        (tmp_path / "x.txt").write_text("mine")
        code, said = door(finetune_dictionary, *words, "--out", tmp_path)
        assert code == 2 and "a folder of other things (x.txt)" in said

    def test_a_dictionary_that_does_not_say_how_it_was_fitted(self, refused, words, tmp_path):
        own, meta = sae.read(words[1])
        known = {"model": meta["model"], "hook": HOOK}
        sae.write(tmp_path / "silent", own, known)
        flags = ["--dictionary", tmp_path / "silent", *words[2:-1]]
        said = refused(finetune_dictionary, 2, tmp_path / "d", *flags)
        assert "asked: --train.n_tokens" in said
