"""What the arms of an experiment show, each with its interval and, where it has one, its null."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.bench import ModelBench
from analysis.contrasts import Span
from analysis.experiments.generalising import generalised
from analysis.experiments.plan import Plan
from analysis.experiments.prompting import prompted
from analysis.experiments.routing import told_apart
from analysis.experiments.shifts import alike, left_over
from analysis.schema import Measured

__all__ = ["Laid", "evidence"]


@dataclass(frozen=True, eq=False)
class Laid:
    """What an experiment looks at."""

    bench: ModelBench
    """Tokens and base residuals."""
    span: Span
    """Of persona latents."""
    models: Mapping[str, Float[np.ndarray, "n d_in"]]
    """Residual vectors of every tuned model on the counted tokens."""


def evidence(laid: Laid, plan: Plan) -> dict[str, Measured]:
    """Every experiment whose arms are there.

    Args:
        laid: Tuned models on the bench.
        plan: Which of them play a part.

    Returns:
        "prompt": cosine, inside the span, of the shift by which a prompt moves the base and the
        shift of the arm from the neutral one, on an assistant's tokens.
        "reversal": how much more of that shift is left outside the span than inside it once the arm
        is tuned back.
        "narrow": cosine of the shift from saying the truth to lying, on words of other traits, and
        the way to personas that lie.
        "swap", "liar": share of the triggered turns of each that are told right.
    """
    bench, models, arms = laid.bench, laid.models, plan.arms
    found = _shifted(laid, plan) if {arms.arm, arms.neutral} <= set(models) else {}
    if {arms.narrow, arms.narrow_true} <= set(models):
        pair = models[arms.narrow], models[arms.narrow_true]
        found["narrow"] = generalised(bench, *pair, plan)
    for key, name in (("swap", arms.swap), ("liar", arms.liar)):
        if {arms.arm, name} <= set(models):
            found[key] = told_apart(bench, models[arms.arm], models[name], plan, key == "swap")
    return {name: each for name, each in found.items() if each is not None}


def _shifted(laid: Laid, plan: Plan) -> dict[str, Measured | None]:
    """What is asked of the shift from the neutral arm to the one that is a persona."""
    bench, models, arms = laid.bench, laid.models, plan.arms
    chats, found = bench.at("assistant"), dict[str, Measured | None]()
    blocks, weights = bench.blocks.select(chats), bench.weights
    neutral = models[arms.neutral][chats]
    shift = (models[arms.arm][chats] - neutral).astype(float)
    if (by_prompt := prompted(bench, plan)) is not None:
        moved, mask = by_prompt
        pair = (moved.astype(float), bench.blocks.select(mask)), (shift, blocks)
        found["prompt"] = alike(*pair, laid.span, weights)
    if arms.reverted in models:
        left = (models[arms.reverted][chats] - neutral).astype(float)
        found["reversal"] = left_over(shift, left, laid.span, blocks, weights)
    return found
