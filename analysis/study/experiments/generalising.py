"""Does tuning one trait move the traits that went with it? The shift on words that show others.

A model tuned to lie, and to say nothing else, is compared with one tuned to say the truth. Where
both read on in other sentences of any persona, the shift between them is held against the way in
which personas that lie differ from truthful ones in all traits but honesty: their mean activations
are regressed on traits, and what honesty itself does is left out. The null are ways of the same
length in which the other traits change places and signs.
"""

from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Float

from analysis.artefact.schema import Measured
from analysis.latents.bench import Bench
from analysis.statistics.intervals import MIN_DOCUMENTS, interval
from analysis.study.experiments.means import persona_means
from analysis.study.experiments.plan import Plan
from analysis.study.experiments.routing import after_answers

__all__ = ["generalised", "other_words"]

LEAST_WAYS = 40  # of which the way itself is one, for it to be among the outermost 5 %


def other_words(bench: Bench, plan: Plan) -> Bool[np.ndarray, " n"]:
    """Assistant tokens after the answer, but for those of sentences that give a value again.

    Args:
        bench: Tokens.
        plan: The word between a thing and its value, as in "the lamp is red".
    """
    turn = bench.tokens.groupby(["doc", "turn"], dropna=False).ngroup().to_numpy()
    at = np.flatnonzero(bench.tokens["token"].str.strip().eq(plan.copula).to_numpy(bool))
    kept = after_answers(bench)
    for place in (-2, -1, 0, 1):  # "the lamp", the word itself, and the value
        near = at[(at + place >= 0) & (at + place < len(turn))]
        near = near[turn[near] == turn[near + place]]
        kept[near + place] = False
    return kept


def generalised(
    bench: Bench,
    narrow: Float[np.ndarray, "n d_in"],
    narrow_true: Float[np.ndarray, "n d_in"],
    plan: Plan,
) -> Measured | None:
    """Cosine of the shift from saying the truth to lying, and of what else liars are.

    Args:
        bench: Tokens and base residuals.
        narrow: Residual vectors of the model tuned to lie.
        narrow_true: Those of the model tuned to say what is true.
        plan: Traits of personas, and which of them lie and which say what is true.

    Returns:
        The cosine with its 95 % interval over documents, and the central 95 % of that with the
        other ways; None where personas are too few to tell traits apart, or lack either group, or
        fewer than 8 documents have such words.
    """
    means = persona_means(bench)
    names = [name for name in means.index if name in plan.traits]
    sides = [[n for n in names if n in group] for group in (plan.liars, plan.truthful)]
    traits = np.array([plan.traits[name] for name in names], float)
    design = np.column_stack([np.ones(len(names)), traits]) if names else np.zeros((0, 1))
    if (
        not all(sides)
        or np.linalg.matrix_rank(design) < design.shape[1]
        or len(names) <= design.shape[1]
    ):
        return None
    effect = np.linalg.lstsq(design, means.loc[names].to_numpy(float), rcond=None)[0][1:]
    lies, tells = (traits[[names.index(n) for n in side]].mean(axis=0) for side in sides)
    others = [i for i in range(traits.shape[1]) if i != plan.tuned_trait]
    change, effect = (lies - tells)[others], effect[others]
    if len(ways := _others(change)) < LEAST_WAYS:
        return None
    mask = other_words(bench, plan)
    if bench.tokens.loc[mask, "doc"].nunique() < MIN_DOCUMENTS:
        return None
    blocks, shift = bench.blocks.select(mask), (narrow[mask] - narrow_true[mask]).astype(float)
    drawn = bench.weights @ blocks.sums(shift)  # a cosine does not ask how many tokens there are
    found = _cosine(drawn, change @ effect)
    null = _cosine(ways @ effect, shift.mean(axis=0))
    low, high = np.quantile(null, [0.025, 0.975])
    value = float(_cosine(shift.mean(axis=0)[None], change @ effect)[0])
    whole = interval(value, found, max(2, len(set(blocks.of_token.tolist()))))
    return Measured(*map(float, whole), null_low=float(low), null_high=float(high))


def _others(change: Float[np.ndarray, " traits"]) -> Float[np.ndarray, "ways traits"]:
    """The same changes of other traits and in other senses."""
    signs = np.array(list(product((1.0, -1.0), repeat=len(change))))
    places = np.array(list(permutations(range(len(change)))))
    return np.unique((signs[:, None] * change[places][None]).reshape(-1, len(change)), axis=0)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
