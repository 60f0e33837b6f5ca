r"""Says when each latent changed along a training run, for how long, and if it went back.

    python -m scripts.tell_lineage --trace runs/steps/trace --out runs/steps/lineage \
        --checkpoints [step_0100,step_0200,step_0400]

The checkpoints are tuned models of one trace, in order of training: `trace_caches --tuned
[step_0100=CACHE,...]`, or `trace_personas --cast.tuned [step_0100=MODEL,...]` with a dictionary
continued on each. Prints a table by onset and writes lineage.parquet, a row a latent
(`analysis.lineage`).
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.folder import read_parts
from analysis.lineage import lineage
from sae.errors import ConfigError, InputError
from scripts._cli import run
from scripts._stage import fingerprint, prepared_stage, require_own

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


def main(config: Config) -> None:
    """Tells the lineage unless the folder is up to date, and prints the table."""
    require_own(config.out, "a lineage", FILE)
    inputs = {"trace": fingerprint(config.trace)}
    prepared_stage(config.out, inputs, asdict(config), lambda: _told(config))
    print(by_onset(pd.read_parquet(config.out / FILE), config.checkpoints))


def _told(config: Config) -> Callable[[], dict[str, Any]]:
    fates = read_parts(config.trace)["fates"]
    if fates is None:
        raise InputError(f"fates in {config.trace}", "no fates.parquet", "trace the checkpoints")
    return partial(_written, lineage(fates, config.checkpoints, config.q), config)


def _written(found: pd.DataFrame, config: Config) -> dict[str, Any]:
    draft = config.out / f".{FILE}"
    found.to_parquet(draft, index=False)
    draft.replace(config.out / FILE)
    return {"n_latents": len(found), "n_changed": int(found["onset"].notna().sum())}


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


if __name__ == "__main__":
    sys.exit(run(main, Config))
