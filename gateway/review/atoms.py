"""What one part of a condition asks of a call, so far that its every outcome can be tried.

An atom is understood when it only compares: then a finite number of values for whatever it
reads brings about everything that it can give, and `review/values.py` finds them.  Of any
other atom (`matches`, arithmetic, sizes) no outcome can be ruled out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.syntax import (
    Node,
    NotUnderstood,
    is_null,
    number_of,
    tree_of,
    unwound,
    word_of,
)
from gateway.review.surveys import ADDRESS, NOW, SIGN_IN, Path, Survey, TableStep
from gateway.review.time_texts import moment_of, seconds_of

MAX_HELD = 4
"""Texts that `contains` may ask one value for: every set of them is tried."""
_USER = ("id", "email", "email_verified", "session_id", "issuer")
_TABLES = (("claims",), ("attributes",), ("tenants",))
_CONSTANTS = {"true": True, "false": False, "null": None}
_ORDERS = ("<", "<=", ">", ">=")
_CLOCK = frozenset(
    (
        "getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek", "getDayOfYear",
        "getHours", "getMinutes", "getSeconds",
    )
)  # fmt: skip


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
    except NotUnderstood:
        return Atom(condition, None)
    return Atom(condition, surveyor.found())


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
        self.survey = Survey()
        # The variables of iterations: `table` holds what data gives, `role` a role, `listed` one
        # of what the condition lists.
        self._variables: dict[str, str] = {}
        self._role_reads = 0

    def found(self) -> Survey:
        self.survey.by_role &= self._role_reads == 1
        return self.survey

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
                self._wholes(*parts)
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
            raise NotUnderstood

    def _scalar(self, node: Node, *, null: bool = False) -> None:
        """A single value.  `null`: it is compared, and may be whether there is one at all."""
        if node.kind == "text":
            self.survey.texts.add(word_of(node))
        elif node.kind in ("number", "minus"):
            self.survey.numbers.add(number_of(node))
        elif node.kind == "name" and node.word in _CONSTANTS:
            self.survey.constants.add(_CONSTANTS[node.word])
        else:
            path = self._chain(node, null=null)
            if path is not None:
                self.survey.paths.add(path)

    def _chain(self, node: Node, *, null: bool = False) -> Path | None:
        """What of the call `node` reads; None when it reads data."""
        root, steps = unwound(node)
        if root in self._variables:
            if self._variables[root] == "role" and steps:
                raise NotUnderstood
            return None
        if root == "data":
            self.survey.tables.append(tuple(self._steps(steps)))
            return None
        keys = tuple(step.word or "" for step in steps if step.kind in ("text", "key"))
        if len(keys) != len(steps) or "" in keys:
            raise NotUnderstood
        path = (root, *keys)
        good = (
            (root == "user" and len(keys) == 1 and keys[0] in _USER)
            or (root == "user" and keys[:1] in _TABLES and len(keys) == 2)
            or path == ("user", "tenant")
            or (null and path in (("user",), SIGN_IN))
            or (root == "resource" and len(keys) == 1)
            or (root == "request" and keys in (("method",), ("path",), ("host",)))
            or (root == "request" and len(keys) == 2 and keys[0] in ("params", "query", "headers"))
            or path == ADDRESS
        )
        if not good:
            raise NotUnderstood
        return path

    def _steps(self, nodes: list[Node]) -> Iterator[TableStep]:
        for node in nodes:
            if node.kind in ("text", "key"):
                yield word_of(node)
            elif node.kind == "number":
                yield int(number_of(node))
            else:
                path = self._chain(node)
                if path is None:
                    raise NotUnderstood
                self.survey.paths.add(path)
                yield path

    def _ordered(self, left: Node, right: Node) -> None:
        """One side is a number as it is written, or comes from data."""
        reading = [side for side in (left, right) if side.kind not in ("number", "minus")]
        for side in reading:
            if side.kind not in ("field", "index", "name"):
                raise NotUnderstood
        self._scalar(left)
        self._scalar(right)
        self.survey.orders |= any(self._is_data(side) for side in reading)
        if len(reading) == 2 and not self.survey.orders:
            raise NotUnderstood

    def _is_data(self, node: Node) -> bool:
        root, _ = unwound(node)
        return root == "data" or root in self._variables

    def _wholes(self, *sides: Node) -> None:
        """Any of them that comes from data may be a list or an object."""
        for side in sides:
            if side.kind in ("field", "index", "name") and self._is_data(side):
                _, steps = unwound(side)
                last = steps[-1] if steps else side
                self.survey.wholes.add(last.word or "" if last.kind in ("key", "text") else "")

    def _membership(self, left: Node, right: Node) -> None:
        if right.kind == "list" and self._timed(left, *right.parts):
            return
        root, steps = unwound(right) if right.kind in ("field", "index", "name") else ("", [])
        keys = [step.word for step in steps]
        if (root, keys) == ("user", ["roles"]):
            self._scalar(left)
            self._asks_roles()
            self.survey.any_role |= left.kind != "text"
        elif (root, keys) == ("user", ["scopes"]):
            self.survey.granted.add(word_of(left))
        elif right.kind == "list":
            for one in (left, *right.parts):
                self._scalar(one)
        elif (
            (root == "user" and tuple(keys) in _TABLES)
            or (root, keys) == ("resource", [])
            or (root == "request" and keys in (["params"], ["query"], ["headers"]))
        ):
            # `"page" in request.query` asks whether that one is there.
            self.survey.paths.add((root, *(key or "" for key in keys), word_of(left)))
        elif root:
            self._scalar(left)
            path = self._chain(right)
            self._wholes(left)
            if path is None:
                # What a list holds.
                self.survey.wholes.add("")
            if path is not None:
                if path[0] not in ("user", "resource") or path[1] in _USER:
                    raise NotUnderstood
                self.survey.paths.add(path)
                self.survey.lists.add(path)
        else:
            raise NotUnderstood

    def _asks_roles(self) -> None:
        self.survey.roles = True
        self._role_reads += 1

    def _call(self, name: str, given: tuple[Node, ...]) -> None:
        if name == "has":
            self._scalar(given[0], null=True)
        elif name == "has_role":
            self._scalar(given[0])
            self._asks_roles()
            self.survey.any_role |= given[0].kind != "text"
        elif name == "has_scope":
            self.survey.scopes.add(word_of(given[0]))
        elif name == "in_cidr":
            self._network(*given)
        else:
            raise NotUnderstood

    def _network(self, address: Node, block: Node) -> None:
        root, steps = unwound(address)
        if (root, *(step.word for step in steps)) != ADDRESS:
            raise NotUnderstood
        self.survey.paths.add(ADDRESS)
        if block.kind == "text" or self._is_data(block):
            self._scalar(block)
        else:
            raise NotUnderstood

    def _method(self, name: str, on: Node, *given: Node) -> None:
        if name == "in_cidr":
            self._network(on, *given)
        elif name in ("startsWith", "endsWith", "contains"):
            path = self._chain(on)
            text = word_of(given[0])
            if path is not None:
                self.survey.paths.add(path)
                asked = self.survey.affixes.setdefault(path, set())
            else:
                kind = self._variables.get(unwound(on)[0], "table")
                if kind == "table":
                    return
                if kind == "listed":
                    raise NotUnderstood
                asked = self.survey.role_affixes
            asked.add((name, text))
            if path == ADDRESS or sum(how == "contains" for how, _ in asked) > MAX_HELD:
                raise NotUnderstood
        elif name in ("exists", "all", "exists_one") and len(given) == 2:
            self._iteration(name, on, *given)
        else:
            raise NotUnderstood

    def _iteration(self, name: str, on: Node, variable: Node, body: Node) -> None:
        if on.kind == "list":
            for one in on.parts:
                self._scalar(one)
            kind = "listed"
            # Which of the listed it is cannot be told from the text.
            self.survey.any_role = True
        else:
            root, steps = unwound(on)
            if (root, [step.word for step in steps]) == (
                "user",
                ["roles"],
            ) and name != "exists_one":
                self._asks_roles()
                self.survey.any_role = True
                self.survey.by_role = not self._variables
                self.survey.each_role |= name == "all" or _denies(body)
                kind = "role"
            elif root == "data":
                self._chain(on)
                kind = "table"
            else:
                raise NotUnderstood
        self.survey.every |= kind != "role" and (name != "exists" or _denies(body))
        self._variables[variable.word or ""] = kind
        self.truth(body)
        del self._variables[variable.word or ""]

    def _timed(self, *sides: Node) -> bool:
        """Whether it is a comparison of times, which is then noted.  The first is compared
        with each other."""
        if any(_field_of_now(side) for side in sides):
            names = [name for side in sides if (name := _field_of_now(side))]
            numbers = [number_of(side) for side in sides if not _field_of_now(side)]
            if len(names) != 1:
                raise NotUnderstood
            self.survey.paths.add(NOW)
            self.survey.clock |= {(names[0], int(number)) for number in numbers}
            return True
        spans = [_span(side, self) for side in sides]
        if all(span is None for span in spans) or is_null(sides[-1]) or is_null(sides[0]):
            return False
        first, *others = spans
        for other in others:
            if first is None or other is None:
                raise NotUnderstood
            self._difference(first.plus(other, -1))
        return True

    def _difference(self, span: _Span) -> None:
        if abs(span.now) != 1 or (span.from_data and span.s):
            raise NotUnderstood
        self.survey.paths.add(NOW)
        if span.sign_in == 0 and span.moments == -span.now:
            if not span.from_data:
                self.survey.moments.add(-span.s / span.now)
        elif span.sign_in == -span.now and span.moments == 0:
            self.survey.paths.add(SIGN_IN)
            self.survey.ages_s.add(-span.s / span.now)
        else:
            raise NotUnderstood


def _denies(node: Node) -> bool:
    """Whether some part of it is asked to be untrue."""
    return node.kind in ("not", "!=") or any(map(_denies, node.parts))


def _span(node: Node, surveyor: _Surveyor) -> _Span | None:
    """The time that `node` is; None when it is none."""
    if node.kind in ("+", "-"):
        left, right = (_span(part, surveyor) for part in node.parts)
        if left is None or right is None:
            raise NotUnderstood
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
            raise NotUnderstood
        seconds = (seconds_of if node.word == "duration" else moment_of)(word_of(given))
        if seconds is None:
            raise NotUnderstood
        return _Span(moments=int(node.word == "timestamp"), s=seconds)
    return None


def _field_of_now(node: Node) -> str | None:
    """`getHours` of `now.getHours()`."""
    if node.kind == "method" and node.word in _CLOCK and len(node.parts) == 1:
        (on,) = node.parts
        return node.word if on.kind == "name" and on.word == "now" else None
    return None
