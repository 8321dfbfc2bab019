"""Nothing of anybody else's private parts: what a library calls `_x` may be gone tomorrow.

A private name is used by the class, and the module, that it belongs to.  That is told from the text
alone: on `self`, on `cls`, on a class of the same module, and on a name whose annotation or making
says that it is an object of such a class.  On `self` it must be of the class or of one that it comes
from within the package; what else it comes from is asked for the names that it would write over.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parent.parent / "gateway"
LANGUAGE = frozenset(("abc", "builtins", "collections.abc", "enum", "typing"))
"""Whose names are the making of every class."""
FILES = sorted(PACKAGE.rglob("*.py"))


MADE_BY_THE_LANGUAGE = frozenset(("_abc_impl", "_is_protocol", "_is_runtime_protocol"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def named_in(annotation: ast.expr | None) -> set[str]:
    """The names in an annotation, one that is written as a text too."""
    if annotation is None:
        return set()
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


def own_names(tree: ast.Module) -> set[str]:
    """Classes of the module, and the names that are told to hold an object of one."""
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    own = {"self", "cls"} | classes
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and named_in(node.annotation) & classes:
            own.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if named_in(node.annotation) & classes:
                own.add(node.target.id)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made_by = node.value.func
            if isinstance(made_by, ast.Name) and made_by.id in classes | {"cls"}:
                own |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return own


def foreign_private_names(text: str) -> Iterator[str]:
    """Each use of a private name of something else, with its line."""
    tree = ast.parse(text)
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            holder = node.value
            if not (isinstance(holder, ast.Name) and holder.id in own):
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            module = getattr(node, "module", None) or ""
            names = [alias.name for alias in node.names]
            for name in (*module.split("."), *(part for one in names for part in one.split("."))):
                if is_private(name):
                    yield f"line {node.lineno}: imports {name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = node.args[1] if node.func.id in ("getattr", "setattr") else None
            if isinstance(asked, ast.Constant) and is_private(str(asked.value)):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def made_by(node: ast.ClassDef) -> set[str]:
    """The names that a class gives its objects: methods, fields, slots, and what it assigns."""
    names = {
        part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            names.add(part.attr)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
    for part in node.body:
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "__slots__":
            names |= {
                str(one.value) for one in ast.walk(part.value) if isinstance(one, ast.Constant)
            }
    return names


Classes = Mapping[str, tuple[ast.ClassDef, set[str]]]
"""By name, with the names that each makes: no class name occurs twice in the package."""


def classes_of(tree: ast.Module) -> Classes:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {node.name: (node, made_by(node)) for node in nodes}


def inherited_private_names(name: str, classes: Classes) -> Iterator[str]:
    """Each use on `self` of a private name that the class has from outside the package."""
    node, _ = classes[name]
    made, bases = set[str](), [name]
    while bases:
        if (base := bases.pop()) in classes:
            above, names = classes[base]
            made |= names
            bases += [ast.unparse(one).partition("[")[0] for one in above.bases]
    for part in ast.walk(node):
        if not isinstance(part, ast.Attribute) or part.attr in made or not is_private(part.attr):
            continue
        if isinstance(part.value, ast.Name) and part.value.id in ("self", "cls"):
            yield f"line {part.lineno}: {ast.unparse(part)}"


def of_package(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_no_private_name_of_anybody_else_is_used() -> None:
    assert [
        f"{of_package(path)} {use}"
        for path in FILES
        for use in foreign_private_names(path.read_text("utf-8"))
    ] == []


def test_no_private_name_of_a_base_is_used() -> None:
    classes_in = {path: classes_of(ast.parse(path.read_text("utf-8"))) for path in FILES}
    classes = {name: one for found in classes_in.values() for name, one in found.items()}
    assert [
        f"{of_package(path)} {use}"
        for path, names in classes_in.items()
        for name in names
        for use in inherited_private_names(name, classes)
    ] == []


def written_over(module: ModuleType) -> Iterator[str]:
    for _, one in inspect.getmembers(module, inspect.isclass):
        if one.__module__ != module.__name__:
            continue
        for base in one.__mro__:
            if base.__module__.startswith("gateway.") or base.__module__ in LANGUAGE:
                continue
            for name in vars(one):
                if is_private(name) and name in vars(base) and name not in MADE_BY_THE_LANGUAGE:
                    yield f"{one.__name__}.{name} is one of {base.__name__}"


def test_no_private_name_of_a_base_is_written_over() -> None:
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in FILES]
    names = [".".join(one).removesuffix(".__init__") for one in parts if one[-1] != "__main__"]
    assert [use for name in names for use in written_over(importlib.import_module(name))] == []


@pytest.mark.parametrize(
    "text",
    [
        "import aiohttp\naiohttp.web._x",
        "def f(request): return request._task",
        "from aiohttp._http_parser import X",
        "from aiohttp.web_protocol import _ErrInfo",
        "import aiohttp._websocket",
        "class A:\n def f(self): return self.made._x",
        "class A(B):\n def f(self, other: B): return other._x",
        "def f(): return super()._x",
        "getattr(thing, '_x')",
    ],
)
def test_a_private_name_of_something_else_is_found(text: str) -> None:
    assert len(list(foreign_private_names(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n def f(self): return self._x",
        "class A:\n def f(self, other: A): return other._x",
        "class A:\n def f(self, other: 'A | None'): return other._x",
        "class A:\n @classmethod\n def f(cls):\n  made = cls()\n  made._x = 1",
        "class A: pass\nmade = A()\nmade._x",
        "thing.__class__",
        "for _ in (): pass",
    ],
)
def test_a_private_name_of_ones_own_is_not(text: str) -> None:
    assert list(foreign_private_names(text)) == []


def test_a_private_name_of_a_base_is_found() -> None:
    text = (
        "class A(Foreign):\n"
        "    __slots__ = ('_slot',)\n"
        "    _field: int\n"
        "    def __init__(self): self._made = 1\n"
        "    def _own(self): return self._slot, self._field, self._made\n"
        "class B(A):\n"
        "    def f(self): return self._own(), self._made, self._theirs\n"
    )
    classes = classes_of(ast.parse(text))
    assert list(inherited_private_names("A", classes)) == []
    assert list(inherited_private_names("B", classes)) == ["line 7: self._theirs"]
