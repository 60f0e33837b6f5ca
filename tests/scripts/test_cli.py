"""Messages, exit codes, ends by signal."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sae.errors import ConfigError, ForelimbError, InputError, NumericalError
from scripts._cli import exit_codes, run

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Config:
    """Nothing much."""

    number: int = 0
    """A number."""


def ends(error, capsys):
    def main(config):
        raise error

    code = run(main, Config, [])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("forelimb: asked: ")
    assert err.count("\n") == 1
    return code, err


@pytest.mark.parametrize("result", [None, 0, 4])
def test_the_code_is_what_main_returns(result):
    assert run(lambda config: result, Config, []) == (result or 0)


def test_main_gets_its_config():
    assert run(lambda config: config.number, Config, ["--number", "4"]) == 4


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("k=9", "d_sae is 4", "choose k at most 4"), 2),
        (InputError("model", "no folder", "fetch it"), 3),
        (NumericalError("loss", "nan", "lower lr"), 4),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 3),
        (OSError(errno.ENOSPC, "No space left on device", "a.txt"), 3),
        (OSError("org/model is not a local folder\nand not on the hub"), 3),
        (RuntimeError("shapes\ndiffer"), 1),
        (KeyError("x"), 1),
    ],
)
def test_every_failure_is_one_line_and_a_code(error, code, capsys):
    assert ends(error, capsys)[0] == code


def test_a_full_disk_names_the_file_and_what_to_do(capsys):
    _, line = ends(OSError(errno.ENOSPC, "No space left on device", "runs/a"), capsys)
    assert line == (
        "forelimb: asked: runs/a; found: No space left on device; "
        "do: free some space, or choose a folder on another disk\n"
    )


def test_the_traceback_is_shown_only_when_asked_for(capsys, monkeypatch):
    def main(config):
        raise RuntimeError("deep inside")

    monkeypatch.setenv("FORELIMB_DEBUG", "1")
    assert run(main, Config, []) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.delenv("FORELIMB_DEBUG")
    assert run(main, Config, []) == 1
    assert "FORELIMB_DEBUG=1" in capsys.readouterr().err


def test_a_wrong_flag_is_code_2_and_help_is_code_0(capsys):
    assert run(lambda config: 0, Config, ["--nmber", "1"]) == 2
    assert "did you mean --number?" in capsys.readouterr().err
    assert run(lambda config: 1, Config, ["--help"]) == 0


def test_help_lists_every_exit_code(capsys):
    run(lambda config: 0, Config, ["--help"])
    shown = capsys.readouterr().out
    for code, meaning in exit_codes().items():
        assert f"  {code:>3}  {meaning}" in shown


def test_handlers_are_given_back():
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    run(lambda config: 0, Config, [])
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


DOOR = '''
import os, signal, sys
from dataclasses import dataclass
from scripts._cli import run

@dataclass(frozen=True)
class Config:
    """None."""
    number: int = 0

def main(config):
    try:
        os.kill(os.getpid(), config.number)
        signal.pause()
    finally:
        print("closed", flush=True)

if __name__ == "__main__":
    sys.exit(run(main, Config))
'''


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_by_itself_after_closing(number, tmp_path):
    door = tmp_path / "door.py"
    door.write_text(DOOR)
    done = subprocess.run(
        [sys.executable, str(door), f"--number={int(number)}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-number, "closed\n", "")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(first, second, tmp_path):
    door = tmp_path / "door.py"
    door.write_text(DOOR.replace("print(", f"os.kill(os.getpid(), {int(second)}); print("))
    done = subprocess.run(
        [sys.executable, str(door), f"--number={int(first)}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-second, "", "")


def test_a_door_runs_as_a_module_and_help_says_so(tmp_path):
    (tmp_path / "door.py").write_text(DOOR)
    done = subprocess.run(
        [sys.executable, "-m", "door", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m door ")


def test_the_codes_of_the_errors_are_all_there():
    assert {each.exit_code for each in ForelimbError.__subclasses__()} < set(exit_codes())


@pytest.mark.parametrize(("given", "kept"), [(None, "10000"), ("7", "7")])
def test_doors_let_waiting_threads_spin_briefly_unless_told_otherwise(given, kept):
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    env |= {} if given is None else {"GOMP_SPINCOUNT": given}
    code = "import os, sys, scripts; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert out.stdout.split() == [kept, "False"]
