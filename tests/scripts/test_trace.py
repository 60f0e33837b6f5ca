"""The door of tracing: the same trace from one process and from several."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]


def trace(home, out, n_threads):
    parts = ("organism", "dictionary", "continued")
    flags = [f"--{name}={home / name}" for name in parts]
    run = subprocess.run(
        [sys.executable, "-m", "scripts.trace_personas", *flags, "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stderr
    return run


def test_two_processes_trace_what_one_does(tiny_trace, tmp_path):
    runs = {n: trace(tiny_trace, tmp_path / str(n), n) for n in (1, 2)}
    one, two = tmp_path / "1", tmp_path / "2"
    assert "models: assistant" in runs[2].stderr
    for name in ("fates", "traces", "examples"):
        tables = [pd.read_parquet(each / f"{name}.parquet") for each in (one, two)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    for name in ("directions.safetensors", "nulls.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    summaries = [json.loads((each / "summary.json").read_text()) for each in (one, two)]
    for each in summaries:
        each.pop("seconds")
    assert summaries[0] == summaries[1]
