"""From YAML files and dotted flags to one frozen config.

The files are merged and the members of tagged unions are settled first; the parser is then built
for those members alone, and leaves to jsonargparse what it does well: the types of values, help and
`--print_config`. Keys are checked here, so that an unknown one can be answered with the nearest.
"""

import argparse
import dataclasses
import difflib
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse

from sae.errors import ConfigError
from scripts._plan import Plan, value_at

__all__ = ["parse"]

Config = TypeVar("Config")
OWN_FLAGS = ("help", "config", "print_config")


class _Help(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Keeps the line breaks of the description and of the table of exit codes."""


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` over `old`, key by key; a mapping of another kind starts afresh."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        result[key] = value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            kinds = {each["kind"] for each in (before, value) if "kind" in each}
            result[key] = _merged(before, value) if len(kinds) < 2 else value
    return result


def _unknown(path: str, dashes: str, known: Sequence[str]) -> ConfigError:
    """An unknown key; the nearest known one is looked for among whole paths, then last names."""
    last = path.rpartition(".")[2]
    under = [each for each in known if each.startswith(f"{path}.")]
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.7)
    lasts = {each.rpartition(".")[2]: each for each in known}
    again = difflib.get_close_matches(last, list(lasts), n=1, cutoff=0.6)
    if under:
        return ConfigError(dashes + path, "no value of its own", f"set {', '.join(under)}")
    near = close[0] if close else lasts[again[0]] if again else None
    do = f"did you mean {dashes}{near}?" if near else "see --help for the keys there are"
    return ConfigError(dashes + path, "an unknown key", do)


def _read(path: Path) -> dict[str, Any]:
    asked = f"--config {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise ConfigError(asked, found, "give the path of a YAML file") from error
    try:
        values = jsonargparse.get_loader("yaml")(text)
    except Exception as error:  # noqa: BLE001  whatever the YAML reader raises, the file is at fault
        found = " ".join(str(error).split())
        raise ConfigError(asked, f"no YAML: {found}", "mend the file") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(asked, f"a {type(values).__name__}", "give a mapping of keys to values")
    return values


def _split(argv: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files after each `--config`, and every other word."""
    scanner = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scanner.add_argument("--config", action="append", default=[], type=Path)
    try:
        known, rest = scanner.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError("--config", error.message, "give the path of a YAML file") from error
    return known.config, rest


def _placed(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """The same words, the first ones given the flags that a config's `POSITIONAL` names."""
    n = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    n = min(n, len(names))
    named = [f"--{name}={word}" for name, word in zip(names, words[:n], strict=False)]
    return [*named, *words[n:]]


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            following = words[i + 1] if i + 1 < len(words) else None
            yield name, value if equals else following


def _gathered(words: Sequence[str], plan: Plan) -> list[str]:
    """The same words, with those after the flag of a list made one: `--text a b` is `[a, b]`."""
    result: list[str] = []
    items: list[str] | None = None
    for word in [*words, "--"]:
        if items is not None and word.startswith("--"):
            item = _item(plan.leaves[result[-1][2:]].hint)
            quoted = items if item in (int, float, bool) else map(json.dumps, items)
            whole = len(items) == 1 and items[0].startswith("[")
            result[-1] += "=" + (items[0] if whole else f"[{', '.join(quoted)}]")
            items = None
        if items is not None:
            items.append(word)
            continue
        result.append(word)
        leaf = plan.leaves.get(word[2:]) if word.startswith("--") else None
        items = [] if leaf is not None and _item(leaf.hint) is not None else None
    return result[:-1]


def _item(hint: Any) -> Any:
    """Type of the items of a list or of a tuple of any length; None for any other type."""
    for each in (hint, *typing.get_args(hint)):
        args = typing.get_args(each)
        if typing.get_origin(each) is list or args[1:] == (...,):
            return args[0]
    return None


def _given(files: Sequence[Path], flags: Mapping[str, str | None]) -> dict[str, Any]:
    """What the files say, later over earlier, with the kinds that flags ask for."""
    given: dict[str, Any] = {}
    for path in files:
        given = _merged(given, _read(path))
    for name, value in flags.items():
        if name.endswith(".kind") and value is not None:
            branch: dict[str, Any] = {"kind": value}
            for part in reversed(name.split(".")[:-1]):
                branch = {part: branch}
            given = _merged(given, branch)
    return given


def _keys(tree: Mapping[str, Any], plan: Plan, path: str = "") -> Iterator[str]:
    for name, value in tree.items():
        at = f"{path}.{name}".lstrip(".")
        if at in plan.classes and isinstance(value, Mapping):
            yield from _keys(value, plan, at)
        else:
            yield at


def _check(plan: Plan, complete: bool) -> None:
    """Raises for what can be told without looking at a value."""
    known = list(plan.leaves)
    for path in plan.undecided:
        listed = ", ".join(plan.kinds[path])
        raise ConfigError(path, "no kind", f"set {path}.kind to one of {listed}")
    for path in _keys(plan.given, plan):
        if path not in known:
            raise _unknown(path, "", known)
    for name in plan.flagged:
        if name not in known and name not in OWN_FLAGS:
            raise _unknown(name, "--", known)
    for path in known if complete else ():
        given = path in plan.flagged or value_at(plan.given, path) is not None
        if plan.leaves[path].default is dataclasses.MISSING and not given:
            raise ConfigError(f"--{path}", "no value", "give it, or set it in a --config file")


def _parser(plan: Plan, prog: str, description: str, epilog: str) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        exit_on_error=False,
        formatter_class=_Help,
    )
    text = "YAML file of values; may be given again, later files and then flags win."
    parser.add_argument("--config", action="config", help=text)
    groups: dict[str, Any] = {"": parser}
    for path, leaf in plan.leaves.items():
        parent = path.rpartition(".")[0]
        if parent not in groups:
            about = (plan.classes[parent].__doc__ or "").split("\n\n")[0]
            groups[parent] = parser.add_argument_group(parent, " ".join(about.split()))
        needed = leaf.default is dataclasses.MISSING
        options = {"required": True} if needed else {"default": leaf.default}
        groups[parent].add_argument(f"--{path}", type=leaf.hint, help=leaf.help, **options)
    return parser


def _trouble(error: argparse.ArgumentError, plan: Plan) -> ConfigError:
    """What the parser says of a bad value, as asked, found, do."""
    text = " ".join(str(error).split())
    _, quoted, rest = text.partition('Parser key "')
    path = rest.partition('"')[0]
    if not quoted or path not in plan.leaves:
        return ConfigError("the command line", text, "see --help")
    hint = plan.leaves[path].hint
    name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    _, got, value = text.rpartition(" value: ")
    return ConfigError(f"--{path}", repr(value) if got else text, f"give a value of type {name}")


def parse(
    config_class: type[Config],
    argv: Sequence[str],
    prog: str = "forelimb",
    description: str = "",
    epilog: str = "",
) -> Config:
    """The config that files and flags ask for: defaults, then files in order, then flags.

    A union of dataclasses told apart by a `kind` field takes its kind from the flags, else from
    the last file that names one, else from the default. Another kind starts afresh: what an
    earlier file said for the old one is dropped. The name `kind` is kept for such unions.
    A list takes all the words after its flag, as in `--text a b`, or one as YAML has it, `[a, b]`.
    Words before the first flag are the fields that the class lists in `POSITIONAL`, in that order.

    Args:
        config_class: A frozen dataclass; its fields may be dataclasses, tagged unions and None.
        argv: The command's words without its name.
        prog: How help calls the command.
        description: Text above the flags in help.
        epilog: Text under them.

    Returns:
        An instance of `config_class`.

    Raises:
        ConfigError: A key, kind or value is unknown, missing or wrong, or a file is no YAML.
        SystemExit: With code 0, after `--help` or `--print_config` has been printed.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Fit:
        ...     steps: int = 10
        ...     name: str | None = None
        >>> parse(Fit, ["--steps", "3"])
        Fit(steps=3, name=None)
    """
    files, words = _split(argv)
    words = _placed(words, getattr(config_class, "POSITIONAL", ()))
    flags = dict(_flags(words))
    given = _given(files, flags)
    plan = Plan(given, list(flags))
    plan.add(config_class, "", None)
    if "-h" in words or "help" in flags:
        given = {}
    else:
        _check(plan, complete="print_config" not in flags)
    parser = _parser(plan, prog, description, epilog)
    file_words = [f"--config={json.dumps(given, default=str)}"] if given else []
    try:
        values = parser.parse_args([*file_words, *_gathered(words, plan)]).as_dict()
    except argparse.ArgumentError as error:
        raise _trouble(error, plan) from error
    return plan.build({name: value for name, value in values.items() if name != "config"})
