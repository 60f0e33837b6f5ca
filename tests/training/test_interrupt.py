"""The process must end because of the signal, and only after it has saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

from training.interrupt import Interrupt

_RUN = """
import sys, time
from pathlib import Path
from training.interrupt import Interrupt
folder = Path(sys.argv[1])
with Interrupt() as interrupt:
    (folder / "ready").touch()
    while True:
        time.sleep(0.02)
        if interrupt.requested and sys.argv[2] == "polite":
            print("saved", end="")
            (folder / "saved").touch()
            break
        if interrupt.requested:
            (folder / "heard").touch()
(folder / "after").touch()
"""

_END = """
import signal, sys
from training.interrupt import end_by
sys.stdout = open(1, "w")
print("to nobody")
end_by(signal.SIGTERM)
"""

_SIGNALS = [signal.SIGINT, signal.SIGTERM]


def _ignore_interrupts():
    # What a background process of a non-interactive shell inherits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start(folder, manner):
    run = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(folder), manner],
        preexec_fn=_ignore_interrupts,
        stdout=subprocess.PIPE,
    )
    _wait_for(folder / "ready")
    return run


def _wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize("number", _SIGNALS)
def test_the_first_signal_saves_and_then_ends_the_process(tmp_path, number):
    run = _start(tmp_path, "polite")
    run.send_signal(number)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == -number
    assert out == b"saved"
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "after").exists()


@pytest.mark.parametrize("number", _SIGNALS)
def test_the_second_signal_ends_it_at_once(tmp_path, number):
    run = _start(tmp_path, "deaf")
    run.send_signal(number)
    _wait_for(tmp_path / "heard")
    run.send_signal(number)
    run.communicate(timeout=30)
    assert run.returncode == -number


def test_a_background_run_of_a_shell_is_reached(tmp_path):
    script = '"$0" -c "$1" "$2" polite & echo $! > "$2/pid"; wait -n; echo $?'
    shell = subprocess.Popen(
        ["bash", "-c", script, sys.executable, _RUN, str(tmp_path)], stdout=subprocess.PIPE
    )
    _wait_for(tmp_path / "ready")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGINT)
    out, _ = shell.communicate(timeout=30)
    assert out == b"saved130\n"


def test_without_a_signal_the_old_handlers_come_back():
    before = [signal.getsignal(each) for each in _SIGNALS]
    with Interrupt() as interrupt:
        assert [signal.getsignal(each) for each in _SIGNALS] != before
    assert not interrupt.requested
    assert [signal.getsignal(each) for each in _SIGNALS] == before


def test_an_error_is_not_hidden_by_the_signal():
    with pytest.raises(KeyError, match="a failed save"), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.requested
        raise KeyError("a failed save")


def test_a_second_signal_does_not_end_a_child_before_it_saved(monkeypatch):
    ended = []
    monkeypatch.setattr("training.interrupt.parent_process", object)
    monkeypatch.setattr("training.interrupt.end_by", ended.append)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.requested and not ended
    assert ended == [signal.SIGTERM]


def test_a_reader_that_went_away_does_not_hide_the_signal():
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-c", _END], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (run.returncode, run.stderr) == (-signal.SIGTERM, b"")
