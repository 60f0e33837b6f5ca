"""The flags of `compare_methods`, and what they ask for."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

import sae
from analysis.artefact.folder import read_parts
from analysis.latents.bench import lay_bench, residuals, through
from analysis.study.agreement import Agreement, agreement
from sae.dictionary.crosscoder import Crosscoder
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.formats.subject import OF, require_models
from sae.stream.activations import HookPoint
from sae.stream.model import check_pair, load_model
from sae.stream.text import HELD_OUT, Columns
from scripts._cast import Cast, cast_of, read_organism, texts_of
from scripts._text import LengthConfig, named_models, read_text

__all__ = ["Config", "agreed", "lines_of", "pair_of"]


@dataclass(frozen=True)
class Pair:
    """The two models."""

    base: str | None = None
    """Folder or hub id of the base model."""
    tuned: tuple[str, ...] = ()
    """Tuned models as NAME=PATH; the one of `--tuned` is taken."""


@dataclass(frozen=True)
class Config:
    """Which trace, beside which dictionaries."""

    trace: Path
    """What trace_personas wrote."""
    continued: Path
    """Folder of continued dictionaries that it was traced with."""
    crosscoder: Path
    """Crosscoder of the base and the tuned model."""
    difference: Path
    """Dictionary of their difference."""
    out: Path
    """Folder that gets agreement.json and agreement.parquet."""
    tuned: str = "assistant"
    """Name of the tuned model in the trace."""
    organism: Path | None = None
    """Folder of an organism, whose models and text are used where none are named."""
    cast: Pair = field(default_factory=Pair)
    """Which models were traced."""
    text: tuple[Path, ...] = ()
    """Jsonl files of held-out text, or folders of them."""
    columns: Columns | None = None
    """How to read jsonl that is not labelled text."""
    read: LengthConfig = field(default_factory=LengthConfig)
    """How much of the text to read."""
    seed: int = 0
    """Of the trace, and of draws of latents."""


def pair_of(config: Config) -> tuple[str, str]:
    """Folder or hub id of the base model and of the tuned one.

    Raises:
        ConfigError: One of them is not named.
    """
    named = Cast(config.cast.base, config.cast.tuned)
    cast = cast_of(named, read_organism(config.organism), config.organism)
    paths = named_models(cast.tuned, "--cast.tuned")
    if config.tuned not in paths or cast.base is None:
        found = ", ".join(paths) or "no tuned models"
        raise ConfigError(f"--tuned {config.tuned}", found, "name it in --cast.tuned")
    return cast.base, paths[config.tuned]


def agreed(config: Config) -> Callable[[], dict[str, Any]]:
    """Compares the methods.

    Returns:
        What writes agreement.json and agreement.parquet.

    Raises:
        ConfigError: A dictionary is not what its flag says, of other models, of the two in another
            order or of another hook, or the trace is of another dictionary.
        InputError: A part is missing or damaged.
    """
    fates = read_parts(config.trace)["fates"]
    mine = None if fates is None else fates.loc[fates["tuned"] == config.tuned]
    if mine is None or not len(mine):
        do = "name a model that trace_personas traced"
        raise InputError(f"{config.tuned} in {config.trace}", "no fates", do)
    base, model = map(load_model, pair_of(config))
    own, meta = sae.read(config.continued / "base")
    _require_traced(config.trace / "directions.safetensors", config.continued / "base", own)
    crosscoder, of_crosscoder = _of(config.crosscoder, "crosscoder", meta)
    difference, of_difference = _of(config.difference, "difference", meta)
    check_pair(base, model)
    pair = [(each.name, each.weights_sha256) for each in (base, model)]
    require_models(config.continued / "base", [meta], pair[:1], "name its model as --cast.base")
    at = config.continued / config.tuned
    if at.is_dir():
        do = f"name its model in --cast.tuned as {config.tuned}"
        require_models(at, [sae.read(at)[1]], pair[1:], do)
    do = f"fit it with fit_together --models {base.name} {model.name}"
    require_models(config.crosscoder, of_crosscoder, pair, do)
    require_models(config.difference, of_difference, pair, do)
    texts = texts_of(config.text, config.organism)
    text = read_text(base, texts, config.columns, config.read, HELD_OUT)
    bench = lay_bench(base, HookPoint.parse(str(meta["hook"])), text, config.seed)
    continued, x = through(bench, own, bench.x), residuals(bench, model)
    both = Crosscoder(crosscoder), difference
    found = agreement(bench, continued, x, mine, both, config.seed)
    return partial(_written, found, config)


def _written(found: Agreement, config: Config) -> dict[str, Any]:
    found.latents.to_parquet(config.out / "agreement.parquet", index=False)
    rows = found.pairs.astype(object).where(found.pairs.notna(), None).to_dict("records")
    plain = [{k: v.item() if isinstance(v, np.generic) else v for k, v in r.items()} for r in rows]
    page = json.dumps({"tuned": config.tuned, "pairs": plain}, indent=2) + "\n"
    (config.out / "agreement.json").write_text(page, encoding="utf-8")
    return {"n_latents": len(found.latents)}


def _of(path: Path, kind: str, own: dict[str, Any]) -> tuple[Sae, list[dict[str, Any]]]:
    """A dictionary of two models, once it is seen to be of the trace's hook, and which two."""
    found, meta = sae.read(path)
    of = meta.get(OF) or {}
    said = of.get("kind", "a dictionary of one model")
    if said != kind:
        raise ConfigError(f"{path} as a {kind}", str(said), f"fit it with --of.kind {kind}")
    if meta.get("hook") != own.get("hook"):
        do = "fit it at the trace's hook"
        raise ConfigError(f"{path} at {own.get('hook')}", str(meta.get("hook")), do)
    return found.eval(), of["models"]


def _require_traced(file: Path, path: Path, own: Sae) -> None:
    """Refuses a dictionary whose rows are not those that the trace holds, where it holds any.

    They tell more than the hash of the folder in `provenance.json`, which changes as well when a
    further model's dictionary is put beside the others.
    """
    if not file.is_file():
        return
    try:
        with safe_open(file, framework="pt") as opened:
            held = opened.get_tensor("base")
    except (OSError, SafetensorError) as error:
        raise InputError(f"decoder rows in {file}", str(error), "trace again") from error
    rows = torch.nn.functional.normalize(own.W_dec.detach().float(), dim=-1)
    if held.shape != rows.shape or not torch.allclose(held, rows, atol=1e-5):
        do = "name the folder it was traced with as --continued, or trace again"
        raise ConfigError(f"{path} as traced in {file.parent}", "other decoder rows", do)


def lines_of(folder: Path) -> list[str]:
    """What is said of every pair of methods, for a terminal.

    Args:
        folder: What `agreed` wrote into.
    """
    record = json.loads((folder / "agreement.json").read_text(encoding="utf-8"))
    lines = [f"{record['tuned']}: do three methods agree on what changed?"]
    for row in record["pairs"]:
        number = {k: "n/a" if v is None else f"{v:.3f}" for k, v in row.items() if k not in WORDS}
        lines.append(
            f"{row['first']:10} {row['second']:11} ranks {number['correlation']} "
            f"[{number['low']}, {number['high']}], null {number['null_low']} to "
            f"{number['null_high']}, {row['n']} latents; both decide on {row['n_both']}, "
            f"alike {number['alike']}, kappa {number['kappa']}"
        )
    return lines


WORDS = ("first", "second")
