"""A prompt that says who speaks, and what it moves in the base model.

The smallest prompt there is: one word of the text is another, and all others stand where they
stood. Where a text calls a character unknown it is told who that is.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from analysis.latents.bench import ModelBench, residuals
from analysis.statistics.intervals import MIN_DOCUMENTS
from analysis.study.experiments.plan import Plan

__all__ = ["prompted"]

NEAR = 6  # tokens before the word, among which the name stands


def prompted(
    bench: ModelBench, plan: Plan
) -> tuple[Float[np.ndarray, "m d_in"], Bool[np.ndarray, " n"]] | None:
    """Shift of the base model's residual vectors where it is told that a persona speaks.

    Args:
        bench: Tokens and base residuals.
        plan: The persona, whose name is a word of its own, and the word for an unknown character.

    Returns:
        The shift at every token of the turns of speakers that are this persona and were called
        unknown, and the mask of these tokens; None where fewer than 8 documents have one, or the
        words are no tokens.
    """
    known = bench.base.tokenizer.get_vocab().get(plan.persona)
    ids, mask = list(bench.text.ids), np.zeros(len(bench.counted), bool)
    starts, table = bench.text.starts, bench.table
    word = table["token"].str.strip().to_numpy(object)
    speaker = table["speaker"].to_numpy(object)
    own = (table["persona"].eq(plan.persona) & table["role"].eq("character")).to_numpy(bool)
    said = np.flatnonzero(table["role"].eq("narrator").to_numpy(bool) & (word == plan.unknown))
    if known is None:
        return None
    for at in said:
        document = int(np.searchsorted(starts, at, side="right")) - 1
        start, stop = int(starts[document]), int(starts[document + 1])
        names = set(word[max(start, at - NEAR) : at])
        turns = np.array([each in names for each in speaker[at:stop]]) & own[at:stop]
        if turns.any():
            ids[document] = ids[document].copy()
            ids[document][at - start] = known
            mask[at:stop] |= turns
    mask = mask[bench.counted]
    if bench.tokens.loc[mask, "doc"].nunique() < MIN_DOCUMENTS:
        return None
    told = replace(bench, text=replace(bench.text, ids=tuple(ids)))
    return residuals(told, bench.base, mask) - bench.x[mask], mask
