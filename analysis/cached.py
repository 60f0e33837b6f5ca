"""Activation caches of the same tokens -> the same study, and no language model.

What only a language model can tell stays unmeasured: effect, KL, and how far weights moved. There
is no neutral text either, so a null counts as far enough by the bulk of its latents and that of the
tuned model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from analysis.bench import CHUNK, Bench, lay_vectors, through
from analysis.carriers import Carriers, find_carriers
from analysis.choosing import BY_BULK
from analysis.personas import comparable_tokens
from analysis.subjects import Reference, Subject, lay
from analysis.traces import Firing
from analysis.tracing import Evidence, Study, Tell, TraceConfig, judged
from sae import read
from sae.change import Change
from sae.errors import InputError
from sae.stream.cache import ActivationCache

__all__ = ["HELD_OUT", "LABELS", "CachesConfig", "judge_caches", "look_at_caches"]
__all__ += ["open_caches", "study_caches", "vectors"]

LABELS = ("doc", "pos", "token_id", "token", "role", "persona", "context", "split")
"""Columns that every token table must have."""
HELD_OUT = ("select", "confirm")
"""Splits that are traced; dictionaries are fitted on the others."""
SAME = ("doc", "pos", "token_id")


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


def open_caches(base: Path, others: Sequence[Path]) -> list[ActivationCache]:
    """Caches, once they are seen to hold the same tokens in one order, that of the base first.

    Args:
        base: The base model's cache.
        others: The other models'.

    Raises:
        InputError: A cache is missing or damaged, lacks a label, or is of other tokens, another
            order, other labels or another width than the base's.
    """
    found = [ActivationCache.open(each) for each in (base, *others)]
    first = found[0]
    missing = [name for name in LABELS if name not in first.tokens]
    if missing:
        do = "write it with one label of each kind for every token"
        raise InputError(f"labels of {base}", f"no column {', '.join(missing)}", do)
    for path, cache in zip(others, found[1:], strict=True):
        asked, do = f"{path} beside {base}", "harvest both over one text"
        if cache.d_in != first.d_in:
            raise InputError(asked, f"width {cache.d_in}, not {first.d_in}", do)
        if cache.n_tokens != first.n_tokens:
            raise InputError(asked, f"{cache.n_tokens} tokens, not {first.n_tokens}", do)
        # A cache may say nothing of roles and the like; what it says must be what the base's says.
        said = [name for name in LABELS if name not in SAME and name in cache.tokens]
        for name in (*SAME, *said):
            differs = np.flatnonzero(_column(cache, name) != _column(first, name))
            if len(differs):
                raise InputError(asked, f"another {name} from token {differs[0]} on", do)
    return found


def _column(cache: ActivationCache, name: str) -> np.ndarray:
    if name not in cache.tokens:
        return np.full(cache.n_tokens, None)
    column = cache.tokens[name]
    return column.astype(object).where(column.notna(), None).to_numpy()


def vectors(
    cache: ActivationCache, wanted: Bool[np.ndarray, " n_all"]
) -> Float[np.ndarray, "n d_in"]:
    """Residual vectors of some tokens, shard by shard.

    Args:
        cache: The cache.
        wanted: Which tokens.

    Raises:
        InputError: A shard is damaged, or holds a vector that is not finite.
    """
    kept = []
    for number in range(cache.n_shards):
        mine = wanted[cache.rows(number)]
        if mine.any():
            kept.append(cache.shard(number).numpy()[mine])
    x = np.concatenate(kept) if kept else np.empty((0, cache.d_in), np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"vectors of {cache.path}", "NaN or infinite ones", "check the model")
    return x


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
        ConfigError: Fewer than 8 held-out documents.
        InputError: A cache or dictionary is missing, or caches do not fit together.
    """
    parts = {"tuned": config.tuned, "null": config.nulls, "held_back": config.held_back}
    subjects = [each for part in parts.values() for each in part]
    caches = open_caches(config.base, [Path(each.path) for each in subjects])
    dictionary, meta = read(config.dictionary)
    own, _ = read(config.continued / "base")
    tell("base cache")
    bench = _laid(caches[0], config.seed)
    firing = through(bench, dictionary, bench.x)
    before = Reference(dictionary, firing, through(bench, own, bench.x), own)
    carriers = _carriers(bench, firing)
    wanted = _held_out(caches[0])
    seen = {}
    for subject, cache in zip(subjects, caches[1:], strict=True):
        tell("caches", subject.name)
        x = vectors(cache, wanted)[bench.counted]
        change = Change(float("nan"), _moved(bench.x, x), float("nan"))
        folder = config.continued / subject.name
        seen[subject.name] = lay(bench, before, (subject.name, x, folder), change)
    laid = {name: [seen[each.name] for each in part] for name, part in parts.items()}
    changes = {name: each.change for name, each in seen.items()}
    return Evidence(bench, meta, before, carriers, laid, changes)


def _held_out(cache: ActivationCache) -> Bool[np.ndarray, " n_all"]:
    return cache.tokens["split"].isin(HELD_OUT).to_numpy(bool)


def _laid(cache: ActivationCache, seed: int) -> Bench:
    wanted = _held_out(cache)
    if not wanted.any():
        do = f"mark documents as of split {' and '.join(HELD_OUT)}"
        raise InputError(f"held-out tokens in {cache.path}", "none", do)
    table = cache.tokens.loc[wanted].reset_index(drop=True)
    outlier = table["is_outlier"].to_numpy(bool)
    return lay_vectors(table, vectors(cache, wanted), outlier, seed)


def _carriers(bench: Bench, firing: Firing) -> Carriers:
    """Persona latents; none where the tokens of a split do not tell two personas apart."""
    labelled = comparable_tokens(bench.tokens)
    known = [
        bench.tokens.loc[labelled & bench.in_split(split), "persona"].nunique()
        for split in HELD_OUT
    ]
    return find_carriers(bench, firing) if min(known) > 1 else Carriers.none()


def _moved(x: Float[np.ndarray, "n d_in"], y: Float[np.ndarray, "n d_in"]) -> float:
    """Root of the mean squared shift over that of the deviation from the mean."""
    parts = zip(torch.from_numpy(x).split(CHUNK), torch.from_numpy(y).split(CHUNK), strict=True)
    shift = sum(float((b.double() - a.double()).square().sum()) for a, b in parts)
    spread = float(((x - x.mean(axis=0)).astype(float) ** 2).sum())
    return (shift / spread) ** 0.5
