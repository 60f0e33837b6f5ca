"""The size budget and the written habits, over every source file there is."""

import ast
import importlib
import inspect
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PACKAGES = ("sae", "training", "analysis")
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 12
LONGEST_FILE = 300
LONGEST_DOOR = 60
MOST_ARGUMENTS = 7
MOST_FIELDS = 12
BROAD = {"Exception", "BaseException"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


EVERYWHERE = pytest.mark.parametrize("path", files(*PACKAGES, "scripts"), ids=name_of)
IN_PACKAGES = pytest.mark.parametrize("path", files(*PACKAGES), ids=name_of)


def nodes(path: Path, *kinds: type) -> Iterator:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, kinds))


def functions(path: Path) -> list[Function]:
    return list(nodes(path, ast.FunctionDef, ast.AsyncFunctionDef))


def length(function: Function) -> int:
    """Lines from `def` to the end, without the docstring: documenting is free."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def arguments(function: Function) -> list[ast.arg]:
    given = function.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [each for each in listed if each.arg not in ("self", "cls")]


def is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def is_config(node: ast.ClassDef) -> bool:
    return is_dataclass(node) and node.name.endswith("Config")


def caught(handler: ast.ExceptHandler) -> set[str]:
    """Names of what an `except` catches; a bare one catches everything."""
    if handler.type is None:
        return {"BaseException"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


def undocumented_fields(node: ast.ClassDef) -> Iterator[str]:
    for each, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(each, ast.AnnAssign) and not (
            isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        ):
            yield ast.unparse(each.target)


@EVERYWHERE
def test_files_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    door = path.parent.name == "scripts" and not path.name.startswith("_")
    assert lines <= (LONGEST_DOOR if door else LONGEST_FILE)


@EVERYWHERE
def test_functions_are_short_and_take_few_arguments(path):
    found = functions(path)
    assert [each.name for each in found if length(each) > LONGEST_FUNCTION] == []
    assert [each.name for each in found if len(arguments(each)) > MOST_ARGUMENTS] == []


def test_the_median_function_is_short():
    found = [functions(path) for path in files(*PACKAGES, "scripts")]
    assert statistics.median(length(each) for some in found for each in some) <= MEDIAN_FUNCTION


@EVERYWHERE
def test_configs_are_frozen_small_and_documented(path):
    for node in nodes(path, ast.ClassDef):
        if is_config(node):
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            assert len(fields) <= MOST_FIELDS, node.name
            assert "frozen=True" in ast.unparse(node.decorator_list[0]), node.name
            assert list(undocumented_fields(node)) == [], node.name


@IN_PACKAGES
def test_packages_neither_print_nor_catch_everything(path):
    calls = [node for node in nodes(path, ast.Call) if ast.unparse(node.func) == "print"]
    assert [f"print in line {node.lineno}" for node in calls] == []
    handlers = [node for node in nodes(path, ast.ExceptHandler) if caught(node) & BROAD]
    assert [f"broad except in line {node.lineno}" for node in handlers] == []


@EVERYWHERE
def test_no_default_is_mutable_and_no_word_is_left_to_do(path):
    for function in functions(path):
        defaults = [*function.args.defaults, *filter(None, function.args.kw_defaults)]
        mutable = [each for each in defaults if isinstance(each, ast.List | ast.Dict | ast.Set)]
        assert mutable == [], function.name
    text = path.read_text(encoding="utf-8")
    assert [word for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if word in text] == []
    assert "from __future__ import annotations" not in text


def has_shape(annotation: ast.expr) -> bool:
    """Whether this is `Dtype[Tensor, "shape"]`, or tensors by name, whose shapes differ."""
    if not (isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple)):
        return False
    first, *rest = (ast.unparse(each).rpartition(".")[2] for each in annotation.slice.elts)
    is_string = rest[-1:] and rest[-1].startswith(("'", '"'))
    return first == "str" or (first in ("Tensor", "ndarray") and bool(is_string))


def bare_tensors(annotation: ast.AST | None) -> Iterator[str]:
    """Each `Tensor` in an annotation that no jaxtyping shape holds."""
    if not isinstance(annotation, ast.expr) or has_shape(annotation):
        return
    if ast.unparse(annotation).rpartition(".")[2] == "Tensor":
        yield ast.unparse(annotation)
    for child in ast.iter_child_nodes(annotation):
        yield from bare_tensors(child)


@IN_PACKAGES
def test_every_tensor_in_a_signature_has_a_shape(path):
    bare = [
        f"{function.name}: {tensor}"
        for function in functions(path)
        for annotation in (*(each.annotation for each in arguments(function)), function.returns)
        for tensor in bare_tensors(annotation)
    ]
    assert bare == [], "write Float[Tensor, '…'], or Shaped[Tensor, '...'] where shapes differ"


def module_of(path: Path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def public_names(path: Path) -> list[str]:
    """Functions and classes of a file's top level without a leading underscore."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [
        node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")
    ]


def is_documented_value(path: Path, name: str) -> bool:
    """Whether the assignment of `name` has a string under it, or a comment on it or above it."""
    text = path.read_text(encoding="utf-8")
    body, lines = ast.parse(text).body, text.splitlines()
    for node, following in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if name in [each.id for each in targets if isinstance(each, ast.Name)]:
            under = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            near = [lines[node.lineno - 1], lines[max(node.lineno - 2, 0)]]
            return under or "  # " in near[0] or near[1].startswith("#")
    return False


@IN_PACKAGES
def test_a_file_lists_its_public_names_and_they_exist(path):
    module = module_of(path)
    listed = getattr(module, "__all__", None)
    if listed is None:
        assert public_names(path) == [], "a file with public names needs __all__"
        return
    assert [name for name in listed if not hasattr(module, name)] == []
    assert sorted(set(listed)) == sorted(listed), "a name is listed twice"
    assert len(inspect.getdoc(module) or "") > 0


@IN_PACKAGES
def test_every_public_name_is_documented(path):
    module = module_of(path)
    bare = []
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        has_own = inspect.isclass(value) or inspect.isroutine(value)  # a cached function too
        if has_own and (value.__doc__ or "").strip():
            continue
        if has_own or path.name != "__init__.py":
            bare += [] if is_documented_value(path, name) else [name]
    assert bare == [], "functions and classes need a docstring, values a string or comment"


def depth(cls: type) -> int:
    """Classes of this project above `cls`."""
    return sum(each.__module__.partition(".")[0] in PACKAGES for each in cls.__mro__[1:])


@IN_PACKAGES
def test_no_class_stands_more_than_one_level_above_a_final_one(path):
    module = module_of(path)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    assert [each.__name__ for each in classes if depth(each) > 1] == []
    modules = [each for each in classes if issubclass(each, torch.nn.Module)]
    assert [each.__name__ for each in modules if depth(each) > 0] == [], "hold parts instead"
