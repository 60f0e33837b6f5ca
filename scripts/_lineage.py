"""The flags of `tell_lineage`, and what they ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.artefact.folder import read_parts
from analysis.fates.lineage import lineage
from sae.errors import ConfigError, InputError

__all__ = ["FILE", "Config", "by_onset", "told"]

FILE = "lineage.parquet"


@dataclass(frozen=True)
class Config:
    """Which trace, and which of its tuned models are checkpoints."""

    trace: Path
    """Folder of a trace."""
    checkpoints: tuple[str, ...]
    """Names of its tuned models, in order of training."""
    out: Path
    """Folder that gets lineage.parquet."""
    q: float = 0.05
    """False discovery rate of latents with an onset."""

    def __post_init__(self) -> None:
        if len(self.checkpoints) < 2 or len(set(self.checkpoints)) < len(self.checkpoints):
            asked = f"checkpoints={','.join(self.checkpoints) or 'none'}"
            raise ConfigError(asked, "no series", "name two or more, each once, in order")
        if not 0 < self.q < 1:
            raise ConfigError(f"q={self.q}", "no rate", "give a number between 0 and 1")


def told(config: Config) -> Callable[[], dict[str, Any]]:
    """Reads the trace and tells the lineage.

    Args:
        config: The flags.

    Returns:
        What writes lineage.parquet.

    Raises:
        InputError: The trace is damaged, or has no fates of a checkpoint.
    """
    fates = read_parts(config.trace)["fates"]
    if fates is None:
        raise InputError(f"fates in {config.trace}", "no fates.parquet", "trace the checkpoints")
    return partial(_written, lineage(fates, config.checkpoints, config.q), config)


def _written(found: pd.DataFrame, config: Config) -> dict[str, Any]:
    draft = config.out / f".{FILE}"
    found.to_parquet(draft, index=False)
    draft.replace(config.out / FILE)
    return {"n_latents": len(found), "n_changed": len(found["onset"].dropna())}


def by_onset(found: pd.DataFrame, checkpoints: tuple[str, ...]) -> str:
    """How many latents changed from each checkpoint on, to what, and how many went back.

    Args:
        found: From `lineage`.
        checkpoints: In order of training.
    """
    changed = found.loc[found["onset"].notna()]
    if not len(changed):
        return f"None of {len(found)} latents has an onset."
    table = pd.crosstab(changed["onset"], changed["fate"]).reindex(list(checkpoints), fill_value=0)
    table["lasting to the end"] = [
        int(((changed["onset"] == each) & (changed["last"] == changed["fate"])).sum())
        for each in checkpoints
    ]
    table["went back"] = [
        int(((changed["onset"] == each) & changed["reversal"].notna()).sum())
        for each in checkpoints
    ]
    table.index.name, table.columns.name = "onset", None
    return f"{len(changed)} of {len(found)} latents changed.\n{table.to_string()}"
