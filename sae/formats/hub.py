"""Dictionaries on the Hugging Face Hub: `hf://org/repo/folder@revision`, fetched when asked for."""

import re
from pathlib import Path
from typing import NamedTuple

from sae.errors import ConfigError, InputError

__all__ = ["HubId", "located", "parse"]

FILES = (
    "dictionary.safetensors",
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
    import huggingface_hub  # noqa: PLC0415  only where something is downloaded
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    prefix = f"{folder}/" if folder else ""
    wanted = [prefix + name for name in FILES]
    do = "check the id, the connection, and that the repository is open to you"
    try:
        held = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=wanted
        )
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        found = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise InputError(f"dictionary {url}", found, do) from error
    place = Path(held) / folder
    if not place.is_dir():
        raise InputError(f"dictionary {url}", "no such folder with a dictionary in it", do)
    return place
