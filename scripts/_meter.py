"""Progress of work that reports by itself: a bar for each part on a terminal, else some lines."""

import sys
import time
from typing import Any

from tqdm import tqdm

__all__ = ["Meter", "Parts"]

SECONDS_BETWEEN_LINES = 5.0


class Meter:
    """Shows how far each part of a long piece of work is, on stderr.

    On a terminal every part has a bar with rate and time left; elsewhere a whole line is written
    every five seconds, and one at the end of a part. Parts may go on side by side.

    Args:
        unit: What is counted.
    """

    def __init__(self, unit: str = "step") -> None:
        self._unit = unit
        self._parts: dict[str, _Part] = {}
        self._ended: set[str] = set()

    def __call__(self, label: str, n: int, total: int, note: str = "") -> None:
        """Says that `n` of `total` are done of the part `label`, which ends when all are."""
        if label in self._ended:
            return  # the whole was an estimate, and too low
        if label not in self._parts:
            self._parts[label] = _Part(label, total, self._unit)
        part = self._parts[label]
        part.show(n, total, note)
        if n >= total:
            self._parts.pop(label).close(note)
            self._ended.add(label)

    def hear(self, *news: Any) -> None:
        """Takes what a job says: how far a part is, as when called, or one line to show."""
        if len(news) > 1:
            self(*news)
        else:
            tqdm.write(*news, file=sys.stderr)

    def close(self) -> None:
        """Ends the parts that are open."""
        for part in self._parts.values():
            part.close("")
        self._parts = {}


class _Part:
    """One part, open from its first news on."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._unit, self._n, self._total = label, unit, 0, total
        self._start = self._told = time.monotonic()  # at once there is no rate yet to tell
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr)

    def show(self, n: int, total: int, note: str) -> None:
        self._n, self._total = n, total
        if self._bar is not None:
            self._bar.total = total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n - self._bar.n)
        elif n < total and time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._line(note)

    def close(self, note: str) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._line(note)

    def _line(self, note: str) -> None:
        self._told = time.monotonic()
        shape = (
            "{desc}: {n_fmt}/{total_fmt} {unit} ({percentage:.0f}%), {rate_fmt}, {remaining} left"
        )
        line = tqdm.format_meter(
            self._n,
            self._total,
            self._told - self._start,
            prefix=self._label,
            unit=self._unit,
            bar_format=shape,
        )
        print(f"{line} {note}".rstrip(), file=sys.stderr, flush=True)


class Parts:
    """Names the parts of a piece of work on stderr as each begins, and times them.

    Example:
        >>> with Parts() as tell:
        ...     tell("first part")
        >>> list(tell.seconds)
        ['first part']
    """

    def __init__(self) -> None:
        self._start = self._since = time.monotonic()
        self._open: str | None = None
        self._ended: dict[str, float] = {}

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, part: str, note: str = "") -> None:
        """A part begins, and the one before it ends; or there is a note on the one that is open."""
        now = time.monotonic()
        if part != self._open:
            self._end()
            self._open, self._since = part, now
        words = f"{part}: {note}" if note else part
        print(f"{now - self._start:6.0f} s  {words}", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of every part so far; of the open one until now."""
        now = {self._open: time.monotonic() - self._since} if self._open else {}
        return {name: round(each, 1) for name, each in (self._ended | now).items()}

    def _end(self) -> None:
        if self._open is not None:
            self._ended[self._open] = time.monotonic() - self._since
        self._open = None
