"""Which latents carry a persona: selected on one split, confirmed on documents of another.

A label is any column of the token table: personas, or a factor that is none (a dialect), which goes
through the same functions and so makes a fair comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from analysis.personas.selectivity import auroc_interval, strata_of, stratified_auroc
from analysis.statistics.intervals import assign_blocks, false_discovery
from analysis.statistics.matrices import n_fires, shape
from sae.errors import InputError

__all__ = [
    "SelectConfig",
    "comparable_tokens",
    "fire_rates",
    "probe",
    "score_columns",
    "select_personas",
]

NONE = "none"


@dataclass(frozen=True)
class SelectConfig:
    """How persona latents are chosen and confirmed."""

    label: str = "persona"
    """Column of the token table that holds the label; `none` is no label."""
    match: tuple[str, ...] = ("token_id", "context")
    """Columns on which compared tokens agree, beside their position bucket."""
    n_carried: int = 3
    """Best latents a label carries from selection to confirmation."""
    min_fires: int = 30
    """Firings on the compared tokens of the select split below which a latent is not considered."""
    q: float = 0.05
    """False discovery rate over all (latent, label) pairs carried."""
    n_blocks: int = 64
    """Resampling blocks of the confirm documents."""
    seed: int = 0
    """Seed of the blocks."""


def comparable_tokens(
    tokens: pd.DataFrame, label: str = "persona", split: str | None = None
) -> Bool[np.ndarray, " n_tokens"]:
    """Tokens inside a turn whose speaker has a label: no template, no special token, no outlier.

    Args:
        tokens: Token table.
        label: Column of the label.
        split: Keep this split only.

    Returns:
        Mask over the table.
    """
    keep = tokens[label].notna() & (tokens[label] != NONE)
    for flag in ("is_template", "is_special", "is_outlier"):
        if flag in tokens:
            keep &= ~tokens[flag].fillna(False).astype(bool)
    if split is not None:
        keep &= tokens["split"] == split
    return keep.to_numpy(bool)


def fire_rates(
    z: sparse.csr_array, keep: Bool[np.ndarray, " n_tokens"]
) -> Float[np.ndarray, " latents"]:
    """Share of the kept tokens on which each latent fires.

    Args:
        z: Latents [n_tokens, latents].
        keep: Tokens that count.

    Returns:
        Rates in [0, 1].
    """
    kept = sparse.csr_array(z[np.flatnonzero(keep)])
    fired = kept.indices[kept.data > 0]
    return np.bincount(fired, minlength=shape(z)[1]) / max(int(keep.sum()), 1)


def _one_hot(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return labels[:, None] == np.asarray(names, dtype=object)[None, :]


def select_personas(
    z: sparse.csr_array, tokens: pd.DataFrame, config: SelectConfig | None = None
) -> pd.DataFrame:
    """The latents that carry each persona, chosen on `select` and tested on `confirm`.

    Args:
        z: Latents of the base model on the token table, [n_tokens, latents].
        tokens: Token table with the label, `split`, `doc`, `pos` and the columns to match.
        config: Rules; the defaults where absent.

    Returns:
        One row a carried (persona, latent) pair: persona, latent, rank (1 is best), auroc_select,
        auroc, auroc_low, auroc_high, p_value (one-sided, over documents), q_value, confirmed. A
        persona without matched pairs has no row.

    Raises:
        InputError: No labelled token in a split.
        ConfigError: Fewer than 8 documents to confirm on.
    """
    config = config or SelectConfig()
    masks = {s: comparable_tokens(tokens, config.label, s) for s in ("select", "confirm")}
    for split, mask in masks.items():
        if not mask.any():
            raise InputError(
                f"tokens with a {config.label} in the {split} split",
                "none",
                "give labelled documents in every split",
            )
    chosen = _carried(z, tokens, masks["select"], config)
    keep = np.flatnonzero(masks["confirm"])
    confirm = tokens.iloc[keep]
    blocks = assign_blocks(confirm["doc"], config.n_blocks, config.seed)
    strata = strata_of(confirm, config.match)
    labels = confirm[config.label].to_numpy(dtype=object)
    columns = sparse.csc_array(z[keep])
    found = [
        auroc_interval(
            columns[:, [latent]].toarray().ravel().astype(float),
            np.asarray(labels == persona, bool),
            strata,
            blocks,
        )
        for persona, latent in zip(chosen["persona"], chosen["latent"], strict=True)
    ]
    for column, name in (("auroc", "auroc"), ("auroc_low", "low"), ("auroc_high", "high")):
        chosen[column] = [float(getattr(each, name)) for each in found]
    chosen["p_value"] = [float(each.p_value) for each in found]
    chosen["q_value"] = false_discovery(chosen["p_value"].to_numpy(float))
    chosen["confirmed"] = chosen["q_value"] <= config.q
    return chosen


def _carried(
    z: sparse.csr_array, tokens: pd.DataFrame, mask: np.ndarray, config: SelectConfig
) -> pd.DataFrame:
    keep = np.flatnonzero(mask)
    select = tokens.iloc[keep]
    labels = select[config.label].to_numpy(dtype=object)
    names = sorted(set(labels))
    scores = stratified_auroc(
        sparse.csr_array(z[keep]), _one_hot(labels, names), strata_of(select, config.match)
    )
    live = n_fires(sparse.csr_array(z[keep])) >= config.min_fires
    rows = []
    for p, name in enumerate(names):
        usable = np.where(live & ~np.isnan(scores[:, p]), scores[:, p], -np.inf)
        best = np.argsort(-usable, kind="stable")[: config.n_carried]
        rows += [
            {"persona": name, "latent": int(i), "rank": r, "auroc_select": float(usable[i])}
            for r, i in enumerate(best, start=1)
            if np.isfinite(usable[i])
        ]
    return pd.DataFrame(rows, columns=["persona", "latent", "rank", "auroc_select"])


def probe(
    x_fit: Float[np.ndarray, "n_fit d_in"],
    labels_fit: Sequence[str] | np.ndarray,
    x: Float[np.ndarray, "n d_in"],
    max_tokens: int = 60_000,
) -> pd.DataFrame:
    """Log-probability of each persona by a multinomial logistic probe on residual vectors.

    Args:
        x_fit: Residual vectors of labelled tokens of one split.
        labels_fit: Their personas.
        x: Residual vectors of another split, to be scored.
        max_tokens: Fit on at most so many tokens, drawn evenly over the table.

    Returns:
        A column a persona, in nats.
    """
    labels = np.asarray(labels_fit, dtype=object).astype(str)
    centre, spread = x_fit.mean(axis=0), x_fit.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    taken = np.linspace(0, len(x_fit) - 1, min(len(x_fit), max_tokens)).astype(int)
    model = LogisticRegression(max_iter=2000, tol=1e-3)
    model.fit((x_fit[taken] - centre) / spread, labels[taken])
    logits = np.asarray(model.decision_function((x - centre) / spread), np.float64)
    if logits.ndim == 1:  # of two classes, that of the second
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    scores = log_softmax(logits, axis=1)  # from logits: a far point's probability is 0 in float32
    return pd.DataFrame(scores, columns=[str(name) for name in model.classes_])


def score_columns(
    scores: pd.DataFrame, tokens: pd.DataFrame, config: SelectConfig | None = None
) -> pd.DataFrame:
    """Selectivity of given scores, one column a persona, by the measure latents are held to.

    Args:
        scores: A probe's or an ideal observer's score of each persona, one row a token.
        tokens: Token table of the same rows; only comparable tokens count.
        config: Rules; the defaults where absent.

    Returns:
        One row a persona: persona, auroc, auroc_low, auroc_high, p_value. A persona without
        matched pairs is not a number.
    """
    config = config or SelectConfig()
    keep = np.flatnonzero(comparable_tokens(tokens, config.label))
    kept = tokens.iloc[keep]
    blocks = assign_blocks(kept["doc"], config.n_blocks, config.seed)
    strata = strata_of(kept, config.match)
    labels = kept[config.label].to_numpy(dtype=object)
    rows = []
    for name in scores.columns:
        score = scores[name].to_numpy(float)[keep]
        one = auroc_interval(score, np.asarray(labels == name, bool), strata, blocks)
        rows.append((name, one.auroc, one.low, one.high, one.p_value))
    return pd.DataFrame(rows, columns=["persona", "auroc", "auroc_low", "auroc_high", "p_value"])
