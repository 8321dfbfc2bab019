"""Dataclasses with a constructor of their own: it sets every field, each from what bears its name.

What `dataclass` writes is not compiled, and takes eight times as long as a constructor that is (`docs/decisions/0014-compiled.md`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parents[1] / "gateway"


def _constructors() -> Iterator[tuple[str, ast.ClassDef, ast.FunctionDef]]:
    for path in sorted(GATEWAY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(one).startswith("dataclass") for one in node.decorator_list
            ):
                for one in node.body:
                    if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                        yield f"{path.stem}.{node.name}", node, one


def _is_given(field: ast.AnnAssign) -> bool:
    """Whether it has no value of its own: none at all, or a `field(compare=…)`."""
    if not isinstance(field.value, ast.Call):
        return field.value is None
    return {one.arg for one in field.value.keywords} <= {"compare", "repr", "hash"}


FOUND = {name: (node, made) for name, node, made in _constructors()}


def test_what_each_call_makes_has_one() -> None:
    assert FOUND.keys() >= {"model.Call", "decision.Decision", "model.Principal"}


@pytest.mark.parametrize("name", FOUND)
def test_it_takes_the_fields_in_their_order_and_sets_each(name: str) -> None:
    node, made = FOUND[name]
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    given = [ast.unparse(one.target) for one in fields if _is_given(one)]
    assert [one.arg for one in (*made.args.args, *made.args.kwonlyargs)] == ["self", *given]
    sets = dict(ast.unparse(one).split(" = ", 1) for one in made.body)
    derived = {ast.unparse(one.target) for one in fields} - set(given)
    assert sets.keys() == {f"self.{one}" for one in [*given, *derived]}
    for one in given:
        assert sets[f"self.{one}"] in (one, f"{{}} if {one} is None else {one}")
