"""Effect: whether a latent still does to the next token what it did in the base model.

On some tokens the latent's own part is taken from the residual vector (ablated), and on the same
its usual activation is added (steered). Both are done in both models, each with its own decoder row
and activation, and read at that token. Agreement is the cosine of the two changes of the next
token's logits, less their mean over the vocabulary, over all these tokens at once; of the kinds of
intervention the mean.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import sparse

from analysis.latents.bench import ModelBench
from analysis.latents.traces import Firing
from analysis.statistics.intervals import bounds
from sae.stream.model import LanguageModel
from sae.stream.pushed import pushed_states, unembedding

__all__ = ["BaseEffects", "Effects", "effects", "lay_effects"]

DOCUMENTS = 512  # at most, in which tokens are taken
LATENTS = 1024  # at most, whose effect is measured
LEAST = 6  # tokens on which a latent fires in both models, below which it has no effect
KINDS = 2


@dataclass(frozen=True, eq=False)
class BaseEffects:
    """What latents do in the base model, and where."""

    latent: Int[np.ndarray, " m"]
    """Latent of every intervention."""
    row: Int[np.ndarray, " m"]
    """Counted token on which it was done."""
    dose: Float[np.ndarray, " n_latents"]
    """What is added to steer, the mean of each latent on its tokens; unit: activation."""
    changes: Float[np.ndarray, "kinds m d"]
    """What ablating and steering did to the state that the unembedding reads."""
    head: Float[np.ndarray, "v d"]
    """The unembedding, less its mean over the vocabulary."""


@dataclass(frozen=True, eq=False)
class Effects:
    """The coordinate *effect* of every inherited latent, and how documents would vary it."""

    table: pd.DataFrame
    """One row a latent: effect with _low and _high (95 %); null where it was not measured."""
    replicates: Float[np.ndarray, "resamples latents"]
    """The same in every resample of the documents."""


def lay_effects(
    bench: ModelBench, continued: Firing, n_latents: int, n_tokens: int, seed: int = 0
) -> BaseEffects:
    """Ablates and steers latents in the base model.

    Args:
        bench: Tokens and the base model.
        continued: The dictionary continued on the base's own activations, on the base model.
        n_latents: Latents that are inherited; of more than 1,024 that fire often enough as many are
            drawn.
        n_tokens: Tokens a latent, spread over as many of 512 documents as it fires in.
        seed: Of which documents, tokens and latents are taken.

    Raises:
        ConfigError: The base model cannot be read token by token, or has no unembedding.
    """
    latent, row, z = _picked(bench, continued, n_latents, n_tokens, np.random.default_rng(seed))
    count = np.bincount(latent, minlength=n_latents)
    dose = np.bincount(latent, z, n_latents) / np.maximum(count, 1)
    pushes = _pushes(continued, latent, z, dose)
    changes = _changes(bench, bench.base, row, pushes)
    return BaseEffects(latent, row, dose.astype(np.float32), changes, _centred(bench.base))


def effects(bench: ModelBench, base: BaseEffects, model: LanguageModel, tuned: Firing) -> Effects:
    """How alike interventions on each latent are in the base model and in a tuned one.

    Tokens count on which the latent fires in both models.

    Args:
        bench: Tokens and the base model.
        base: What was done in the base model.
        model: The tuned model.
        tuned: The dictionary continued on it, on it.

    Raises:
        ConfigError: The tuned model cannot be read token by token, or has no unembedding.
    """
    z = sparse.csr_array(tuned.z[base.row])[np.arange(len(base.row)), base.latent]
    z = np.asarray(z.todense() if sparse.issparse(z) else z).ravel()
    met = z > 0
    latent, row = base.latent[met], base.row[met]
    pushes = _pushes(tuned, latent, z[met], base.dose)
    after, before = _changes(bench, model, row, pushes), base.changes[:, met]
    heads = base.head, _centred(model)
    grams = [first.T @ second for first, second in ((heads[0], heads[1]), *((h, h) for h in heads))]
    pairs = (before, after), (before, before), (after, after)
    n, n_blocks = len(base.dose), bench.blocks.n_blocks
    group = bench.blocks.of_token[row] * n + latent
    drawn, points = [], []
    for kind in range(KINDS):
        sums = [
            np.bincount(
                group, ((a[kind] @ gram) * b[kind]).sum(axis=1, dtype=float), n_blocks * n
            ).reshape(n_blocks, n)
            for (a, b), gram in zip(pairs, grams, strict=True)
        ]
        points.append(_cosines(np.ones((1, n_blocks)), sums)[0])
        drawn.append(_cosines(bench.weights, sums))
    enough = np.bincount(latent, minlength=n) >= LEAST
    point = np.where(enough, np.mean(points, axis=0), np.nan)
    replicates = np.where(enough, np.mean(drawn, axis=0), np.nan)
    low, high = bounds(replicates, n_blocks)
    point = np.where(np.isnan(low) | np.isnan(high), np.nan, point)  # of too few documents
    table = pd.DataFrame({"effect": point, "effect_low": low, "effect_high": high})
    return Effects(table, replicates.astype(np.float32))


def _picked(
    bench: ModelBench, continued: Firing, n: int, n_tokens: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latent, counted token and activation of every intervention, in an order of latents."""
    document, _ = _where(bench, np.arange(len(bench.tokens)))
    there = np.unique(document)
    chosen = rng.permutation(there)[:DOCUMENTS]
    rows = np.flatnonzero(np.isin(document, chosen))
    z = sparse.coo_array(sparse.csr_array(continued.z[:, :n])[rows])
    found = pd.DataFrame({"latent": z.col, "row": rows[z.row], "z": z.data})
    found = found.iloc[rng.permutation(len(found))]
    count = found.groupby("latent")["row"].transform("size")
    found = found.loc[count >= LEAST]
    live = rng.permutation(found["latent"].unique())[:LATENTS]
    found = found.loc[found["latent"].isin(live)]
    found["document"] = document[found["row"]]
    found["turn"] = found.groupby(["latent", "document"]).cumcount()
    found = found.sort_values(["latent", "turn"], kind="stable")
    found = found.loc[found.groupby("latent").cumcount() < n_tokens]
    return tuple(found[name].to_numpy() for name in ("latent", "row", "z"))  # pyright: ignore


def _where(bench: ModelBench, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Document of every counted token, and its place in it."""
    at = np.flatnonzero(bench.counted)[row]
    document = np.searchsorted(bench.text.starts, at, side="right") - 1
    return document, at - bench.text.starts[document]


def _pushes(
    one: Firing, latent: np.ndarray, z: np.ndarray, dose: np.ndarray
) -> Float[np.ndarray, "kinds m d_in"]:
    rows = one.rows[latent]
    return np.stack([-z[:, None] * rows, dose[latent, None] * rows]).astype(np.float32)


def _changes(
    bench: ModelBench, model: LanguageModel, row: np.ndarray, pushes: np.ndarray
) -> Float[np.ndarray, "kinds m d"]:
    return pushed_states(model, bench.text.ids, _where(bench, row), bench.hook, pushes)


def _centred(model: LanguageModel) -> Float[np.ndarray, "v d"]:
    head = unembedding(model)
    return (head - head.mean(0)).numpy()


def _cosines(weights: np.ndarray, sums: list[np.ndarray]) -> Float[np.ndarray, "n latents"]:
    both, first, second = (weights @ each for each in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((first > 0) & (second > 0), both / np.sqrt(first * second), np.nan)
