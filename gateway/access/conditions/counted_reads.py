"""What a limit's key reads of what callers write or choose, where it is that or is made of it.

Law: only what is given or joined (`+`, `string(…)`), also in a branch of `? :`, is named here.
Whatever the expression asks of a value, or builds lists and maps of, it sees as it was written;
but for the address of the caller, who has any number of them: that is named in lists and maps too.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import KEYED
from gateway.access.conditions.edits import TextEdit, edited
from gateway.access.conditions.expressions import (
    FieldPath,
    Token,
    read_expression,
    string_prefix,
    tokens_of,
)

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_JOINS = "+"
_ASKS = frozenset(("&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "-", "*", "/", "%", "!"))
_TEXTS_OF_USER = frozenset(("id", "email", "session_id", "issuer", "tenant", "tenant_role"))


@dataclass(frozen=True, slots=True)
class CountedRead:
    """`name` of `kind` (`resource`, `params`, `query`, `headers`; `path`, `client` have none)."""

    variable: str
    """Stands for it in the expression."""
    kind: str
    name: str
    is_text: bool
    """A number is wanted as a text too: False where it is joined to what may be a number."""


def counted_reads(condition: Condition) -> tuple[Condition, tuple[CountedRead, ...]]:
    """The condition with a variable for each of them, which whoever asks has to bind."""
    reader = _KeyReader(condition)
    if not reader.reads:
        return condition, ()
    source = edited(condition.source, reader.edits)
    expression = read_expression(source)
    variables = {read.variable for read in reader.reads}
    expression.paths = [path for path in expression.paths if path.root not in variables]
    return Condition(source, expression), tuple(reader.reads)


class _KeyReader:
    def __init__(self, condition: Condition) -> None:
        self.reads: list[CountedRead] = []
        self.edits: list[TextEdit] = []
        self._tokens = tokens_of(condition.source)
        self._ends = _ends_of(self._tokens)
        self._paths = {path.at: path for path in condition.expression.paths}
        self._is_built = False
        """Within a list or a map."""
        self._given(0, len(self._tokens), is_text=True, joined=False)

    def _given(self, start: int, end: int, *, is_text: bool, joined: bool) -> None:
        """Of what these words give; `joined`: to what is a text for sure."""
        signs = self._signs(start, end)
        branches = [at for at in signs if self._tokens[at].text in ("?", ":")]
        if len(branches) > 1:
            # The engine takes another `? :` in the first branch in brackets alone.
            first, second = branches[0] + 1, branches[1]
            self._given(first, second, is_text=is_text, joined=joined)
            self._given(second + 1, end, is_text=is_text, joined=joined)
            return
        if any(self._tokens[at].text in _ASKS for at in signs):
            return
        joins = [at for at in signs if self._tokens[at].text == _JOINS]
        if not joins:
            self._value(start, end, is_text=is_text, joined=joined)
            return
        parts = list(zip([start, *(at + 1 for at in joins)], [*joins, end], strict=True))
        joined = joined or any(self._is_text(first, last) for first, last in parts)
        for first, last in parts:
            self._value(first, last, is_text=joined, joined=joined)

    def _value(self, start: int, end: int, *, is_text: bool, joined: bool) -> None:
        if start >= end:
            return
        token = self._tokens[start]
        is_whole = self._ends.get(start) == end - 1
        if token.text == "(" and is_whole:
            self._given(start + 1, end - 1, is_text=is_text, joined=joined)
        elif token.text in ("[", "{") and is_whole:
            self._built(start + 1, end - 1)
        elif token.text == "dyn" and self._ends.get(start + 1) == end - 1:
            self._given(start + 2, end - 1, is_text=is_text, joined=joined)
        elif token.text == "string" and self._ends.get(start + 1) == end - 1:
            self._given(start + 2, end - 1, is_text=True, joined=False)
        else:
            self._read(start, end, is_text)

    def _built(self, start: int, end: int) -> None:
        """Of what a list or a map holds."""
        before, self._is_built = self._is_built, True
        parts = [at for at in self._signs(start, end) if self._tokens[at].text == ","]
        for first, last in zip([start, *(at + 1 for at in parts)], [*parts, end], strict=True):
            signs = [at for at in self._signs(first, last) if self._tokens[at].text in ("?", ":")]
            if signs and self._tokens[signs[0]].text == ":":
                self._given(first, signs[0], is_text=True, joined=False)
                first = signs[0] + 1
            self._given(first, last, is_text=True, joined=False)
        self._is_built = before

    def _read(self, start: int, end: int, is_text: bool) -> None:
        path = self._path(start, end)
        found = None if path is None else _written(path)
        if found is None or (self._is_built and found[0] != "client"):
            return
        variable, last = f"counted_{len(self.reads)}", self._tokens[end - 1]
        self.reads.append(CountedRead(variable, *found, is_text))
        at = self._tokens[start].at
        self.edits.append(TextEdit(at, last.at + len(last.text), variable))

    def _path(self, start: int, end: int) -> FieldPath | None:
        """What these words read, if they do nothing but read: no call, no sign of another kind."""
        path = self._paths.get(self._tokens[start].at)
        if path is None or not all(isinstance(step, str) for step in path.steps):
            return None
        words, at = 1, start + 1
        while at < end and self._tokens[at].text in (".", "["):
            words += 1
            at += 2 if self._tokens[at].text == "." else self._ends[at] - at + 1
        return path if at == end and words == len(path.steps) + 1 else None

    def _is_text(self, start: int, end: int) -> bool:
        token = self._tokens[start]
        if token.kind == "string":
            return end == start + 1 and "b" not in string_prefix(token)
        if token.text == "string":
            return self._ends.get(start + 1) == end - 1
        path = self._path(start, end)
        if path is None:
            return False
        keys = path.keys
        return (
            path.root in ("request", "client")
            or (path.root == "user" and keys[0] in _TEXTS_OF_USER)
        ) and bool(keys)

    def _signs(self, start: int, end: int) -> list[int]:
        """Where words stand that are in no brackets."""
        found: list[int] = []
        at = start
        while at < end:
            found.append(at)
            at = self._ends.get(at, at) + 1
        return [at for at in found if self._tokens[at].kind != "string"]


def _written(path: FieldPath) -> tuple[str, str] | None:
    """What of it a caller writes or chooses, by its kind and name.  A field of an object is none:
    it is counted as it is."""
    keys = path.keys
    if path.root == "client" and keys in ((), ("ip",)):
        return "client", ""
    if path.root == "resource" and len(keys) == 1:
        return "resource", keys[0]
    if path.root == "request" and keys == ("path",):
        return "path", ""
    if path.root == "request" and len(keys) == 2 and keys[0] in KEYED:
        return keys[0], keys[1]
    return None


def _ends_of(tokens: list[Token]) -> dict[int, int]:
    """Where each bracket ends."""
    ends: dict[int, int] = {}
    waiting: list[int] = []
    for at, token in enumerate(tokens):
        if token.kind == "sign" and token.text in _CLOSING:
            waiting.append(at)
        elif token.kind == "sign" and token.text in _CLOSING.values() and waiting:
            ends[waiting.pop()] = at
    return ends
