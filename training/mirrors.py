"""Mirrors of a run's numbers, told by `training.track`: the wandb dashboard and the console."""

import contextlib
import hashlib
import json
import math
import netrc
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from sae.whole import write_json

__all__ = ["ConsoleTracker", "Stream", "TellTracker", "WandbMode", "WandbTracker"]
__all__ += ["start_wandb"]

WandbMode = Literal["auto", "online", "offline", "off"]
"""Where wandb sends a run; see `start_wandb`."""

_PROJECT = "forelimb"


@runtime_checkable
class Stream(Protocol):
    """What the console is written to: stderr, or anything like it."""

    def write(self, text: str, /) -> int:
        """Writes."""
        ...

    def flush(self) -> None:
        """Shows what was written."""
        ...

    def isatty(self) -> bool:
        """Whether someone watches."""
        ...


class WandbTracker:
    """Mirrors rows to one wandb run, on the axis "tokens".

    Steps are never passed to wandb, so that a run resumed from an earlier state is drawn over
    its old self instead of being dropped. Errors are left to `training.track.Trackers`.

    Args:
        run: A started wandb run.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        run.define_metric("tokens")
        run.define_metric("*", step_metric="tokens")

    def log(self, row: Mapping[str, float | int]) -> None:
        """Hands one row to wandb."""
        self._run.log(dict(row))

    def histogram(
        self, key: str, counts: Sequence[int], edges: Sequence[float | int], n_tokens: int
    ) -> None:
        """Hands one histogram to wandb, as counts: no sample is sent."""
        import wandb

        drawn = wandb.Histogram(np_histogram=(np.asarray(counts), np.asarray(edges)))
        self._run.log({"tokens": n_tokens, key: drawn})

    def finish(self, exit_code: int = 0) -> None:
        """Ends the wandb run; uploads wait no longer than its settings say."""
        self._run.finish(exit_code=exit_code)


def start_wandb(
    directory: Path, name: str, config: Mapping[str, Any], mode: WandbMode = "auto"
) -> tuple[WandbTracker | None, str]:
    """A wandb run, or none, and a line that says which; no failure of wandb leaves this.

    "online" falls back to "offline" when no server answers, and "offline" to nothing when wandb
    cannot be imported or started. "auto" is online where an API key lies ready, else offline; it
    never asks for one, and obeys the variable WANDB_MODE. The run's id is kept in `wandb.json`, so
    that a resumed run goes on under it.

    Args:
        directory: The run's folder; wandb writes below it.
        name: Name of the run.
        config: Shown beside the run.
        mode: Where to send it.

    Returns:
        The tracker or None, and the line, which holds the command that uploads an offline run.
    """
    failure = "not asked for"
    for attempt in _attempts(mode):
        catch = _Caught()
        with catch:
            run = _init(directory, name, config, attempt)
            return WandbTracker(run), _outcome(run, attempt)
        failure = f"{type(catch.error).__name__}: {catch.error}".splitlines()[0]
    return None, f"no wandb ({failure})"


class ConsoleTracker:
    """Shows progress on stderr: a bar on a terminal, else a plain line every few seconds.

    Args:
        total_tokens: Where the run ends, in tokens.
        seen_tokens: Where it starts: not 0 when it was resumed. The rate is counted from here.
        stream: Where to write; None is stderr as it is when the tracker is made.
        every: Seconds between two plain lines.
        clock: Seconds since some fixed moment.
    """

    def __init__(
        self,
        total_tokens: int,
        seen_tokens: int = 0,
        stream: Stream | None = None,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._first = total_tokens, seen_tokens
        self._stream = sys.stderr if stream is None else stream
        self._every, self._clock = every, clock
        self._start = self._last = clock()
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total_tokens,
                initial=seen_tokens,
                unit=" tokens",
                unit_scale=True,
                file=self._stream,
                dynamic_ncols=True,
            )

    def log(self, row: Mapping[str, float | int]) -> None:
        """Moves the bar, or writes a line when the last one is old enough."""
        n_tokens, shown = int(row["tokens"]), _shown(row)
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(min(n_tokens, self._total) - self._bar.n)
        elif self._clock() - self._last >= self._every or n_tokens >= self._total:
            self._last = self._clock()
            words = [self._progress(n_tokens), *(f"{k} {v}" for k, v in shown.items())]
            self._stream.write("  ".join(words) + "\n")
            self._stream.flush()

    def histogram(
        self, key: str, counts: Sequence[int], edges: Sequence[float | int], n_tokens: int
    ) -> None:
        """Shows nothing: a histogram is not for a line of text."""

    def finish(self, exit_code: int = 0) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _progress(self, n_tokens: int) -> str:
        seconds = max(self._last - self._start, 1e-9)
        rate = (n_tokens - self._first) / seconds
        left = max(self._total - n_tokens, 0) / rate if rate > 0 else math.inf
        wait = f"{left:,.0f} s left" if math.isfinite(left) else "time left unknown"
        return (
            f"{n_tokens:,} of {self._total:,} tokens ({n_tokens / self._total:.0%})"
            f"  {rate:,.0f} tokens/s  {wait}"
        )


class TellTracker:
    """Tells someone else how far a run is, who shows it beside others.

    Args:
        tell: Called after every row with label, tokens so far, tokens in all and a note.
        label: What the run is called.
        total_tokens: Where it ends, in tokens.
    """

    def __init__(self, tell: Callable[..., None], label: str, total_tokens: int) -> None:
        self._tell, self._label, self._total = tell, label, total_tokens

    def log(self, row: Mapping[str, float | int]) -> None:
        """Tells of one row."""
        note = "  ".join(f"{key} {value}" for key, value in _shown(row).items())
        self._tell(self._label, min(int(row["tokens"]), self._total), self._total, note)

    def histogram(
        self, key: str, counts: Sequence[int], edges: Sequence[float | int], n_tokens: int
    ) -> None:
        """Tells nothing."""

    def finish(self, exit_code: int = 0) -> None:
        """Tells nothing."""


def _shown(row: Mapping[str, float | int]) -> dict[str, str]:
    return {key: f"{row[f'fit/{key}']:.3g}" for key in ("fvu", "l0") if f"fit/{key}" in row}


class _Caught:
    """A context that keeps the error which ended it, whatever wandb chose to raise."""

    error: Exception | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None


def _attempts(mode: WandbMode) -> tuple[Literal["online", "offline"], ...]:
    """The modes to try in turn."""
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE", "")
        if asked in ("disabled", "dryrun", "offline"):
            return () if asked == "disabled" else ("offline",)
        mode = "online" if _has_key() else "offline"
    return {"online": ("online", "offline"), "offline": ("offline",), "off": ()}[mode]


def _has_key() -> bool:
    """Whether wandb would find an API key without asking anyone."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _init(
    directory: Path, name: str, config: Mapping[str, Any], mode: Literal["online", "offline"]
) -> Any:
    """Starts the run; raises whatever wandb raises."""
    import wandb

    directory.mkdir(parents=True, exist_ok=True)
    note = directory / "wandb.json"
    run_id = json.loads(note.read_text())["id"] if note.exists() else _run_id(name, config)
    run = wandb.init(
        project=_PROJECT,
        name=name,
        id=run_id,
        resume="allow" if mode == "online" else None,
        dir=str(directory),
        config=dict(config),
        mode=mode,
        settings=wandb.Settings(
            init_timeout=30, login_timeout=30, finish_timeout=120, console="off"
        ),
    )
    # A folder wandb could replace by one of its own must not cost the run that has begun.
    with contextlib.suppress(OSError):
        write_json(note, {"id": run_id, "project": _PROJECT, "name": name}, indent=None)
    return run


def _run_id(name: str, config: Mapping[str, Any]) -> str:
    """The name and a hash of the configuration; wandb allows neither slashes nor spaces."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{digest[:8]}"


def _outcome(run: Any, mode: str) -> str:
    """One line: where the run is, and how to upload it when it is not."""
    if mode == "online":
        return f"wandb online at {run.url}"
    return f"wandb offline: `wandb sync {run.settings.sync_dir}` uploads it"
