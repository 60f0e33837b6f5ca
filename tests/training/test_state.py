import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from sae.errors import InputError
from training.config import TrainConfig
from training.state import TrainState


def _state(step=3, fill=1.0):
    return TrainState(
        config=TrainConfig(n_tokens=1000, betas=(0.5, 0.9)),
        step=step,
        n_tokens=32 * step,
        weights={
            "W": torch.full((2, 3), fill),
            "threshold": torch.tensor(0.1, dtype=torch.float64),
        },
        moments={"exp_avg.W": torch.full((2, 3), -fill), "step.W": torch.tensor(float(step))},
        n_tokens_since_fired=torch.arange(4),
        cursor={"epoch": 1, "fill": 2},
    )


def _equal(one, other):
    for mine, theirs in ((one.weights, other.weights), (one.moments, other.moments)):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            assert torch.equal(mine[name], theirs[name])
    assert torch.equal(one.n_tokens_since_fired, other.n_tokens_since_fired)
    assert (one.config, one.step, one.n_tokens, one.cursor) == (
        other.config, other.step, other.n_tokens, other.cursor,
    )  # fmt: skip


def test_round_trip_is_exact(tmp_path):
    folder = _state().save(tmp_path / "deep" / "state")
    assert folder.name == "000001-step-3"
    _equal(TrainState.load(tmp_path / "deep" / "state"), _state())


def test_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (1, 2, 3, 3):
        _state(step, fill=float(step)).save(tmp_path)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["000003-step-3", "000004-step-3", "latest"]
    _equal(TrainState.load(tmp_path), _state(3, 3.0))


def test_a_run_set_back_saves_after_the_one_it_left(tmp_path):
    _state(9).save(tmp_path)
    _state(4).save(tmp_path)
    assert TrainState.load(tmp_path).step == 4


def test_no_state_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="found: none; do: start the run from its beginning"):
        TrainState.load(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_state_is_told_and_the_one_before_it_is_within_reach(tmp_path, name, damage):
    _state(1).save(tmp_path)
    folder = _state(2).save(tmp_path)
    content = bytearray((folder / name).read_bytes())
    if damage == "gone":
        (folder / name).unlink()
    else:
        content = content[: len(content) // 2] if damage == "cut" else content
        content[-1] ^= 0xFF
        (folder / name).write_bytes(bytes(content))
    with pytest.raises(InputError, match="a damaged one .*to go on from the state before it"):
        TrainState.load(tmp_path)
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    (tmp_path / "latest").unlink()
    assert TrainState.load(tmp_path).step == 1


def test_a_foreign_schema_is_refused(tmp_path):
    folder = _state().save(tmp_path)
    header = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**header, "schema": "other/9"}))
    with pytest.raises(InputError, match="schema 'other/9'"):
        TrainState.load(tmp_path)


_STOPS = ("write_tensors", "write_json", "rename", "point", "prune")

_KILLED = """
import os, signal, sys, torch
from pathlib import Path
import training.state as state
from training.config import TrainConfig

folder, stop = Path(sys.argv[1]), sys.argv[2]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

make = lambda step: state.TrainState(
    TrainConfig(n_tokens=1000), step, step, {"W": torch.ones(9)}, {}, torch.zeros(4).long(), {})
make(1).save(folder)
make(2).save(folder)
write = state._write
if stop == "write_tensors":
    def half(path, content):
        path.write_bytes(content[: len(content) // 2])
        die()
    state._write = half
if stop == "write_json":
    state._write = lambda path, content: die() if path.suffix == ".json" else write(path, content)
if stop == "rename":
    Path.rename = die
if stop == "point":
    state._point = die
if stop == "prune":
    state.shutil.rmtree = die
make(3).save(folder)
"""


@pytest.mark.parametrize("stop", _STOPS)
def test_killed_during_a_save_a_state_still_loads(tmp_path, stop):
    run = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), stop], timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert TrainState.load(tmp_path).step == (3 if stop == "prune" else 2)
    _state(7).save(tmp_path)
    assert TrainState.load(tmp_path).step == 7
    assert len([each for each in tmp_path.iterdir() if each.is_dir()]) == 2


_SAVING = """
import sys, torch
from pathlib import Path
from training.config import TrainConfig
from training.state import TrainState
step = 0
while True:
    step += 1
    TrainState(TrainConfig(n_tokens=1000), step, step, {"W": torch.full((200_000,), float(step))},
               {}, torch.zeros(4).long(), {}).save(Path(sys.argv[1]))
"""


def test_killed_at_any_moment_a_state_still_loads(tmp_path):
    for trial in range(4):
        folder = tmp_path / str(trial)
        run = subprocess.Popen([sys.executable, "-c", _SAVING, str(folder)])
        deadline = time.monotonic() + 60
        while not (folder / "latest").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.037 * trial)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        state = TrainState.load(folder)
        assert torch.equal(state.weights["W"], torch.full((200_000,), float(state.step)))
