"""Does tuning one trait move the traits that went with it? The shift on words that show others.

A model tuned to lie, and to say nothing else, is compared with one tuned to say the truth. Where
both read on in the words of any persona, the shift between them is held against the direction from
truthful personas to lying ones, which is made of all that tells these apart; and against the
directions between any other personas, as many on either side.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.bench import Bench
from analysis.experiments.plan import Plan
from analysis.experiments.routing import after_answers
from analysis.intervals import interval
from analysis.personas import comparable_tokens
from analysis.schema import Measured
from analysis.span import within_tokens

__all__ = ["generalised"]

N_NULL = 1000


def generalised(
    bench: Bench,
    narrow: Float[np.ndarray, "n d_in"],
    narrow_true: Float[np.ndarray, "n d_in"],
    plan: Plan,
) -> Measured | None:
    """Cosine of the shift from saying the truth to lying, and the way to personas that lie.

    Args:
        bench: Tokens and base residuals.
        narrow: Residual vectors of the model tuned to lie.
        narrow_true: Those of the model tuned to say what is true.
        plan: Which personas lie, and which say what is true.

    Returns:
        The cosine with its 95 % interval over documents, and the central 95 % of that with the ways
        between other groups of personas of these sizes; None where no lying or no truthful one is
        met.
    """
    means = _means(bench)
    groups = [
        [names for names in side if names in means.index] for side in (plan.liars, plan.truthful)
    ]
    if not all(groups):
        return None
    mask = after_answers(bench)
    blocks, x = bench.blocks.select(mask), (narrow[mask] - narrow_true[mask]).astype(float)
    sums = blocks.sums(x)
    shift = x.mean(axis=0)
    drawn = bench.weights @ sums  # a cosine does not ask how many tokens there are
    way = _way(means, *groups)
    found = _cosine(drawn, way)
    ways = np.stack([_way(means, *each) for each in _others(list(means.index), groups)])
    low, high = np.quantile(_cosine(ways, shift), [0.025, 0.975])
    n_used = max(2, len(set(blocks.of_token.tolist())))
    whole = interval(float(_cosine(shift[None], way)[0]), found, n_used)
    return Measured(*map(float, whole), null_low=float(low), null_high=float(high))


def _means(bench: Bench) -> pd.DataFrame:
    """Mean base residual of every persona, within token, over the select split."""
    kept = comparable_tokens(bench.tokens) & bench.in_split("select")
    x = within_tokens(bench.x[kept].astype(float), bench.tokens["token_id"].to_numpy()[kept])
    return pd.DataFrame(x).groupby(bench.tokens["persona"].to_numpy(object)[kept]).mean()


def _way(means: pd.DataFrame, to: list[str], start: list[str]) -> np.ndarray:
    return (means.loc[to].mean() - means.loc[start].mean()).to_numpy(float)


def _others(names: list[str], groups: list[list[str]]) -> list[tuple[list[str], list[str]]]:
    """Every other choice of two groups of these sizes, or a thousand of them."""
    sizes, found = [len(each) for each in groups], []
    for to in combinations(names, sizes[0]):
        rest = [name for name in names if name not in to]
        found += [(list(to), list(start)) for start in combinations(rest, sizes[1])]
    found = [each for each in found if set(each[0]) != set(groups[0])]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order[:N_NULL]]


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
