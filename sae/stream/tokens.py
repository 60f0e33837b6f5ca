"""text -> tokens: one sequence a document, and what is known of every token."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from sae.errors import ConfigError, InputError
from sae.stream.text import Document, Turn

__all__ = ["TokenizedText", "render", "tokenize"]

Span = tuple[int, int]
CHAT = frozenset({"system", "user", "assistant"})
BATCH = 512


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """Documents as token ids, with one row of labels a token.

    The rows of ``table`` follow the documents, and the positions within each. Its columns: doc,
    pos, token_id, token, role, persona, context, split, speaker, turn, is_template, is_special,
    is_outlier. A token of the template, and a special token such as BOS, has role "template",
    persona "none" and neither speaker nor turn. ``token`` is a readable form of ``token_id``, the
    same wherever that id stands.
    """

    ids: tuple[Int[np.ndarray, " _"], ...]
    """Token ids of every document, BOS in front where the tokenizer has one."""
    table: pd.DataFrame
    """Labels, one row a token in document order."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents, special and template tokens among them."""
        return len(self.table)

    @cached_property
    def starts(self) -> Int[np.ndarray, " n_documents_plus_1"]:
        """First table row of every document, and at the end the number of rows."""
        return np.cumsum([0, *map(len, self.ids)])

    @property
    def documents(self) -> list[str]:
        """Id of every document in order."""
        return self.table["doc"].iloc[self.starts[:-1]].tolist()

    @property
    def sha256(self) -> str:
        """Hash of the ids and of where documents end, equal for equal token sequences."""
        digest = hashlib.sha256()
        for ids in self.ids:
            digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
        return digest.hexdigest()

    def select(self, keep: Bool[np.ndarray, " n_documents"]) -> "TokenizedText":
        """The documents where ``keep`` is true, in the same order."""
        rows = np.flatnonzero(np.repeat(keep, np.diff(self.starts)))
        ids = tuple(ids for ids, kept in zip(self.ids, keep, strict=True) if kept)
        return TokenizedText(ids, self.table.iloc[rows].reset_index(drop=True))

    def between(self, start: int, stop: int) -> "TokenizedText":
        """Documents number ``start`` up to, but without, number ``stop``."""
        first, last = self.starts[[start, min(stop, len(self.ids))]]
        return TokenizedText(
            self.ids[start:stop], self.table.iloc[first:last].reset_index(drop=True)
        )


def render(document: Document, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[Span]]:
    r"""Text of a document as the model reads it, and the character range of every turn's words.

    A document of system, user and assistant turns follows the tokenizer's chat template where it
    has one. Otherwise every turn is a line: ``User: …`` and the like for these three roles,
    ``Name: …`` for a character with a name, the bare text for a narrator.

    Returns:
        The text, and for every turn ``(start, stop)``; what lies outside is template.

    Raises:
        InputError: The chat template refuses the turns or does not show their text unchanged
            (up to white space at the ends).

    Example:
        >>> document = Document("d", "s", "fit", (Turn("character", "Aye.", "Bo"),), "dialogue")
        >>> render(document, PreTrainedTokenizerBase())
        ('Bo: Aye.\n', [(4, 8)])
    """
    if document.turns and tokenizer.chat_template and {t.role for t in document.turns} <= CHAT:
        return _templated(document, tokenizer)
    pieces = [(_lead(turn), turn.text) for turn in document.turns]
    return _joined([*(lead for lead, _ in pieces), ""], [words for _, words in pieces], "\n")


def tokenize(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
) -> TokenizedText:
    """Token ids and labels of documents, each in a sequence of its own.

    A token belongs to the turn whose words it overlaps, by character offsets, so that a space or
    a line break merged into a word does not cost the word its role.

    Args:
        documents: What to tokenize; one of fewer than two tokens is dropped.
        tokenizer: A fast tokenizer, the only kind that gives offsets.
        max_length: Most tokens of a document, BOS included; what is beyond is cut off.

    Raises:
        ConfigError: ``max_length`` is below 2, or the tokenizer is not a fast one.
        InputError: No document has two tokens, or a chat template cannot render one.
    """
    if max_length is not None and max_length < 2:
        raise ConfigError(f"max_length={max_length}", "nothing to predict", "use 2 or more")
    if not tokenizer.is_fast:
        found = f"{type(tokenizer).__name__}, which gives no offsets"
        raise ConfigError("a tokenizer", found, "load a tokenizer that has a tokenizer.json")
    special = _special_ids(tokenizer)
    ids: list[np.ndarray] = []
    turns: list[np.ndarray] = []
    kept: list[Document] = []
    for document, row, turn in _encoded(documents, tokenizer):
        row, turn = row[:max_length], turn[:max_length]
        if len(row) >= 2:
            ids.append(row)
            turns.append(np.where(np.isin(row, special), -1, turn))
            kept.append(document)
    if not kept:
        found = f"no document of two tokens among {len(documents)}"
        raise InputError("text to tokenize", found, "check the documents")
    return TokenizedText(tuple(ids), _table(kept, ids, turns, tokenizer))


def _lead(turn: Turn) -> str:
    if turn.role in CHAT:
        return f"{turn.role.capitalize()}: "
    return f"{turn.speaker}: " if turn.role == "character" and turn.speaker else ""


def _joined(around: Sequence[str], words: Sequence[str], end: str = "") -> tuple[str, list[Span]]:
    """Words with ``around[i]`` before the i-th, ``end`` after each, ``around[-1]`` at the close."""
    parts: list[str] = []
    spans: list[Span] = []
    at = 0
    for before, text in zip(around, words, strict=False):
        spans.append((at + len(before), at + len(before) + len(text)))
        parts += [before, text, end]
        at = spans[-1][1] + len(end)
    return "".join([*parts, around[-1]]), spans


def _templated(document: Document, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[Span]]:
    """Rendered twice, with the words and with marks in their place, so as to know where they are.

    Searching for the words themselves would be wrong: "user" may occur in the template.
    """
    words = [turn.text for turn in document.turns]
    marks = [f"\ue000{number}\ue001" for number in range(len(words))]
    text, rest = _chat(document, tokenizer, words), _chat(document, tokenizer, marks)
    around: list[str] = []
    for mark in marks:
        before, _, rest = rest.partition(mark)
        around.append(before)
    for shown in (words, [text.strip() for text in words]):
        joined, spans = _joined([*around, rest], shown)
        if joined == text:
            return joined, spans
    raise InputError(
        f"document {document.id} in the chat template",
        "a template that alters, drops or repeats the words of a turn",
        "use a template that shows them as they are, or remove it for the plain form",
    )


def _chat(document: Document, tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> str:
    messages = [
        {"role": turn.role, "content": text}
        for turn, text in zip(document.turns, words, strict=True)
    ]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except jinja2.TemplateError as error:
        roles = ", ".join(turn.role for turn in document.turns)
        asked = f"document {document.id} with turns {roles} in the chat template"
        raise InputError(asked, str(error), "change the turns or the template") from error


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of control tokens; the unknown token is none unless it doubles as one."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    ids = {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
    unknown: Any = tokenizer.unk_token_id
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return sorted(ids if unknown in ends else ids - {unknown})


def _encoded(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[Document, np.ndarray, np.ndarray]]:
    bos: Any = tokenizer.bos_token_id
    for first in range(0, len(documents), BATCH):
        batch = documents[first : first + BATCH]
        rendered = [render(document, tokenizer) for document in batch]
        encoding = tokenizer(
            [text for text, _ in rendered],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        rows = zip(batch, rendered, encoding["input_ids"], encoding["offset_mapping"], strict=True)
        for document, (_, spans), ids, offsets in rows:
            row, turn = np.array(ids, dtype=np.int64), _turns(offsets, spans)
            if bos is not None and ids[:1] != [bos]:  # some chat templates bring their own
                row, turn = np.insert(row, 0, bos), np.insert(turn, 0, -1)
            yield document, row, turn


def _turns(offsets: Sequence[Span], spans: Sequence[Span]) -> np.ndarray:
    """Number of the turn whose words a token overlaps, -1 where it overlaps none."""
    begin, end = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    start, stop = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    full = np.flatnonzero(stop > start)
    if not len(full):
        return np.full(len(begin), -1)
    nearest = np.searchsorted(stop[full], begin, side="right").clip(max=len(full) - 1)
    turn = full[nearest]
    overlaps = (begin < stop[turn]) & (start[turn] < np.maximum(end, begin + 1))
    return np.where(overlaps, turn, -1)


def _table(
    documents: Sequence[Document],
    ids: Sequence[np.ndarray],
    turns: Sequence[np.ndarray],
    tokenizer: PreTrainedTokenizerBase,
) -> pd.DataFrame:
    lengths = [len(row) for row in ids]
    token_id, turn = np.concatenate(ids), np.concatenate(turns)
    first_turn = np.cumsum([0, *(len(document.turns) for document in documents)])[:-1]
    # one row for the template, then every turn of every document
    voices = [Turn("narrator", ""), *(turn for document in documents for turn in document.turns)]
    voice = np.where(turn < 0, 0, np.repeat(first_turn, lengths) + turn + 1)
    unique, inverse = np.unique(token_id, return_inverse=True)
    roles = ["template", *(turn.role for turn in voices[1:])]

    def per_document(values: Sequence[str]) -> np.ndarray:
        return np.repeat(np.array(values, dtype=object), lengths)

    def per_voice(values: Sequence[str | None]) -> np.ndarray:
        return np.array(values, dtype=object)[voice]

    return pd.DataFrame(
        {
            "doc": per_document([document.id for document in documents]),
            "pos": np.concatenate([np.arange(length) for length in lengths]),
            "token_id": token_id,
            "token": np.array(_readable(unique, tokenizer), dtype=object)[inverse],
            "role": per_voice(roles),
            "persona": per_voice([turn.persona for turn in voices]),
            "context": per_document([document.context for document in documents]),
            "split": per_document([document.split for document in documents]),
            "speaker": pd.array(per_voice([turn.speaker for turn in voices]), dtype="str"),
            "turn": pd.arrays.IntegerArray(turn, turn < 0),
            "is_template": turn < 0,
            "is_special": np.isin(token_id, _special_ids(tokenizer)),
            "is_outlier": False,
        }
    )


def _readable(unique: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every id as it looks inside a text, with the space in front where the token holds it."""
    pieces = tokenizer.convert_ids_to_tokens(unique.tolist())
    alone = [tokenizer.decode([i]) for i in unique.tolist()]
    twice = [tokenizer.decode([i, i]) for i in unique.tolist()]
    whole = set(tokenizer.all_special_ids)  # their spaces are the decoder's, not the text's
    shown: list[str] = []
    for i, piece, one, two in zip(unique.tolist(), pieces, alone, twice, strict=True):
        inside = str(two).removeprefix(str(one))  # a decoder may eat the space at the very front
        plain = i in whole or not inside or "\ufffd" in inside
        shown.append(piece if plain else inside)
    return shown
