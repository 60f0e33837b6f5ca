"""A run's exact state on disk: what it takes to go on as though it had never stopped."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from jaxtyping import Int, Shaped
from safetensors import SafetensorError
from torch import Tensor

from sae.errors import InputError
from training.config import TrainConfig

__all__ = ["TrainState"]

_SCHEMA = "forelimb.state/1"
_N_KEPT = 2


@dataclass(frozen=True)
class TrainState:
    """Everything the next step depends on, besides the activations themselves.

    The tensors of a state that `training.loop.fit` yields are the run's own and change with the
    next step: save it, or take a deep copy, before asking for another record.

    Example:
        >>> import tempfile, torch
        >>> run = TrainConfig(n_tokens=100)
        >>> state = TrainState(run, 3, 96, {"b_dec": torch.ones(2)}, {}, torch.zeros(4).long())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = state.save(Path(folder))
        ...     TrainState.load(Path(folder)).n_tokens, saved.name
        (96, '000001-step-3')
    """

    config: TrainConfig
    """The run the state belongs to; going on under another one is refused."""

    step: int
    """Optimiser steps taken."""

    n_tokens: int
    """Tokens seen."""

    weights: dict[str, Shaped[Tensor, "..."]]
    """`Sae.state_dict()`: parameters, thresholds and input scale."""

    moments: dict[str, Shaped[Tensor, "..."]]
    """Adam's moments, see `training.optim.moments`."""

    n_tokens_since_fired: Int[Tensor, " d_sae"]
    """Per latent, tokens seen since its last fire."""

    cursor: dict[str, int] = field(default_factory=dict)
    """Where the activation buffer stands; empty when the batches have no cursor."""

    def save(self, directory: Path) -> Path:
        """Writes the state as a new folder below `directory`; the last two are kept.

        The folder gets its name only once its content is on disk, and `latest` points to it only
        after that, so that a process killed at any moment leaves a state that loads.

        Args:
            directory: The run's state folder, made when missing. One process writes to it.

        Returns:
            The new folder, `NUMBER-step-STEP`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(".tmp-*"):
            shutil.rmtree(leftover)
        number = 1 + max((_number(each) for each in _complete(directory)), default=0)
        name = f"{number:06d}-step-{self.step}"
        unnamed = directory / f".tmp-{name}"
        unnamed.mkdir()
        tensors = safetensors.torch.save(self._tensors())
        _write(unnamed / "tensors.safetensors", tensors)
        _write(unnamed / "state.json", json.dumps(self._header(tensors), indent=1).encode())
        _sync(unnamed)
        unnamed.rename(directory / name)
        _point(directory, name)
        for old in _complete(directory)[:-_N_KEPT]:
            shutil.rmtree(old)
        return directory / name

    @classmethod
    def load(cls, directory: Path) -> "TrainState":
        """Reads the state `latest` points to.

        Args:
            directory: What was given to `save`.

        Returns:
            The state, on the CPU.

        Raises:
            InputError: There is no state, or a file of it is damaged.
        """
        folder = _latest(directory)
        try:
            header = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            raw = (folder / "tensors.safetensors").read_bytes()
            if header["schema"] != _SCHEMA or header["tensors_sha256"] != _sha256(raw):
                raise ValueError(f"schema {header['schema']!r}, or another hash than recorded")
            named = safetensors.torch.load(raw)
            return cls._from(header, named)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(
                f"a state in {folder}",
                f"a damaged one ({error!r})",
                f"remove {folder} and {directory / 'latest'} to go on from the state before it",
            ) from error

    def _header(self, tensors: bytes) -> dict[str, Any]:
        return {
            "schema": _SCHEMA,
            "config": self.config.to_dict(),
            "step": self.step,
            "n_tokens": self.n_tokens,
            "cursor": self.cursor,
            "tensors_sha256": _sha256(tensors),
        }

    def _tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        groups = {
            "weights": self.weights,
            "moments": self.moments,
            "counts": {"n_tokens_since_fired": self.n_tokens_since_fired},
        }
        return {
            f"{group}/{name}": each.detach().cpu().contiguous()
            for group, members in groups.items()
            for name, each in members.items()
        }

    @classmethod
    def _from(cls, header: dict[str, Any], named: dict[str, Shaped[Tensor, "..."]]) -> "TrainState":
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "moments": {}, "counts": {}}
        for name, each in named.items():
            group, _, member = name.partition("/")
            # Copied: where the bytes lie in the file must not decide how they are summed.
            groups[group][member] = each.clone()
        return cls(
            config=TrainConfig.from_dict(header["config"]),
            step=header["step"],
            n_tokens=header["n_tokens"],
            weights=groups["weights"],
            moments=groups["moments"],
            n_tokens_since_fired=groups["counts"]["n_tokens_since_fired"],
            cursor=header["cursor"],
        )


def _complete(directory: Path) -> list[Path]:
    """The finished states of a folder, oldest first."""
    return sorted(directory.glob("[0-9]*-step-*"), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.split("-")[0])


def _latest(directory: Path) -> Path:
    """The folder `latest` names, or without that file the newest."""
    pointer = directory / "latest"
    if pointer.exists():
        return directory / pointer.read_text(encoding="utf-8").strip()
    if states := _complete(directory):
        return states[-1]
    raise InputError(f"a state in {directory}", "none", "start the run from its beginning")


def _point(directory: Path, name: str) -> None:
    """Makes `latest` name a folder, in one move."""
    _write(directory / ".latest", f"{name}\n".encode())
    (directory / ".latest").replace(directory / "latest")
    _sync(directory)


def _write(path: Path, content: bytes) -> None:
    """Writes a file and waits until it is on disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Waits until a folder's list of names is on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
