"""files -> text: documents made of labelled turns."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sae.errors import ConfigError, InputError

__all__ = ["HELD_OUT", "ROLES", "SPLITS", "Columns", "Document", "Turn"]
__all__ += ["read_documents", "split_of", "write_documents"]

ROLES = ("system", "user", "assistant", "narrator", "character")  # who may speak
SPLITS = ("fit", "select", "confirm")  # to fit on, to choose latents on, to confirm them on
HELD_OUT = SPLITS[1:]  # dictionaries are fitted on the other


@dataclass(frozen=True)
class Turn:
    """A stretch of text with one voice.

    Raises:
        ConfigError: The role is not one of `ROLES`.

    Example:
        >>> Turn("character", "Avast!", speaker="Bo", persona="pirate").persona
        'pirate'
    """

    role: str
    """Who speaks, one of `ROLES`."""
    text: str
    """The words alone, without speaker name or template."""
    speaker: str | None = None
    """Name of the speaker, None where nobody is named."""
    persona: str = "none"
    """Label of the persona that speaks, "none" where there is none."""
    traits: Mapping[str, Any] = field(default_factory=dict)
    """Further labels of this turn, by name of trait."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConfigError(f"role {self.role!r}", f"roles are {', '.join(ROLES)}", "use one")


@dataclass(frozen=True)
class Document:
    """A text that is read in one go: nothing before it, nothing after it.

    Raises:
        ConfigError: The split is not one of `SPLITS`.

    Example:
        >>> Document("d0", "tales", "fit", (Turn("narrator", "Rain fell."),), "story").context
        'story'
    """

    id: str
    """Name, unique within a corpus."""
    source: str
    """Corpus the document comes from."""
    split: str
    """What the document may be used for, one of `SPLITS`."""
    turns: tuple[Turn, ...]
    """The turns in reading order."""
    context: str
    """Kind of document: story, dialogue, thread, chat and the like."""

    def __post_init__(self) -> None:
        _check_splits([self.split])


@dataclass(frozen=True)
class Columns:
    """Which columns of a foreign jsonl hold what; one line becomes one document.

    ``Columns(text=...)`` gives a narrator turn, ``Columns(text=..., speaker=...)`` a character
    turn, ``Columns(question=..., answer=...)`` a user and an assistant turn. The split is drawn by
    hash of the question or else of the text: equal questions share one, whoever answers.

    Raises:
        ConfigError: The columns describe neither a text nor a question with its answer.

    Example:
        >>> Columns(question="q", answer="a", persona="who").kind
        'chat'
    """

    text: str | None = None
    """Column of the text."""
    question: str | None = None
    """Column of what the user says."""
    answer: str | None = None
    """Column of what the assistant says."""
    speaker: str | None = None
    """Column of the speaker's name, with `text` only."""
    persona: str | None = None
    """Column of the persona label of the text or of the answer."""
    source: str | None = None
    """Name of the corpus, the file's stem where None."""
    context: str | None = None
    """Kind of document; where None, text, dialogue or chat, by the columns given."""

    def __post_init__(self) -> None:
        chat = self.question is not None and self.answer is not None
        half = (self.question is None) != (self.answer is None)
        if half or chat == (self.text is not None) or (chat and self.speaker is not None):
            raise ConfigError(
                f"documents from {self}",
                "columns that are neither a text nor a question with its answer",
                "name `text`, or `text` and `speaker`, or `question` and `answer`",
            )

    @property
    def kind(self) -> str:
        """Kind of document these columns describe: text, dialogue or chat."""
        return "chat" if self.text is None else "text" if self.speaker is None else "dialogue"


def split_of(key: str, seed: int = 0, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> str:
    """Split that a key falls into, by hash: the same key always lands in the same split.

    Args:
        key: What may not straddle two splits, such as a question.
        seed: Another seed draws another division.
        shares: Expected shares of fit, select and confirm, together 1.

    Raises:
        ConfigError: The shares are negative or do not add up to 1.

    Example:
        >>> split_of("Who are you?") == split_of("Who are you?")
        True
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ConfigError(
            f"shares {shares}", f"a sum of {sum(shares)}", "give shares that sum to 1"
        )
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return SPLITS[(position >= shares[0]) + (position >= shares[0] + shares[1])]


def read_documents(
    paths: str | Path | Sequence[str | Path],
    columns: Columns | None = None,
    split: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Document]:
    """Documents of jsonl files, in order of path and line.

    Args:
        paths: A file, a folder (every ``*.jsonl`` in it, by name), or several of them.
        columns: How to read a foreign jsonl; None reads the project's own labelled text.
        split: Splits to keep; None keeps all.
        seed: Seed of the split of a foreign jsonl; labelled text brings its own.

    Raises:
        ConfigError: ``split`` names no split there is.
        InputError: A path is missing, a line is no document, two share an id, or none is left.
    """
    wanted = SPLITS if split is None else split
    _check_splits(wanted)
    files = _files([paths] if isinstance(paths, str | Path) else paths)
    documents: list[Document] = []
    places: dict[str, str] = {}
    for place, document in _parsed(files, columns, seed):
        if (other := places.setdefault(document.id, place)) != place:
            found = f"its id {document.id!r} is taken by {other}"
            raise InputError(f"a document at {place}", found, "give every document its own id")
        if document.split in wanted:
            documents.append(document)
    if not documents:
        asked = f"documents of split {', '.join(wanted)} from {', '.join(map(str, files))}"
        raise InputError(asked, f"none among {len(places)}", "check the files and the split")
    return documents


def write_documents(path: str | Path, documents: Iterable[Document]) -> None:
    """Write documents as labelled text, one a line; the file appears whole or not at all.

    Args:
        path: File to write; its folder is made and an existing file replaced.
        documents: What to write, in order.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(
                json.dumps(asdict(document), ensure_ascii=False) + "\n" for document in documents
            )
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _check_splits(names: Sequence[str]) -> None:
    for name in names:
        if name not in SPLITS:
            raise ConfigError(f"split {name!r}", f"splits are {', '.join(SPLITS)}", "use one")


def _files(paths: Iterable[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found or not path.exists():
            raise InputError(f"text in {path}", "no file there", "give a jsonl or a folder of them")
        files += found
    return files


def _parsed(
    files: Iterable[Path], columns: Columns | None, seed: int
) -> Iterator[tuple[str, Document]]:
    for path in files:
        with path.open("rb") as lines:  # bytes split at \n alone, text also at U+2028 and others
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    record, name = _record(line), f"{path.stem}-{number:06d}"
                    document = _foreign(record, name, columns, seed) if columns else _native(record)
                except ConfigError as error:
                    asked = f"a document at {path}:{number}, {error.asked}"
                    raise InputError(asked, error.found, error.do) from error
                yield f"{path}:{number}", document


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise ConfigError("one JSON object", str(error), "mend or remove the line") from error
    if not isinstance(record, dict):
        raise ConfigError("one JSON object", f"a {type(record).__name__}", "mend the line")
    return record


def _native(record: Mapping[str, Any]) -> Document:
    turns = record.get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        found = f"the keys {', '.join(record)}"
        raise ConfigError(
            "key 'turns', a list of objects", found, "name the columns of foreign text"
        )
    return Document(
        id=_string(record, "id"),
        source=_string(record, "source"),
        split=_string(record, "split"),
        turns=tuple(_turn(turn) for turn in turns),
        context=_string({"context": record["source"], **record}, "context"),
    )


def _turn(record: Mapping[str, Any]) -> Turn:
    speaker, persona, traits = map(record.get, ("speaker", "persona", "traits"))
    if not isinstance(traits, dict | None):
        raise ConfigError("key 'traits', an object", repr(traits), "write {name: label}")
    return Turn(
        role=_string(record, "role"),
        text=_string(record, "text"),
        speaker=None if speaker is None else _string(record, "speaker"),
        persona="none" if persona is None else _string(record, "persona"),
        traits=traits or {},
    )


def _foreign(record: Mapping[str, Any], name: str, columns: Columns, seed: int) -> Document:
    persona = "none" if columns.persona is None else _string(record, columns.persona)
    key = _string(record, columns.text or columns.question or "")
    if columns.answer is not None:
        answer = _string(record, columns.answer)
        turns = (Turn("user", key), Turn("assistant", answer, persona=persona))
    elif columns.speaker is not None:
        turns = (Turn("character", key, _string(record, columns.speaker), persona),)
    else:
        turns = (Turn("narrator", key, persona=persona),)
    return Document(
        id=name,
        source=columns.source or name.rpartition("-")[0],
        split=split_of(key, seed),
        turns=turns,
        context=columns.context or columns.kind,
    )


def _string(record: Mapping[str, Any], key: str) -> str:
    if not isinstance(value := record.get(key), str):
        found = repr(value) if key in record else f"the keys {', '.join(record)}"
        raise ConfigError(f"key {key!r}, a string", found, "write the key or name another column")
    if re.search("[\ud800-\udfff]", value):
        raise ConfigError(f"key {key!r}, a string", "half of a surrogate pair", "mend the line")
    return value
