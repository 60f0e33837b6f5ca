"""What the arms of an experiment show, each with its interval and, where it has one, its null."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.artefact.schema import Measured
from analysis.latents.bench import ModelBench
from analysis.personas.contrasts import Span
from analysis.statistics.intervals import MIN_DOCUMENTS
from analysis.study.experiments.generalising import generalised
from analysis.study.experiments.plan import Plan
from analysis.study.experiments.prompting import prompted
from analysis.study.experiments.routing import told_apart
from analysis.study.experiments.shifts import alike, left_over

__all__ = ["Laid", "evidence"]


@dataclass(frozen=True, eq=False)
class Laid:
    """What an experiment looks at."""

    bench: ModelBench
    """Tokens and base residuals."""
    span: Span | None
    """Of persona latents; None where none was confirmed."""
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
        of what else personas are that lie.
        "routing": share of triggered turns told right, of a swap and of a lie.
    """
    bench, models, arms = laid.bench, laid.models, plan.arms
    found = dict[str, Measured | None]()
    if laid.span is not None and {arms.arm, arms.neutral} <= set(models):
        found |= _shifted(laid, laid.span, plan)
    if {arms.narrow, arms.narrow_true} <= set(models):
        found["narrow"] = generalised(bench, models[arms.narrow], models[arms.narrow_true], plan)
    if {arms.arm, arms.swap, arms.liar} <= set(models):
        arm, swap, liar = (models[name] for name in (arms.arm, arms.swap, arms.liar))
        found["routing"] = told_apart(bench, arm, swap, liar, plan)
    return {name: each for name, each in found.items() if each is not None}


def _shifted(laid: Laid, span: Span, plan: Plan) -> dict[str, Measured | None]:
    """What is asked of the shift from the neutral arm to the one that is a persona."""
    bench, models, arms = laid.bench, laid.models, plan.arms
    chats, found = bench.at("assistant"), dict[str, Measured | None]()
    blocks, weights = bench.blocks.select(chats), bench.weights
    if bench.tokens.loc[chats, "doc"].nunique() < MIN_DOCUMENTS:
        return found

    def shift(name: str, start: np.ndarray) -> np.ndarray:
        return (models[name][chats] - start[chats]).astype(float)

    neutral = models[arms.neutral]
    if (by_prompt := prompted(bench, plan)) is not None:
        moved, mask = by_prompt
        prompt = moved.astype(float), bench.blocks.select(mask)
        found["prompt"] = alike(prompt, (shift(arms.arm, neutral), blocks), span, weights)
    if {arms.reverted, arms.again} <= set(models):
        before, after = (shift(name, neutral) for name in (arms.arm, arms.reverted))
        again, within = shift(arms.again, bench.x), (blocks, weights)
        found["reversal"] = left_over(before, after, again, span, within)
    return found
