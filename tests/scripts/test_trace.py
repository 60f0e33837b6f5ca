"""The door of tracing: two processes trace what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import sae

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def traced(tiny_trace, tmp_path_factory):
    """The trace of `tiny_trace` again, by a command of two threads."""
    out = tmp_path_factory.mktemp("traced") / "trace"
    flags = [f"--{name}={tiny_trace / name}" for name in ("organism", "dictionary", "continued")]
    run = subprocess.run(
        [sys.executable, "-m", "scripts.trace_personas", *flags, f"--out={out}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stderr
    assert "models: persona latents" in run.stderr
    assert "models: assistant" in run.stderr
    return out


def test_what_was_seen_of_each_model_is_the_same_bit_for_bit(traced, tiny_trace):
    tables = [pd.read_parquet(each / "traces.parquet") for each in (tiny_trace / "trace", traced)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    name = "directions.safetensors"
    assert (traced / name).read_bytes() == (tiny_trace / "trace" / name).read_bytes()


def test_rows_say_which_latents_of_the_continued_dictionary_they_are(traced, tiny_trace):
    held = load_file(traced / "directions.safetensors")
    index = held["index"].numpy()
    own = sae.read(tiny_trace / "continued" / "assistant")[0].W_dec.detach()[index]
    assert sorted(index) == list(range(len(index)))
    rows = torch.nn.functional.normalize(own, dim=-1)
    torch.testing.assert_close(held["tuned"], rows, atol=1e-5, rtol=0)


def test_so_is_what_is_said_of_it(traced, tiny_trace):
    for name in ("fates", "examples"):
        tables = [
            pd.read_parquet(each / f"{name}.parquet") for each in (tiny_trace / "trace", traced)
        ]
        pd.testing.assert_frame_equal(*tables, rtol=1e-6, atol=1e-6)  # single precision
    personas = [
        json.loads((each / "summary.json").read_text())["personas"]
        for each in (tiny_trace / "trace", traced)
    ]
    assert personas[0] == personas[1]
