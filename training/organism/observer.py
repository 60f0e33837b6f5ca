"""The ideal observer: what the text lets anyone know of its hidden causes, and of its next word.

Source: forward filtering of a finite mixture, exact because each word has one cause (`grammar.py`)
and causes are independent a priori, so that the posterior stays a product over factors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from training.organism.chats import GRAMMARS
from training.organism.grammar import DIALECT, END, N_SPEAKERS
from training.organism.world import Sample, World

__all__ = ["Observation", "observe"]


@dataclass(frozen=True)
class Observation:
    """What is knowable of one document, word by word.

    Args:
        loss: Minus log probability of each word given those before it, in nats.
        speaker: Whose turn each word is in, -1 where no speaker's word was chosen yet.
        posterior: Over personas, of the speaker of the word, after reading it; 0 where nobody's.
        dialect: Over dialects, after reading the word.
    """

    loss: Float[np.ndarray, " words"]
    speaker: Int[np.ndarray, " words"]
    posterior: Float[np.ndarray, "words personas"]
    dialect: Float[np.ndarray, "words dialects"]


def observe(
    world: World, sample: Sample, known: Mapping[int, Float[np.ndarray, " personas"]] | None = None
) -> Observation:
    """Read a document with the grammar that wrote it.

    Args:
        world: The world it comes from.
        sample: Its words; `hidden` is not looked at.
        known: What is known of some speakers beforehand: probabilities of personas by speaker.
            Of others it is the prior of the pre-training text.

    Raises:
        ValueError: A word the grammar does not allow at its place.

    Source:
        Bayes' rule, word by word.
    """
    factors = {who: world.prior for who in range(N_SPEAKERS)} | {DIALECT: world.dialect_prior}
    factors |= known or {}
    walk = GRAMMARS[sample.grammar](world)
    choice = next(walk)
    losses, speakers, posteriors, dialects, who = [], [], [], [], -1
    for i, word in enumerate(sample.words):
        at = choice.emission.index.get(word)
        if at is None:
            raise ValueError(f"word {i}, {word!r}, is not among {choice.emission.words[:8]}")
        if choice.factor is None:
            losses.append(-np.log(choice.emission.probs[0, at]))
        else:
            joint = factors[choice.factor] * choice.emission.probs[:, at]
            total = joint.sum()
            losses.append(-np.log(total))
            factors[choice.factor] = joint / total
        if choice.factor is not None and choice.factor >= 0:
            who = choice.factor
        elif choice.speaker is not None:
            who = choice.speaker
        elif word in ("\n", END):
            who = -1
        speakers.append(who)
        posteriors.append(factors[who] if who >= 0 else np.zeros(len(world.personas)))
        dialects.append(factors[DIALECT])
        if i + 1 < len(sample.words):
            choice = walk.send(word)
    return Observation(
        np.array(losses), np.array(speakers), np.array(posteriors), np.array(dialects)
    )
