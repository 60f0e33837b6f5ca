"""The real wandb, offline, in a process of its own: nothing leaves this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

_RUN = """
import sys
from pathlib import Path
from training.track import open_trackers
trackers, note = open_trackers(Path(sys.argv[1]), "offline test", {"lr": 0.1}, 300, wandb="offline")
for tokens in (100, 200, 300):
    trackers.log({"tokens": tokens, "fit/fvu": 30.0 / tokens})
trackers.histogram("eval/fire_rates", [1, 2], [-2.0, -1.0, 0.0], n_tokens=300)
trackers.finish()
print(note)
"""


def test_an_offline_run_holds_the_rows(tmp_path):
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = {f"WANDB_{each}_DIR": str(tmp_path / each) for each in ("DATA", "CACHE", "CONFIG")}
    for each in places.values():
        Path(each).mkdir()
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN, str(tmp_path / "run")],
        env={**quiet, **places},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "left out" not in run.stderr and "goes on without" not in run.stderr
    assert "\r" not in run.stderr
    (log,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    assert f"`wandb sync {log.parent}` uploads it" in run.stdout
    assert log.read_bytes().count(b"fit/fvu") >= 3
    assert b"eval/fire_rates" in log.read_bytes()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["tokens"] for row in rows] == [100, 200, 300, 300]
    assert json.loads((tmp_path / "run" / "wandb.json").read_text())["project"] == "forelimb"
