"""From the flags of `trace_caches` to the dictionaries it needs, all on the same tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import sae
from analysis.cached import HELD_OUT, CachesConfig, open_caches
from analysis.subjects import Subject
from sae.dictionary.initialise import initialise_
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.stream.buffer import CacheSource, usual_tokens
from sae.stream.cache import ActivationCache
from scripts._fit import Job, fit_into
from scripts._recipe import SaeChanges, TrainChanges, changed, run_of
from scripts._stage import fingerprint, prepared_stage
from scripts._text import named_models
from training.continuation import continued
from training.evaluate import Evaluation, evaluate_vectors

__all__ = ["Caches", "Config"]

SAMPLE_TOKENS = 65536  # in which added latents look for what is missed; a rare feature is in few


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
    """What differs from the recipe's dictionary."""
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
    """The caches, seen to fit together, and a stage for every dictionary.

    Tokens that are special, or outliers of the base model, are left out for all.

    Args:
        config: The flags.

    Raises:
        ConfigError: Two caches of one name, or a recipe that does not fit.
        InputError: A cache is missing or damaged, or they are not of the same tokens.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        words = (config.tuned, config.null, config.held_back)
        every = named_models([word for part in words for word in part])
        if "base" in every:
            raise ConfigError("a cache named base", "the base's own name", "write NAME=FOLDER")
        parts = [named_models(part) if part else {} for part in words]
        self.parts = [tuple(Subject(n, p) for n, p in part.items()) for part in parts]
        self.paths = {"base": config.base} | {n: Path(p) for n, p in every.items()}
        first, *others = self.paths.values()
        self.caches = dict(zip(self.paths, open_caches(first, others), strict=True))
        self.shape, self.train = run_of(
            config.recipe, self.caches["base"].d_in, config.sae, config.train
        )

    @property
    def inputs(self) -> dict[str, str]:
        """Hashes of the caches by name."""
        return {f"cache {name}": fingerprint(path) for name, path in self.paths.items()}

    @cached_property
    def _usual(self) -> np.ndarray:
        """Tokens that count, by the base's marks."""
        return usual_tokens(self.caches["base"].tokens)

    def _of(self, splits: Sequence[str], is_in: bool) -> np.ndarray:
        mine = self.caches["base"].tokens["split"].isin(splits).to_numpy(bool) == is_in
        if not (mine & self._usual).any():
            asked = f"tokens {'' if is_in else 'not '}of split {' or '.join(splits)}"
            do = "give the documents of the caches a split: fit, select or confirm"
            raise InputError(f"{asked} in {self.config.base}", "none", do)
        return mine & self._usual

    def _source(self, cache: ActivationCache) -> CacheSource:
        mask = self._of(HELD_OUT, is_in=False)
        return CacheSource(cache, partial(_these, mask))

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
        inputs = {"cache": fingerprint(self.paths[name])}
        what = {each: flags[each] for each in ("recipe", "sae", "train")}
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
        """Fits a dictionary on the base, continues it there, and that one on every cache.

        Added latents find what the first fit missed of the base; in a tuned model they would find
        it too, and it would look new. What stands there is kept.
        """
        out = self.config.out
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


def _these(mask: np.ndarray, _: pd.DataFrame) -> np.ndarray:
    return mask


def _batches(cache: ActivationCache, wanted: np.ndarray) -> Iterator[Tensor]:
    for number in range(cache.n_shards):
        mine = torch.from_numpy(wanted[cache.rows(number)])
        if mine.any():
            yield cache.shard(number)[mine]
