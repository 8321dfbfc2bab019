"""A condition as a tree: what is joined, compared and called, by CEL's grammar.

The engine shows no tree of its own.  Only what it has compiled already is read here, so what
is not CEL needs no sentence: it gives None, and whoever asks takes the text as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.access.conditions.expressions import Token, literal, tokens_of

_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_LEVELS = (_RELATIONS, ("+", "-"), ("*", "/", "%"))
_DEEPEST = 60


@dataclass(frozen=True, slots=True)
class Node:
    """`kind` is `or`, `and`, `not`, `if`, `minus`, an operator such as `==` or `in`, `call`,
    `method`, `field`, `index`, `name`, `text`, `number` or `list`."""

    kind: str
    start: int
    """Characters from the start of the expression."""
    end: int
    parts: tuple[Node, ...] = ()
    """What it is made of; of a method or a field, what it is asked of comes first."""
    word: str | None = None
    """A name, the digits of a number, or the text of a string; None for one with escapes."""


class NotUnderstood(Exception):
    """Not everything that this part can give follows from comparing values."""


class _UnknownSyntax(Exception):
    """The text is built in a way that is not followed here."""


def tree_of(source: str) -> Node | None:
    """The tree of a condition that the engine takes; None where it is not followed."""
    reader = _Parser(tokens_of(source))
    try:
        return reader.whole()
    except (_UnknownSyntax, IndexError):
        return None


def unwound(node: Node) -> tuple[str, list[Node]]:
    """The root of a field path and its steps.  A field is a step of the kind `key`."""
    steps: list[Node] = []
    while node.kind in ("field", "index"):
        if node.kind == "field":
            steps.append(Node("key", node.start, node.end, word=node.word))
            (node,) = node.parts
        else:
            node, key = node.parts
            steps.append(key)
    if node.kind != "name" or node.word is None:
        raise NotUnderstood
    return node.word, steps[::-1]


def is_null(node: Node) -> bool:
    return node.kind == "name" and node.word == "null"


def word_of(node: Node) -> str:
    """The text of a string literal, or the name of a field."""
    if node.kind not in ("text", "key") or node.word is None:
        raise NotUnderstood
    return node.word


def texts_in(node: Node, data: Mapping[str, Any]) -> Iterator[str]:
    """Those that are written anywhere in it, and those of the tables that it names: the entries of
    a list, the keys of a map."""
    if node.kind == "text":
        if node.word is not None:
            yield node.word
        return
    try:
        root, steps = unwound(node)
    except NotUnderstood:
        for part in node.parts:
            yield from texts_in(part, data)
        return
    if root != "data":
        return
    found: Any = data
    for step in steps:
        found = found.get(step.word) if isinstance(found, Mapping) else None
    entries = found if isinstance(found, Mapping | list) else (found,)
    yield from (entry for entry in entries if isinstance(entry, str))


def number_of(node: Node) -> float:
    """The number of a literal, with its sign."""
    if node.kind == "minus":
        return -number_of(node.parts[0])
    if node.kind != "number" or node.word is None:
        raise NotUnderstood
    text = node.word.rstrip("uU")
    try:
        return int(text, 0)
    except ValueError:
        return float(text)


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        tree = self._expression()
        if self._next != len(self._tokens):
            raise _UnknownSyntax
        return tree

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnknownSyntax
        start = self._start()
        tree = self._joined("||", "or")
        if self._took("?"):
            first = self._expression()
            self._must(":")
            tree = self._node("if", start, tree, first, self._expression())
        self._depth -= 1
        return tree

    def _joined(self, sign: str, kind: str) -> Node:
        start = self._start()
        parts = [self._operand(kind)]
        while self._took(sign):
            parts.append(self._operand(kind))
        return parts[0] if len(parts) == 1 else self._node(kind, start, *parts)

    def _operand(self, kind: str) -> Node:
        return self._joined("&&", "and") if kind == "or" else self._binary(0)

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        start = self._start()
        tree = self._binary(level + 1)
        while (sign := self._seen()) in _LEVELS[level]:
            self._next += 1
            tree = self._node(sign, start, tree, self._binary(level + 1))
        return tree

    def _unary(self) -> Node:
        sign = self._seen()
        if sign not in ("!", "-"):
            return self._member()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnknownSyntax
        start = self._start()
        self._next += 1
        inner = self._unary()
        self._depth -= 1
        return self._node("not" if sign == "!" else "minus", start, inner)

    def _member(self) -> Node:
        start = self._start()
        tree = self._primary()
        while True:
            if self._took("."):
                token = self._tokens[self._next]
                self._next += 1
                if self._took("("):
                    given = self._list(")")
                    tree = self._node("method", start, tree, *given, word=token.text)
                else:
                    tree = self._node("field", start, tree, word=token.text)
            elif self._took("["):
                key = self._expression()
                self._must("]")
                tree = self._node("index", start, tree, key)
            else:
                return tree

    def _primary(self) -> Node:
        token = self._tokens[self._next]
        self._next += 1
        if token.kind == "string":
            return self._node("text", token.at, word=literal(token))
        if token.kind == "number":
            return self._node("number", token.at, word=token.text)
        if token.kind == "name":
            if self._took("("):
                return self._node("call", token.at, *self._list(")"), word=token.text)
            return self._node("name", token.at, word=token.text)
        if token.text == "(":
            tree = self._expression()
            self._must(")")
            # Its own brackets are no part of it: `(a)` and `a` are one condition.
            return tree
        if token.text == "[":
            return self._node("list", token.at, *self._list("]"))
        raise _UnknownSyntax

    def _list(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._took(closing):
            items.append(self._expression())
            if not self._took(","):
                self._must(closing)
                break
        return tuple(items)

    def _start(self) -> int:
        return self._tokens[self._next].at

    def _node(self, kind: str, start: int, *parts: Node, word: str | None = None) -> Node:
        """From `start` to the end of the word that was read last."""
        token = self._tokens[self._next - 1]
        return Node(kind, start, token.at + len(token.text), parts, word)

    def _seen(self) -> str:
        """The sign or name that comes next; empty for a literal and at the end."""
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            if token.kind in ("sign", "name"):
                return token.text
        return ""

    def _took(self, sign: str) -> bool:
        if self._seen() != sign:
            return False
        self._next += 1
        return True

    def _must(self, sign: str) -> None:
        if not self._took(sign):
            raise _UnknownSyntax
