"""The door of converting: any dictionary read, three formats and our own written, or nothing."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sae
from sae.formats import FORMATS, hub
from scripts import convert_dictionary

GOLDEN = Path(__file__).parents[1] / "sae" / "formats" / "golden"
TOPK = GOLDEN / "sparsify" / "given_width" / "layers.1"
WRITTEN = [name for name, each in FORMATS.items() if each.write is not None]


def flags(*words):
    return ["--source", words[0], "--out", words[1], *words[2:]]


@pytest.mark.parametrize("form", WRITTEN)
def test_latents_stay_and_the_second_time_nothing_is_done(door, form, tmp_path):
    x = load_file(TOPK / "recorded.safetensors")["x"]
    out = tmp_path / "new" / "layers.1"
    assert door(convert_dictionary, TOPK, out, "--to", form)[0] == 0
    assert sorted(each.name for each in out.parent.iterdir()) == ["layers.1"]
    before, after = sae.read(TOPK)[0], sae.read(out)[0]
    assert torch.allclose(before(x).z, after(x).z, atol=1e-5)
    code, told = door(convert_dictionary, *flags(TOPK, out), "--to", form)
    assert (code, "up to date" in told) == (0, True)


def test_our_own_goes_out_and_comes_back_with_its_source(door, tmp_path):
    assert door(convert_dictionary, TOPK, tmp_path / "own")[0] == 0
    assert door(convert_dictionary, tmp_path / "own", tmp_path / "out", "--to", "saelens")[0] == 0
    meta = sae.read(tmp_path / "own")[1]
    assert meta["source"]["format"] == "sparsify"
    assert meta["hook"] == "blocks.1.hook_resid_post"


def refused(door, *words):
    code, told = door(convert_dictionary, *words)
    assert told.count("\n") == 1
    return code, told


def test_what_cannot_be_is_refused_and_nothing_written(door, tmp_path):
    out = tmp_path / "deep" / "out"
    jump = GOLDEN / "saelens" / "jumprelu"
    assert refused(door, jump, out, "--to", "sparsify")[0] == 2
    assert refused(door, jump, out, "--to", "gemma_scope")[0] == 2
    assert refused(door, tmp_path / "nowhere", out)[0] == 3
    broken = shutil.copytree(TOPK, tmp_path / "broken")
    (broken / "sae.safetensors").write_bytes((TOPK / "sae.safetensors").read_bytes()[:-9])
    assert refused(door, broken, out)[0] == 3
    assert not out.parent.exists()


def test_it_overwrites_neither_another_folder_nor_itself(door, tmp_path):
    copy = shutil.copytree(TOPK, tmp_path / "copy")
    held = {each.name: each.read_bytes() for each in copy.iterdir()}
    assert refused(door, copy, copy, "--to", "sparsify")[0] == 2
    assert refused(door, TOPK, copy, "--to", "saelens")[0] == 2
    assert {each.name: each.read_bytes() for each in copy.iterdir()} == held


def test_what_the_files_leave_open_is_a_flag(door, tmp_path):
    checkpoint = shutil.copytree(GOLDEN / "saelens" / "topk_by_norm_checkpoint", tmp_path / "in")
    (checkpoint / "activation_scaler.json").unlink()
    code, told = refused(door, checkpoint, tmp_path / "out")
    assert code == 3
    assert "--given.input_scale" in told
    assert door(convert_dictionary, checkpoint, tmp_path / "out", "--given.input_scale=3.7")[0] == 0
    x = load_file(checkpoint / "recorded.safetensors")
    assert torch.allclose(sae.read(tmp_path / "out")[0](x["x"]).z, x["z"], atol=1e-4)


@pytest.mark.parametrize("form", WRITTEN)
def test_what_was_written_is_sent_only_when_asked(door, monkeypatch, form, tmp_path):
    sent = []

    def upload(folder, url):
        sent.append((sorted(each.name for each in folder.iterdir()), url))
        return "https://hub/commit/1"

    monkeypatch.setattr(hub, "upload", upload)
    out = tmp_path / "out"
    assert door(convert_dictionary, TOPK, out, "--to", form)[0] == 0
    assert sent == []
    code, told = door(convert_dictionary, TOPK, out, "--to", form, "--upload", "hf://me/mine")
    assert (code, "up to date" in told, "hub/commit/1" in told) == (0, True, True)
    ((names, url),) = sent
    assert url == "hf://me/mine"
    assert FORMATS[form].weights in names
    unknown = set(names) - set(hub.FILES)
    assert unknown <= {"provenance.json"}


def test_a_bad_id_to_send_to_is_refused_before_any_work(door, tmp_path):
    out = tmp_path / "out"
    assert refused(door, TOPK, out, "--upload", "me/mine")[0] == 2
    assert not out.exists()
