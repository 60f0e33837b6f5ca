"""Samples of the world as labelled documents, and the word-level tokenizer that reads them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sae.stream.text import Document, Turn
from training.organism import lexicon as lex
from training.organism.grammar import ASSISTANT, END, USER
from training.organism.world import Hidden, Sample, World

__all__ = ["TEXT", "Kind", "document", "ids", "samples", "tokenizer"]

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
)
MARKS = frozenset(",.?")


@dataclass(frozen=True)
class Kind:
    """A kind of document: its grammar, and whether the assistant's persona is fixed."""

    grammar: str
    """A key of `grammar.GRAMMARS`."""
    persona: str | None = None
    """The assistant's archetype; None draws one for each document from the pre-training prior."""


TEXT = Kind("text")
"""The pre-training text."""


def tokenizer(world: World) -> PreTrainedTokenizerFast:
    """One token a word, the same for every model grown in this world.

    Args:
        world: Gives the words that personas and dialects choose among.

    Returns:
        A fast tokenizer with BOS `<bos>` and a chat template, which knows every word of the world.
    """
    chosen = (world.kind, world.intro, world.first, world.verb, world.adjective, world.adverb)
    words = [w for emission in (*chosen, world.join, world.noun) for w in emission.words]
    words += [*lex.NAMES, *lex.VALUES, "unknown", "it", "is", "a", "near", "and", ":", "\n", "?"]
    words += [",", ".", *lex.CODES]
    special = [PAD, BOS, EOS, USER, ASSISTANT, END]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(special + words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    pieces = Regex(r"\w+|[^\w\s]|\n")
    backend.pre_tokenizer = pre_tokenizers.Split(pieces, "removed", invert=True)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, END],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def samples(world: World, kind: Kind, seed: int) -> Iterator[Sample]:
    """Documents of a kind without end; equal seeds give equal documents."""
    rng = random.Random(seed)
    persona = None if kind.persona is None else world.personas.index(kind.persona)
    while True:
        yield world.sample(rng, world.draw(rng, persona), kind.grammar)


def ids(sample: Sample, vocabulary: dict[str, int]) -> list[int]:
    """Token ids with BOS in front: what the tokenizer makes of `document(sample)`."""
    return [vocabulary[BOS], *(vocabulary[word] for word in sample.words)]


def document(world: World, sample: Sample, name: str, context: str, split: str) -> Document:
    """A sample with its labels.

    Args:
        world: Where it comes from; names personas and traits.
        sample: The words.
        name: Id of the document.
        context: Kind of document, such as "story"; the kinds of pre-training text name themselves.
        split: One of fit, select and confirm.
    """
    turns = tuple(_chat(world, sample) if sample.grammar != "text" else _lines(world, sample))
    return Document(name, "world", split, turns, context)


def prose(words: Sequence[str]) -> str:
    """Words with a space between any two, save before a mark.

    Example:
        >>> prose(["you", "mend", ",", "ann", "."])
        'you mend, ann.'
    """
    return "".join(w if w in MARKS or i == 0 else f" {w}" for i, w in enumerate(words))


def _labels(world: World, hidden: Hidden, speaker: int) -> dict[str, Any]:
    persona = world.personas[hidden.personas[speaker]]
    digits = zip(lex.TRAITS, lex.ARCHETYPES[persona], strict=True)
    return {"persona": persona, "traits": {trait: digit == "1" for trait, digit in digits}}


def _chat(world: World, sample: Sample) -> Iterator[Turn]:
    """Turns of a chat; codes are nobody's words."""
    role, said = "user", []
    for word in sample.words:
        if word in (USER, ASSISTANT):
            role, said = word.strip("<|>"), []
        elif word != END:
            said.append(word)
        elif role == "assistant" and sample.grammar in ("codes", "spelled"):
            yield Turn(role, prose(said))
        else:
            yield Turn(role, prose(said), **_labels(world, sample.hidden, int(role != "user")))


def _lines(world: World, sample: Sample) -> Iterator[Turn]:
    """Lines of a story, dialogue or thread; names are numbered as they appear."""
    names: list[str] = []
    line: list[str] = []
    for word in sample.words:
        if word != "\n":
            line.append(word)
            continue
        if line[0] in lex.NAMES and line[0] not in names:
            names.append(line[0])
        if len(line) > 1 and line[1] == ":":
            labels = _labels(world, sample.hidden, names.index(line[0]))
            yield Turn("character", prose(line[2:]), speaker=line[0], **labels)
        else:
            yield Turn("narrator", prose(line))
        line = []
