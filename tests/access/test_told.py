"""What is found in the text of a condition, as the lists in `told/` have it: under each expression
the signs and names that something is said of, and what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.conditions.expressions import FieldPath, read_expression
from gateway.access.conditions.type_check import type_problems
from tests.access.told import listed, told_anew

Found = Iterator[tuple[int, str]]


def of_types(source: str, types: EngineTypes) -> Found:
    yield from type_problems(source, types)


def of_names(source: str, types: EngineTypes) -> Found:
    found = ConditionCompiler({"teams": {}}, types).compile(source, truth=False)
    if not isinstance(found, Condition):
        yield from found


def of_reads(source: str, types: EngineTypes) -> Found:
    expression = read_expression(source)
    for path in expression.paths:
        yield path.at, written(path)
    for call in expression.calls:
        given = ", ".join("…" if one is None else repr(one) for one in call.literals)
        yield call.at, f"{'.' if call.method else ''}{call.name}({given})"
    for at, text in expression.problems:
        yield at, f"problem: {text}"
    if expression.iterates:
        yield 0, " ".join(("iterates with", *sorted(expression.locals)))


def written(path: FieldPath) -> str:
    text = path.root
    for step in path.steps:
        if isinstance(step, FieldPath):
            text += f"[{written(step)}]"
        else:
            text += "[…]" if step is None else f".{step}"
    marks = ("guarded", "iterated", "against_null")
    asked = [] if path.looked_for is None else [f"asked for {written(path.looked_for)}"]
    return ", ".join((text, *(mark for mark in marks if getattr(path, mark)), *asked))


KINDS: Mapping[str, Callable[[str, EngineTypes], Found]] = {
    "types": of_types,
    "names": of_names,
    "reads": of_reads,
}


def told_of(find: Callable[[str, EngineTypes], Found]) -> Callable[[str], Iterator[str]]:
    types = EngineTypes()

    def told(source: str) -> Iterator[str]:
        for at, text in find(source, types):
            yield f"{' ' * at}^ {text}"

    return told


@pytest.mark.parametrize("name", KINDS)
def test_what_is_found_in_an_expression_stands_in_the_list(name: str) -> None:
    assert list(told_anew(name, "^", told_of(KINDS[name]))) == listed(name)
