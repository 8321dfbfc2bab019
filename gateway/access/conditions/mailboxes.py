"""Conditions that read the caller's address of e-mail, which its owner may have written in any
letters.

Law: what keeps a mailbox away does so in whatever spelling.  Such a condition is asked as all is
written, and once more in the world in which nobody writes capitals (`spelled_alike.py`), if an
address reads otherwise there.  A deny applies where it does in either, an allow where it does in
both, so that a spelling lets nobody pass: `gross@x` may be somebody else's than `groß@x`, which are
one account here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.access.conditions.conditions import Condition, Outcome, outcome_of
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import FieldPath
from gateway.access.conditions.functions import has_scope
from gateway.access.conditions.spelled_alike import Alike, CallAlike, TooMuch, asks_parts, is_plain
from gateway.access.conditions.syntax import Node, tree_of
from gateway.access.conditions.worlds_alike import PolicyTables, WorldAlike
from gateway.model import Principal

MOST_PARTS = 3_000
"""What a body holds, as often as it is read for other spellings by all conditions of a call: what
is longer keeps away whoever has them, unread."""
MOST_COMPARED = 5_000
"""The same of conditions that compare texts alone, which are asked again where two that they read
become one."""
_ADDRESSES = (("user", "email"), ("user", "claims", "email"))
_BY_CLAIMS = frozenset(("claims", "attributes", "tenants", "tenant", "tenant_role"))
_GOING_THROUGH = frozenset(("exists", "all"))
_PLAIN = frozenset(
    ("==", "!=", "in", "and", "or", "not", "if", "method", "call", "field", "index", "name", "text",
     "number", "minus", "list")
)  # fmt: skip
_TOO_LONG = "it holds too much to be read in another spelling"


class NamedMailboxes:
    """Of one condition that reads the address of the caller."""

    __slots__ = (
        "__weakref__",
        "_compares_alone",
        "_is_deny",
        "_reads_claims",
        "asks_parts",
        "condition",
        "keeps_escapes",
    )

    def __init__(self, condition: Condition, *, is_deny: bool) -> None:
        self.condition = condition
        self._is_deny = is_deny
        self.asks_parts = asks_parts(condition.source)
        patterns = [call for call in condition.expression.calls if call.name == "matches"]
        self.keeps_escapes = any(None in call.literals for call in patterns)
        """Whether what a table or a call holds may be a pattern."""
        tree = tree_of(condition.source)
        roots = {path.root for path in condition.expression.paths}
        self._compares_alone = (
            tree is not None
            and _compares_texts_alone(tree)
            and roots <= {"user", "resource", "request"}
            and not condition.reads.path
        )
        self._reads_claims = bool(condition.reads.user & _BY_CLAIMS)

    def outcome(self, as_written: Outcome, context: EvaluationContext) -> Outcome:
        """`as_written`: how the condition came out with all as it is written."""
        # Who is kept away already has nothing to gain.
        return as_written if as_written is self._is_deny else self._other(as_written, context)

    def outcome_of_part(
        self, part: Condition, as_written: Outcome, context: EvaluationContext, *, is_known: bool
    ) -> Outcome:
        """How a part of it comes out where the whole is asked, in the first world in which that is
        not `as_written`.  `is_known`: the address is, which else may be written in any letters."""
        return self._other(as_written, context, part, is_known=is_known)

    def _other(
        self,
        as_written: Outcome,
        context: EvaluationContext,
        part: Condition | None = None,
        *,
        is_known: bool = True,
    ) -> Outcome:
        principal = context.principal
        if principal is None or isinstance(as_written, str):
            return as_written
        data = context.data
        tables = data if isinstance(data, PolicyTables) else PolicyTables(data)
        worlds = tables.worlds(self)
        try:
            is_plain = is_known and not (worlds[0].says_address or worlds[1].says_address)
            if is_plain and self._reads_plain_texts(context, principal):
                return as_written
            return self._outcome_in(worlds, as_written, context, principal, part)
        except (RecursionError, TooMuch):
            return _TOO_LONG

    def _reads_plain_texts(self, context: EvaluationContext, principal: Principal) -> bool:
        """Whether nothing of the call reads otherwise there, as of nearly all: asked apart, as it
        is quick."""
        resource, reads = context.resource, self.condition.reads
        claims = principal.claims
        asked: list[Any] = [claims if self._reads_claims else None]
        if reads.whole_resource:
            asked.append(resource)
        asked += [resource[name] for name in reads.resource if name in resource]
        asked += [context.params, context.query, context.headers]
        if "roles" in reads.user:
            asked.append(principal.roles)
        if "request" in reads.roots:
            asked.append(context.call.host)
        if reads.path:
            asked.append(context.call.segments)
        if not (
            is_plain([principal.email, claims.get("email")])
            and is_plain(principal.subject, may_be_part=self.asks_parts)
        ):
            return False
        call = _of_call(context)
        return all(call.is_plain(one, may_be_part=self.asks_parts) for one in asked)

    def _outcome_in(
        self,
        worlds: tuple[WorldAlike, WorldAlike],
        as_written: Outcome,
        context: EvaluationContext,
        principal: Principal,
        part: Condition | None,
    ) -> Outcome:
        call = _of_call(context)
        # `groß` may begin with what is joined, or stand in a table: an allow is not asked for that.
        times = 2 if self._is_deny or self._compares_alone else 1
        for number in range(times):
            world = worlds[number]
            alike = call.way(folds=number == 1, keeps_escapes=self.keeps_escapes)
            other = self._context_in(world, alike, context, principal)
            if not self._compares_alone or world.makes_one_of_two(alike):
                if self._is_too_long(call, context):
                    return _TOO_LONG
                functions = _functions_in(alike, context, principal)
                asked = world.condition if part is None else world.part(part)
                outcome = outcome_of(asked.value(other, functions=functions))
                if outcome is not as_written:
                    return outcome
            if not (alike.folds_more or world.folds_more):
                break
        return as_written

    def _is_too_long(self, call: CallAlike, context: EvaluationContext) -> bool:
        parts = _parts_read(self.condition, context)
        if parts <= len(self.condition.reads.resource):
            return False  # some fields are no body
        if self._compares_alone:
            call.compared += parts
        else:
            call.parts += parts
        return call.parts > MOST_PARTS or call.compared > MOST_COMPARED

    def _context_in(
        self, world: WorldAlike, alike: Alike, context: EvaluationContext, principal: Principal
    ) -> EvaluationContext:
        there = replace(
            context,
            principal=self._caller_in(alike, principal),
            params=alike.whole(context.params),
            query=alike.whole(context.query),
            headers=alike.whole(context.headers),
            resource=self._resource_in(alike, context.resource),
            data=world.data,
        )
        if "request" in self.condition.reads.roots:
            call = context.call
            segments = alike.value(call.segments) if self.condition.reads.path else call.segments
            there.call = replace(
                call,
                method=alike.text(call.method),
                host=alike.text(call.host),
                segments=segments,
            )
        return there

    def _caller_in(self, alike: Alike, principal: Principal) -> Principal:
        email, claims = principal.email, principal.claims
        if email is not None:
            email = alike.address(email)
        if isinstance(claims.get("email"), str):
            alike.address(claims["email"])
        return replace(
            principal,
            email=email,
            claims=alike.whole(claims) if self._reads_claims else claims,
            subject=alike.text(principal.subject),
            session_id=alike.value(principal.session_id),
            issuer=alike.text(principal.issuer),
            roles=alike.value(principal.roles),
            scopes=alike.value(principal.scopes),
            granted_scopes=alike.value(principal.granted_scopes),
        )

    def _resource_in(self, alike: Alike, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.condition.reads.whole_resource:
            whole: Mapping[str, Any] = alike.whole(resource)
            return whole
        names = self.condition.reads.resource
        return {alike.text(name): alike.whole(resource[name]) for name in names if name in resource}


def named_mailboxes(condition: Condition | None, *, is_deny: bool) -> NamedMailboxes | None:
    """None where it reads no address of the caller."""
    if condition is None or not condition.is_as_written:
        return None
    paths = condition.expression.paths
    if not any(_is_address(path) for path in paths if not path.against_null):
        return None
    return NamedMailboxes(condition, is_deny=is_deny)


def _of_call(context: EvaluationContext) -> CallAlike:
    if context.alike is None:
        context.alike = CallAlike()
    call: CallAlike = context.alike
    return call


def _functions_in(
    alike: Alike, context: EvaluationContext, principal: Principal
) -> dict[str, Callable[[Any], bool]]:
    """What asks for roles and scopes knows them in both ways."""
    held = context.roles.expand(principal.roles)
    roles = held | {alike.text(role) for role in held}
    there = replace(
        principal,
        scopes=alike.value(principal.scopes),
        granted_scopes=alike.value(principal.granted_scopes),
    )
    return {
        "has_role": lambda role: isinstance(role, str) and role in roles,
        "has_scope": lambda action: has_scope(principal, action) or has_scope(there, action),
    }


def _is_address(path: FieldPath) -> bool:
    read = (path.root, *(step if isinstance(step, str) else None for step in path.steps))
    return any(
        all(one in (None, other) for one, other in zip(read, address, strict=False))
        for address in _ADDRESSES
    )


def _parts_read(condition: Condition, context: EvaluationContext) -> int:
    """How much of the resource the engine is handed."""
    left: list[Any] = list(condition.resource_read(context).values())
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
