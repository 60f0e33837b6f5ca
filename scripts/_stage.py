"""One stage of the way from text to report: skipped when done already, and its provenance.

A stage writes one folder. `provenance.json`, written last, says what the folder came from; a folder
without it is unfinished.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sae.errors import ConfigError, InputError
from sae.whole import write_json

__all__ = ["PROVENANCE", "SCHEMA", "changes", "fingerprint", "flat", "git_commit"]
__all__ += ["prepared_stage", "require_own", "stage"]

PROVENANCE = "provenance.json"
"""Name of the file in a stage's folder that says what the folder came from."""
SCHEMA = "forelimb.provenance/1"
"""Name and version of that file's layout."""
PACKAGES = ("forelimb", "torch", "transformers", "transformer-lens", "safetensors", "numpy")
CHUNK_BYTES = 1 << 20


def stage(
    out_dir: Path,
    inputs: Mapping[str, str],
    config: object,
    work: Callable[[], Mapping[str, Any] | None],
) -> bool:
    """Does `work`, unless `out_dir` already holds what these inputs and this config give.

    The old `provenance.json` is removed before the work begins and a new one is written once it has
    ended, so an interrupted stage is never taken for a finished one. What the work itself leaves in
    that file, as `sae.write` does, is kept in the new one under `artefact`. Work that fails before
    it has written anything leaves no empty folder behind.

    Args:
        out_dir: The folder the work writes; made when absent.
        inputs: Hash of each input by name, for example from `fingerprint`.
        config: The command's config, a dataclass.
        work: Writes the artefact; may return facts for the provenance, such as token counts.

    Returns:
        Whether the work was done now.

    Raises:
        ConfigError: The folder holds what another command of this project made.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "out"
        >>> config = dataclasses.make_dataclass("Config", [("seed", int)])(0)
        >>> stage(folder, {"text": "ab12"}, config, lambda: {"n_tokens": 3})
        True
        >>> json.loads((folder / PROVENANCE).read_text())["facts"]
        {'n_tokens': 3}
    """
    plain = _plain(config)
    changed = changes(out_dir, inputs, config)
    if changed == []:
        print(f"forelimb: {out_dir} is up to date", file=sys.stderr)
        return False
    if changed:
        _require_same_door(out_dir)
        print(f"forelimb: {out_dir} anew, for a change in {', '.join(changed)}", file=sys.stderr)
    start, clock = datetime.now(UTC), time.monotonic()
    with _folder(out_dir):
        (out_dir / PROVENANCE).unlink(missing_ok=True)
        facts = work()
    record = {
        "schema": SCHEMA,
        "command": shlex.join(sys.orig_argv),
        "config": plain,
        "inputs": dict(inputs),
        "git": _git(),
        "versions": _versions(),
        "seeds": dict(_seeds(plain)),
        "start_utc": start.isoformat(timespec="seconds"),
        "end_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
        "facts": dict(facts or {}),
        "artefact": _read(out_dir),
    }
    write_json(out_dir / PROVENANCE, record, default=str)
    return True


def prepared_stage(
    out_dir: Path,
    inputs: Mapping[str, str],
    config: object,
    prepare: Callable[[], Callable[[], Mapping[str, Any] | None]],
) -> bool:
    """As `stage`, with the work made only when it is needed, and before the folder is touched.

    Args:
        out_dir: As for `stage`.
        inputs: As for `stage`.
        config: As for `stage`.
        prepare: Loads and checks what the work needs, and returns the work; what it raises leaves
            the folder as it was.

    Returns:
        Whether the work was done now.
    """
    work = dict if changes(out_dir, inputs, config) == [] else prepare()
    return stage(out_dir, inputs, config, work)


def changes(out_dir: Path, inputs: Mapping[str, str], config: object) -> list[str] | None:
    """Names of the inputs and config keys that differ from those `out_dir` was made of.

    Args:
        out_dir: A stage's folder.
        inputs: As for `stage`.
        config: As for `stage`.

    Returns:
        Nothing in the list means up to date; None, that no finished stage is there.
    """
    recorded = _read(out_dir, SCHEMA)
    return _changed(recorded, dict(inputs), _plain(config)) if recorded else None


def require_own(out_dir: Path, what: str, *marks: str) -> None:
    """Makes sure that a folder is free to be written: absent, empty, or of the same kind.

    Args:
        out_dir: The folder.
        what: What will be written, in words.
        marks: Names of files of which such a folder has at least one.

    Raises:
        ConfigError: It holds something else.
    """
    held = sorted(each.name for each in out_dir.iterdir()) if out_dir.is_dir() else []
    is_file = out_dir.exists() and not out_dir.is_dir()
    if is_file or (held and not set(held) & set(marks)):
        found = "a file" if is_file else f"a folder of other things ({', '.join(held[:3])})"
        raise ConfigError(f"{what} in {out_dir}", found, "choose a new folder with --out")


def _require_same_door(out_dir: Path) -> None:
    """Keeps one command from making anew what another made: a dictionary is hours of work."""
    was, now = (
        re.search(r"scripts[./](\w+)", each)
        for each in (str(_read(out_dir, SCHEMA).get("command")), shlex.join(sys.orig_argv))
    )
    if was and now and was[1] != now[1]:
        found, do = f"what {was[1]} made", "choose a new folder with --out"
        raise ConfigError(f"{out_dir} for {now[1]}", found, do)


def git_commit() -> str | None:
    """The commit of the checkout this runs from; None outside one."""
    return _git()["commit"]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files.

    Left out of a folder: each `provenance.json`, which holds the time of day, and at any depth
    what lies in a folder named `state`, which is what a run needs to go on. A folder
    with a `manifest.json` is represented by that alone, since a manifest names the hash of every
    shard.

    Args:
        path: A file or a folder.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: There is nothing at `path`.
    """
    if not path.exists():
        raise InputError(str(path), "nothing there", "check it, or run the stage that makes it")
    if path.is_file():
        return _sha256(path)
    manifest = path / "manifest.json"
    if manifest.is_file():
        return _sha256(manifest)
    total = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        name = file.relative_to(path)
        if name.name != PROVENANCE and "state" not in name.parts[:-1]:
            total.update(f"{name.as_posix()}\0{_sha256(file)}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Makes a folder; after a failure, those it made are gone unless something is in them."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
        raise


def _sha256(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


def _plain(config: object) -> Any:
    """The config as JSON gives it back, so that a recorded one compares equal."""
    values: Any = config
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = dataclasses.asdict(config)
    return json.loads(json.dumps(values, default=str))


def _read(out_dir: Path, schema: str | None = None) -> dict[str, Any]:
    """The provenance in a folder; empty where there is none of this schema that can be read."""
    try:
        record = json.loads((out_dir / PROVENANCE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("schema") == schema else {}


def _changed(record: Mapping[str, Any], inputs: Mapping[str, str], config: Any) -> list[str]:
    """Names of the inputs and config keys that differ from the recorded ones."""
    now = {**{f"input {name}": each for name, each in inputs.items()}, **dict(flat(config))}
    old_inputs = record.get("inputs", {})
    old = {f"input {name}": each for name, each in old_inputs.items()}
    old.update(flat(record.get("config", {})))
    absent = object()
    return sorted(name for name in now | old if now.get(name, absent) != old.get(name, absent))


def flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested mappings with its dotted path."""
    if isinstance(values, Mapping) and values:
        for name, value in values.items():
            yield from flat(value, f"{path}.{name}".lstrip("."))
    else:
        yield path, values


def _seeds(values: Any) -> Iterator[tuple[str, Any]]:
    for path, value in flat(values):
        if path.rpartition(".")[2].endswith(("seed", "seeds")):
            yield path, value


def _git() -> dict[str, Any]:
    """The checkout's commit and whether it has uncommitted changes; nulls outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git_says(root, "rev-parse", "HEAD")
        dirty = bool(_git_says(root, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def _git_says(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions
