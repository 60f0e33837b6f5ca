"""The flags of `convert_dictionary`."""

from dataclasses import dataclass, field
from pathlib import Path

from sae.formats import Given, hub

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What to convert, and to what."""

    POSITIONAL = ("source", "out")
    source: str
    """Folder, file or hf:// id of the dictionary; may be given first, without its flag."""
    out: Path
    """Folder to write; may be given second, without its flag."""
    to: str = "forelimb"
    """Format to write: forelimb, saelens, dictionary_learning or sparsify."""
    upload: str | None = None
    """The hf:// id to send it to once it is written; a new repository is private."""
    given: Given = field(default_factory=Given)
    """What the dictionary's own files leave open."""

    def __post_init__(self) -> None:
        """An id is refused before there is anything to send."""
        if self.upload is not None:
            hub.parse(self.upload)
