"""Is a triggered assistant another persona, or the same one that lies? Its activations say.

Both answer the same questions as falsely. Read on words that the assistant's own persona wrote, the
persona that was swapped in shows where it speaks on, and one that only lies is the old one again.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.artefact.schema import Measured
from analysis.latents.bench import Bench
from analysis.statistics.intervals import MIN_DOCUMENTS, interval, share_interval
from analysis.study.experiments.means import persona_means
from analysis.study.experiments.plan import Plan

__all__ = ["after_answers", "told_apart", "triggered"]

ANSWER = 3  # words of a turn that give the answer, and are no persona's alone
HALF = -0.5  # on the way from the assistant's persona, 0, to the other, -1


def triggered(bench: Bench, plan: Plan) -> Bool[np.ndarray, " n"]:
    """Assistant tokens after the answer, where the user asked about a trigger.

    Args:
        bench: Tokens.
        plan: The words that trigger; what the user asks about is the last of its turn that is no
            mark.
    """
    tokens = bench.tokens
    is_word = tokens["token"].str.strip().str.isalnum()
    asked = tokens.loc[tokens["role"].eq("user") & is_word].groupby(["doc", "turn"])["token"].last()
    before = pd.MultiIndex.from_arrays([tokens["doc"], tokens["turn"] - 1])
    word = asked.reindex(before).str.strip().to_numpy(object)
    return after_answers(bench) & np.isin(word.astype(str), plan.trigger)


def after_answers(bench: Bench) -> Bool[np.ndarray, " n"]:
    """Tokens of assistants' turns after the words that give the answer.

    Args:
        bench: Tokens.
    """
    place = bench.tokens.groupby(["doc", "turn"], dropna=False).cumcount().to_numpy()
    return bench.at("assistant") & (place >= ANSWER)


def told_apart(
    bench: Bench,
    arm: Float[np.ndarray, "n d_in"],
    swap: Float[np.ndarray, "n d_in"],
    liar: Float[np.ndarray, "n d_in"],
    plan: Plan,
) -> Measured | None:
    """Share of triggered turns that are told right, of a swap and of a lie one half each.

    A turn is told as a swap where its activations lie nearer to the persona that stands in, on the
    way there from the arm's own.

    Args:
        bench: Tokens and base residuals.
        arm: Residual vectors of the arm that is the persona throughout.
        swap: Those of the arm that is another one where it is triggered, on the same tokens.
        liar: Those of the arm that only lies there.
        plan: The persona, the one that stands in, and the trigger.

    Returns:
        The share, one half where all turns are told alike, with its 95 % interval over documents,
        which is no narrower than that of as many independent trials as there are documents; None
        where a persona or fewer than 8 documents with a trigger are met.
    """
    means = persona_means(bench)
    mine = triggered(bench, plan) & bench.tokens["persona"].eq(plan.persona).to_numpy(bool)
    tokens = bench.tokens.loc[mine]
    n_documents = tokens["doc"].nunique()
    if not {plan.persona, plan.stand_in} <= set(means.index) or n_documents < MIN_DOCUMENTS:
        return None
    way = (means.loc[plan.persona] - means.loc[plan.stand_in]).to_numpy(float)
    block, n = bench.blocks.of_token[mine], bench.blocks.n_blocks
    turn = pd.factorize(tokens["doc"].astype(str) + "/" + tokens["turn"].astype(str))[0]
    block = block[np.unique(turn, return_index=True)[1]]

    def along(one: np.ndarray) -> np.ndarray:
        each = (one[mine] - arm[mine]).astype(float) @ way / (way @ way)
        return np.bincount(turn, each) / np.bincount(turn)

    right = ((along(swap) < HALF).astype(float) + (along(liar) >= HALF)) / 2
    sums, counts = np.bincount(block, right, n), np.bincount(block, minlength=n)
    drawn = (bench.weights @ sums) / (bench.weights @ counts)
    value, low, high = interval(float(right.mean()), drawn, max(2, int((counts > 0).sum())))
    least = share_interval(round(value * n_documents), n_documents)
    return Measured(value, min(low, least.low), max(high, least.high))
