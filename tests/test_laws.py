"""Laws of the house that a reader can count: short files, one meaning a name, few positions."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gateway"
MOST_LINES = 400
MOST_POSITIONS = 5

FILES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


Nodes = Mapping[Path, Sequence[ast.AST]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Of each file of the package, read once."""
    read = {path: list(ast.walk(ast.parse(path.read_text("utf-8")))) for path in FILES}
    yield read
    read.clear()


def test_no_file_is_longer_than_a_reader_takes_in() -> None:
    lengths = {path: path.read_text("utf-8").count("\n") for path in FILES}
    assert [f"{path}: {n}" for path, n in lengths.items() if n > MOST_LINES] == []


def test_a_class_name_stands_for_one_class(nodes: Nodes) -> None:
    named: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in nodes[path]:
            if isinstance(node, ast.ClassDef):
                named[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: files for name, files in named.items() if len(files) > 1} == {}


def positions(function: Function) -> int:
    """How many arguments may be told by their place alone, less `self`."""
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def commands(nodes: Sequence[ast.AST]) -> set[str]:
    """The functions whose parameters typer reads as a command's options:
    `app.command(…)(function)`, or the decorator of that name."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, Function):
            found |= {node.name for made in node.decorator_list if _is_registering(made)}
        elif isinstance(node, ast.Call) and _is_registering(node.func):
            found |= {arg.id for arg in node.args if isinstance(arg, ast.Name)}
    return found


def _is_registering(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("command", "callback")
    )


def test_no_function_takes_more_positions_than_a_reader_remembers(nodes: Nodes) -> None:
    registered = set[str]().union(*(commands(nodes[path]) for path in FILES))
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {positions(node)}"
        for path in FILES
        for node in nodes[path]
        if isinstance(node, Function)
        and positions(node) > MOST_POSITIONS
        and node.name not in registered
    ]
    assert wrong == []


def test_no_class_leaves_a_method_for_another_to_fill(nodes: Nodes) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES
        for node in nodes[path]
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]
    assert wrong == []
