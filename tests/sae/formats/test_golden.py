"""Both directions against the other libraries themselves.

`golden/` holds files that they wrote, with what their own encode and decode gave. Files written
here are given to them where `make peers` has built their environments.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sae
from sae.errors import ConfigError
from sae.formats import FORMATS

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(each.parent for each in GOLDEN.rglob("recorded.safetensors"))
PEERS = [name for name, each in FORMATS.items() if each.write is not None and name != "forelimb"]
TOLERANCE = 1e-5


def name_of(folder):
    return folder.relative_to(GOLDEN).as_posix()


EACH = pytest.mark.parametrize("folder", CASES, ids=name_of)


def difference(one, other):
    return (one - other).abs().max() / max(1, other.abs().max())


def test_there_are_cases_of_every_format():
    formats = {folder.relative_to(GOLDEN).parts[0] for folder in CASES}
    assert formats == set(FORMATS) - {"forelimb"}


@EACH
def test_latents_and_reconstructions_are_the_other_librarys_own(folder):
    dictionary, meta = sae.read(folder)
    recorded = load_file(folder / "recorded.safetensors")
    fires = (recorded["z"] > 0).float().sum(-1).mean()
    assert 0.5 < fires < recorded["z"].shape[1] - 0.5, "the case shows nothing"
    with torch.no_grad():
        z = dictionary.encode(recorded["x"])
        assert difference(z, recorded["z"]) < TOLERANCE
        assert torch.equal(z > 0, recorded["z"] > 0)
        assert difference(dictionary.decode(recorded["z"]), recorded["x_hat"]) < TOLERANCE
        assert difference(dictionary.encode_sparse(recorded["x"]).dense(), z) < TOLERANCE
    assert dictionary.input_scale == 1
    assert meta["source"]["format"] == folder.relative_to(GOLDEN).parts[0]
    json.dumps(meta)


@EACH
@pytest.mark.parametrize("form", list(FORMATS))
def test_written_in_any_format_it_reads_back_equal(folder, form, tmp_path):
    dictionary, meta = sae.read(folder)
    x = load_file(folder / "recorded.safetensors")["x"]
    try:
        sae.write(tmp_path / "layers.1", dictionary, meta, form)
    except ConfigError as error:
        is_of_one = dictionary.config.crosscoder is None
        able = ("forelimb", "saelens") if is_of_one else ("forelimb",)
        assert form not in able or FORMATS[form].write is None, error
        assert not list(tmp_path.iterdir())
        return
    twin, told = sae.read(tmp_path / "layers.1")
    assert difference(twin(x).z, dictionary(x).z) < TOLERANCE
    assert difference(twin(x).x_hat, dictionary(x).x_hat) < TOLERANCE
    if form in ("saelens", "dictionary_learning"):
        assert told["hook"] == meta["hook"]
        assert told["model"] == meta["model"]


@pytest.mark.parametrize("peer", PEERS)
def test_the_other_library_reads_what_is_written(peer, tmp_path):
    python = ROOT / ".peers" / peer / "bin" / "python"
    if not python.is_file():
        pytest.skip("make peers has not been run")
    folders = {}
    for folder in CASES:
        dictionary, meta = sae.read(folder)
        out = tmp_path / name_of(folder).replace("/", "-")
        try:
            sae.write(out, dictionary, meta, peer)
        except ConfigError:
            continue
        folders[out] = dictionary
        save_file({"x": load_file(folder / "recorded.safetensors")["x"]}, out / "x.safetensors")
    quiet = {**os.environ, "SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, GOLDEN / "reread.py", peer, *folders]
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    for out, dictionary in folders.items():
        x, theirs = load_file(out / "x.safetensors")["x"], load_file(out / "theirs.safetensors")
        assert difference(dictionary(x).z, theirs["z"]) < TOLERANCE, out.name
        assert difference(dictionary(x).x_hat, theirs["x_hat"]) < TOLERANCE, out.name
