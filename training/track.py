"""Where a run's numbers go: a jsonl file always, a dashboard and a console as mirrors of it.

No tracker can stop a run. Rows are flat, their clock is the key "tokens", and `KEYS` is the one
list of what may stand in them.
"""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, runtime_checkable

from training.mirrors import ConsoleTracker, WandbMode, start_wandb

__all__ = ["KEYS", "JsonlTracker", "Tracker", "Trackers", "open_trackers", "read_rows"]

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "tokens": "tokens seen; the axis of every other key",
        "step": "optimiser steps taken",
        "loss/total": "what is minimised: the weighted sum of the terms below",
        "loss/reconstruction": "squared error per dimension, scaled units, mean over prefixes",
        "loss/l1": "decoder-norm weighted sum of latent activations, scaled units",
        "loss/tanh": "tanh of latent activations, summed, over d_in (JumpReLU)",
        "loss/pre_act": "how far latents stay below their thresholds, over d_in (JumpReLU)",
        "loss/l0": "squared relative distance of L0 from its target (JumpReLU)",
        "loss/gate_reconstruction": "squared error of what gates alone reconstruct (Gated)",
        "loss/kl": "KL(model || model with reconstructions), nats (KL fine-tuning)",
        "loss/auxiliary": "dead latents' attempt at the error, 1 is as good as none",
        "fit/fvu": "fraction of variance unexplained on the step's batch",
        "fit/l0": "fires per token on the step's batch",
        "fit/dead_fraction": "share of latents without a fire in the last dead_after_tokens",
        "fit/grad_norm": "norm of the gradient before clipping",
        "fit/lr": "learning rate of the step",
        "eval/fvu": "fraction of variance unexplained, held-out non-special tokens",
        "eval/l0": "fires per held-out non-special token",
        "eval/ce_clean": "next-token loss of the model itself, nats",
        "eval/ce_patched": "next-token loss with the reconstruction in place, nats",
        "eval/ce_ablated": "next-token loss with the mean activation in place, nats",
        "eval/kl": "KL(model || model with the reconstruction in place), nats",
        "eval/ce_recovered": "share of the damage of mean ablation that the dictionary repairs",
        "eval/dead_fraction": "share of latents without a fire on the held-out tokens",
        "eval/fire_rates": "histogram of log10 fire rates of the latents that fired",
        "eval/n_tokens": "held-out non-special tokens",
    }
)
"""Every key a row may have, with its meaning and unit."""

_LOG = logging.getLogger(__name__)


@runtime_checkable
class Tracker(Protocol):
    """Something that takes a run's numbers."""

    def log(self, row: Mapping[str, float | int]) -> None:
        """Takes one flat row; its keys are among `KEYS` and "tokens" is one of them."""
        ...

    def histogram(
        self, key: str, counts: Sequence[int], edges: Sequence[float | int], n_tokens: int
    ) -> None:
        """Takes counts between `edges` (one more than counts) as they were at `n_tokens`."""
        ...

    def finish(self, exit_code: int = 0) -> None:
        """Closes; anything but 0 marks the run as failed where that can be shown."""
        ...


class JsonlTracker:
    """Appends every row to a file, which is closed again after each; the run's own record.

    Numbers that are not finite are written as null, since JSON has no word for them. A torn last
    line, left by a process that was killed, is ended before the first new row.

    Args:
        path: The file; it and its folder are made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_begun = False

    def log(self, row: Mapping[str, float | int]) -> None:
        """Appends one row as a line."""
        self._write({key: each if math.isfinite(each) else None for key, each in row.items()})

    def histogram(
        self, key: str, counts: Sequence[int], edges: Sequence[float | int], n_tokens: int
    ) -> None:
        """Appends a row whose `key` holds counts and edges."""
        self._write({"tokens": n_tokens, key: {"counts": list(counts), "edges": list(edges)}})

    def finish(self, exit_code: int = 0) -> None:
        """Forces the file to disk."""
        if self._is_begun:
            with self._path.open("ab") as file:
                os.fsync(file.fileno())

    def _write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row) + "\n"
        if not self._is_begun:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            line = "\n" + line if _is_torn(self._path) else line
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        self._is_begun = True


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file as of an unbroken run.

    A run resumed from before its last row writes some rows again, and the later ones count: a row
    drops those above it that are ahead of it in tokens, and those at its own tokens that hold one
    of its keys. A torn line is passed over.

    Args:
        path: What a `JsonlTracker` wrote.

    Returns:
        Rows with tokens never falling.
    """
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        # Rows come in order, so that only the last few can be ahead of this one.
        kept = []
        while rows and rows[-1]["tokens"] >= row["tokens"]:
            last = rows.pop()
            if last["tokens"] == row["tokens"] and not (set(last) & set(row)) - {"tokens", "step"}:
                kept.append(last)
        rows += [*reversed(kept), row]
    return rows


class Trackers:
    """Hands everything to several trackers; one that fails never reaches the run or the others.

    The first failure of a tracker is told in a warning; one that failed `patience` times in a row
    is left out for the rest of the run, which is told in a second and last one.

    Args:
        trackers: Those who are told, in this order.
        patience: Failures in a row after which a tracker is left out.
    """

    def __init__(self, trackers: Sequence[Tracker], patience: int = 5) -> None:
        self._guards = [(each, _Guard(type(each).__name__, patience)) for each in trackers]

    def log(self, row: Mapping[str, float | int]) -> None:
        """Hands the row on."""
        for tracker, guard in self._open():
            with guard:
                tracker.log(row)

    def histogram(
        self, key: str, counts: Sequence[int], edges: Sequence[float | int], n_tokens: int
    ) -> None:
        """Hands the histogram on."""
        for tracker, guard in self._open():
            with guard:
                tracker.histogram(key, counts, edges, n_tokens)

    def finish(self, exit_code: int = 0) -> None:
        """Closes all, those that were left out too."""
        for tracker, guard in self._guards:
            with guard:
                tracker.finish(exit_code)

    def _open(self) -> list[tuple[Tracker, "_Guard"]]:
        return [(tracker, guard) for tracker, guard in self._guards if guard.is_open]


def open_trackers(
    directory: Path,
    name: str,
    config: Mapping[str, Any],
    total_tokens: int,
    seen_tokens: int = 0,
    wandb: WandbMode = "auto",
    console: Tracker | None = None,
) -> tuple[Trackers, str]:
    """The trackers of a run: `metrics.jsonl` in its folder, wandb as asked, the console.

    Args:
        directory: The run's folder.
        name: What the run is called on a dashboard.
        config: Resolved configuration and provenance, kept by the dashboard.
        total_tokens: Where the run ends.
        seen_tokens: Where it starts, when it is resumed.
        wandb: See `training.mirrors.start_wandb`.
        console: Who shows progress; None for a `ConsoleTracker`.

    Returns:
        The trackers, and one line that says where the numbers go and how to send them on.
    """
    mirror, note = start_wandb(directory, name, config, wandb)
    trackers: list[Tracker] = [JsonlTracker(directory / "metrics.jsonl")]
    trackers += [mirror] if mirror is not None else []
    trackers.append(console or ConsoleTracker(total_tokens, seen_tokens))
    return Trackers(trackers), f"numbers in {directory / 'metrics.jsonl'}; {note}"


class _Guard:
    """A context no error leaves; it closes after too many in a row."""

    def __init__(self, name: str, patience: int) -> None:
        self._name, self._patience = name, patience
        self._n_in_a_row, self._was_told = 0, False
        self.is_open = True

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._n_in_a_row = 0 if error is None else self._n_in_a_row + 1
        if error is not None and not self._was_told:
            self._was_told = True
            _LOG.warning("%s failed, the run goes on without: %r", self._name, error)
        if self.is_open and self._n_in_a_row >= self._patience:
            self.is_open = False
            _LOG.warning("%s failed %d times in a row: left out", self._name, self._patience)
        # A KeyboardInterrupt or an exit is the run's business, not a tracker's failure.
        return isinstance(error, Exception)


def _is_torn(path: Path) -> bool:
    """Whether a file ends in the middle of a line."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
