"""What one part of a condition asks of a call, so far that its every outcome can be tried.

An atom is understood when it only compares: then a finite number of values for whatever it
reads brings about everything that it can give, and `review/values.py` finds them.  Of any
other atom (`matches`, arithmetic, sizes) no outcome can be ruled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from gateway.access.conditions.conditions import Condition
from gateway.review.syntax import Node, tree_of

Path = tuple[str, ...]
"""`("user", "id")`, `("request", "query", "page")`, `("now",)`: what is read of a call."""
TableStep = str | int | Path
"""A key of a table as it is written, or where in the call it comes from."""

MAX_HELD = 4
"""Texts that `contains` may ask one value for: every set of them is tried."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_USER = ("id", "email", "email_verified", "session_id")
_ORDERS = ("<", "<=", ">", ">=")
_CLOCK = frozenset(
    (
        "getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek", "getDayOfYear",
        "getHours", "getMinutes", "getSeconds",
    )
)  # fmt: skip
NOW: Path = ("now",)
SIGN_IN: Path = ("user", "auth_time")
ADDRESS: Path = ("client", "ip")


@dataclass(slots=True)
class Survey:
    """Everything that an atom reads and compares with."""

    paths: set[Path] = field(default_factory=set)
    tables: list[tuple[TableStep, ...]] = field(default_factory=list)
    """Each read of `data`, by its steps."""
    texts: set[str] = field(default_factory=set)
    numbers: set[float] = field(default_factory=set)
    affixes: dict[Path, set[tuple[str, str]]] = field(default_factory=dict)
    """What a value is asked to begin, end or be filled with: (`startsWith`, text)."""
    lists: set[Path] = field(default_factory=set)
    """Values that are asked whether they hold another."""
    roles: bool = False
    any_role: bool = False
    """It goes through the roles, or asks for one that the text does not name."""
    scopes: set[str] = field(default_factory=set)
    ages_s: set[float] = field(default_factory=set)
    """How old a sign-in is compared with."""
    moments: set[float] = field(default_factory=set)
    """Seconds since the epoch that `now` is compared with."""
    clock: set[tuple[str, int]] = field(default_factory=set)
    """(`getHours`, 17): fields of `now`, and what they are compared with."""


@dataclass(frozen=True, slots=True)
class Atom:
    condition: Condition
    survey: Survey | None
    """None where it is not understood."""

    @property
    def source(self) -> str:
        return self.condition.source


def atom_of(condition: Condition) -> Atom:
    tree = tree_of(condition.source)
    surveyor = _Surveyor()
    if tree is None:
        return Atom(condition, None)
    try:
        surveyor.truth(tree)
    except _Opaque:
        return Atom(condition, None)
    return Atom(condition, surveyor.found)


def seconds_of(text: str) -> float | None:
    """A CEL duration such as `1h30m`; None where it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def moment_of(text: str) -> float | None:
    """An RFC 3339 time as seconds since the epoch; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None else None


class _Opaque(Exception):
    """Not everything that the atom can give follows from comparing."""


@dataclass(slots=True)
class _Span:
    """A time as a sum: how often `now` and the sign-in are in it, and seconds."""

    now: int = 0
    sign_in: int = 0
    moments: int = 0
    s: float = 0.0
    from_data: bool = False

    def plus(self, other: _Span, sign: int) -> _Span:
        return _Span(
            self.now + sign * other.now,
            self.sign_in + sign * other.sign_in,
            self.moments + sign * other.moments,
            self.s + sign * other.s,
            self.from_data or other.from_data,
        )


class _Surveyor:
    def __init__(self) -> None:
        self.found = Survey()
        # The variables of iterations: `table` holds what data gives, `role` a role.
        self._variables: dict[str, str] = {}

    def truth(self, node: Node) -> None:
        """`node` gives true or false."""
        kind, parts = node.kind, node.parts
        if kind in ("and", "or", "not"):
            for part in parts:
                self.truth(part)
        elif kind in ("==", "!="):
            if not self._timed(*parts):
                self._scalar(parts[0], null=True)
                self._scalar(parts[1], null=True)
        elif kind in _ORDERS:
            if not self._timed(*parts):
                self._ordered(*parts)
        elif kind == "in":
            self._membership(*parts)
        elif kind == "call":
            self._call(node.word or "", parts)
        elif kind == "method":
            self._method(node.word or "", *parts)
        elif kind in ("field", "index", "name"):
            self._scalar(node)
        else:
            raise _Opaque

    def _scalar(self, node: Node, *, null: bool = False) -> None:
        """A single value.  `null`: it is compared, and may be whether there is one at all."""
        if node.kind == "text":
            self.found.texts.add(_word(node))
        elif node.kind in ("number", "minus"):
            self.found.numbers.add(_number(node))
        elif node.kind == "name" and node.word in ("true", "false", "null"):
            return
        else:
            path = self._chain(node, null=null)
            if path is not None:
                self.found.paths.add(path)

    def _chain(self, node: Node, *, null: bool = False) -> Path | None:
        """What of the call `node` reads; None when it reads data."""
        root, steps = _unwound(node)
        if root in self._variables:
            if self._variables[root] == "role" and steps:
                raise _Opaque
            return None
        if root == "data":
            self.found.tables.append(tuple(self._steps(steps)))
            return None
        keys = tuple(step.word or "" for step in steps if step.kind in ("text", "key"))
        if len(keys) != len(steps) or "" in keys:
            raise _Opaque
        path = (root, *keys)
        good = (
            (root == "user" and len(keys) == 1 and keys[0] in _USER)
            or (root == "user" and keys[:1] == ("claims",) and len(keys) == 2)
            or (null and path in (("user",), SIGN_IN))
            or (root == "resource" and len(keys) == 1)
            or (root == "request" and keys in (("method",), ("path",), ("host",)))
            or (root == "request" and len(keys) == 2 and keys[0] in ("params", "query", "headers"))
            or path == ADDRESS
        )
        if not good:
            raise _Opaque
        return path

    def _steps(self, nodes: list[Node]) -> Iterator[TableStep]:
        for node in nodes:
            if node.kind in ("text", "key"):
                yield _word(node)
            elif node.kind == "number":
                yield int(_number(node))
            else:
                path = self._chain(node)
                if path is None:
                    raise _Opaque
                self.found.paths.add(path)
                yield path

    def _ordered(self, left: Node, right: Node) -> None:
        """One side is a number as it is written, or comes from data."""
        reading = [side for side in (left, right) if side.kind not in ("number", "minus")]
        for side in reading:
            if side.kind not in ("field", "index", "name"):
                raise _Opaque
        self._scalar(left)
        self._scalar(right)
        if len(reading) == 2 and not any(self._is_data(side) for side in reading):
            raise _Opaque

    def _is_data(self, node: Node) -> bool:
        root, _ = _unwound(node)
        return root == "data" or root in self._variables

    def _membership(self, left: Node, right: Node) -> None:
        if right.kind == "list" and self._timed(left, *right.parts):
            return
        root, steps = _unwound(right) if right.kind in ("field", "index", "name") else ("", [])
        keys = [step.word for step in steps]
        if (root, keys) == ("user", ["roles"]):
            self._scalar(left)
            self.found.roles = True
            self.found.any_role |= left.kind != "text"
        elif right.kind == "list":
            for one in (left, *right.parts):
                self._scalar(one)
        elif (root, keys) in (("user", ["claims"]), ("resource", [])) or (
            root == "request" and keys in (["params"], ["query"], ["headers"])
        ):
            # `"page" in request.query` asks whether that one is there.
            self.found.paths.add((root, *(key or "" for key in keys), _word(left)))
        elif root:
            self._scalar(left)
            path = self._chain(right)
            if path is not None:
                if path[0] not in ("user", "resource") or path[1] in _USER:
                    raise _Opaque
                self.found.paths.add(path)
                self.found.lists.add(path)
        else:
            raise _Opaque

    def _call(self, name: str, given: tuple[Node, ...]) -> None:
        if name == "has":
            self._scalar(given[0], null=True)
        elif name == "has_role":
            self._scalar(given[0])
            self.found.roles = True
            self.found.any_role |= given[0].kind != "text"
        elif name == "has_scope":
            self.found.scopes.add(_word(given[0]))
        elif name == "in_cidr":
            self._network(*given)
        else:
            raise _Opaque

    def _network(self, address: Node, block: Node) -> None:
        root, steps = _unwound(address)
        if (root, *(step.word for step in steps)) != ADDRESS:
            raise _Opaque
        self.found.paths.add(ADDRESS)
        if block.kind == "text" or self._is_data(block):
            self._scalar(block)
        else:
            raise _Opaque

    def _method(self, name: str, on: Node, *given: Node) -> None:
        if name == "in_cidr":
            self._network(on, *given)
        elif name in ("startsWith", "endsWith", "contains"):
            path = self._chain(on)
            text = _word(given[0])
            if path is None:
                return
            self.found.paths.add(path)
            asked = self.found.affixes.setdefault(path, set())
            asked.add((name, text))
            if path == ADDRESS or sum(how == "contains" for how, _ in asked) > MAX_HELD:
                raise _Opaque
        elif name in ("exists", "all", "exists_one") and len(given) == 2:
            self._iteration(name, on, *given)
        else:
            raise _Opaque

    def _iteration(self, name: str, on: Node, variable: Node, body: Node) -> None:
        if on.kind == "list":
            for one in on.parts:
                self._scalar(one)
            kind = "table"
            # Which of the listed it is cannot be told from the text.
            self.found.any_role = True
        else:
            root, steps = _unwound(on)
            if (root, [step.word for step in steps]) == (
                "user",
                ["roles"],
            ) and name != "exists_one":
                self.found.roles = self.found.any_role = True
                kind = "role"
            elif root == "data":
                self._chain(on)
                kind = "table"
            else:
                raise _Opaque
        self._variables[variable.word or ""] = kind
        self.truth(body)
        del self._variables[variable.word or ""]

    def _timed(self, *sides: Node) -> bool:
        """Whether it is a comparison of times, which is then noted.  The first is compared
        with each other."""
        if any(_field_of_now(side) for side in sides):
            names = [name for side in sides if (name := _field_of_now(side))]
            numbers = [_number(side) for side in sides if not _field_of_now(side)]
            if len(names) != 1:
                raise _Opaque
            self.found.paths.add(NOW)
            self.found.clock |= {(names[0], int(number)) for number in numbers}
            return True
        spans = [_span(side, self) for side in sides]
        if all(span is None for span in spans) or _is_null(sides[-1]) or _is_null(sides[0]):
            return False
        first, *others = spans
        for other in others:
            if first is None or other is None:
                raise _Opaque
            self._difference(first.plus(other, -1))
        return True

    def _difference(self, span: _Span) -> None:
        if abs(span.now) != 1 or (span.from_data and span.s):
            raise _Opaque
        self.found.paths.add(NOW)
        if span.sign_in == 0 and span.moments == -span.now:
            if not span.from_data:
                self.found.moments.add(-span.s / span.now)
        elif span.sign_in == -span.now and span.moments == 0:
            self.found.paths.add(SIGN_IN)
            self.found.ages_s.add(-span.s / span.now)
        else:
            raise _Opaque


def _span(node: Node, surveyor: _Surveyor) -> _Span | None:
    """The time that `node` is; None when it is none."""
    if node.kind in ("+", "-"):
        left, right = (_span(part, surveyor) for part in node.parts)
        if left is None or right is None:
            raise _Opaque
        return left.plus(right, 1 if node.kind == "+" else -1)
    if node.kind == "name" and node.word == "now":
        return _Span(now=1)
    if node.kind == "field" and node.word == "auth_time":
        return _Span(sign_in=1)
    if node.kind == "call" and node.word in ("duration", "timestamp"):
        (given,) = node.parts
        if given.kind != "text":
            if node.word == "timestamp" and surveyor._is_data(given):
                surveyor._scalar(given)
                return _Span(moments=1, from_data=True)
            raise _Opaque
        seconds = (seconds_of if node.word == "duration" else moment_of)(_word(given))
        if seconds is None:
            raise _Opaque
        return _Span(moments=int(node.word == "timestamp"), s=seconds)
    return None


def _field_of_now(node: Node) -> str | None:
    """`getHours` of `now.getHours()`."""
    if node.kind == "method" and node.word in _CLOCK and len(node.parts) == 1:
        (on,) = node.parts
        return node.word if on.kind == "name" and on.word == "now" else None
    return None


def _unwound(node: Node) -> tuple[str, list[Node]]:
    """The root of a chain and its steps.  A field is a step of the kind `key`."""
    steps: list[Node] = []
    while node.kind in ("field", "index"):
        if node.kind == "field":
            steps.append(Node("key", node.start, node.end, word=node.word))
            (node,) = node.parts
        else:
            node, key = node.parts
            steps.append(key)
    if node.kind != "name" or node.word is None:
        raise _Opaque
    return node.word, steps[::-1]


def _is_null(node: Node) -> bool:
    return node.kind == "name" and node.word == "null"


def _word(node: Node) -> str:
    if node.kind not in ("text", "key") or node.word is None:
        raise _Opaque
    return node.word


def _number(node: Node) -> float:
    if node.kind == "minus":
        return -_number(node.parts[0])
    if node.kind != "number" or node.word is None:
        raise _Opaque
    text = node.word.rstrip("uU")
    try:
        return int(text, 0)
    except ValueError:
        return float(text)
