"""Arms side by side on the same tokens: persona-span share of their shift, and excess R2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analysis.latents.bench import Bench
from analysis.latents.traces import Firing
from analysis.personas.carriers import confirmed_latents
from analysis.personas.likes import matched_sets
from analysis.personas.reuse import Excess, excess
from analysis.personas.select import comparable_tokens, fire_rates
from analysis.personas.span import (
    SpanShare,
    contrast_span,
    covariance_within_tokens,
    paired_span_difference,
    persona_span,
    random_subspaces,
    span_share,
)
from analysis.statistics.intervals import Interval
from sae.errors import InputError

__all__ = ["Span", "difference", "excess_of", "like_spans", "nearest_kl", "share_of", "spans"]

N_MATCHES = 5
N_SUBSPACES = 200


@dataclass(frozen=True, eq=False)
class Span:
    """A span of personas, with random subspaces of its rank where residuals lie."""

    basis: Float[np.ndarray, "rank d_in"]
    """Orthonormal basis."""
    null: Float[np.ndarray, "n rank d_in"]
    """Covariance-matched random subspaces."""


def spans(
    bench: Bench,
    rows: Float[np.ndarray, "d_sae d_in"],
    personas: pd.DataFrame,
    seed: int = 0,
    dialects: np.ndarray | None = None,
) -> dict[str, Span]:
    """The span of persona latents and the span of persona contrasts.

    Args:
        bench: Tokens and base residuals.
        rows: Decoder rows of the base dictionary.
        personas: The selected personas; every confirmed latent counts, once.
        seed: Of the random subspaces.
        dialects: Dialect of every counted token, where it is known.

    Returns:
        "latents": the fewest directions with 90 % of the energy of the unit decoder rows.
        "contrasts": the same for persona means within token identity, over the select split.
        "dialects": the same for means of dialects, which are no personas.

    Raises:
        InputError: No persona latent was confirmed.
    """
    latents = personas.loc[personas["confirmed"].astype(bool), "latent"].unique()
    if not len(latents):
        raise InputError("the span of persona latents", "no confirmed latent", "see the personas")
    labelled = comparable_tokens(bench.tokens)
    mine = labelled & bench.in_split("select")
    tokens = bench.tokens["token_id"].to_numpy()
    covariance = covariance_within_tokens(bench.x[labelled].astype(float), tokens[labelled])
    labels = bench.tokens["persona"].to_numpy(object)[mine]
    bases = {
        "latents": persona_span(rows[latents].astype(float)),
        "contrasts": contrast_span(bench.x[mine].astype(float), labels, tokens[mine]),
    }
    if dialects is not None and len(set(dialects[bench.in_split("select")].tolist())) > 1:
        held = bench.in_split("select")
        said = bench.x[held].astype(float), dialects[held], tokens[held]
        bases["dialects"] = contrast_span(*said)
    return {
        name: Span(basis, random_subspaces(covariance, len(basis), N_SUBSPACES, seed))
        for name, basis in bases.items()
    }


def like_spans(
    rows: Float[np.ndarray, "d_sae d_in"], sets: Sequence[Int[np.ndarray, " _"]], rank: int
) -> Float[np.ndarray, "n rank d_in"]:
    """Spans of sets of latents, as many leading directions of each as the persona span has.

    Args:
        rows: Decoder rows.
        sets: Latents of each, no fewer than directions are asked.
        rank: Of the persona span.

    Returns:
        Orthonormal bases.
    """
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.stack([np.linalg.svd(units[i], full_matrices=False)[2][:rank] for i in sets])


def best_latents(personas: pd.DataFrame) -> pd.DataFrame:
    """The best confirmed latent of each persona that has one, each latent once."""
    return confirmed_latents(personas, ("persona", "latent"))


def share_of(
    bench: Bench,
    moved: tuple[Float[np.ndarray, "n d_in"], Float[np.ndarray, "n d_in"]],
    span: Span,
    mask: Bool[np.ndarray, " n"],
) -> SpanShare:
    """Share of a shift, between residuals before and after, in a span, on tokens of a mask."""
    before, after = moved
    shift = (after[mask] - before[mask]).astype(float)
    return span_share(shift, span.basis, bench.blocks.select(mask), span.null, bench.weights)


def difference(
    bench: Bench,
    shifts: tuple[Float[np.ndarray, "m d_in"], Float[np.ndarray, "m d_in"]],
    span: Span,
    mask: Bool[np.ndarray, " n"],
) -> tuple[Interval, tuple[float, float]]:
    """Span share of the first arm minus that of the second, on the same documents.

    Args:
        bench: Tokens.
        shifts: Of either arm, at the tokens of the mask.
        span: The span; each arm's mean over random subspaces is subtracted from its share first.
        mask: Tokens.

    Returns:
        The difference with its interval over documents, and the central 95 % of the same of random
        subspaces.
    """
    first, second = (each.astype(float) for each in shifts)
    blocks = bench.blocks.select(mask)
    found, null = paired_span_difference(
        first, second, span.basis, blocks, span.null, bench.weights
    )
    assert null is not None
    return found, null


def nearest_kl(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[str, str] | None:
    """The pair of checkpoints, one of each arm, at matched KL from the base.

    The arm that ends nearer to the base gives its last checkpoint, the other the one with the
    nearest KL in ratio.

    Args:
        first: KL by checkpoint of one arm, the last one last.
        second: The same for the other.

    Example:
        >>> nearest_kl({"a@1": 0.1, "a@2": 0.4}, {"b@1": 0.05, "b@2": 0.12})
        ('a@1', 'b@2')
    """
    if not first or not second:
        return None
    ends = list(first)[-1], list(second)[-1]
    if first[ends[0]] <= second[ends[1]]:
        return ends[0], _nearest(second, first[ends[0]])
    return _nearest(first, second[ends[1]]), ends[1]


def _nearest(kl: Mapping[str, float], goal: float) -> str:
    return min(kl, key=lambda name: abs(np.log(max(kl[name], 1e-12) / max(goal, 1e-12))))


def excess_of(
    bench: Bench,
    firing: Firing,
    personas: pd.DataFrame,
    targets: Mapping[str, Float[np.ndarray, "n d_in"]],
    mask: Bool[np.ndarray, " n"],
) -> dict[str, Excess]:
    """Excess R2 of persona latents over matched ones, for each of several models.

    Args:
        bench: Tokens.
        firing: The base dictionary's latents on the base model's residuals.
        personas: The selected personas; each counts with its best confirmed latent.
        targets: Residual vectors of each model.
        mask: Tokens whose residuals are predicted; those of the select split are fitted on.

    Raises:
        InputError: Too few latents to match.
    """
    chosen = best_latents(personas)["latent"].to_numpy(int)
    rates = fire_rates(firing.z, comparable_tokens(bench.tokens))
    carried = personas["latent"].to_numpy(int)
    sets = [chosen, *matched_sets(chosen, carried, rates, N_MATCHES)]
    kept = firing.z[np.flatnonzero(mask)]
    columns = [kept[:, each].toarray() for each in sets]
    fit = bench.in_split("select")[mask]
    blocks = bench.blocks.select(mask)
    return {
        name: excess(columns[0], columns[1:], x[mask].astype(float), fit, blocks)
        for name, x in targets.items()
    }
