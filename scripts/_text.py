"""Models and texts as every door reads them, and the hashes their stages go by."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from sae.abreast import Tell
from sae.errors import ConfigError
from sae.stream.activations import HookPoint, activations, padded
from sae.stream.model import LanguageModel, load_model
from sae.stream.text import Columns, read_documents
from sae.stream.tokens import TokenizedText, tokenize
from scripts._meter import Meter
from scripts._stage import fingerprint
from training.organism.checkpoints import GROWN
from training.organism.tuning import RECORD

__all__ = ["LengthConfig", "ReadConfig", "by_length", "enough", "evenly", "named_models"]
__all__ += [
    "open_model",
    "read_text",
    "require_hook",
    "said_of",
    "sha256_of_model",
    "sha256_of_text",
    "text_inputs",
    "watched",
]

SPARE = 1.02
"""Share of the tokens asked for that is read: outliers of the base are left out later."""


@dataclass(frozen=True)
class LengthConfig:
    """How much of the text is read."""

    max_length: int | None = None
    """Most tokens of a document, what is beyond is cut off; None: as many as the model takes."""
    max_documents: int | None = None
    """Most documents at a reading, of all splits it takes together, evenly spaced over the files;
    None: all."""
    seed: int = 0
    """Seed of the splits of foreign text; labelled text brings its own."""

    def __post_init__(self) -> None:
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigError(f"max_documents={self.max_documents}", "no text", "give 1 or more")


@dataclass(frozen=True)
class ReadConfig(LengthConfig):
    """How model and text are read."""

    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""


def read_text(
    model: LanguageModel,
    files: Sequence[Path],
    columns: Columns | None,
    read: LengthConfig,
    splits: Sequence[str],
) -> TokenizedText:
    """The documents of some splits, as the ids a model reads.

    Args:
        model: Its tokenizer, chat template and context length count.
        files: Jsonl files, or folders of them.
        columns: How to read foreign text; None for labelled text.
        read: How much.
        splits: Splits to keep.

    Raises:
        ConfigError: A split is unknown.
        InputError: A line is no document, or none is left.
    """
    documents = read_documents(files, columns, splits, read.seed)
    n_kept = min(read.max_documents or len(documents), len(documents))
    kept = [documents[i * len(documents) // n_kept] for i in range(n_kept)]
    longest = getattr(model.module.config.get_text_config(), "max_position_embeddings", None)
    return tokenize(kept, model.tokenizer, read.max_length or longest)


def open_model(name: str, read: ReadConfig, device: str) -> LanguageModel:
    """A model from its folder or the hub, without the loader's own progress bar.

    Raises:
        InputError: There is no such model, or it is damaged.
    """
    transformers.utils.logging.disable_progress_bar()
    return load_model(name, revision=read.revision, device=device)


def require_hook(model: LanguageModel, text: TokenizedText, name: str) -> HookPoint:
    """A hook by its name, tried on one document, so that trouble shows before the work begins.

    Raises:
        ConfigError: The model lacks the hook; the message names those it has.
        InputError: The vectors are not finite.
    """
    hook = HookPoint.parse(name)
    activations(model, *padded(text.ids[:1]), [hook])
    return hook


def said_of(model: LanguageModel, hook: HookPoint) -> dict[str, Any]:
    """What a dictionary's header says of the model and the place it was fitted on."""
    return {
        "hook": str(hook),
        "model": model.name,
        "revision": model.revision,
        "model_sha256": model.weights_sha256,
        "tokenizer_sha256": model.tokenizer_hash,
    }


@contextmanager
def watched(
    model: LanguageModel, label: str, n_tokens: int, told: Tell | None = None
) -> Iterator[None]:
    """Tells how many of `n_tokens` a model has read while the block runs; None is a meter's."""
    meter, seen = Meter("token"), 0
    show = told or meter

    def tell(_: object, __: object, inputs: dict[str, Any]) -> None:
        nonlocal seen
        seen += int(inputs["attention_mask"].sum())
        show(label, seen, n_tokens)

    handle = model.module.register_forward_pre_hook(tell, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
        meter.close()


def text_inputs(name: str, read: ReadConfig, files: Sequence[Path]) -> dict[str, str]:
    """Hashes by which a stage that puts a text through a model knows them again."""
    return {"model": sha256_of_model(name, read.revision), "text": sha256_of_text(files)}


def sha256_of_model(name: str, revision: str | None = None) -> str:
    """Hash of the files beside a model's weights; of a model on the hub, its name and revision.

    With those of its checkpoints, where there is no record beside it that names them.
    """
    folder = Path(name)
    if not folder.is_dir():
        return hashlib.sha256(f"{name}@{revision or 'main'}".encode()).hexdigest()
    files = sorted(each for each in folder.iterdir() if each.is_file())
    lines = [f"{each.name} {fingerprint(each)}" for each in files]
    if not any((folder / record).exists() for record in (RECORD, GROWN)):
        ladder = sorted(each for each in folder.glob("checkpoints/*") if each.is_dir())
        lines += [f"{each.name} {sha256_of_model(str(each))}" for each in ladder]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def sha256_of_text(files: Sequence[Path]) -> str:
    """Hash of the content of files and folders, in this order."""
    return hashlib.sha256(" ".join(map(fingerprint, files)).encode()).hexdigest()


def named_models(
    words: Sequence[str], flag: str = "--models", what: str = "model"
) -> dict[str, str]:
    """Models by name: each word is `NAME=PATH`, or a path whose last part is the name.

    Args:
        words: Of the command line.
        flag: Which flag they were given with, for messages.
        what: What a path leads to, for messages.

    Raises:
        ConfigError: A name cannot be that of a folder, or stands for two models.

    Example:
        >>> named_models(["models/assistant", "continued@00100=models/c/checkpoints/step-100"])
        {'assistant': 'models/assistant', 'continued@00100': 'models/c/checkpoints/step-100'}
    """
    models: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        name, path = (name, path) if equals else (Path(word).name, word)
        if not path or name in ("", ".", "..") or "/" in name:
            raise ConfigError(f"{flag} {word}", "no name for a folder", "write it as NAME=PATH")
        if models.get(name) == path:
            raise ConfigError(flag, f"{path} twice as {name}", f"give every {what} once")
        if name in models:
            found = f"two {what}s named {name}: {models[name]} and {path}"
            raise ConfigError(flag, found, "write one as NAME=PATH")
        models[name] = path
    if not models:
        raise ConfigError(flag, f"no {what}", "give one or more, as NAME=PATH")
    return models


def enough(text: TokenizedText, n_tokens: int) -> TokenizedText:
    """The fewest documents, evenly spaced, that hold so many tokens; all where all hold fewer.

    A run shuffles its whole text and so would read, for every model, much that it never fits.

    Args:
        text: Tokens to fit on.
        n_tokens: How many, special ones not counted.
    """
    counted = (~text.table["is_special"]).to_numpy(int)
    n_of_document = np.add.reduceat(counted, text.starts[:-1])
    n = len(text.ids)
    few, many = 0, n  # so many documents are too few, so many enough
    while many - few > 1:
        middle = (few + many) // 2
        if n_of_document[np.arange(middle) * n // middle].sum() < SPARE * n_tokens:
            few = middle
        else:
            many = middle
    return evenly(text, many)


def evenly(text: TokenizedText, n_documents: int) -> TokenizedText:
    """So many of the documents, evenly spaced; all if fewer."""
    n = min(n_documents, len(text.ids))
    keep = np.zeros(len(text.ids), bool)
    keep[np.arange(n) * len(keep) // n] = True
    return text.select(keep)


def by_length(text: TokenizedText) -> TokenizedText:
    """The same documents, the shortest first, so that little of a pass is spent on padding.

    Args:
        text: Any text.
    """
    starts = text.starts.tolist()
    order = np.argsort(np.diff(starts), kind="stable").tolist()
    rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    ids = tuple(text.ids[i] for i in order)
    return TokenizedText(ids, text.table.iloc[rows].reset_index(drop=True))
