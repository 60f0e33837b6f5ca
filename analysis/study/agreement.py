"""Three methods asked the same of the same latents: has fine-tuning changed it?

A continued dictionary has its fates. A crosscoder of both models says it by the latent that fires
like the base's: whose its decoder norms are, with latent scaling for those of one model alone, and
whether its two rows agree. A dictionary of the difference says it by how much of the difference it
puts along the latent's row where that fires. Methods that rest on each other's faults disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import sparse, stats

from analysis.latents.bench import CHUNK, Bench
from analysis.latents.existence import Laid, latent_scaling
from analysis.latents.matching import ALIKE
from analysis.latents.traces import Firing, reconstructed
from analysis.statistics.matrices import cofiring
from sae.dictionary.crosscoder import Crosscoder, side_by_side
from sae.dictionary.sae import Sae
from sae.errors import ConfigError

__all__ = ["METHODS", "Agreement", "agreement", "binned", "by_crosscoder", "by_difference"]
__all__ += ["written"]

METHODS = ("continued", "crosscoder", "difference")
"""The methods, in the order of all tables."""
SAME, CHANGED, UNDECIDED = "same", "changed", "undecided"
ONLY, SHARED = 0.1, 0.1  # half-open widths of Minder et al.'s bins: [0, .1], [.4, .6], [.9, 1]
ROWS_ALIKE = 0.9  # cosine of the two rows of a shared latent; below, its direction changed
NU_RECONSTRUCTION, NU_ERROR = 0.5, 0.2  # Minder et al. 2025: below both, specific to one model
LITTLE, MUCH = 0.05, 0.25  # share of a latent's energy: a change by a fifth, and by half
N_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Agreement:
    """What the methods say of every latent, and how far they agree."""

    latents: pd.DataFrame
    """One row a latent that can be judged: latent, persona, and for each method a score that grows
    with change (NAME_score) and a word (NAME): same, changed or undecided."""
    pairs: pd.DataFrame
    """One row a pair of methods: first, second; n latents; correlation of ranks of the scores, low
    and high (95 %, over latents), null_low and null_high (central 95 % where latents are shuffled);
    n_both, latents of which both decide; alike, the share of these with one word; and kappa
    (Cohen 1960), that share above chance."""


def agreement(
    bench: Bench,
    continued: Firing,
    x: Float[np.ndarray, "n d_in"],
    fates: pd.DataFrame,
    together: tuple[Crosscoder, Sae],
    seed: int = 0,
) -> Agreement:
    """What three methods say of the base dictionary's latents in one tuned model.

    Args:
        bench: Held-out tokens with the base model's vectors.
        continued: The dictionary continued on the base's own activations, on the base model.
        x: The tuned model's vectors.
        fates: Its rows of `fates.parquet`.
        together: A crosscoder of the base and the tuned model, and a dictionary of the tuned
            model's vectors less the base's.
        seed: Of draws of latents.

    Raises:
        ConfigError: The crosscoder or the dictionary is of another width or number of models.
    """
    crosscoder, difference = together
    d = bench.x.shape[1]
    if (crosscoder.n_models, crosscoder.d_model) != (2, d) or difference.config.d_in != d:
        found = f"{crosscoder.n_models} models of width {crosscoder.d_model}, and a dictionary of "
        do = "fit both on the base and this model"
        raise ConfigError(f"two models of width {d}", f"{found}width {difference.config.d_in}", do)
    own = fates.loc[(fates["origin"] == "base") & fates["q_value"].notna()]
    table = own[["latent", "persona"]].reset_index(drop=True)
    told = (_of_fates(own), by_crosscoder(bench, continued, x, crosscoder))
    told = (*told, by_difference(bench, continued, x, difference))
    for name, each in zip(METHODS, told, strict=True):
        kept = each.set_index("latent").reindex(table["latent"])
        table[f"{name}_score"], table[name] = kept["score"].to_numpy(), kept["word"].to_numpy()
    rng = np.random.default_rng(seed)
    pairs = [_pair(table, first, second, rng) for first, second in combinations(METHODS, 2)]
    return Agreement(table, pd.DataFrame(pairs))


def _of_fates(own: pd.DataFrame) -> pd.DataFrame:
    fate = own["fate"]
    word = np.select(
        [fate == "preserved", fate.isin(["undetermined", "unstable"])],
        [SAME, UNDECIDED],
        CHANGED,
    )
    score = -np.log(own["p_value"].to_numpy(float).clip(1e-300))
    return pd.DataFrame({"latent": own["latent"], "score": score, "word": word})


def by_crosscoder(
    bench: Bench, continued: Firing, x: Float[np.ndarray, "n d_in"], crosscoder: Crosscoder
) -> pd.DataFrame:
    """What a crosscoder says: by its latent that fires most like each base latent.

    Args:
        bench: Held-out tokens with the base model's vectors.
        continued: Latents of the base model.
        x: The tuned model's vectors.
        crosscoder: Of both models.

    Returns:
        One row a base latent: latent, score (1 less the cosine of the partner's two rows times the
        ratio of the smaller norm to the larger), word (undecided where none fires like it in half
        of all firings, where norms lie between the bins, and where latent scaling does not agree
        that a latent is of one model alone), nu_reconstruction and nu_error (of the partner: how
        much of it the tuned model has).
    """
    own, other = written(crosscoder, (bench.x, x))
    dice = cofiring(continued.z, own[1].z)
    partner, is_found = dice.argmax(axis=1), dice.max(axis=1) >= ALIKE
    share = crosscoder.relative_norms[0].detach().numpy()
    cosine = np.nan_to_num(crosscoder.cosines().detach().numpy())
    said = binned(share, cosine)
    nu = latent_scaling(own, other, np.arange(len(share)), bench.blocks, bench.weights)
    specific = (nu["nu_reconstruction"] < NU_RECONSTRUCTION) & (nu["nu_error"] < NU_ERROR)
    said[(said == "lost") & ~specific.to_numpy()] = "other"
    word = np.select(
        [said == "preserved", np.isin(said, ["rotated", "lost"])], [SAME, CHANGED], UNDECIDED
    )
    ratio = np.minimum(share, 1 - share) / np.maximum(share, 1 - share).clip(1e-12)
    table = {
        "latent": np.arange(len(dice)),
        "score": np.where(is_found, (1 - cosine * ratio)[partner], np.nan),
        "word": np.where(is_found, word[partner], UNDECIDED),
    }
    for name in ("nu_reconstruction", "nu_error"):
        table[name] = np.where(is_found, nu[name].to_numpy()[partner], np.nan)
    return pd.DataFrame(table)


def written(
    crosscoder: Crosscoder, x: Sequence[Float[np.ndarray, "n d_model"]]
) -> tuple[Laid, ...]:
    """What a crosscoder's latents write in every model, as `latent_scaling` takes it.

    The latents are the same in all models, so how much of one a model has lies in its row's length
    alone: with rows of norm 1 each model would have all of it.

    Args:
        crosscoder: Folded or not, of this library or another; it is put into evaluation mode.
        x: Residual vectors of each model at the same tokens; unit: that model's activation.

    Returns:
        For each model its vectors, and a firing whose z are the crosscoder's own and whose rows,
        unlike those of one model's dictionary, are what a latent of 1 adds there: `z @ rows` is
        what it reconstructs, but for the bias.

    Raises:
        InputError: The models differ in tokens or width.
    """
    crosscoder.sae.eval()
    chunks = side_by_side([torch.from_numpy(each) for each in x]).split(CHUNK)
    z = sparse.csr_array(sparse.vstack([_encoded(crosscoder.sae, each) for each in chunks], "csr"))
    rows = crosscoder.directions.float().numpy()
    return tuple((each, Firing(z, own)) for each, own in zip(x, rows, strict=True))


@torch.no_grad()
def _encoded(sae: Sae, x: Float[torch.Tensor, "n d_in"]) -> sparse.csr_array:
    kept = sae.encode_sparse(x)
    parts = kept.value.float().numpy(), kept.index.int().numpy(), kept.starts.int().numpy()
    return sparse.csr_array(parts, (len(kept), kept.d_sae))


def by_difference(
    bench: Bench, continued: Firing, x: Float[np.ndarray, "n d_in"], difference: Sae
) -> pd.DataFrame:
    """What a dictionary of the difference says: how much of it lies along each base latent.

    Args:
        bench: Held-out tokens with the base model's vectors.
        continued: Latents of the base model.
        x: The tuned model's vectors.
        difference: Fitted on the tuned model's vectors less the base's.

    Returns:
        One row a base latent: latent, score (squared difference along the latent's row where it
        fires, as the dictionary reconstructs it and less its mean over all tokens, over the squared
        activation there), word (same up to .05, changed from .25: by half of its activation).
    """
    parts = torch.from_numpy(x - bench.x).split(CHUNK)
    found = np.concatenate([reconstructed(difference, part).numpy() for part in parts])
    found -= found.mean(axis=0)
    z, n = sparse.coo_array(continued.z), len(continued.rows)
    token, latent = z.coords
    along = np.empty(len(z.data))
    for first in range(0, len(along), CHUNK):  # where latents fire alone, not at every token
        mine = slice(first, first + CHUNK)
        rows = continued.rows[latent[mine]]
        along[mine] = np.einsum("ij,ij->i", found[token[mine]], rows)
    moved = np.bincount(latent, along**2, n)
    energy = np.bincount(latent, z.data.astype(float) ** 2, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(energy > 0, moved / energy, np.nan)
    word = np.select([score <= LITTLE, score >= MUCH], [SAME, CHANGED], UNDECIDED)
    return pd.DataFrame({"latent": np.arange(n), "score": score, "word": word})


def binned(
    share: Float[np.ndarray, " latents"], cosine: Float[np.ndarray, " latents"]
) -> np.ndarray:
    """Words by the relative difference of norms, 0 for the base model alone and 1 for the tuned.

    Args:
        share: The base model's share of each latent's norms.
        cosine: Of its two rows.

    Returns:
        lost, novel, preserved, rotated, and other for what lies between the bins.

    Source:
        Minder et al. 2025, arXiv:2504.02922, for the bins; the cut on cosines is ours.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low = 1 - share / (2 - 2 * share)
        high = (1 - share) / (2 * share)
    difference = np.where(share <= 0.5, low, high)
    said = np.full(len(share), "other", dtype=object)
    said[difference <= ONLY] = "lost"
    said[difference >= 1 - ONLY] = "novel"
    shared = np.abs(difference - 0.5) <= SHARED
    said[shared] = np.where(cosine[shared] >= ROWS_ALIKE, "preserved", "rotated")
    return said


def _pair(table: pd.DataFrame, first: str, second: str, rng: np.random.Generator) -> dict:
    scores = table[[f"{first}_score", f"{second}_score"]].dropna().to_numpy(float)
    n = len(scores)
    drawn = [_ranks_alike(scores[rng.integers(n, size=n)]) for _ in range(N_DRAWS if n > 2 else 0)]
    apart = [
        _ranks_alike(np.column_stack([scores[:, 0], rng.permutation(scores[:, 1])]))
        for _ in range(N_DRAWS if n > 2 else 0)
    ]
    words = table.loc[(table[[first, second]] != UNDECIDED).all(axis=1), [first, second]]
    alike, kappa = _kappa(words.to_numpy(object))
    return {
        "first": first,
        "second": second,
        "n": n,
        "correlation": _ranks_alike(scores) if n > 2 else float("nan"),
        **dict(zip(("low", "high"), _ends(drawn), strict=True)),
        **dict(zip(("null_low", "null_high"), _ends(apart), strict=True)),
        "n_both": len(words),
        "alike": alike,
        "kappa": kappa,
    }


def _ranks_alike(scores: np.ndarray) -> float:
    ranks = stats.rankdata(scores, axis=0)
    if (ranks == ranks[0]).all(axis=0).any():
        return float("nan")
    return float(np.corrcoef(ranks.T)[0, 1])


def _ends(drawn: Sequence[float]) -> tuple[float, float]:
    known = [each for each in drawn if np.isfinite(each)]
    if not known:
        return float("nan"), float("nan")
    return float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))


def _kappa(words: np.ndarray) -> tuple[float, float]:
    """Share of rows with one word twice, and Cohen's kappa."""
    if not len(words):
        return float("nan"), float("nan")
    alike = float((words[:, 0] == words[:, 1]).mean())
    chance = sum(float(np.prod((words == each).mean(axis=0))) for each in (SAME, CHANGED))
    return alike, (alike - chance) / (1 - chance) if chance < 1 else float("nan")
