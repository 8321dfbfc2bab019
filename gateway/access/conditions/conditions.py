"""CEL conditions: checked at load, evaluated with only what they name.

A condition holds when it gives `true` itself.  Anything else it may give, and every way in
which it can fail, is a failure, which never allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from gateway.access.attributes import Attribute
from gateway.access.conditions.context import (
    USER,
    EvaluationContext,
    activation,
    path_text,
    value_at,
)
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.conditions.expressions import Expression, read_expression
from gateway.access.conditions.functions import FAILED, AddressBlocks, has_scope
from gateway.access.conditions.programs import Program, TooManyItems
from gateway.access.conditions.regular_expressions import PatternTables
from gateway.access.conditions.tables import TablesRead
from gateway.access.conditions.type_check import type_problems
from gateway.access.conditions.vocabulary import syntax_problem, vocabulary_problems

Outcome = bool | str
"""True, False, or the sentence of a failure."""

_NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})
_NO_TABLES = PatternTables({})


@dataclass(frozen=True, slots=True)
class Reads:
    """What a condition asks of a call; `must_…` are those it fails without."""

    resource: frozenset[str] = frozenset()
    must_resource: frozenset[str] = frozenset()
    params: frozenset[str] = frozenset()
    must_params: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()
    user: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()
    path: bool = False
    whole_resource: bool = False


@mypyc_attr(allow_interpreted_subclasses=True)
class Condition:
    """One compiled expression.  Immutable after it is made."""

    is_as_written: ClassVar[bool] = True
    """Whether it comes out as its text says, and nothing is assumed of a part of it."""

    __slots__ = (
        "_activation",
        "_functions",
        "_program",
        "expression",
        "may_take_long",
        "reads",
        "source",
    )

    def __init__(
        self,
        source: str,
        expression: Expression,
        *,
        tables: PatternTables = _NO_TABLES,
        hands_over_much: bool = False,
        ignores_case: bool = False,
    ) -> None:
        """`tables`: the `data` that it will read.  `ignores_case`: what `matches` asks for is
        found in any case of letters."""
        self.source = source
        self.expression = expression
        self.may_take_long = hands_over_much or expression.iterates
        self.reads = _reads(expression)
        self._program = Program(source, expression, tables, ignores_case=ignores_case)
        self._activation = activation(expression)
        names = {call.name for call in expression.calls}
        self._functions = tuple(
            (name, make()) for name, make in _FUNCTIONS.items() if name in names
        )

    def evaluate(self, context: EvaluationContext) -> Outcome:
        value = self.value(context)
        return bool(value) if value is True or value is False else outcome_of(value)

    def value(
        self,
        context: EvaluationContext,
        variables: Mapping[str, Any] = _NO_VARIABLES,
        *,
        functions: Mapping[str, Any] = _NO_VARIABLES,
    ) -> Any:
        """What the expression gives, or a ConditionFailed.  `variables` are those that it names
        besides what conditions may read; `functions` stand in place of its own."""
        try:
            bound = {name: bind(context) for name, bind in self._activation}
            if variables:
                bound.update(variables)
            made = {name: make(context) for name, make in self._functions}
            if functions:
                made = {name: functions.get(name, function) for name, function in made.items()}
            return self._program.execute(bound, made)
        except TooManyItems as many:
            return ConditionFailed(str(many))
        except KeyError as missing:
            return ConditionFailed(f"there is no {missing.args[0] if missing.args else 'such key'}")
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            # The engine's errors have no other common base.
            return ConditionFailed(_sentence(str(error)))

    def resource_read(self, context: EvaluationContext) -> Mapping[str, Any]:
        """What the engine is handed of the resource."""
        for name, bind in self._activation:
            if name == "resource":
                found: Mapping[str, Any] = bind(context)
                return found
        return _NO_VARIABLES

    def values(self, context: EvaluationContext) -> list[tuple[str, Any]]:
        """What it reads of this call, in the order of the text, for people; each once."""
        values: dict[str, Any] = {}
        for path in self.expression.paths:
            values.setdefault(path_text(path, context), value_at(path, context))
        for call in self.expression.calls:
            if call.name == "has_role" and context.principal is not None:
                values.setdefault("user.roles", context.principal.roles)
        return list(values.items())


_NO_VALUE = re.compile(r"Function '(\w+)' error: Failed to convert Python result")


def _sentence(said: str) -> str:
    """One line of what the engine says; of a function of ours that gave no value, our own."""
    failed = _NO_VALUE.match(said)
    if failed is None:
        return said.splitlines()[0][:160]
    return f"`{failed[1].removesuffix('_pattern')}` cannot read what it is given"


@dataclass(frozen=True, slots=True)
class ConditionFailed:
    text: str


def outcome_of(value: Any) -> Outcome:
    """What a condition that gave this comes out as."""
    if value is True or value is False:
        return bool(value)
    if isinstance(value, ConditionFailed):
        return value.text
    return f"gives {type(value).__name__} {value!r}, not true or false"


class ConditionCompiler:
    """Compiles the conditions of one configuration; `data` holds the tables they may read, and
    `attributes` what accounts may have."""

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        types: EngineTypes | None = None,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> None:
        self._data = {} if data is None else data
        self._tables = TablesRead(self._data)
        self._patterns = PatternTables(self._data)
        self._types = types or EngineTypes()
        self._attributes = {} if attributes is None else attributes

    def with_data(self, data: Mapping[str, Any]) -> ConditionCompiler:
        return ConditionCompiler(data, self._types, self._attributes)

    def compile(self, source: str, *, truth: bool = True) -> Condition | list[tuple[int, str]]:
        """The condition, or every problem with it: the character it is at, and a sentence.

        `truth`: it has to give true or false, as a rule's does; a limit's key gives any text.
        """
        expression = read_expression(source)
        problems = expression.problems or vocabulary_problems(
            expression, self._data, self._attributes
        )
        if not problems:
            try:
                much = self._tables.much(expression)
                condition = Condition(
                    source, expression, tables=self._patterns, hands_over_much=much
                )
            except ValueError as error:
                return [syntax_problem(source, str(error))]
            problems = type_problems(source, self._types, self._attributes, truth=truth)
            if not problems:
                return condition
        return sorted(problems)


def _has_role(context: EvaluationContext) -> Callable[[Any], bool]:
    principal = context.principal
    roles = context.roles.expand(principal.roles) if principal else frozenset()
    # Only text is hashable for sure, and a callback that raises writes to standard error.
    return lambda role: isinstance(role, str) and role in roles


def _has_scope(context: EvaluationContext) -> Callable[[Any], bool]:
    return lambda action: has_scope(context.principal, action)


def _in_cidr() -> Callable[[EvaluationContext], Callable[..., Any]]:
    blocks = AddressBlocks()

    def in_cidr(address: Any, block: Any) -> Any:
        inside = blocks.in_cidr(address, block)
        return FAILED if inside is None else inside

    return lambda context: in_cidr


# What gives a condition its function for a call; what `in_cidr` has read belongs to the condition.
_FUNCTIONS: dict[str, Callable[[], Callable[[EvaluationContext], Callable[..., Any]]]] = {
    "in_cidr": _in_cidr,
    "has_role": lambda: _has_role,
    "has_scope": lambda: _has_scope,
}


def _reads(expression: Expression) -> Reads:
    named: dict[str, set[str]] = {key: set() for key in ("resource", "params", "query", "headers")}
    must: dict[str, set[str]] = {key: set() for key in ("resource", "params")}
    user: set[str] = set()
    loose = {str(path) for path in expression.paths if path.guarded}
    for path in expression.paths:
        keys = path.keys
        if path.root == "resource" and keys:
            kind, name = "resource", keys[0]
        elif path.root == "request" and len(keys) > 1:
            kind, name = keys[0], keys[1]
        else:
            if path.root == "user":
                user.update(keys[:1] or USER)
            continue
        named[kind].add(name)
        if kind in must and not path.guarded and str(path) not in loose:
            must[kind].add(name)
    roots = {path.root for path in expression.paths}
    if {"has_role", "has_scope"} & {call.name for call in expression.calls}:
        roots.add("user")
        user.add("roles")
    return Reads(
        resource=frozenset(named["resource"]),
        must_resource=frozenset(must["resource"]),
        params=frozenset(named["params"]),
        must_params=frozenset(must["params"]),
        query=frozenset(named["query"]),
        headers=frozenset(named["headers"]),
        user=frozenset(user),
        roots=frozenset(roots),
        path=any(p.root == "request" and p.keys[:1] in ((), ("path",)) for p in expression.paths),
        whole_resource=any(p.root == "resource" and not p.keys for p in expression.paths),
    )
