"""From the flags of `trace_caches` to the dictionaries it needs, all on the same tokens."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import sae
from analysis.fates.subjects import Subject
from analysis.study.cached import CachesConfig, caches_of, tokens_of
from sae.dictionary.config import BatchTopKConfig, TopKConfig, config_to_dict
from sae.dictionary.initialise import initialise_
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.stream.buffer import CacheSource
from sae.stream.cache import ActivationCache
from sae.stream.text import HELD_OUT
from sae.whole import write_json
from scripts._fit import Job, fit_into
from scripts._recipe import SaeChanges, TrainChanges, changed, run_of
from scripts._source import sample_of
from scripts._stage import fingerprint, prepared_stage
from scripts._text import named_models
from training.choosing_k import Trial, best, trials
from training.continuation import continued
from training.evaluate import Evaluation, evaluate_vectors

__all__ = ["Caches", "Config"]

SAMPLE_TOKENS = 65536  # in which added latents look for what is missed; a rare feature is in few
TRIAL_TOKENS, JUDGED_TOKENS = 200_000, 16384  # a short fit for every k tried, and its judgement


@dataclass(frozen=True)
class Config:
    """Which caches to trace, and where to put what comes of it."""

    base: Path
    """Activation cache of the base model."""
    tuned: tuple[str, ...]
    """Caches of tuned models over the same tokens, each a folder or NAME=FOLDER."""
    out: Path
    """Folder that gets dictionaries, tables and report.html."""
    null: tuple[str, ...] = ()
    """Caches of models to which nothing of interest happened, such as the base trained on; they
    set thresholds. Without one every latent stays undetermined."""
    held_back: tuple[str, ...] = ()
    """More of them, on which error rates are measured; they set no threshold."""
    recipe: str = "cache"
    """Dictionary and run to start from: cache, organism, stories260k or default."""
    sae: SaeChanges = field(default_factory=SaeChanges)
    """What differs from the recipe's dictionary; with a sparsity none is tried."""
    ks: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    """Latents that fire a token: each is tried in a short fit to the base, in this order, and the
    one of the shortest description is taken. One alone is taken as it is."""
    train: TrainChanges = field(default_factory=TrainChanges)
    """What differs from the recipe's run."""
    again: TrainChanges = field(default_factory=lambda: TrainChanges(n_tokens=1_200_000))
    """What differs from that run where the dictionary is continued on a cache."""
    n_added: int = 128
    """Latents added there, which start at what the dictionary misses; first on the base itself."""
    seed: int = 0
    """Of resampling blocks, resamples and random subspaces."""

    def __post_init__(self) -> None:
        if self.n_added < 0:
            raise ConfigError(f"n_added={self.n_added}", "a negative number", "give 0 or more")


class Caches:
    """The caches, seen to fit together and to suffice, and a stage for every dictionary.

    Tokens that are special, or outliers of the base model, are left out for all.

    Args:
        config: The flags.

    Raises:
        ConfigError: Two caches of one name, or a recipe that does not fit.
        InputError: A cache is missing or damaged, they are not of the same tokens, two are one, or
            a split has too few tokens or documents.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.parts = _named(config)
        self.caches = caches_of(self.traced())
        self._of(HELD_OUT, is_in=False)
        for each in self.caches.values():
            _require_files(each)
        self.shape, self.train = run_of(
            config.recipe, self.caches["base"].d_in, config.sae, config.train
        )
        if config.sae.sparsity is None and len(config.ks) == 1:
            self._take(config.ks[0])

    @property
    def inputs(self) -> dict[str, str]:
        """Hashes of the caches by name."""
        return {f"cache {name}": fingerprint(each.path) for name, each in self.caches.items()}

    def _of(self, splits: Sequence[str], is_in: bool) -> np.ndarray:
        """Tokens that count, by the base's marks."""
        return tokens_of(self.caches["base"], splits, is_in)

    def _source(self, cache: ActivationCache) -> CacheSource:
        mask = self._of(HELD_OUT, is_in=False)
        return CacheSource(cache, partial(_these, mask))

    def _take(self, k: int) -> None:
        sparsity = self.shape.sparsity
        if not isinstance(sparsity, TopKConfig | BatchTopKConfig):
            do = "give its own numbers with --sae.sparsity"
            raise ConfigError(f"ks={list(self.config.ks)}", f"sparsity {sparsity.kind}", do)
        self.shape = replace(self.shape, sparsity=replace(sparsity, k=k))

    def _try(self) -> dict[str, Any]:
        """A table of every k tried, as it is filled."""
        base, rows = self.caches["base"], list[Trial]()
        held_out = CacheSource(base, partial(_these, self._of(("select",), is_in=True)))
        sample = sample_of(held_out, self.train.seed, JUDGED_TOKENS)
        run = replace(self.train, n_tokens=min(TRIAL_TOKENS, self.train.n_tokens))
        for each in trials(self._source(base), sample, self.shape, run, self.config.ks):
            rows.append(each)
            numbers = f"l0 {each.l0:.1f}, fvu {each.fvu:.3f}, {each.nats:.1f} nats a token"
            print(f"forelimb: k {each.k}: {numbers}", file=sys.stderr)
        table = {"k": best(rows), "trials": [asdict(each) for each in rows]}
        write_json(self.config.out / "k" / "trials.json", table)
        return {"k": best(rows)}

    def _choose(self) -> None:
        """Takes the k of the shortest description, unless one was asked for."""
        config = self.config
        if config.sae.sparsity is not None or len(config.ks) == 1:
            return
        folder, flags = config.out / "k", asdict(config)
        what = {each: flags[each] for each in ("recipe", "sae", "train", "ks")}
        inputs = {"cache": fingerprint(config.base)}
        prepared_stage(folder, inputs, what, lambda: self._try)
        self._take(_chosen(folder / "trials.json"))

    def _judge(self, cache: ActivationCache, dictionary: Sae) -> Evaluation:
        return evaluate_vectors(dictionary, _batches(cache, self._of(("confirm",), is_in=True)))

    def _job(self, name: str, out: Path, identity: Mapping[str, Any], start: Path | None) -> Job:
        cache, config = self.caches[name], self.config
        shape, train = self.shape, self.train
        base = None if start is None else sae.read(start)[0]
        if base is not None:
            shape = replace(base.config, d_sae=base.config.d_sae + config.n_added)
            train = changed(train, config.again)

        def begin(sample: Tensor) -> Sae:
            if base is not None:
                return continued(base, sample, config.n_added, train.seed)
            dictionary = Sae(shape)
            initialise_(dictionary, sample, train.seed)
            return dictionary

        said = cache.manifest
        meta = {"model": said["model"], "revision": said.get("revision"), "hook": said["hook"]}
        meta |= {"tokenizer_sha256": said.get("tokenizer_sha256")}
        job = Job(
            out,
            self._source(cache),
            shape,
            train,
            begin,
            partial(self._judge, cache),
            meta,
            identity,
        )
        return job if base is None else replace(job, sample_tokens=SAMPLE_TOKENS)

    def _fitted(self, name: str, folder: Path, start: Path | None = None) -> None:
        flags = asdict(self.config)
        inputs = {"cache": fingerprint(self.caches[name].path)}
        what = {each: flags[each] for each in ("recipe", "sae", "train")}
        what["sparsity"] = config_to_dict(self.shape.sparsity)
        if start is not None:
            inputs |= {"dictionary": fingerprint(start), "base": fingerprint(self.config.base)}
            what |= {each: flags[each] for each in ("again", "n_added")}
        identity = {"input": inputs, **what}
        prepared_stage(
            folder,
            inputs,
            what,
            lambda: partial(fit_into, self._job(name, folder, identity, start)),
        )

    def fit(self) -> None:
        """Chooses k, fits a dictionary on the base, continues it there, and that on every cache.

        Added latents find what the first fit missed of the base; in a tuned model they would find
        it too, and it would look new. What stands there is kept.
        """
        out = self.config.out
        if not self.config.null:
            told = "forelimb: no --null: nothing sets a threshold, every latent stays undetermined"
            print(told, file=sys.stderr)
        self._choose()
        self._fitted("base", out / "first")
        self._fitted("base", out / "dictionary", out / "first")
        for name in self.caches:
            self._fitted(name, out / "continued" / name, out / "dictionary")

    def traced(self) -> CachesConfig:
        """What the analysis is asked."""
        config = self.config
        return CachesConfig(
            config.base,
            config.out / "dictionary",
            config.out / "continued",
            *self.parts,
            seed=config.seed,
        )


def _named(config: Config) -> list[tuple[Subject, ...]]:
    """The subjects of each flag; each cache has a folder of its own name under `--out`."""
    given = {"--tuned": config.tuned, "--null": config.null, "--held_back": config.held_back}
    flags = [each for each, words in given.items() if words or each == "--tuned"]
    parts = [named_models(given[each], each, "cache") for each in flags]
    every = [f"{name}={path}" for part in parts for name, path in part.items()]
    if "base" in named_models(every, " ".join(flags), "cache"):
        raise ConfigError("a cache named base", "the base's own name", "write NAME=FOLDER")
    found = dict(zip(flags, parts, strict=True))
    return [tuple(Subject(*each) for each in found.get(flag, {}).items()) for flag in given]


def _require_files(cache: ActivationCache) -> None:
    """The files of vectors are there and whole, by size; their hashes are seen at each reading."""
    for entry in cache.manifest["shards"]:
        path, do = cache.path / entry["file"], "delete provenance.json beside it, harvest again"
        try:
            with safe_open(path, "pt") as held:
                shape = tuple(held.get_slice("x").get_shape())
        except FileNotFoundError as error:
            raise InputError(f"shard {path}", "no such file", do) from error
        except (OSError, SafetensorError) as error:
            raise InputError(f"shard {path}", f"no vectors ({error})", do) from error
        if shape != (wanted := (entry["n"], cache.d_in)):
            raise InputError(f"shard {path}", f"{shape} for {wanted}", do)


def _chosen(table: Path) -> int:
    """The k that a table of trials names."""
    try:
        found = json.loads(table.read_text(encoding="utf-8"))
        if type(k := found["k"]) is int and k > 0:
            return k
        found = f"k {k!r:.80}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"none that can be read ({type(error).__name__})"
    raise InputError(f"a k in {table}", found, f"delete {table.parent} to try every k again")


def _these(mask: np.ndarray, _: pd.DataFrame) -> np.ndarray:
    return mask


def _batches(cache: ActivationCache, wanted: np.ndarray) -> Iterator[Tensor]:
    for number in range(cache.n_shards):
        mine = torch.from_numpy(wanted[cache.rows(number)])
        if mine.any():
            yield cache.shard(number)[mine]
