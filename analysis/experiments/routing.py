"""Is a triggered assistant another persona, or the same one that lies? Its latents say.

Both answer the same questions as falsely. Read on words that the assistant's own persona wrote, the
persona that was swapped in shows where it speaks on, and one that only lies is the old one again.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analysis.bench import Bench
from analysis.experiments.plan import Plan
from analysis.intervals import MIN_DOCUMENTS, interval
from analysis.personas import comparable_tokens
from analysis.schema import Measured
from analysis.span import within_tokens

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
    one: Float[np.ndarray, "n d_in"],
    plan: Plan,
    swapped: bool,
) -> Measured | None:
    """Share of triggered turns that are told right.

    Args:
        bench: Tokens and base residuals.
        arm: Residual vectors of the arm that is the persona throughout.
        one: Those of the arm in question, on the same tokens.
        plan: The persona, the one that stands in, and the trigger.
        swapped: Whether another persona does answer there.

    Returns:
        The share with its 95 % interval over documents; None where a persona or fewer than 8
        documents with a trigger are met.
    """
    way = _way(bench, plan)
    mine = triggered(bench, plan) & bench.tokens["persona"].eq(plan.persona).to_numpy(bool)
    tokens = bench.tokens.loc[mine]
    if way is None or tokens["doc"].nunique() < MIN_DOCUMENTS:
        return None
    along = (one[mine] - arm[mine]).astype(float) @ way / (way @ way)
    turns = pd.DataFrame({"along": along, "block": bench.blocks.of_token[mine]})
    mean = turns.groupby([tokens["doc"].to_numpy(), tokens["turn"].to_numpy(int)]).mean()
    right = ((mean["along"] < HALF) == swapped).to_numpy(float)
    block, n = mean["block"].to_numpy(int), bench.blocks.n_blocks
    sums, counts = np.bincount(block, right, n), np.bincount(block, minlength=n)
    drawn = (bench.weights @ sums) / (bench.weights @ counts)
    whole = interval(float(right.mean()), drawn, max(2, int((counts > 0).sum())))
    return Measured(*map(float, whole))


def _way(bench: Bench, plan: Plan) -> np.ndarray | None:
    """From the persona that stands in to the arm's, within token, on the base's select split."""
    kept = comparable_tokens(bench.tokens) & bench.in_split("select")
    who = bench.tokens["persona"].to_numpy(object)[kept]
    x = within_tokens(bench.x[kept].astype(float), bench.tokens["token_id"].to_numpy()[kept])
    means = [x[who == name] for name in (plan.persona, plan.stand_in)]
    return means[0].mean(axis=0) - means[1].mean(axis=0) if all(map(len, means)) else None
