"""One tuned model on the bench: how far it moved, and the coordinates of every inherited latent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from analysis.latents.bench import CHUNK, Bench, ModelBench, residuals, through
from analysis.latents.coordinates import Coordinates, measure
from analysis.latents.effects import BaseEffects, effects
from analysis.latents.existence import information, latent_scaling, presence
from analysis.latents.fidelity import fidelity
from analysis.latents.frozen import read_again
from analysis.latents.matching import standing, steady
from analysis.latents.shift import constant_share
from analysis.latents.traces import Firing, reconstructed, trace
from analysis.statistics.intervals import Interval
from sae import read
from sae.change import Change
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.formats.subject import require_models
from sae.stream.model import LanguageModel

__all__ = ["Reference", "Seen", "Subject", "lay", "look", "open_continued", "with_scaling"]


@dataclass(frozen=True)
class Subject:
    """A tuned model, its checkpoints, and the dictionaries continued on them."""

    name: str
    """Its name in every table."""
    path: str
    """Folder or hub id."""
    start: str | None = None
    """What it was tuned from, where that is not the base model."""

    def checkpoints(self) -> dict[str, str]:
        """Checkpoints by name, in order of training; none for a model that kept none."""
        folder = Path(self.path) / "checkpoints"
        found = sorted(folder.iterdir(), key=_counted) if folder.is_dir() else []
        return {f"{self.name}@{each.name}": str(each) for each in found if each.is_dir()}

    def rungs(self, continued: Path) -> dict[str, str]:
        """Checkpoints on which the dictionary was continued, by name: those of a null that is laid.

        Args:
            continued: Folder of continued dictionaries.

        Raises:
            InputError: There are none, so that the null would say nothing.
        """
        found = {n: path for n, path in self.checkpoints().items() if (continued / n).is_dir()}
        if not found:
            asked = f"dictionaries continued on checkpoints of {self.name}"
            do = f"name one {self.name}@STEP={self.path}/checkpoints/STEP in continue_dictionary"
            raise InputError(asked, f"none in {continued}", do)
        return found


def _counted(path: Path) -> list[tuple[str, int]]:
    """Key that puts step-1000 after step-500."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", path.name)]


@dataclass(frozen=True, eq=False)
class Reference:
    """What tuned models are held against: the base dictionary, and it continued on the base."""

    dictionary: Sae
    """The base dictionary, whose latents are inherited."""
    firing: Firing
    """What it makes of the base model."""
    continued: Firing
    """What the dictionary continued on the base's own activations makes of the base model."""
    own: Sae
    """That dictionary."""

    @property
    def n(self) -> int:
        """Latents that are inherited."""
        return self.dictionary.config.d_sae

    @cached_property
    def steady(self) -> Bool[np.ndarray, " n"]:
        """Inherited latents that going on changes little."""
        return steady(self.firing, self.continued, self.n)


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one model on the bench."""

    name: str
    """The model, or a checkpoint as NAME@CHECKPOINT."""
    change: Change
    """How far it moved from the base, on neutral text, or on the tokens of caches."""
    x: Float[np.ndarray, "n d_in"]
    """Its residual vectors."""
    firing: Firing
    """Its latents, in the dictionary continued on it."""
    fidelity: Interval
    """FVU of the base dictionary on its residual vectors."""
    coordinates: Coordinates
    """Of every latent inherited from the base dictionary, with its existence in this model."""
    presence: pd.DataFrame
    """Of every latent of this model, its existence in the base model."""
    traces: pd.DataFrame
    """Rows of `traces.parquet`."""
    mean_shift: Interval
    """Share of how far it moved that is one constant vector."""


def look(
    bench: ModelBench,
    reference: Reference,
    name: str,
    model: LanguageModel,
    continued: Sae,
    moved: tuple[Change, BaseEffects | None],
) -> Seen:
    """Lays one model on the bench.

    Args:
        bench: Tokens, and the base model's side.
        reference: As for `lay`.
        name: What to call the model.
        model: The model.
        continued: The dictionary continued on it.
        moved: How far it moved, and what latents do in the base model where effects are wanted.
    """
    change, base = moved
    seen = lay(bench, reference, (name, residuals(bench, model), continued), change)
    if base is None:
        return seen
    found = effects(bench, base, model, seen.firing)
    return replace(seen, coordinates=seen.coordinates.beside(found))


def lay(
    bench: Bench,
    reference: Reference,
    one: tuple[str, Float[np.ndarray, "n d_in"], Sae],
    change: Change,
) -> Seen:
    """Lays the residual vectors of one model on the bench.

    Args:
        bench: Tokens, and the base model's side.
        reference: The base dictionary, and it continued on the base.
        one: What to call the model, its vectors on the counted tokens, and the dictionary
            continued on it.
        change: How far it moved.
    """
    dictionary, before, (name, x, continued) = reference.dictionary, reference.continued, one
    blocks, weights, n = bench.blocks, bench.weights, reference.n
    pair = standing(before, through(bench, continued, x), n)
    after = pair.tuned
    found = measure(pair, blocks, weights, bench.strata, reference.steady)
    frozen = through(bench, reference.own, x)
    found = read_again(found, pair, frozen, blocks, weights, bench.strata)
    there = presence((bench.x, before), x, blocks, weights).head(n)
    found = replace(found, table=pd.concat([found.table, there], axis=1))
    back = presence((x, after), bench.x, blocks, weights)
    told = trace(before, after, bench.tokens, name), constant_share(bench.x, x, blocks, weights)
    return Seen(name, change, x, after, _fidelity(bench, dictionary, x), found, back, *told)


def with_scaling(bench: Bench, continued: Firing, one: Seen, fates: pd.DataFrame) -> pd.DataFrame:
    """Fates with how much of each latent the other model has, by latent scaling and a linear map.

    An inherited latent is asked for in the tuned model, where the part of its like is put back into
    the error; one of origin `tuned` in the base model, which has no like of it.

    Args:
        bench: Tokens, and the base model's side.
        continued: The dictionary continued on the base's own activations, on the base model.
        one: What was seen of the tuned model.
        fates: Its rows of `fates.parquet`.

    Returns:
        The rows, filled in: `nu_error` and `nu_reconstruction`, null for a latent that is silent;
        `information`, the share of its variance on split confirm that a linear map of the other
        model's activations predicts, fitted on split select, null where a split has no tokens.
    """
    base, tuned = (bench.x, continued), (one.x, one.firing)
    out, names = fates.assign(information=np.nan), ["nu_error", "nu_reconstruction"]
    parts = [bench.in_split(split) for split in ("select", "confirm")]
    for origin, own, other in (("base", base, tuned), ("tuned", tuned, base)):
        mine = (out["origin"] == origin).to_numpy()
        if mine.any():
            latent = out.loc[mine, "latent"].to_numpy()
            partner = np.full(len(own[1].rows), -1)
            if origin == "base":  # one that the continued dictionary let go has no like there
                gone = out.loc[mine, "read_by"].eq("base").to_numpy()
                there = latent[(latent < len(other[1].rows)) & ~gone]
                partner[there] = there
            found = latent_scaling(own, other, partner, bench.blocks, bench.weights)
            out.loc[mine, names] = found.loc[latent, names].to_numpy()
            if all(part.any() for part in parts):
                told = information(own[1].z, other[0], parts)
                out.loc[mine, "information"] = told[latent]
    return out


def _fidelity(bench: Bench, dictionary: Sae, x: Float[np.ndarray, "n d_in"]) -> Interval:
    parts = torch.from_numpy(x).split(CHUNK)
    x_hat = torch.cat([reconstructed(dictionary, part) for part in parts])
    return fidelity(torch.from_numpy(x), x_hat, bench.blocks, bench.weights)


def open_continued(
    folder: Path, dictionary: Sae, beside: Mapping[str, Any], model: LanguageModel | None = None
) -> tuple[Sae, dict[str, Any]]:
    """A dictionary continued on a model, once it is seen to be that.

    Args:
        folder: Where it is.
        dictionary: What was continued.
        beside: What the dictionary continued on the base model says of itself, empty for that one:
            both were to be continued alike.
        model: On what it was continued; None for activations of any.

    Returns:
        The dictionary, and what it says of itself.

    Raises:
        ConfigError: It was fitted on other weights, at another hook, or by another run.
        InputError: It is missing or damaged, or not of the dictionary's shape.
    """
    asked, do = f"{folder} as a continuation", "continue the dictionary that is traced"
    found, meta = read(folder)
    if found.config.d_sae < dictionary.config.d_sae:
        few = f"{found.config.d_sae} latents for {dictionary.config.d_sae} in the base's"
        raise InputError(asked, few, do)
    if found.config.d_in != dictionary.config.d_in:
        raise InputError(asked, f"width {found.config.d_in}, not {dictionary.config.d_in}", do)
    if model is not None:
        again = "continue the dictionary on the model that is traced"
        require_models(folder, [meta], [(model.name, model.weights_sha256)], again)
    for key in ("hook", "train"):
        if None not in (meta.get(key), beside.get(key)) and meta[key] != beside[key]:
            do = "continue all with one call of continue_dictionary"
            raise ConfigError(asked, f"another {key} than of the one continued on the base", do)
    return found, meta
