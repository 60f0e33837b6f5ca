"""Dictionaries on the Hugging Face Hub, `hf://org/repo/folder@revision`: fetched, sent if asked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sae.errors import ConfigError, InputError

__all__ = ["HubId", "located", "parse", "upload"]

FILES = (
    "dictionary.safetensors",
    "eval.json",
    "cfg.json",
    "config.json",
    "hyperparams.json",
    "sae_weights.safetensors",
    "sae.safetensors",
    "activation_scaler.json",
    "activation_whitening.safetensors",
    "ae.pt",
    "model.safetensors",
    "model_final.pt",
    "trainer_config.json",
    "params.npz",
    "params.safetensors",
    "checkpoints/final.safetensors",
)
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-+=]*")


class HubId(NamedTuple):
    """Where on the Hub a dictionary lies."""

    repository: str
    """Organisation and name."""
    folder: str
    """Folder within it; empty for its root."""
    revision: str | None
    """Branch, tag or commit; None for the default branch."""


def parse(url: str) -> HubId:
    """The parts of a Hub id.

    Args:
        url: `hf://org/repo`, with `/folder` and `@revision` where wanted.

    Raises:
        ConfigError: It is none.

    Example:
        >>> parse("hf://google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71@main")[1:]
        ('layer_20/width_16k/average_l0_71', 'main')
    """
    path, at, revision = url.removeprefix("hf://").partition("@")
    words = path.rstrip("/").split("/")
    named = [*words, *([word for word in revision.split("/")] if at else [])]
    if not url.startswith("hf://") or len(words) < 2 or not all(map(WORD.fullmatch, named)):
        do = "give hf://ORGANISATION/REPOSITORY/FOLDER@REVISION, the last two where wanted"
        raise ConfigError(f"dictionary {url}", "no id of the Hub", do)
    return HubId("/".join(words[:2]), "/".join(words[2:]), revision or None)


def located(path: str | Path) -> Path:
    """Where a dictionary lies on this disk, once it is downloaded if it has to be.

    Of a repository's folder only files that a format knows are fetched.

    Args:
        path: A path, which is returned, or an id as `parse` takes it.

    Raises:
        ConfigError: It begins like an id but is none.
        InputError: The Hub does not have it, or cannot be reached.
    """
    if not str(path).startswith("hf:/"):
        return Path(path)
    url = re.sub("^hf:/+", "hf://", str(path))  # a Path has taken one slash
    repository, folder, revision = parse(url)
    import huggingface_hub  # noqa: PLC0415  only where the Hub is asked

    prefix = f"{folder}/" if folder else ""
    wanted = [prefix + name for name in FILES]
    do = "check the id, the connection, and that the repository is open to you"
    with _one_line(f"dictionary {url}", do):
        held = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=wanted
        )
    place = Path(held) / folder
    if not place.is_dir():
        raise InputError(f"dictionary {url}", "no such folder with a dictionary in it", do)
    return place


def upload(folder: Path, url: str) -> str:
    """Sends a dictionary to the Hub; nothing else in this project sends anything there.

    Only files that a format knows are sent: no `provenance.json`, which names paths of this
    machine, and no state of a fit. A repository that is not there yet is made, and made private.

    Args:
        folder: Holds the dictionary, in any format that can be written.
        url: Where to put it, as `parse` takes it; a branch must be there already.

    Returns:
        Address of the commit.

    Raises:
        ConfigError: The id is none.
        InputError: The Hub cannot be reached or does not let you write there.
    """
    repository, place, revision = parse(url)
    import huggingface_hub  # noqa: PLC0415  only where the Hub is asked

    do = "check the id and the connection, and log in with `hf auth login` as one who may write"
    with _one_line(f"upload to {url}", do):
        huggingface_hub.create_repo(repository, private=True, exist_ok=True)
        commit = huggingface_hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            path_in_repo=place,
            revision=revision,
            allow_patterns=list(FILES),
            commit_message=f"Upload a dictionary to {place or 'the root'}",
        )
    return str(commit)


@contextmanager
def _one_line(asked: str, do: str) -> Iterator[None]:
    """What the Hub or the way to it has against something, in one line."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    try:
        yield
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        found = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise InputError(asked, found, do) from error
