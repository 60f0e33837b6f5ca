"""What the documents say is true: examples run, commands exist, paths exist.

In README.md and docs/*.md, fenced blocks are read by their language:

* `python` blocks of a document run in order, in one namespace, in an empty folder in which the
  paths they read lie, made by the fixtures in `NEEDS`;
* in `console`, `bash` and `sh` blocks, `make TARGET` and `python -m scripts.NAME FLAGS` are checked
  against the Makefile, the doors and their flags;
* in `tree` blocks, and wherever a Markdown link points inside the repository, paths must exist.
"""

import doctest
import importlib
import inspect
import re
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts._config import parse

ROOT = Path(__file__).parents[2]
PACKAGES = ("sae", "training", "analysis", "scripts")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
SHELLS = ("console", "bash", "sh")


def documents() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [path for path in (*top, *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()]


EACH = pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text) if language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command; what a shell would print, comments and `&&` left out."""
    for block in blocks(text, *SHELLS):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        for line in prompted or lines:
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if words:
                    yield words


def paths(tree: str) -> Iterator[str]:
    """The paths of a `tree` block: indented by two spaces a level, folders with a slash."""
    parents: dict[int, str] = {}
    for line in filter(str.strip, tree.splitlines()):
        level = (len(line) - len(line.lstrip())) // 2
        above = "".join(parents[each] for each in range(level) if each in parents)
        for word in line.split():
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.\w+)", word):
                break
            yield above + word
            if word.endswith("/"):
                parents = {each: parents[each] for each in parents if each < level}
                parents[level] = word


NEEDS = {"runs/demo": "tiny_trace"}
"""Folder that examples read -> fixture whose folder stands in for it."""


@EACH
def test_python_examples_run(path, tmp_path, monkeypatch, request):
    text = path.read_text(encoding="utf-8")
    sources = blocks(text, "python")
    for need, fixture in NEEDS.items():
        if any(need in source for source in sources):
            (tmp_path / need).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / need).symlink_to(request.getfixturevalue(fixture))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "example"}
    for number, source in enumerate(sources, 1):
        exec(compile(source, f"{path.name}, python block {number}", "exec"), namespace)


def config_of(door: str) -> type:
    main = importlib.import_module(door).main
    return next(iter(typing.get_type_hints(main).values()))


def check_door(words: list[str]) -> None:
    """That a door exists and takes these words: it is asked to print its config."""
    if not (ROOT / "scripts" / f"{words[0].partition('.')[2]}.py").is_file():
        pytest.fail(f"{words[0]} is no door")
    with pytest.raises(SystemExit) as end:
        parse(config_of(words[0]), [*words[1:], "--print_config"])
    assert end.value.code == 0


@EACH
def test_commands_exist(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(path.read_text(encoding="utf-8")):
        if words[0] == "make":
            asked = [each for each in words[1:] if "=" not in each and not each.startswith("-")]
            assert set(asked) <= set(targets), words
        elif "-m" in words and "python" in words[0]:
            module, *rest = words[words.index("-m") + 1 :]
            if module.startswith("scripts."):
                check_door([module, *rest])


@EACH
def test_trees_and_links_name_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    named = [each for block in blocks(text, "tree") for each in paths(block)]
    links = [each for each in LINK.findall(text) if "://" not in each and ":" not in each]
    assert [each for each in named if not (ROOT / each).exists()] == []
    assert [each for each in links if not (path.parent / each).exists()] == []


def test_each_door_documents_itself():
    for path in sorted((ROOT / "scripts").glob("[a-z]*.py")):
        door = importlib.import_module(f"scripts.{path.stem}")
        assert door.__doc__, path.name
        assert inspect.isclass(config_of(door.__name__)), path.name


def modules() -> list[str]:
    names = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if ">>>" in path.read_text(encoding="utf-8"):
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_are_true(name, tmp_path, monkeypatch):
    """Objects are looked up one by one: under the shape checker doctest would pass them over."""
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=True)
    own = {key: each for key, each in vars(module).items() if vars_module(each) == name}
    for key, each in {"": inspect.getdoc(module), **own}.items():
        found = finder.find(each, f"{name}.{key}", module=False, globs=dict(vars(module)))  # pyright: ignore[reportArgumentType]
        for test in found:
            runner.run(test)
    assert runner.tries > 0, "the examples were not found"
    assert runner.failures == 0


def vars_module(value: object) -> str | None:
    is_code = inspect.isclass(value) or inspect.isroutine(value)
    return getattr(value, "__module__", None) if is_code else None


class TestTheReading:
    """The mechanism itself, on a document in small."""

    TEXT = """
```python
x = 1
```
```console
$ make test && python -m scripts.fit --lr 1 \\
      --out x  # why
shown, not typed
```
```tree
sae/            what it is
  stream/
    text.py tokens.py     words
  errors.py
README.md
```
"""

    def test_blocks_are_told_apart(self):
        assert blocks(self.TEXT, "python") == ["x = 1\n"]

    def test_commands_are_split_into_words(self):
        assert list(commands(self.TEXT)) == [
            ["make", "test"],
            ["python", "-m", "scripts.fit", "--lr", "1", "--out", "x"],
        ]

    def test_trees_are_read_with_their_folders(self):
        assert list(paths(blocks(self.TEXT, "tree")[0])) == [
            "sae/", "sae/stream/", "sae/stream/text.py", "sae/stream/tokens.py",
            "sae/errors.py", "README.md",
        ]  # fmt: skip
