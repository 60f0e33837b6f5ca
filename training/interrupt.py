"""Signals that end a run: the first lets it save, the second ends it at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import NoReturn

__all__ = ["Interrupt", "end_by"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which the first SIGINT or SIGTERM asks, and the second ends.

    The script looks at `requested` after every step, saves its state and leaves the block. On
    leaving, the signal is raised again with its default handler, so that the process ends
    *because of the signal* and whoever waits for it sees that (exit status 130 or 143 in a
    shell). Neither `finally` clauses nor `atexit` hooks outside the block run after that:
    trackers are closed inside it. An exception on its way out of the block is never hidden by the
    signal: it goes on, and decides how the process ends.

    The handlers are installed whatever was there before, because a background process of a
    non-interactive shell inherits SIGINT ignored. Without a signal the old handlers come back.
    Signal handlers belong to the main thread, so the block must run in it. In a process that
    another one of the command started only SIGTERM is heard, and only once: a terminal sends
    SIGINT to all of them, the first one ends the others by SIGTERM, more than once where one of
    them died, and a second signal would cost what is saved.

    Example:
        >>> with Interrupt() as interrupt:
        ...     for step in range(3):
        ...         if interrupt.requested:
        ...             break
        >>> step, interrupt.requested
        (2, False)
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Callable | int | None] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal asked the run to stop."""
        return self._received is not None

    def __enter__(self) -> "Interrupt":
        heard = _SIGNALS if parent_process() is None else (signal.SIGTERM,)
        self._previous = {each: signal.signal(each, self._handle) for each in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be restored.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        if self._received is not None and error is None:
            end_by(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = signal.Signals(number)
        elif parent_process() is None:
            end_by(signal.Signals(number))


def end_by(number: signal.Signals) -> NoReturn:
    """Ends this process by a signal itself, so that whoever waits for it sees what happened.

    What was printed is sent on first; no `finally` clause and no `atexit` hook runs.

    Args:
        number: A signal whose default is to end a process.
    """
    for stream in (sys.stdout, sys.stderr):
        # A reader that went away must not turn the signal into a traceback.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)
