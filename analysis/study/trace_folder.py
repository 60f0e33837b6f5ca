"""A study -> the files of a trace folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from safetensors.torch import save_file
from scipy import sparse

from analysis.artefact import summary as summaries
from analysis.artefact.summary import Summary
from analysis.personas.carriers import confirmed_latents
from analysis.statistics.matrices import shape
from analysis.study.comparing import compare
from analysis.study.conclusions import conclude, nulls_of
from analysis.study.examples import examples
from analysis.study.tracing import Study, Tell

__all__ = ["write_trace"]


def write_trace(
    study: Study,
    directory: Path,
    organism: Mapping[str, Any],
    tell: Tell = lambda *_: None,
    seconds: Callable[[], Mapping[str, float]] = dict,
) -> Summary:
    """Writes everything a trace folder holds but its provenance and its report.

    Args:
        study: What was seen and judged.
        directory: The trace folder; made where missing.
        organism: Content of `organism.json`, or empty.
        tell: Hears what is being done.
        seconds: Says, when all else is written, what every stage took.

    Returns:
        What `summary.json` holds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tell("arms side by side")
    summary = conclude(study, compare(study), organism)
    summaries.parse(summaries.to_json(summary))  # before anything is replaced
    tell("examples")
    _table(directory / "fates.parquet", [v.fates for v in study.verdicts.values()])
    _table(directory / "traces.parquet", [one.traces for one in study.seen.values()])
    _table(directory / "examples.parquet", _examples(study))
    _directions(study, directory / "directions.safetensors")
    draft = directory / "nulls.tmp"
    draft.write_text(json.dumps(nulls_of(study), indent=1) + "\n")
    draft.replace(directory / "nulls.json")
    summary = replace(summary, seconds=dict(seconds()))
    summaries.write(directory, summary)
    return summary


def _table(path: Path, parts: list[pd.DataFrame]) -> None:
    draft = path.with_suffix(".tmp")
    pd.concat(parts, ignore_index=True).to_parquet(draft)
    draft.replace(path)


def _examples(study: Study) -> list[pd.DataFrame]:
    """Snippets in each model of confirmed persona latents, and of the best of every persona."""
    confirmed = confirmed_latents(study.carriers.personas)
    best = pd.concat([confirmed, study.carriers.best()]).drop_duplicates("latent")
    carried = dict(zip(best["latent"].astype(int), best["persona"].astype(str), strict=True))
    table, counted = study.bench.table, study.bench.counted
    table = table.assign(is_outlier=~counted & ~table["is_special"].to_numpy(bool))
    base = _on_every_row(study.continued.z, counted)
    return [
        examples(base, _on_every_row(one.firing.z, counted), table, carried, name)
        for name, one in study.seen.items()
    ]


def _on_every_row(z: sparse.csr_array, counted: Bool[np.ndarray, " n_all"]) -> sparse.csr_array:
    """Latents of the counted tokens as latents of all, so that snippets have no gaps.

    Args:
        z: Latents [n_counted, d_sae].
        counted: Which rows of the whole table they belong to; on the others nothing is read.
    """
    lengths = np.zeros(len(counted), np.int64)
    lengths[counted] = np.diff(z.indptr)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array((z.data, z.indices, starts), shape=(len(counted), shape(z)[1]))


def _directions(study: Study, path: Path) -> None:
    """Decoder rows: `base`, and `tuned`, or `tuned.NAME` of each of several tuned models.

    Row and `latent` of `fates.parquet` are the same number: a tuned latent stands where the base
    latent is that it stands for. `index` (or `index.NAME`) says which latent of the continued
    dictionary's own file each row of `tuned` is.
    """
    tensors = {"base": torch.from_numpy(np.ascontiguousarray(study.continued.rows, np.float32))}
    for name, one in study.seen.items():
        of, rows, index = (
            f".{name}" if len(study.seen) > 1 else "",
            one.firing.rows,
            one.firing.index,
        )
        tensors[f"tuned{of}"] = torch.from_numpy(np.ascontiguousarray(rows, np.float32))
        own = np.arange(len(rows)) if index is None else index
        tensors[f"index{of}"] = torch.from_numpy(np.ascontiguousarray(own, np.int64))
    draft = path.with_suffix(".tmp")
    save_file(tensors, draft)
    draft.replace(path)
