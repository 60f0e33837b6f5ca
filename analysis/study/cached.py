"""Activation caches of the same tokens -> the same study, and no language model.

What only a language model can tell stays unmeasured: effect, KL, and how far weights moved. There
is no neutral text either, so a null counts as far enough by the bulk of its latents and that of the
tuned model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from analysis.fates.choosing import BY_BULK
from analysis.fates.subjects import Reference, Subject, lay, open_continued
from analysis.latents.bench import CHUNK, Bench, lay_vectors, through
from analysis.personas.carriers import find_carriers, tell_apart
from analysis.personas.select import comparable_tokens
from analysis.statistics.intervals import MIN_DOCUMENTS
from analysis.study.opened import open_caches, require_apart, vectors
from analysis.study.tracing import Evidence, Study, Tell, TraceConfig, judged
from sae import read
from sae.change import Change
from sae.errors import ConfigError, InputError
from sae.stream.buffer import usual_tokens
from sae.stream.cache import ActivationCache
from sae.stream.text import HELD_OUT

__all__ = ["CachesConfig", "caches_of", "judge_caches", "look_at_caches", "study_caches"]
__all__ += ["tokens_of"]


@dataclass(frozen=True)
class CachesConfig:
    """Which caches are traced, against which nulls; a subject's path is the folder of its cache."""

    base: Path
    """The base model's cache."""
    dictionary: Path
    """Dictionary fitted on the base model."""
    continued: Path
    """Folder of continued dictionaries: `base`, and one for every other cache by its name."""
    tuned: tuple[Subject, ...]
    """The tuned models, the one that the question is about first."""
    nulls: tuple[Subject, ...] = ()
    """Models to which nothing of interest happened; they set thresholds."""
    held_back: tuple[Subject, ...] = ()
    """More of them, on which error rates are measured; they set no threshold."""
    seed: int = 0
    """Of resampling blocks, resamples and random subspaces."""


def caches_of(config: CachesConfig) -> dict[str, ActivationCache]:
    """Every cache by the name of its model, `base` first, once they are seen to be fit to trace.

    Args:
        config: Which caches; their vectors are not read, and no dictionary need be there.

    Raises:
        ConfigError: Two of one name.
        InputError: As `open_caches`; or two models are one, or held-out tokens are too few.
    """
    parts = {"tuned": config.tuned, "null": config.nulls, "held back": config.held_back}
    roles = {each.name: f"{role} {each.name}" for role, part in parts.items() for each in part}
    paths = [Path(each.path) for part in parts.values() for each in part]
    if len({"base", *roles}) <= len(paths):
        names = [each.name for part in parts.values() for each in part]
        raise ConfigError("names of caches", f"base, {', '.join(names)}", "give each its own")
    caches = dict(zip(("base", *roles), open_caches(config.base, paths), strict=True))
    require_apart({roles.get(name, name): each for name, each in caches.items()})
    _require_documents(caches["base"])
    return caches


def _require_documents(base: ActivationCache) -> None:
    """Enough held-out documents for intervals, and for those of personas where these are told."""
    found = {split: base.tokens.loc[tokens_of(base, (split,))] for split in HELD_OUT}
    tokens = pd.concat(found.values())
    few = {f"split {' or '.join(HELD_OUT)}": tokens}
    if tell_apart(tokens):
        confirm = found["confirm"]
        few["split confirm with a persona"] = confirm.loc[comparable_tokens(confirm)]
    for what, part in few.items():
        if (n := len(set(part["doc"]))) < MIN_DOCUMENTS:
            asked = f"an interval over documents of {what} in {base.path}"
            said = f"{n} documents, which is too few to be measurable"
            raise InputError(asked, said, f"give at least {MIN_DOCUMENTS} documents")


def tokens_of(
    cache: ActivationCache, splits: Sequence[str], is_in: bool = True
) -> Bool[np.ndarray, " n_all"]:
    """Tokens of some splits that count: neither special nor an outlier of the norm.

    Args:
        cache: The base model's cache.
        splits: Which splits.
        is_in: False for the tokens of all other splits.

    Raises:
        InputError: There is none.
    """
    mine = cache.tokens["split"].isin(splits).to_numpy(bool) == is_in
    usual = mine & usual_tokens(cache.tokens)
    if not usual.any():
        asked = f"tokens {'' if is_in else 'not '}of split {' or '.join(splits)} in {cache.path}"
        do = "give the documents of the caches a split: fit, select or confirm"
        raise InputError(asked, "special ones and outliers only" if mine.any() else "none", do)
    return usual


def study_caches(config: CachesConfig, tell: Tell = lambda *_: None) -> Study:
    """Looks at every cache on the held-out tokens and judges the tuned ones.

    Args:
        config: Which caches.
        tell: Hears what is being done.

    Raises:
        ConfigError: As `look_at_caches`.
        InputError: As `look_at_caches`.
    """
    return judge_caches(config, look_at_caches(config, tell), tell)


def judge_caches(config: CachesConfig, evidence: Evidence, tell: Tell = lambda *_: None) -> Study:
    """Judges the tuned models among what was seen of caches.

    Args:
        config: Which caches.
        evidence: From `look_at_caches`, or a part of it.
        tell: Hears what is being done.
    """
    paths = str(config.base), config.dictionary, config.continued
    traced = TraceConfig(*paths, config.tuned, seed=config.seed, effects=0)
    return judged(traced, evidence, (), BY_BULK, tell)


def look_at_caches(config: CachesConfig, tell: Tell = lambda *_: None) -> Evidence:
    """Looks at every cache on the held-out tokens.

    Args:
        config: Which caches.
        tell: Hears what is being done.

    Raises:
        ConfigError: As `caches_of`.
        InputError: As `caches_of`, or a dictionary is missing.
    """
    caches = caches_of(config)
    parts = {"tuned": config.tuned, "null": config.nulls, "held_back": config.held_back}
    dictionary, meta = read(config.dictionary)
    own, beside = open_continued(config.continued / "base", dictionary, {"hook": meta.get("hook")})
    tell("base cache")
    bench = _laid(caches["base"], config.seed)
    firing = through(bench, dictionary, bench.x)
    before = Reference(dictionary, firing, through(bench, own, bench.x), own)
    carriers = find_carriers(bench, firing)
    wanted = _held_out(caches.pop("base"))
    seen = {}
    for name, cache in caches.items():
        tell("caches", name)
        x = vectors(cache, wanted)[bench.counted]
        change = Change(float("nan"), _moved(bench.x, x), float("nan"))
        continued, _ = open_continued(config.continued / name, dictionary, beside)
        seen[name] = lay(bench, before, (name, x, continued), change)
    laid = {name: [seen[each.name] for each in part] for name, part in parts.items()}
    changes = {name: each.change for name, each in seen.items()}
    return Evidence(bench, meta, before, carriers, laid, changes)


def _held_out(cache: ActivationCache) -> Bool[np.ndarray, " n_all"]:
    return cache.tokens["split"].isin(HELD_OUT).to_numpy(bool)


def _laid(cache: ActivationCache, seed: int) -> Bench:
    wanted = _held_out(cache)
    table = cache.tokens.loc[wanted].reset_index(drop=True)
    outlier = table["is_outlier"].to_numpy(bool)
    return lay_vectors(table, vectors(cache, wanted), outlier, seed)


def _moved(x: Float[np.ndarray, "n d_in"], y: Float[np.ndarray, "n d_in"]) -> float:
    """Root of the mean squared shift over that of the deviation from the mean."""
    parts = zip(torch.from_numpy(x).split(CHUNK), torch.from_numpy(y).split(CHUNK), strict=True)
    shift = sum(float((b.double() - a.double()).square().sum()) for a, b in parts)
    spread = float(((x - x.mean(axis=0)).astype(float) ** 2).sum())
    return (shift / spread) ** 0.5
