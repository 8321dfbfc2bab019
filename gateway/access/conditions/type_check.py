"""The types of a condition, as far as its text tells: what could never be evaluated is a
problem of the file, and no denial of next week.

CEL joins and orders no two types (`'a' + 1`), and `==` of two types is false for ever.  What the
text does not tell (claims, data, the resource) has every type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.access.attributes import NO_ATTRIBUTES, Attribute, AttributeType
from gateway.access.conditions.engine import cel
from gateway.access.conditions.engine_types import ANY, READS_LITERAL, RELATIONS, EngineTypes
from gateway.access.conditions.expressions import (
    MACROS,
    OWN_FUNCTIONS,
    Token,
    literal,
    string_prefix,
    tokens_of,
)

_SIGNED = ("int", "double")
_NUMBERS = frozenset((*_SIGNED, "uint"))
_TYPE_NAMES = {
    "text": "text", "int": "a number", "uint": "an unsigned number", "double": "a fraction",
    "bool": "true or false", "null": "null", "list": "a list", "map": "a map", "bytes": "bytes",
    "duration": "a duration", "timestamp": "a time",
}  # fmt: skip
_USER = {
    "id": "text", "email": "text", "email_verified": "bool", "roles": "list",
    "session_id": "text", "auth_time": "timestamp", "issuer": "text", "scopes": "list",
    "attributes": "map", "tenants": "map", "tenant": "text", "tenant_role": "text",
}  # fmt: skip
_ATTRIBUTES = {
    AttributeType.STRING: "text", AttributeType.INTEGER: "int", AttributeType.BOOLEAN: "bool",
    AttributeType.LIST: "list",
}  # fmt: skip
_REQUEST = {"method": "text", "path": "text", "host": "text"}
_TEXTS_BY_NAME = ("params", "query", "headers")
_MAKES = {
    "size": "int", "int": "int", "uint": "uint", "double": "double", "string": "text",
    "bytes": "bytes", "timestamp": "timestamp", "duration": "duration",
}  # fmt: skip
_LEVELS = (
    ("||",),
    ("&&",),
    RELATIONS,
    ("+", "-"),
    ("*", "/", "%"),
)
_DEEPEST = 60


class TypedPart(NamedTuple):
    """A part of the expression: its type, and its text where it is one text or number."""

    type: str
    at: int
    literal: str | None = None
    items: tuple[TypedPart, ...] = ()
    """Of a list that is written out."""


class _Untyped(Exception):
    """The text is built in a way that is not followed here."""


def type_problems(
    source: str,
    types: EngineTypes,
    attributes: Mapping[str, Attribute] = NO_ATTRIBUTES,
    *,
    truth: bool = True,
) -> list[tuple[int, str]]:
    """What could never be evaluated, by the character it is at.

    `source` is an expression that the engine takes; `truth`: it has to give true or false.
    """
    reader = _TypeChecker(tokens_of(source), types, attributes)
    try:
        whole = reader.expression()
        reader.end()
    except (_Untyped, IndexError):
        return []
    if truth and not reader.problems and whole.type not in (ANY, "bool"):
        reader.problems.append((whole.at, f"gives {_TYPE_NAMES[whole.type]}, not true or false"))
    return reader.problems


class _TypeChecker:
    """Walks the words of one expression by CEL's grammar."""

    def __init__(
        self, tokens: list[Token], types: EngineTypes, attributes: Mapping[str, Attribute]
    ) -> None:
        self.problems: list[tuple[int, str]] = []
        self._types = types
        self._attributes = attributes
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._variables: list[str] = []

    def expression(self) -> TypedPart:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Untyped
        part = self._binary(0)
        if self._took("?"):
            self._wants_truth(part, "?")
            first = self.expression()
            self._must(":")
            second = self.expression()
            part = TypedPart(first.type if first.type == second.type else ANY, part.at)
        self._depth -= 1
        return part

    def end(self) -> None:
        if self._next != len(self._tokens):
            raise _Untyped

    def _binary(self, level: int) -> TypedPart:
        if level == len(_LEVELS):
            return self._unary()
        part = self._binary(level + 1)
        while (sign := self._seen(_LEVELS[level])) is not None:
            at = self._tokens[self._next].at
            self._next += 1
            part = self._joined(part, sign, self._binary(level + 1), at)
        return part

    def _joined(self, left: TypedPart, sign: str, right: TypedPart, at: int) -> TypedPart:
        if sign in ("&&", "||"):
            for side in (left, right):
                self._wants_truth(side, sign)
            return TypedPart("bool", left.at)
        if sign in ("==", "!="):
            if not _comparable(left.type, right.type):
                what = "never equal" if sign == "==" else "always unequal"
                sides = f"{_TYPE_NAMES[left.type]} and {_TYPE_NAMES[right.type]} are {what}"
                self.problems.append((at, f"`{sign}`: {sides}{_convert(left, right)}"))
            return TypedPart("bool", left.at)
        default = "bool" if sign in RELATIONS else ANY
        if (
            sign == "in"
            and right.items
            and not any(_comparable(left.type, one.type) for one in right.items)
        ):
            first = right.items[0]
            sides = f"{_TYPE_NAMES[left.type]} and {_TYPE_NAMES[first.type]} are never equal"
            self.problems.append((at, f"`{sign}`: {sides}{_convert(left, first)}"))
            return TypedPart("bool", left.at)
        if ANY in (left.type, right.type):
            return TypedPart(default, left.at)
        result = self._types.result(sign, left.type, right.type)
        if result is None:
            types = f"{_TYPE_NAMES[left.type]} and {_TYPE_NAMES[right.type]}"
            what = f"`{sign}` is not defined for {types}"
            hint = "; it asks a list or a map" if sign == "in" else _convert(left, right)
            self.problems.append((at, what + hint))
        elif left.literal is not None and right.literal is not None:
            self._run(f"{left.literal} {sign} {right.literal}", at)
        elif sign in ("/", "%") and right.literal in ("0", "0u"):
            self.problems.append((at, "divides by zero"))
        return TypedPart(result or default, left.at)

    def _unary(self) -> TypedPart:
        sign = self._seen(("!", "-"))
        if sign is None:
            return self._member()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Untyped
        at = self._tokens[self._next].at
        self._next += 1
        operand = self._unary()
        self._depth -= 1
        if sign == "!":
            self._wants_truth(operand, sign)
            return TypedPart("bool", at)
        if operand.type not in (ANY, *_SIGNED):
            self.problems.append((at, f"`-` is not defined for {_TYPE_NAMES[operand.type]}"))
        return TypedPart(operand.type if operand.type in _SIGNED else ANY, at)

    def _member(self) -> TypedPart:
        token = self._tokens[self._next]
        part, path = self._primary(), token.text
        while True:
            if self._took("."):
                name = self._tokens[self._next].text
                self._next += 1
                if self._took("("):
                    part, path = self._method(part, name), ""
                else:
                    part, path = self._field(path, name, part.at)
            elif self._took("["):
                key = self.expression()
                self._must("]")
                word = literal(self._tokens[self._next - 2]) if key.literal else None
                part, path = self._field(path, word or "", part.at)
            else:
                return part

    def _field(self, path: str, name: str, at: int) -> tuple[TypedPart, str]:
        """What `path.name` is, and the path that leads on from it."""
        whole = f"{path}.{name}" if path and path not in self._variables else ""
        if path == "user" and whole:
            return TypedPart(_USER.get(name, ANY), at), whole
        if path == "request" and whole:
            return TypedPart(_REQUEST.get(name, ANY), at), whole
        if path == "user.attributes" and name in self._attributes:
            return TypedPart(_ATTRIBUTES[self._attributes[name].type], at), ""
        if path == "user.tenants":
            return TypedPart("text", at), ""
        kind = path.removeprefix("request.")
        if whole == "client.ip" or (path == f"request.{kind}" and kind in _TEXTS_BY_NAME):
            return TypedPart("text", at), ""
        return TypedPart(ANY, at), ""

    def _primary(self) -> TypedPart:
        token = self._tokens[self._next]
        self._next += 1
        if token.kind == "string":
            kind = "bytes" if "b" in string_prefix(token) else "text"
            return TypedPart(kind, token.at, token.text)
        if token.kind == "number":
            return TypedPart(_number(token.text), token.at, token.text)
        if token.kind == "name":
            return self._named(token)
        if token.text == "(":
            inner = self.expression()
            self._must(")")
            return TypedPart(inner.type, token.at, items=inner.items)
        if token.text == "[":
            items = self._list("]", self.expression)
            return TypedPart("list", token.at, items=tuple(items))
        if token.text == "{":
            self._list("}", self._entry)
            return TypedPart("map", token.at)
        raise _Untyped

    def _entry(self) -> TypedPart:
        key = self.expression()
        self._must(":")
        self.expression()
        return key

    def _named(self, token: Token) -> TypedPart:
        if token.text in ("true", "false"):
            return TypedPart("bool", token.at)
        if token.text == "null":
            return TypedPart("null", token.at)
        if self._took("("):
            return self._function(token)
        known = token.text == "now" and "now" not in self._variables
        return TypedPart("timestamp" if known else ANY, token.at)

    def _function(self, token: Token) -> TypedPart:
        given = self._list(")", self.expression)
        name = token.text
        if name == "has":
            return TypedPart("bool", token.at)
        if name in OWN_FUNCTIONS:
            for one in given:
                if one.type not in (ANY, "text"):
                    self.problems.append(
                        (one.at, f"`{name}` takes text, not {_TYPE_NAMES[one.type]}")
                    )
            return TypedPart("bool", token.at)
        if not self._types.takes(name, None, tuple(one.type for one in given)):
            types = " and ".join(_TYPE_NAMES[one.type] for one in given)
            self.problems.append((token.at, f"`{name}` does not take {types or 'nothing'}"))
        elif name in READS_LITERAL and len(given) == 1 and given[0].literal is not None:
            self._run(f"{name}({given[0].literal})", token.at)
        return TypedPart(_MAKES.get(name, ANY), token.at)

    def _method(self, on: TypedPart, name: str) -> TypedPart:
        at = self._tokens[self._next - 2].at
        if name in MACROS:
            return self._macro(on, name)
        given = self._list(")", self.expression)
        if not self._types.takes(name, on.type, tuple(one.type for one in given)):
            types = " and ".join(_TYPE_NAMES[one.type] for one in given)
            with_ = f" with {types}" if types else ""
            self.problems.append((at, f"{_TYPE_NAMES[on.type]} has no `{name}`{with_}"))
        elif name == "matches" and len(given) == 1 and given[0].literal is not None:
            self._run(f"'a'.matches({given[0].literal})", given[0].at)
        if name == "size" or name.startswith("get"):
            return TypedPart("int", on.at)
        truths = ("startsWith", "endsWith", "contains", "matches", "in_cidr")
        return TypedPart("bool" if name in truths else ANY, on.at)

    def _macro(self, on: TypedPart, name: str) -> TypedPart:
        if on.type not in (ANY, "list", "map"):
            self.problems.append(
                (on.at, f"`{name}` goes through a list, not {_TYPE_NAMES[on.type]}")
            )
        variable = self._tokens[self._next].text
        self._next += 1
        self._must(",")
        self._variables.append(variable)
        inner = self.expression()
        if name == "map" and self._took(","):
            self.expression()
        self._must(")")
        self._variables.pop()
        if name in ("map", "filter"):
            return TypedPart("list", on.at)
        self._wants_truth(inner, name)
        return TypedPart("bool", on.at)

    def _wants_truth(self, part: TypedPart, sign: str) -> None:
        if part.type not in (ANY, "bool"):
            text = f"`{sign}` takes true or false, not {_TYPE_NAMES[part.type]}"
            self.problems.append((part.at, text))

    def _run(self, source: str, at: int) -> None:
        """Of constants alone: what it gives now, it gives always."""
        try:
            cel.compile(source).execute({})
        except Exception as error:  # noqa: BLE001 (the engine's errors have no common base)
            self.problems.append((at, f"`{source}` fails always: {_sentence(error)}"))

    def _list(self, closing: str, one: Callable[[], TypedPart]) -> list[TypedPart]:
        parts: list[TypedPart] = []
        while not self._took(closing):
            parts.append(one())
            if not self._took(","):
                self._must(closing)
                break
        return parts

    def _seen(self, signs: tuple[str, ...]) -> str | None:
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            if token.kind in ("sign", "name") and token.text in signs:
                return token.text
        return None

    def _took(self, sign: str) -> bool:
        if self._seen((sign,)) is None:
            return False
        self._next += 1
        return True

    def _must(self, sign: str) -> None:
        if not self._took(sign):
            raise _Untyped


def _number(text: str) -> str:
    if text[-1] in "uU":
        return "uint"
    return "double" if not text.lower().startswith("0x") and set(".eE") & set(text) else "int"


def _comparable(left: str, right: str) -> bool:
    """Whether two values of these types can be equal.  What is absent is null, of any type."""
    return (
        left == right
        or bool({left, right} & {ANY, "null"})
        or {left, right} <= _NUMBERS
    )  # fmt: skip


def _convert(left: TypedPart, right: TypedPart) -> str:
    """What would be right, where it is likely to be known."""
    types = {left.type, right.type}
    if "text" in types and types & _NUMBERS:
        other = left if left.type in _NUMBERS else right
        if other.literal is not None:
            return f'; write it as text, "{other.literal}", or make a number of the text: `int(…)`'
        return "; make them alike: `int(…)`, `string(…)`"
    if types == {"text", "list"}:
        return "; ask whether the list holds it: `… in …`"
    if types == {"text", "bool"}:
        return "; true and false are written without quotes"
    return ""


def _sentence(error: Exception) -> str:
    """The engine's words without its advice and its drawings."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line.startswith("error: ")), lines[0])
    text = text.removeprefix("error: ").partition(". Check ")[0]
    text = text.partition(" error: ")[2] or text
    # What follows is the engine's own structure.
    return "it cannot be read" if "Error {" in text else text
