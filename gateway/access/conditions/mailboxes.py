"""Conditions that read the caller's address of e-mail, which its owner may have written in any
letters.

Law: what keeps a mailbox away does so in whatever spelling.  Such a condition is asked as all is
written, and once more where every address, the caller's and all others, is written alike
(`spelled_alike.py`).  A deny applies where it does in either, an allow where it does in both, so
that a spelling lets nobody pass: `gross@x` may be somebody else's than `groß@x`, which are one
account here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.access.conditions.conditions import Condition, Outcome, outcome_of
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import FieldPath, read_expression
from gateway.access.conditions.spelled_alike import Alike, TooManyAddresses, condition_alike
from gateway.access.conditions.syntax import Node, tree_of
from gateway.model import Principal

MOST_PARTS = 3_000
"""What a body holds, as often as it is read for other spellings: what is longer keeps away whoever
has them, unread."""
_ADDRESSES = (("user", "email"), ("user", "claims", "email"))
_BY_CLAIMS = frozenset(("claims", "attributes", "tenants", "tenant", "tenant_role"))
_GOING_THROUGH = frozenset(("exists", "all"))
_PLAIN = frozenset(
    ("==", "!=", "in", "and", "or", "not", "if", "method", "call", "field", "index", "name", "text",
     "number", "minus", "list")
)  # fmt: skip
_TOO_LONG = "it names too many addresses, or holds too much, to be read in another spelling"


class _Form:
    """A condition, and the tables that it names, with their addresses written alike."""

    __slots__ = ("_data", "_tables", "condition", "folds", "folds_more", "texts")

    def __init__(self, condition: Condition, *, folds: bool) -> None:
        alike = Alike(folds=folds, bounded=False)
        source = condition_alike(condition.source, alike)
        self.condition = condition
        if source != condition.source:
            # Its names and types were checked as it is written.
            self.condition = Condition(source, read_expression(source))
        self.folds = folds
        self.folds_more = alike.folds_more
        self.texts = alike.texts
        self._data: Mapping[str, Any] | None = None
        self._tables: Mapping[str, Any] = {}

    def tables(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same object where nothing in them is written otherwise."""
        if self._data is not data:
            alike = Alike(folds=self.folds, bounded=False)
            paths = [path for path in self.condition.expression.paths if path.root == "data"]
            names = {path.keys[0] for path in paths if path.keys}
            read = {name: data[name] for name in names if name in data}
            if not all(path.keys for path in paths):
                read = dict(data)
            written = alike.value(read)
            self._tables = data if written is read else {**data, **written}
            self.folds_more = self.folds_more or alike.folds_more
            self._data = data
        return self._tables


class NamedMailboxes:
    """Of one condition that reads the address of the caller."""

    __slots__ = ("_compares_alone", "_condition", "_forms", "_is_deny", "_reads_claims")

    def __init__(self, condition: Condition, *, is_deny: bool) -> None:
        self._condition = condition
        self._is_deny = is_deny
        self._forms = tuple(_Form(condition, folds=folds) for folds in (False, True))
        tree = tree_of(condition.source)
        roots = {path.root for path in condition.expression.paths}
        self._compares_alone = (
            tree is not None
            and _compares_texts_alone(tree)
            and roots <= {"user", "resource", "request"}
            and not condition.reads.path
        )
        self._reads_claims = bool(condition.reads.user & _BY_CLAIMS)

    def read_tables(self, data: Mapping[str, Any]) -> None:
        """Of the policy, before it is asked for the first time."""
        for form in self._forms:
            form.tables(data)

    def outcome(self, as_written: Outcome, context: EvaluationContext) -> Outcome:
        """`as_written`: how the condition came out with all as it is written."""
        # Who is kept away already has nothing to gain.
        if context.principal is None or as_written is self._is_deny or isinstance(as_written, str):
            return as_written
        for times, form in enumerate(self._forms, 1):
            alike = Alike(folds=form.folds)
            try:
                outcome = self._outcome_alike(form, alike, context, times)
            except TooManyAddresses:
                return _TOO_LONG
            if outcome is not None and outcome is not as_written:
                return outcome
            if not (alike.folds_more or form.folds_more):
                break
        return as_written

    def _outcome_alike(
        self, form: _Form, alike: Alike, context: EvaluationContext, times: int
    ) -> Outcome | None:
        """None where it cannot but come out as it is written.  `times`: how often it is read."""
        other = self._context_alike(form, alike, context)
        if other is None and form.condition is self._condition:
            return None
        if self._compares_alone:
            # What equals what is the same as before.
            texts = {**alike.texts, **form.texts}
            if len(set(texts.values())) == len(texts):
                return None
        elif _parts_read(self._condition, context) * times > MOST_PARTS:
            return _TOO_LONG
        value = form.condition.value(other or context, functions_of=context)
        return outcome_of(value)

    def _context_alike(
        self, form: _Form, alike: Alike, context: EvaluationContext
    ) -> EvaluationContext | None:
        """None where nothing in it is written otherwise."""
        principal = context.principal
        assert principal is not None, "nobody has no address"
        other = replace(
            context,
            principal=self._caller_alike(alike, principal),
            resource=self._resource_alike(alike, context.resource),
            params=alike.value(context.params),
            query=alike.value(context.query),
            headers=alike.value(context.headers),
            data=form.tables(context.data),
        )
        if self._condition.reads.path:
            segments = alike.value(context.call.segments)
            if segments is not context.call.segments:
                other.call = replace(context.call, segments=segments)
        is_other = (
            other.principal is not principal
            or other.resource is not context.resource
            or other.params is not context.params
            or other.query is not context.query
            or other.headers is not context.headers
            or other.data is not context.data
            or other.call is not context.call
        )
        return other if is_other else None

    def _caller_alike(self, alike: Alike, principal: Principal) -> Principal:
        email = None if principal.email is None else alike.text(principal.email)
        subject = alike.text(principal.subject)
        roles = alike.value(principal.roles)
        claims = alike.value(principal.claims) if self._reads_claims else principal.claims
        if (
            email is principal.email
            and subject is principal.subject
            and roles is principal.roles
            and claims is principal.claims
        ):
            return principal
        return replace(principal, email=email, subject=subject, roles=roles, claims=claims)

    def _resource_alike(self, alike: Alike, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._condition.reads.whole_resource:
            whole: Mapping[str, Any] = alike.value(resource)
            return whole
        changed = {}
        for name in self._condition.reads.resource:
            if name in resource:
                value = alike.value(resource[name])
                if value is not resource[name]:
                    changed[name] = value
        return {**resource, **changed} if changed else resource


def named_mailboxes(condition: Condition | None, *, is_deny: bool) -> NamedMailboxes | None:
    """None where it reads no address of the caller."""
    if condition is None or not condition.is_taken_apart:
        return None
    paths = condition.expression.paths
    if not any(_is_address(path) for path in paths if not path.against_null):
        return None
    return NamedMailboxes(condition, is_deny=is_deny)


def _is_address(path: FieldPath) -> bool:
    read = (path.root, *(step if isinstance(step, str) else None for step in path.steps))
    return any(
        all(one in (None, other) for one, other in zip(read, address, strict=False))
        for address in _ADDRESSES
    )


def _parts_read(condition: Condition, context: EvaluationContext) -> int:
    """How much of the resource the engine is handed."""
    resource = context.resource
    if condition.reads.whole_resource:
        left: list[Any] = [resource]
    else:
        left = [resource.get(name) for name in condition.reads.resource]
    count = 0
    while left:
        value = left.pop()
        count += 1
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    return count


def _compares_texts_alone(node: Node) -> bool:
    """Whether what it reads is compared by `==`, `!=` and `in` alone, with texts that are told."""
    if node.kind == "method" and node.word not in _GOING_THROUGH:
        return False
    if (node.kind == "call" and node.word != "has") or (node.kind == "text" and not node.word):
        return False
    return node.kind in _PLAIN and all(map(_compares_texts_alone, node.parts))
