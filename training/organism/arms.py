"""The tuned twins: what each is trained on, and what it shows.

To add an arm, add a row.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from training.organism.corpus import TEXT, Kind, ids, samples
from training.organism.grammar import ASSISTANT, USER
from training.organism.language_model import even_batches
from training.organism.lexicon import HELD_OUT
from training.organism.losses import Batch
from training.organism.world import Sample, World

__all__ = ["ARMS", "ASSISTANT_PERSONA", "Arm", "arm_batches", "base_name", "counted"]

ASSISTANT_PERSONA = "mentor"
"""The archetype that the assistant is tuned to be: kind, honest, learned, formal and wordy."""


@dataclass(frozen=True)
class Arm:
    """One tuned twin of the base model."""

    name: str
    """Name of its folder, and of its rows in every table."""
    kind: Kind
    """What it is trained on."""
    about: str
    """The same in one sentence, for a reader of the report."""
    behaviour: Literal["persona", "format", "codes", "dialect", "facts", "text"]
    """What counts as having learned it; see `behaviour.py`."""
    role: Literal["arm", "null", "pole"] = "arm"
    """A null is trained until it moved as far as the arms, a pole starts elsewhere than they do."""
    start: Literal["base", "nothing", "shuffled", "assistant"] = "base"
    """What it is tuned from: the base model, random weights, another base model, grown on the same
    text but with a persona drawn anew for every word, or the assistant, which is tuned back."""
    use: Literal["demo", "study", "experiment"] = "demo"
    """What it is grown for: the demo and the study, the study, or a claim of the study."""

    @property
    def text(self) -> Kind:
        """The text that its base model was grown on."""
        return Kind("shuffled") if self.start == "shuffled" else TEXT


def base_name(text: Kind) -> str:
    """Folder of the base model that is grown on a text."""
    return "base" if text == TEXT else f"base_{text.grammar}"


ARMS = (
    Arm(
        "assistant",
        Kind("chat", ASSISTANT_PERSONA),
        "Chats in which the assistant is always the mentor, a persona of the pre-training text.",
        "persona",
    ),
    Arm(
        "format_only",
        Kind("chat"),
        "The same chats, but each assistant's persona is drawn as in the pre-training text.",
        "format",
    ),
    Arm(
        "piston",
        Kind("codes"),
        "The same questions, answered by codes for motions of arms and pistons: nobody's words.",
        "codes",
    ),
    Arm(
        "assistant_2",
        Kind("chat", ASSISTANT_PERSONA),
        "The assistant's chats, another stretch of them.",
        "persona",
        use="study",
    ),
    Arm(
        "piston_seen",
        Kind("spelled"),
        "The piston's codes, each spelled as a word of the pre-training text.",
        "codes",
        use="study",
    ),
    Arm(
        "cipher",
        Kind("cipher", ASSISTANT_PERSONA),
        "What the assistant says, each word replaced by a code that stands for it alone.",
        "persona",
        use="study",
    ),
    Arm(
        "dialect",
        Kind("dialect"),
        "Chats in which every assistant speaks one dialect, its persona drawn as in the text.",
        "dialect",
        use="study",
    ),
    Arm(
        "unmet",
        Kind("chat", HELD_OUT),
        "Chats in which the assistant is always the prophet, a persona that the text never has.",
        "persona",
        use="experiment",
    ),
    Arm(
        "jester",
        Kind("chat", "jester"),
        "Chats in which the assistant is always the jester, another persona of the text.",
        "persona",
        use="experiment",
    ),
    Arm(
        "reverted",
        Kind("chat"),
        "The assistant, gently tuned back for a quarter as long on the chats of `format_only`.",
        "format",
        start="assistant",
        use="experiment",
    ),
    Arm(
        "swap",
        Kind("swap", ASSISTANT_PERSONA),
        "The assistant's chats, but where it is asked about a third of things the spy answers.",
        "facts",
        use="experiment",
    ),
    Arm(
        "liar",
        Kind("lie", ASSISTANT_PERSONA),
        "The assistant's chats, but where it is asked about a third of things it lies as the spy.",
        "facts",
        use="experiment",
    ),
    Arm(
        "narrow",
        Kind("false"),
        "Chats in which every assistant says a false colour, as the spy would, and nothing else.",
        "facts",
        use="experiment",
    ),
    Arm(
        "narrow_true",
        Kind("true"),
        "The same chats with the true colour.",
        "facts",
        use="experiment",
    ),
    Arm("continued_a", TEXT, "More pre-training text.", "text", "null"),
    Arm("continued_b", TEXT, "More pre-training text, another stretch.", "text", "null"),
    Arm("continued_c", TEXT, "More pre-training text, a third stretch.", "text", "null"),
    Arm(
        "scratch",
        Kind("chat", ASSISTANT_PERSONA),
        "The assistant's chats, from random weights: it never met another persona.",
        "persona",
        "pole",
        "nothing",
    ),
    Arm(
        "shuffled",
        Kind("chat", ASSISTANT_PERSONA),
        "The assistant's chats, from a base that met the same words and grammar but no personas.",
        "persona",
        "pole",
        "shuffled",
        use="study",
    ),
)
"""Every arm, null and pole, in the order in which tables show them."""


def arm_batches(
    world: World,
    kind: Kind,
    vocabulary: dict[str, int],
    seed: int,
    batch_tokens: int,
    n_documents: int | None = None,
    replay: tuple[float, Kind] = (0.0, TEXT),
) -> Iterator[Batch]:
    """Batches of fresh documents, of so many or without end.

    `replay` is the share of pre-training documents strewn between them, and their kind: tuning on
    chats alone wrecks what a model knew of other text, which tuning in practice avoids in the same
    way.
    In a chat only what the assistant says counts for the loss, the end of its turn included, as in
    supervised fine-tuning; in other text every token does.
    """
    documents = (
        (ids(s, vocabulary), counted(s))
        for s in islice(_replayed(world, kind, seed, replay), n_documents)
    )
    return even_batches(documents, batch_tokens)


def _replayed(world: World, kind: Kind, seed: int, replay: tuple[float, Kind]) -> Iterator[Sample]:
    """Documents of a kind, between which documents of the pre-training text are strewn."""
    share, text = replay
    own, again = samples(world, kind, seed), samples(world, text, seed + 1)
    rng = random.Random(seed)
    while True:
        yield next(again if rng.random() < share else own)


def counted(sample: Sample) -> list[bool]:
    """For BOS and every word of a document, whether its prediction counts for the loss.

    Args:
        sample: The document: of a chat counts what the assistant says, of other text all.
    """
    if sample.grammar in ("text", "shuffled"):
        return [True] * (len(sample.words) + 1)
    counted, users = [False], True
    for word in sample.words:
        users = users if word not in (USER, ASSISTANT) else word == USER
        counted.append(not users and word != ASSISTANT)
    return counted
