"""Held-out text of the world: labelled documents on disk, and what is knowable of each token."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sae.stream.text import SPLITS, Document, write_documents
from training.config import require
from training.organism.arms import ASSISTANT_PERSONA, counted
from training.organism.corpus import Kind, document, samples
from training.organism.observer import observe
from training.organism.world import Sample, World

__all__ = ["KINDS", "TextConfig", "ideal_loss", "write_text"]

KINDS = {
    "pretraining": Kind("text"),
    "chat": Kind("chat", ASSISTANT_PERSONA),
    "chat_any": Kind("chat"),
}
"""File of labelled text -> kind of document: pre-training text, chats of the assistant that the
arms are tuned to be, and chats of assistants of any persona."""


@dataclass(frozen=True)
class TextConfig:
    """How many documents of each split to write; no model is trained on any of them.

    Raises:
        ConfigError: A value lies outside the range its sentence gives.
    """

    pretraining: tuple[int, int, int] = (2500, 2000, 700)
    """Documents to fit dictionaries on, to select persona latents on, and to confirm them on; at
    least 1 each."""
    chat: tuple[int, int, int] = (1000, 250, 250)
    """The same for each of the two files of chats; 0 or more each."""
    losses: int = 500
    """Documents of each kind on which the loss of a model is measured, at least 1."""

    def __post_init__(self) -> None:
        few = self.pretraining
        require(min(few) >= 1, "pretraining", few, "choose at least 1 of each split")
        require(min(self.chat) >= 0, "chat", self.chat, "choose 0 or more of each split")
        require(self.losses >= 1, "losses", self.losses, "choose at least 1")


def ideal_loss(world: World, kind: Kind, seed: int, n_documents: int) -> float:
    """Mean loss of the ideal observer on documents of a kind, in nats a word that counts.

    Where the assistant is always one persona, the observer knows it.
    """
    sure = np.eye(len(world.personas))
    known = {} if kind.persona is None else {1: sure[world.personas.index(kind.persona)]}
    found = islice(samples(world, kind, seed), n_documents)
    losses = [observe(world, s, known).loss[np.array(counted(s)[1:])] for s in found]
    return float(np.concatenate(losses).mean())


def write_text(world: World, config: TextConfig, out_dir: Path, seed: int) -> None:
    """Writes `text/KIND.jsonl` for every kind, and then `observer.parquet`.

    The observer reads the documents of the splits select and confirm. Its columns: doc, pos (0 is
    BOS, which has no row), ideal_loss in nats, posterior over the personas of the world (of the
    speaker whose turn it is, after reading the token; zeros where it is nobody's), dialect (the
    true one) and dialect_posterior. Its schema's metadata `personas` names those of the posterior.
    """
    (out_dir / "text").mkdir(parents=True, exist_ok=True)
    tables = []
    for number, (name, kind) in enumerate(KINDS.items()):
        sizes = config.pretraining if name == "pretraining" else config.chat
        splits = [s for s, n in zip(SPLITS, sizes, strict=True) for _ in range(n)]
        found = list(islice(samples(world, kind, seed + number), len(splits)))
        documents = [
            _document(world, s, name, split, i)
            for i, (s, split) in enumerate(zip(found, splits, strict=True))
        ]
        write_documents(out_dir / "text" / f"{name}.jsonl", documents)
        tables += [
            _observed(world, sample, each)
            for sample, each in zip(found, documents, strict=True)
            if each.split != "fit"
        ]
    draft = out_dir / "observer.tmp"
    observed = pd.concat(tables, ignore_index=True)
    _write_observed(observed, world, draft)
    draft.replace(out_dir / "observer.parquet")


def _write_observed(observed: pd.DataFrame, world: World, path: Path) -> None:
    """Parquet whose metadata names the personas that the posterior is over."""
    table = pa.Table.from_pandas(observed, preserve_index=False)
    named = {**(table.schema.metadata or {}), b"personas": json.dumps(world.personas).encode()}
    pq.write_table(table.replace_schema_metadata(named), path)


def _document(world: World, sample: Sample, name: str, split: str, number: int) -> Document:
    context = sample.words[0] if sample.grammar == "text" else name
    return document(world, sample, f"{name}-{number:05d}", context, split)


def _observed(world: World, sample: Sample, labelled: Document) -> pd.DataFrame:
    seen = observe(world, sample)
    return pd.DataFrame(
        {
            "doc": labelled.id,
            "pos": np.arange(1, len(sample.words) + 1),
            "ideal_loss": seen.loss,
            "posterior": list(seen.posterior.astype(np.float32)),
            "dialect": sample.hidden.dialect,
            "dialect_posterior": list(seen.dialect.astype(np.float32)),
        }
    )
