"""Progress of work that reports by itself: a bar for each part on a terminal, else some lines."""

import sys
import time

from tqdm import tqdm

__all__ = ["Meter"]

SECONDS_BETWEEN_LINES = 5.0


class Meter:
    """Shows how far each part of a long piece of work is, on stderr.

    On a terminal every part has a bar with rate and time left; elsewhere a whole line is written
    every five seconds, and one at the end of a part.

    Args:
        unit: What is counted.
    """

    def __init__(self, unit: str = "step") -> None:
        self._unit, self._label, self._total = unit, "", 0
        self._bar: tqdm | None = None
        self._n, self._start, self._told = 0, 0.0, 0.0

    def __call__(self, label: str, n: int, total: int, note: str = "") -> None:
        """Says that `n` of `total` are done of the part `label`; another label opens a new part."""
        if label != self._label:
            self.close()
            self._label, self._total, self._start = label, total, time.monotonic()
            if sys.stderr.isatty():
                self._bar = tqdm(total=total, desc=label, unit=self._unit, file=sys.stderr)
        self._n = n
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n - self._bar.n)
        elif time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._line(note)

    def close(self) -> None:
        """Ends the part that is open."""
        if self._bar is not None:
            self._bar.close()
        elif self._label:
            self._line("")
        self._bar, self._label = None, ""

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
