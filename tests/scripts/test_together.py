"""The door for several models: the same tokens of all, and a file that says it is of several."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import sae
from analysis.fates.controls import Control, open_control
from sae.dictionary import Crosscoder
from sae.errors import ConfigError
from sae.formats.subject import require_one_model
from sae.stream.activations import HookPoint, harvest
from sae.stream.model import load_model
from scripts import continue_dictionary, fit_together
from scripts._text import ReadConfig, read_text
from scripts._together import Config, CrosscoderFit, DifferenceFit, together_job
from training.state import TrainState
from training.track import read_rows

ROOT = Path(__file__).parents[2]
HOOK = "blocks.1.hook_resid_post"
RUN = [
    "--sae.d_sae=48", "--sae.sparsity.kind=batch_topk", "--sae.sparsity.k=4", "--sae.prefixes=[]",
    "--train.n_tokens=12800", "--train.batch_tokens=256", "--train.lr=3e-3",
    "--run.save_tokens=5120",
]  # fmt: skip
CROSSCODER = ["--of.kind=crosscoder", "--of.shared.n=8", "--of.n_own", "4", "4"]


@pytest.fixture(scope="module")
def words(models, corpus):
    pair = [models / "base", models / "twin"]
    return ["--models", *pair, "--text", corpus, "--hook", HOOK, *RUN]


@pytest.fixture
def crosscoder(door, words, tmp_path_factory):
    """Folder of a crosscoder; made once."""
    out = tmp_path_factory.getbasetemp() / "crosscoder"
    code, said = door(fit_together, *words, *CROSSCODER, "--out", out)
    assert code == 0 and "CE recovered" not in said, said  # which has no meaning for several models
    return out


@pytest.fixture
def difference(door, words, tmp_path_factory):
    """Folder of a dictionary of differences; made once."""
    out = tmp_path_factory.getbasetemp() / "difference"
    code, said = door(fit_together, *words, "--of.kind=difference", "--out", out)
    assert code == 0, said
    return out


def losses(out):
    return [each["loss/total"] for each in read_rows(out / "metrics.jsonl") if "step" in each]


def activations(models, corpus):
    """Both models at the tokens of the held-out documents that are not special."""
    pair = [load_model(models / each) for each in ("base", "twin")]
    text = read_text(pair[0], [corpus], None, ReadConfig(), ["confirm"])
    counted = torch.from_numpy(~text.table["is_special"].to_numpy(dtype=bool))
    hook = HookPoint.parse(HOOK)
    found = [torch.cat([x[hook] for _, x in harvest(each, text, [hook])]) for each in pair]
    return [each[counted] for each in found]


class TestCrosscoder:
    def test_it_encodes_raw_activations_of_both_models(self, crosscoder, models, corpus):
        dictionary, _ = sae.read(crosscoder)
        assert (dictionary.config.d_in, dictionary.config.d_sae) == (32, 48)
        both = Crosscoder(dictionary)
        x = activations(models, corpus)
        fvu = [sae.dictionary.metrics.fvu_compute(each) for each in both.fvu_update(x)]
        told = json.loads((crosscoder / "eval.json").read_text())
        assert told["fvu_by_model"] == pytest.approx(fvu, rel=1e-4)
        assert max(fvu) < 0.5
        assert both.decoder_norms[:, :8].sub(0.5).abs().max() < 1e-6
        assert both.decoder_norms[1, 8:12].tolist() == [0.0] * 4
        assert both.decoder_norms[0, 12:16].tolist() == [0.0] * 4
        assert told["ce_clean"] is None
        assert losses(crosscoder)[-1] < losses(crosscoder)[0] / 2

    def test_its_file_says_of_which_models(self, crosscoder, models):
        _, meta = sae.read(crosscoder)
        assert meta["of"]["kind"] == "crosscoder"
        names = [each["model"] for each in meta["of"]["models"]]
        assert names == [str(models / "base"), str(models / "twin")]
        assert meta["model"] is None
        assert meta["hook"] == HOOK

    def test_it_is_done_once(self, door, words, crosscoder):
        said = door(fit_together, *words, *CROSSCODER, "--out", crosscoder)
        assert said == (0, f"forelimb: {crosscoder} is up to date\n")


class TestDifference:
    def test_it_is_of_the_tuned_model_less_the_base(self, difference, models, corpus):
        dictionary, _ = sae.read(difference)
        assert dictionary.config.crosscoder is None
        base, tuned = activations(models, corpus)
        x = tuned - base
        error = (x - dictionary(x).x_hat).square().sum() / (x - x.mean(0)).square().sum()
        told = json.loads((difference / "eval.json").read_text())
        assert told["fvu"] == pytest.approx(error.item(), rel=1e-3)
        assert "fvu_by_model" not in told

    def test_no_door_takes_it_for_one_of_a_model(
        self, refused, difference, models, corpus, tmp_path
    ):
        words = ["--dictionary", difference, "--base", models / "base", "--text", corpus]
        said = refused(continue_dictionary, 2, tmp_path / "c", *words, "--models", models / "twin")
        assert "a difference of" in said
        assert "give a dictionary fitted on one model" in said
        _, meta = sae.read(difference)
        with pytest.raises(ConfigError, match="to trace it; found: a difference of .*base and "):
            require_one_model(meta, "to trace it")
        control = Control("other", difference, matched=True)
        dictionary = sae.read(difference)[0]
        with pytest.raises(ConfigError, match="as a control; found: a difference of"):
            open_control(control, (dictionary, {}), dictionary)


def test_all_models_give_the_same_tokens(models, corpus, tmp_path):
    names = (str(models / "base"), str(models / "twin"), str(models / "other"))
    flags = {"text": (corpus,), "hook": HOOK, "out": tmp_path / "d", "recipe": "default"}
    jobs = [
        together_job(Config(models=names, of=CrosscoderFit(), **flags), {}),
        together_job(Config(models=names[:2], of=DifferenceFit(), **flags), {}),
    ]
    three, two = (job.source for job in jobs)
    assert (three.d_in, two.d_in) == (48, 16)
    base, twin, _ = three.chunk(0).chunk(3, dim=1)
    torch.testing.assert_close(two.chunk(0), twin - base)


def test_an_interrupted_run_goes_on_bit_for_bit(crosscoder, words, tmp_path):
    out = tmp_path / "d"
    words = [sys.executable, "-m", "scripts.fit_together", *map(str, words), *CROSSCODER]
    process = subprocess.Popen([*words, "--out", str(out)], cwd=ROOT, env={**os.environ})
    while not (out / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    if not (out / "provenance.json").exists():
        assert TrainState.load(out / "state").step < 50
    subprocess.run([*words, "--out", str(out)], cwd=ROOT, check=True, timeout=240)
    assert losses(out) == losses(crosscoder)
    (mine, _), (theirs, _) = sae.read(out), sae.read(crosscoder)
    pairs = zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class TestRefusals:
    def test_too_few_or_too_many_models(self, refused, words, models, tmp_path):
        one = ["--models", models / "base", *words[3:], *CROSSCODER]
        said = refused(fit_together, 2, tmp_path / "d", *one)
        assert "--models for a crosscoder; found: 1 of them; do: give two or more" in said
        three = ["--models", *[models / each for each in ("base", "twin", "other")], *words[3:]]
        said = refused(fit_together, 2, tmp_path / "d", *three, "--of.kind=difference")
        assert "found: 3 of them; do: give two, the base model first" in said

    def test_models_that_are_no_twins(self, refused, words, models, tmp_path):
        for other in ("wide", "words"):
            pair = ["--models", models / "base", models / other, *words[3:], *CROSSCODER]
            said = refused(fit_together, 2, tmp_path / "d", *pair)
            assert "choose a model that was tuned from the base" in said

    def test_twice_the_same_model_has_no_difference(self, door, words, models, tmp_path):
        pair = ["--models", models / "base", models / "base", *words[3:], "--of.kind=difference"]
        code, said = door(fit_together, *pair, "--out", tmp_path / "d")
        assert (code, "mean squared norm is 0; do:" in said) == (3, True)
        assert not (tmp_path / "d").exists()

    def test_what_is_fitted_must_be_said(self, refused, words, tmp_path):
        assert "of" in refused(fit_together, 2, tmp_path / "d", *words)
