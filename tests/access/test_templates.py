"""Texts with placeholders: how they are read, and what a call fills in."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.templates import Piece, TextTemplate, read_template

SOURCES = ("query", "headers", "body")
VALUES: dict[str, dict[str, Any]] = {
    "params": {"id": "7", "other": "{id}"},
    "query": {"x": "q"},
    "body": {"a": {"b": "deep"}, "n": 2**63 - 1, "big": 2**63, "less": -(2**63), "yes": True,
             "list": ["x"], "half": 1.5, "none": None, "text": "t"},
}  # fmt: skip


def template(text: str) -> TextTemplate:
    found = read_template(text, SOURCES)
    assert isinstance(found, TextTemplate), found
    return found


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [("", "")]),
        ("plain", [("", "plain")]),
        ("{id}", [("params", "id")]),
        ("a{id}", [("", "a"), ("params", "id")]),
        ("{id}b", [("params", "id"), ("", "b")]),
        ("a{id}b{query.x}c", [("", "a"), ("params", "id"), ("", "b"), ("query", "x"), ("", "c")]),
        ("{id}{_x1}", [("params", "id"), ("params", "_x1")]),
        ("{headers.x-a}", [("headers", "x-a")]),
        ("{body.a.b-c.0}", [("body", "a.b-c.0")]),
    ],
)
def test_a_template_is_its_pieces(text: str, pieces: list[tuple[str, str]]) -> None:
    found = template(text)
    assert found.pieces == tuple(Piece(*piece) for piece in pieces)
    assert found.text == text
    for source in ("params", *SOURCES):
        assert found.names(source) == tuple(name for of, name in pieces if of == source)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("{}", ""),
        ("{1a}", "1a"),
        ("{a-b}", "a-b"),
        ("a{id}{ id }", " id "),
        ("{user.id}", "user.id"),
        ("{query.}", "query."),
        ("{query.a b}", "query.a b"),
        ("{query.a.}", "query.a."),
        ("{env.HOME}", "env.HOME"),
        ("{.x}", ".x"),
    ],
)
def test_a_placeholder_that_nothing_fills_is_told_with_those_that_something_does(
    text: str, inside: str
) -> None:
    assert read_template(text, SOURCES) == (
        f"`{{{inside}}}` is nothing that can be filled in; there is `{{name}}` of the path, "
        "`{query.name}`, `{headers.name}`, `{body.name}`"
    )


def test_a_template_reads_the_sources_of_its_place_alone() -> None:
    assert read_template("{query.x}", ()) == (
        "`{query.x}` is nothing that can be filled in; there is `{name}` of the path"
    )


@pytest.mark.parametrize("text", ["{", "}", "a{id}}", "{{id}", "{id", "id}", "{{id}}"])
def test_a_brace_alone_is_a_mistake(text: str) -> None:
    assert read_template(text, SOURCES) == "a brace without its partner"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("a-{id}", "a-7"),
        ("{id}-{query.x}-b", "7-q-b"),
        ("{other}", "{id}"),
        ("a{other}", "a{id}"),
        ("{nope}", None),
        ("a{nope}", None),
        ("{query.nope}", None),
        ("{headers.x}", None),
        ("{body.a.b}", "deep"),
        ("{body.a}", {"b": "deep"}),
        ("x{body.a}", None),
        ("{body.a.b.c}", None),
        ("{body.text.c}", None),
        ("{body.n}", 2**63 - 1),
        ("x{body.n}", f"x{2**63 - 1}"),
        ("{body.big}", None),
        ("{body.less}", None),
        ("x{body.big}", None),
        ("{body.yes}", True),
        ("x{body.yes}", None),
        ("{body.list}", ["x"]),
        ("x{body.list}", None),
        ("x{body.half}", "x1.5"),
        ("{body.none}", None),
        ("x{body.none}", None),
    ],
)
def test_a_call_fills_in_all_or_nothing(text: str, filled: Any) -> None:
    assert template(text).fill(VALUES) == filled
