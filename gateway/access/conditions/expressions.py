"""What a CEL expression reads, found without running it.

CEL's own compiler accepts `user.nope` and `nope(1)`: both fail only when they run, and a
condition that fails is a deny.  So a small lexer walks the text at load and finds every
name, field, function and iteration; what nobody could ever answer is a problem in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gateway.access.conditions.resource_uses import (
    ELSEWHERE,
    INDEX,
    ITEM,
    WORDS,
    Place,
    ResourceUses,
)

KEYWORDS = frozenset(("true", "false", "null", "in"))
MACROS = frozenset(("all", "exists", "exists_one", "map", "filter"))
OWN_FUNCTIONS = frozenset(("in_cidr", "has_role", "has_scope"))
FUNCTIONS = (
    MACROS
    | OWN_FUNCTIONS
    | frozenset(
        (
            "has", "size", "startsWith", "endsWith", "contains", "matches",
            "int", "uint", "double", "string", "bytes", "timestamp", "duration", "type", "dyn",
            "getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek",
            "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
        )
    )
)  # fmt: skip

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+|//[^\n]*)
  | (?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\".*?(?<!\\)\"\"\"|'''.*?(?<!\\)'''))
  | (?P<raw>(?:[rR][bB]?|[bB][rR])(?:"[^"\n]*"|'[^'\n]*'))
  | (?P<text>[bB]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
  | (?P<number>(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)[uU]?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<sign>&&|\|\||[=!<>]=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_SIMPLE_ESCAPES = re.compile(r"""(?:[^\\]|\\[\\"'`?])*""", re.DOTALL)
_EQUALITY = ("==", "!=")
_NEGATES = frozenset(("!", "!=", "?", "false", "exists_one", "filter"))
_OPEN = {"(": ")", "[": "]", "{": "}"}
# What may stand before and behind `a in b` where `a` and `b` are all that is compared.
_BEFORE_IN = frozenset(("", "(", "[", ",", "&&", "||", "?", ":"))
_BEHIND_IN = frozenset(("", ")", "]", ",", "&&", "||", "?", ":", "==", "!="))


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    """`string`, `number`, `name` or `sign`."""
    text: str
    at: int
    """Characters from the start of the expression."""


@dataclass(frozen=True, slots=True)
class FieldPath:
    """`root.field["key"][other.path]`: what is read, as far as the text tells.

    A step is a constant key, or the FieldPath that gives it, or None where the text does not
    tell.  `guarded` paths stand in `has(…)` or behind `… in`: they may be absent.
    """

    root: str
    steps: tuple[str | FieldPath | None, ...]
    at: int
    guarded: bool = False
    iterated: bool = False
    against_null: bool = False
    """It is compared with `null` alone: only whether it is there is asked."""
    looked_for: FieldPath | None = None
    """What gives the one key or item that is asked for in it (`resource.team in data.teams`)."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The constant keys up to the first step that is none."""
        keys: list[str] = []
        for step in self.steps:
            if not isinstance(step, str):
                break
            keys.append(step)
        return tuple(keys)

    def __str__(self) -> str:
        return ".".join((self.root, *(s if isinstance(s, str) else "…" for s in self.steps)))


@dataclass(frozen=True, slots=True)
class FunctionCall:
    name: str
    at: int
    method: bool
    """Written `value.name(…)`."""
    literals: tuple[str | None, ...]
    """Its arguments; None for one that is not a single string literal."""


@dataclass(slots=True)
class Expression:
    paths: list[FieldPath] = field(default_factory=list)
    calls: list[FunctionCall] = field(default_factory=list)
    locals: set[str] = field(default_factory=set)
    iterates: bool = False
    negates: bool = False
    """It may give true because a part of it does not."""
    asked_for: set[int] = field(default_factory=set)
    """Where the paths begin that a `has(…)` asks for."""
    asked_alone: set[int] = field(default_factory=set)
    """Of these, where there is nothing in it but names: only whether it is there matters."""
    uses: ResourceUses = field(default_factory=ResourceUses)
    call_uses: ResourceUses = field(default_factory=ResourceUses)
    """The same of what `request` has: `("query", "page")`."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Position and sentence."""


def read_expression(source: str) -> Expression:
    """Everything that `source` reads and calls.  It is not checked against any vocabulary."""
    return _ExpressionReader(source).read()


def tokens_of(source: str) -> list[Token]:
    """The words and signs of `source`, comments left out; empty where it cannot be read."""
    reader = _ExpressionReader(source)
    return [] if reader.problems else reader.tokens


def string_prefix(token: Token) -> str:
    """`r`, `b` or both, in lower case, before the quotes of a string."""
    return token.text[: len(token.text) - len(token.text.lstrip("rRbB"))].lower()


def literal(token: Token) -> str | None:
    """The text of a plain string literal; None for bytes and for escapes we do not read."""
    prefix = string_prefix(token)
    if "b" in prefix:
        return None
    body = token.text[len(prefix) :]
    quote = body[:3] if body[:3] in ('"""', "'''") else body[:1]
    inner = body[len(quote) : -len(quote)]
    if prefix or "\\" not in inner:
        return inner
    if not _SIMPLE_ESCAPES.fullmatch(inner):
        return None
    return re.sub(r"\\(.)", r"\1", inner)


class _ExpressionReader:
    def __init__(self, source: str) -> None:
        self._expression = Expression()
        self._tokens = list(self._lex(source))
        self._closing = self._brackets()
        # (end of the macro's parentheses, its variable, where its items lie in the resource)
        self._scopes: list[tuple[int, str, Place | None]] = []
        self._guards: list[int] = []
        # The path that was read last, and the words it begins and ends at.
        self._read: tuple[FieldPath, int, int] | None = None

    @property
    def tokens(self) -> list[Token]:
        return self._tokens

    @property
    def problems(self) -> list[tuple[int, str]]:
        return self._expression.problems

    def read(self) -> Expression:
        at = 0
        while at < len(self._tokens):
            while self._scopes and self._scopes[-1][0] <= at:
                self._scopes.pop()
            at = self._step(at)
        self._expression.negates = any(token.text in _NEGATES for token in self._tokens)
        return self._expression

    def _lex(self, source: str) -> Iterator[Token]:
        at = 0
        while at < len(source):
            match = _TOKEN.match(source, at)
            if match is None:
                self._expression.problems.append((at, f"{source[at]!r} has no meaning here"))
                return
            kind = match.lastgroup or ""
            if kind != "space":
                kind = "string" if kind in ("raw", "text") else kind
                yield Token(kind, match.group(), at)
            at = match.end()

    def _brackets(self) -> dict[int, int]:
        closing: dict[int, int] = {}
        waiting: list[int] = []
        for index, token in enumerate(self._tokens):
            if token.kind != "sign":
                continue
            if token.text in _OPEN:
                waiting.append(index)
            elif token.text in _OPEN.values() and waiting:
                closing[waiting.pop()] = index
        return closing

    def _text(self, index: int) -> str:
        """The sign or name at `index`; empty for literals and past the ends."""
        if 0 <= index < len(self._tokens) and self._tokens[index].kind in ("sign", "name"):
            return self._tokens[index].text
        return ""

    def _word(self, index: int) -> str:
        """As it is written; empty past the ends."""
        return self._tokens[index].text if 0 <= index < len(self._tokens) else ""

    def _step(self, at: int) -> int:
        token = self._tokens[at]
        if token.kind != "name":
            return at + 1
        if self._text(at - 1) == ".":
            if self._text(at + 1) == "(":
                self._call(at, method=True)
            return at + 1
        if token.text in KEYWORDS:
            return at + 1
        if self._text(at + 1) == "(":
            self._call(at, method=False)
            return at + 1
        # In `{name: …}` and `Type{…}` names are no variables, but both run into the check
        # of names, which is what is wanted: no condition needs them.
        _, end = self._field_path(at, record=True)
        return end

    def _call(self, at: int, *, method: bool) -> None:
        token = self._tokens[at]
        opening = at + 1
        end = self._closing.get(opening, len(self._tokens))
        if token.text == "has" and not method:
            self._guards.append(end)
            first = opening + 1
            while self._text(first) == "(":
                first += 1
            if first < end:
                self._expression.asked_for.add(self._tokens[first].at)
            inner = self._tokens[opening + 1 : end]
            if inner and all(one.kind == "name" or one.text == "." for one in inner):
                self._expression.asked_alone.add(inner[0].at)
        if token.text in MACROS and method:
            self._macro(at, opening, end)
        self._expression.calls.append(
            FunctionCall(token.text, token.at, method, self._arguments(opening, end))
        )

    def _macro(self, at: int, opening: int, end: int) -> None:
        self._expression.iterates = True
        token = self._tokens[at]
        if self._scopes:
            self._expression.problems.append(
                (token.at, f"`{token.text}` inside another iteration: one level is the limit")
            )
        variable = self._text(opening + 1)
        if variable and self._text(opening + 2) == ",":
            self._scopes.append((end, variable, self._items_before(at - 1)))
            self._expression.locals.add(variable)

    def _items_before(self, dot: int) -> Place | None:
        """Of the path that ends there, where all of it is told."""
        if self._read is None or self._read[2] != dot:
            return None
        path = self._read[0]
        if path.root != "resource":
            return ELSEWHERE
        return (*path.keys, ITEM) if len(path.keys) == len(path.steps) else None

    def _arguments(self, opening: int, end: int) -> tuple[str | None, ...]:
        literals: list[str | None] = []
        start = index = opening + 1
        while index <= end:
            if index == end or self._text(index) == ",":
                if index > start:
                    one = self._tokens[start] if index == start + 1 else None
                    literals.append(literal(one) if one and one.kind == "string" else None)
                start = index + 1
            elif index in self._closing:
                index = self._closing[index]
            index += 1
        return tuple(literals)

    def _field_path(self, at: int, *, record: bool) -> tuple[FieldPath, int]:
        """The path whose root is at `at`, and where it ends."""
        root = self._tokens[at]
        before, asked = self._text(at - 1), self._asked_before(at - 1)
        steps: list[str | FieldPath | None] = []
        places: list[object] = []
        guarded = any(at < end for end in self._guards)
        index = at + 1
        iterated = False
        while True:
            if self._text(index) == "." and index + 1 < len(self._tokens):
                if self._text(index + 2) == "(":
                    iterated = self._text(index + 1) in MACROS
                    break
                steps.append(self._text(index + 1) or None)
                places.append(steps[-1])
                index += 2
            elif self._text(index) == "[" and index in self._closing:
                steps.append(self._index(index + 1, self._closing[index]))
                is_number = self._tokens[index + 1].kind == "number"
                is_index = is_number and self._closing[index] == index + 2
                places.append(INDEX if is_index else steps[-1])
                index = self._closing[index] + 1
            else:
                break
        null = (self._text(index) in _EQUALITY and self._text(index + 1) == "null") or (
            before in _EQUALITY and self._text(at - 2) == "null" and self._text(index) != "."
        )
        path = FieldPath(root.text, tuple(steps), root.at, guarded, iterated, null)
        local = any(root.text == name for _, name, _ in self._scopes)
        if local or root.text in ("resource", "request"):
            begins = next((at for _, name, at in self._scopes if name == root.text), ())
            before_it = [self._word(at - 1 - number) for number in range(WORDS)]
            behind = [self._word(index + number) for number in range(self._words_behind(index))]
            if root.text == "request" and not local:
                self._expression.call_uses.note(begins, places, before_it, behind)
            elif begins is not ELSEWHERE:
                self._expression.uses.note(begins, places, before_it, behind)
        if record and not local:
            if before == "in" and self._text(index) in _BEHIND_IN:
                path = self._looked_in(path, at, asked)
            self._expression.paths.append(path)
            self._read = path, at, index
        return path, index

    def _words_behind(self, index: int) -> int:
        sign = index
        while self._text(sign) == ")":
            sign += 1
        if self._text(sign) != "in" or sign + 1 not in self._closing:
            return WORDS
        return max(WORDS, self._closing[sign + 1] - index + 2)

    def _looked_in(self, path: FieldPath, at: int, asked: FieldPath | None) -> FieldPath:
        """The path behind `in`, with what stands before that."""
        if self._tokens[at - 2].kind == "string" and self._text(at - 3) in _BEFORE_IN:
            key = literal(self._tokens[at - 2])
            if key is not None:
                # `"page" in request.query` asks only whether that one key is there.
                return FieldPath(path.root, (*path.steps, key), path.at, guarded=True)
        return path if asked is None else replace(path, looked_for=asked)

    def _asked_before(self, end: int) -> FieldPath | None:
        """The path that stands alone before `end`, and whose keys the text tells.  That of a
        table is told by its entry, which may be a number."""
        if self._read is None:
            return None
        path, start, stop = self._read
        told = path.root != "data" and all(isinstance(step, str) for step in path.steps)
        return path if told and stop == end and self._text(start - 1) in _BEFORE_IN else None

    def _index(self, start: int, end: int) -> str | FieldPath | None:
        first = self._tokens[start]
        if end == start + 1 and first.kind == "string":
            return literal(first)
        known: str | FieldPath | None = None
        at = start
        while at < end:
            token = self._tokens[at]
            if (
                token.kind == "name"
                and token.text not in KEYWORDS
                and self._text(at - 1) != "."
                and self._text(at + 1) != "("
            ):
                path, stop = self._field_path(at, record=True)
                local = any(path.root == name for _, name, _ in self._scopes)
                if at == start and stop == end and not local and None not in path.steps:
                    known = path
                at = stop
            else:
                at = self._step(at)
        return known
