"""Which dataclass stands at each dotted path of a config, and which flags that makes.

A tagged union, that is a union of dataclasses told apart by a `kind` field, is decided here, from
what was given, before anything is parsed. So a partial override cannot change a kind.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import docstring_parser

from sae.errors import ConfigError

__all__ = ["Leaf", "Plan", "has", "value_at"]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One flag: a field that is no config itself."""

    path: str
    hint: Any
    default: Any
    help: str


@dataclasses.dataclass
class Plan:
    """Which class stands at each dotted path, the flags under it, and unions left undecided."""

    given: dict[str, Any]
    flagged: list[str]
    classes: dict[str, type] = dataclasses.field(default_factory=dict)
    leaves: dict[str, Leaf] = dataclasses.field(default_factory=dict)
    kinds: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    undecided: list[str] = dataclasses.field(default_factory=list)

    def add(self, config_class: type, path: str, base: object) -> None:
        """Lays out `config_class` at `path`, with the values of `base` as defaults."""
        self.classes[path] = config_class
        hints = typing.get_type_hints(config_class)
        texts = _field_texts(config_class)
        for field in dataclasses.fields(config_class):
            if not field.init:
                continue
            at = f"{path}.{field.name}".lstrip(".")
            default = _default(field, base)
            member = self._member(at, hints[field.name], default)
            if isinstance(member, type) and dataclasses.is_dataclass(member):
                self.add(member, at, default if type(default) is member else None)
            else:
                text = self._text(field.name, path, member, texts)
                self.leaves[at] = Leaf(at, member, default, text)

    def _text(self, name: str, path: str, member: Any, texts: Mapping[str, str]) -> str:
        text = texts.get(name, "")
        if name == "kind" and path in self.kinds:
            return f"One of {', '.join(self.kinds[path])}; each has flags of its own."
        if member is type(None):
            return f"{text} Absent, unless one of its own flags is given."
        return text

    def _member(self, at: str, hint: Any, default: object) -> Any:
        """The class that stands at `at`, or the type of a plain flag."""
        found = value_at(self.given, at)
        options: list[Any] = [each for each in _options(hint) if dataclasses.is_dataclass(each)]
        if not options:
            return hint
        if type(None) in _options(hint) and not self._wanted(at, found, default):
            return type(None)
        if len(options) == 1:
            return options[0]
        return self._tagged(at, {_kind(each): each for each in options}, found, default)

    def _tagged(self, at: str, members: Mapping[str, Any], found: object, default: object) -> Any:
        """The member of a tagged union: as given, else as by default, else undecided."""
        kinds = self.kinds[at] = list(members)
        if isinstance(found, Mapping):
            kind = found.get("kind")
        else:
            absent = default is None or default is dataclasses.MISSING
            kind = None if absent else _kind(type(default))
        if kind is None:
            self.undecided.append(at)
            return _undecided(kinds)
        if kind not in members:
            raise ConfigError(f"{at}.kind: {kind}", "an unknown kind", _nearest(kind, kinds))
        return members[kind]

    def _wanted(self, at: str, found: object, default: object) -> bool:
        """Whether an optional config is there: given in a file, by a flag, or by default."""
        if any(flag.startswith(f"{at}.") for flag in self.flagged):
            return True
        if has(self.given, at):
            return found is not None
        return default is not None and default is not dataclasses.MISSING

    def build(self, values: Mapping[str, Any], path: str = "") -> Any:
        """The config at `path`, its parts first."""
        config_class = self.classes[path]
        parts = dict(values)
        for name in parts:
            at = f"{path}.{name}".lstrip(".")
            if at in self.classes:
                parts[name] = self.build(parts[name], at)
        try:
            return config_class(**parts)
        except (TypeError, ValueError) as error:
            raise ConfigError(path or config_class.__name__, str(error), "see --help") from error


def _undecided(kinds: list[str]) -> Any:
    @dataclasses.dataclass(frozen=True)
    class Undecided:
        """Not decided yet: `kind` says which further flags there are."""

        kind: typing.Literal[tuple(kinds)]  # pyright: ignore[reportInvalidTypeForm]

    return Undecided


def _options(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _kind(member: type) -> str:
    return typing.get_args(typing.get_type_hints(member)["kind"])[0]


def _default(field: dataclasses.Field[Any], base: object) -> Any:
    if base is not None and base is not dataclasses.MISSING:
        return getattr(base, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _field_texts(config_class: type) -> dict[str, str]:
    try:
        parsed = docstring_parser.parse_from_object(config_class)
    except OSError:  # made at run time: no source to read
        return {}
    return {each.arg_name: each.description or "" for each in parsed.params}


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    listed = f"choose one of {', '.join(known)}"
    return f"did you mean {close[0]}? ({listed})" if close else listed


def value_at(tree: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path of nested mappings; None where nothing does."""
    node: Any = tree
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def has(tree: Mapping[str, Any], path: str) -> bool:
    """Whether anything, be it None, stands at a dotted path of nested mappings."""
    parent, _, name = path.rpartition(".")
    node = value_at(tree, parent) if parent else tree
    return isinstance(node, Mapping) and name in node
