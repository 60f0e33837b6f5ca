"""What the field's own rules say of the same worlds: cosines, a crosscoder's norms, latent scaling.

They have no intervals, no nulls and fewer words: a rule that compares directions knows preserved
and rotated, one that compares norms preserved, rotated, lost and novel. So beside the mean F1 over
all fates, which they cannot reach, stands that over the words a rule has. A crosscoder is as wide
as the trace's dictionary of the tuned model, and sees as many tokens of each model as that did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load_file

import sae
from analysis.latents.existence import latent_scaling
from analysis.planted import Planted
from analysis.statistics.intervals import assign_blocks, resample_weights
from analysis.study.agreement import NU_ERROR, NU_RECONSTRUCTION, binned, written
from benchmarks.fates.score import matched, of_fates
from sae.dictionary import (
    BatchTopKConfig,
    Crosscoder,
    CrosscoderConfig,
    ReluConfig,
    Sae,
    SparsityConfig,
    initialise_,
)
from sae.stream.buffer import ActivationBuffer, CacheSource
from sae.stream.cache import ActivationCache
from sae.stream.several import SideBySideSource
from training.config import TrainConfig
from training.loop import fit
from training.recipes import cache as recipe

__all__ = ["COSINES", "beside", "judged_by_rules"]

COSINES = (0.5, 0.7, 0.9)
"""Cut-offs below which a direction counts as changed."""
TWIN = 0.9  # cosine of a latent of one model alone with one of the other alone: one feature, twice
LEAST_FIRES = 20
WORDS_OF_NORMS = ("preserved", "rotated", "lost")
L1S = (0.02, 0.05, 0.1, 0.2, 0.4)
BUFFER_BYTES, SAMPLE, TRIAL = 1 << 28, 8192, 200_000


def judged_by_rules(
    caches: Path, trace: Path, models: Mapping[str, Planted], k: int
) -> dict[str, dict[str, Any]]:
    """F1 of every fate by each rule, and what it calls novel.

    Args:
        caches: Folder of a world's caches.
        trace: Its trace, whose continued dictionaries the cosines are of.
        models: What is in the caches.
        k: Latents that fire a token, of the crosscoders as of the trace's dictionaries.

    Returns:
        By rule: f1 of every fate, macro, `of_its_words`, and counts of novel features and rows,
        a row that has an old direction's trigger being no false one; for crosscoders
        also how many latents norms give to one model alone, how many of these latent scaling
        does not, and how many have a twin on the other side.
    """
    base, tuned = models["base"].rows, models["tuned"]
    runs = [_run(trace / each) for each in ("first", "dictionary", "continued/tuned")]
    run = replace(runs[0], n_tokens=sum(each.n_tokens for each in runs))
    last = sae.read(trace / "continued/tuned")[0]
    both = _Both(caches, run, last.config.d_sae)
    found = _by_cosines(trace, both.fires(last), tuned, base)
    plain = BatchTopKConfig(k, per_token=1 - run.decay)
    for name, sparsity in (("batch_topk", plain), ("l1", both.priced(k))):
        found |= both.judged(name, sparsity, tuned, base)
    return found


def beside(rules: Mapping[str, dict[str, Any]], ours: Mapping[str, float]) -> None:
    """Notes beside each rule our mean F1 over the words that it has.

    Args:
        rules: From `judged_by_rules`.
        ours: F1 of every fate of the same features.
    """
    for name, each in rules.items():
        each["ours"] = round(float(np.mean([ours[word] for word in _words(name)])), 4)


def _words(rule: str) -> tuple[str, ...]:
    """Fates that a rule can call."""
    return ("preserved", "rotated") if rule.startswith("cosine") else WORDS_OF_NORMS


def _run(folder: Path) -> TrainConfig:
    """How a dictionary of a trace was fitted."""
    return TrainConfig.from_dict(sae.read(folder)[1]["train"])


def _by_cosines(
    trace: Path,
    n_fires: Int[np.ndarray, " n"],
    tuned: Planted,
    base: Float[np.ndarray, "n d_in"],
) -> dict[str, dict[str, Any]]:
    """Row i of the continued dictionary beside row i of the base's."""
    held = load_file(trace / "directions.safetensors")
    fates = pd.read_parquet(trace / "fates.parquet").query("tuned == 'tuned' and origin == 'base'")
    own = held["tuned"] if "tuned" in held else held["tuned.tuned"]
    first, second = held["base"][: len(fates)], own[: len(fates)]
    cosine = _cosines(first, second)
    nearest = _unit(own) @ _unit(first).T
    live, rules = n_fires >= LEAST_FIRES, {}
    for cut in COSINES:
        said = np.where(cosine >= cut, "preserved", "rotated")
        new = live & (nearest.max(axis=1) < cut)
        name = f"cosine {cut}"
        rules[name] = _scored((first, said), (own, new), tuned, base, _words(name))
    return rules


class _Both:
    """Base and tuned model side by side, and crosscoders of them."""

    def __init__(self, caches: Path, run: TrainConfig, d_sae: int) -> None:
        opened = [ActivationCache.open(caches / name) for name in ("base", "tuned")]
        tokens = opened[0].tokens
        is_fit = (tokens["split"] == "fit").to_numpy()
        sides = [CacheSource(each, partial(_these, is_fit)) for each in opened]
        self.source, self.run, self.d_sae = SideBySideSource(sides), run, d_sae
        self.x = [_vectors(each, ~is_fit) for each in opened]
        self.doc = pd.factorize(tokens["doc"][~is_fit])[0]

    def fires(self, of_tuned: Sae) -> Int[np.ndarray, " n"]:
        """Held-out tokens of the tuned model on which each latent of its dictionary fires."""
        latent = [
            of_tuned.encode_sparse(each).index for each in torch.from_numpy(self.x[1]).split(SAMPLE)
        ]
        return np.bincount(torch.cat(latent).numpy(), minlength=of_tuned.config.d_sae)

    def fitted(self, sparsity: SparsityConfig, n_tokens: int) -> Crosscoder:
        """A crosscoder as wide as the trace's dictionary of the tuned model."""
        shape, run = recipe(self.source.d_in // 2)[0], replace(self.run, n_tokens=n_tokens)
        two = CrosscoderConfig(2)
        shape = replace(shape, d_in=2 * shape.d_in, d_sae=self.d_sae)
        both = Sae(replace(shape, sparsity=sparsity, crosscoder=two))
        batches = ActivationBuffer(self.source, run.batch_tokens, BUFFER_BYTES, run.seed)
        start = torch.cat([next(batches) for _ in range(SAMPLE // run.batch_tokens)])
        initialise_(both, start, run.seed)
        for _ in fit(both, batches, run):
            pass
        return Crosscoder(both.folded().eval())

    def priced(self, k: int) -> ReluConfig:
        """The L1 price at which, of those tried, the number that fires is nearest to k."""
        few = [torch.from_numpy(each[:SAMPLE]) for each in self.x]
        fires = {}
        for l1 in L1S:
            short = self.fitted(ReluConfig(l1=l1), TRIAL)
            fires[l1] = len(short.encode_sparse(few).index) / len(few[0])
        return ReluConfig(l1=min(L1S, key=lambda l1: abs(np.log(max(fires[l1], 1e-9) / k))))

    def judged(
        self,
        name: str,
        sparsity: SparsityConfig,
        tuned: Planted,
        base: Float[np.ndarray, "n d_in"],
    ) -> dict[str, dict[str, Any]]:
        """Norm bins, and norm bins with latent scaling, of one crosscoder."""
        crosscoder = self.fitted(sparsity, self.run.n_tokens)
        rows = [each.numpy().astype(np.float32) for each in crosscoder.rows]
        other, own = written(crosscoder, self.x)
        z, directions = own[1].z, [other[1].rows, own[1].rows]
        live = np.asarray((z > 0).sum(axis=0)).ravel() >= LEAST_FIRES
        share = crosscoder.relative_norms[0].numpy()
        said = binned(share, _cosines(*rows))
        new = live & (said == "novel")
        blocks = assign_blocks(self.doc)
        weights = resample_weights(blocks.n_blocks)
        nu = latent_scaling(own, other, np.arange(len(share)), blocks, weights)
        specific = (nu["nu_reconstruction"] < NU_RECONSTRUCTION) & (nu["nu_error"] < NU_ERROR)
        truly = new & specific.to_numpy()
        gone = live & (said == "lost")
        twins = _unit(directions[1][new]) @ _unit(directions[0][gone]).T
        facts = {
            "l0": round(z.nnz / z.shape[0], 2),
            "tuned_only": int(new.sum()),
            "not_specific": int((new & ~truly).sum()),
            "twins": int((twins >= TWIN).any(axis=1).sum()) if twins.size else 0,
        }
        of_base, of_tuned = (np.where(live[:, None], each, 0) for each in directions)
        plain = _scored((of_base, said), (of_tuned, new), tuned, base, WORDS_OF_NORMS)
        scaled = _scored((of_base, said), (of_tuned, truly), tuned, base, WORDS_OF_NORMS)
        return {f"norms {name}": plain | facts, f"norms {name} and nu": scaled | facts}


def _scored(
    old: tuple[Float[np.ndarray, "n_old d_in"], np.ndarray],
    new: tuple[Float[np.ndarray, "n_new d_in"], Bool[np.ndarray, " n_new"]],
    tuned: Planted,
    base: Float[np.ndarray, "n d_in"],
    words: Sequence[str],
) -> dict[str, Any]:
    """Words for base features, and rows that are called novel, beside what was planted."""
    (rows, said), (own, is_new) = old, new
    truth = tuned.truth.iloc[: len(base)].copy()
    latent = matched(rows, base).reindex(truth["feature"], fill_value=-1).to_numpy()
    truth["called"] = np.where(latent >= 0, said[latent], "not found")
    f1 = {fate: each["f1"] for fate, each in of_fates(truth).items()}
    table = {fate: round(each, 4) for fate, each in f1.items()}
    truth, found = tuned.truth, matched(own, tuned.rows)
    novel = truth.loc[truth["fate"].str.startswith("novel"), "feature"]
    again = truth.loc[truth["fate"] == "re_encoded", "feature"]
    mine, theirs = (found.reindex(each).dropna().astype(int) for each in (novel, again))
    called = int(is_new[mine].sum())
    return table | {
        "of_its_words": round(float(np.mean([f1[word] for word in words])), 4),
        "novel": len(novel),
        "called": called,
        "false_rows": int(is_new.sum()) - called - int(is_new[theirs].sum()),
    }


def _unit(rows: Float[np.ndarray, "n d_in"]) -> Float[np.ndarray, "n d_in"]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


def _cosines(
    one: Float[np.ndarray, "n d_in"], other: Float[np.ndarray, "n d_in"]
) -> Float[np.ndarray, " n"]:
    return np.einsum("ij,ij->i", _unit(one), _unit(other))


def _these(mask: np.ndarray, _: pd.DataFrame) -> np.ndarray:
    return mask


def _vectors(cache: ActivationCache, mask: np.ndarray) -> Float[np.ndarray, "n d_in"]:
    parts = (cache.shard(i).numpy()[mask[cache.rows(i)]] for i in range(cache.n_shards))
    return np.concatenate(list(parts))
