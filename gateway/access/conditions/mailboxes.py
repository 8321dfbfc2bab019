"""Conditions that read the caller's address of e-mail, which its owner may have written in any
letters.

Law: what keeps a mailbox away does so in whatever spelling.  Such a condition is asked as all is
written, and once more in the world in which nobody writes capitals (`spelled_alike.py`), if an
address reads otherwise there.  A deny applies where it does in either, an allow where it does in
both, so that a spelling lets nobody pass: `gross@x` may be somebody else's than `groß@x`, which are
one account here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from gateway.access.conditions.conditions import Condition, Outcome, outcome_of
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import FieldPath, read_expression
from gateway.access.conditions.functions import has_scope
from gateway.access.conditions.spelled_alike import Alike, condition_alike, field_names, is_plain
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
_TOO_LONG = "it holds too much to be read in another spelling"


class TablesAlike:
    """The tables of one policy as they are in that world, each rewritten once; and what all of its
    conditions name as fields, which stays."""

    __slots__ = ("_known", "data", "fields", "keeps_patterns")

    def __init__(self, data: Mapping[str, Any], conditions: Iterable[Condition]) -> None:
        self.data = data
        fields: set[str] = set()
        self.keeps_patterns = False
        """Whether a table may hold patterns."""
        for condition in conditions:
            fields.update(field_names(condition.source))
            calls = condition.expression.calls
            asked = [call for call in calls if call.name == "matches"]
            self.keeps_patterns |= any(None in call.literals for call in asked)
        self.fields = frozenset(fields)
        self._known: dict[tuple[str, bool], tuple[Any, Alike]] = {}

    def alike(self, *, folds: bool) -> Alike:
        """What rewrites the texts of a call."""
        return Alike(folds=folds, fields=self.fields)

    def table(self, name: str, *, folds: bool) -> tuple[Any, Alike]:
        """It, and what rewrote it."""
        known = self._known.get((name, folds))
        if known is None and folds:
            plain = self.table(name, folds=False)
            known = None if plain[1].folds_more else plain
        if known is None:
            alike = Alike(folds=folds, fields=self.fields, keeps_patterns=self.keeps_patterns)
            known = alike.value(self.data[name]), alike
            # A table may hold many.
            alike.texts.clear()
        self._known[name, folds] = known
        return known


class _World:
    """A condition and its tables as they are there."""

    __slots__ = ("condition", "data", "folds", "folds_more", "says_address", "texts")

    def __init__(self, condition: Condition, tables: TablesAlike, *, folds: bool) -> None:
        own = tables.alike(folds=folds)
        source = condition_alike(condition.source, own, tables.fields)
        # Its names and types were checked as it is written.
        self.condition = Condition(source, read_expression(source), ignores_case=True)
        self.folds = folds
        self.texts = own.texts
        read = [path.keys[:1] for path in condition.expression.paths if path.root == "data"]
        names = {keys[0] for keys in read if keys} if () not in read else set(tables.data)
        found = {name: tables.table(name, folds=folds) for name in names & set(tables.data)}
        self.data = {name: table for name, (table, _) in found.items()}
        self.data |= {own.key(name): table for name, (table, _) in found.items()}
        writers = [own, *(alike for _, alike in found.values())]
        self.folds_more = any(alike.folds_more for alike in writers)
        self.says_address = any(alike.says_address for alike in writers)


class NamedMailboxes:
    """Of one condition that reads the address of the caller."""

    __slots__ = (
        "_compares_alone",
        "_condition",
        "_is_deny",
        "_is_plain",
        "_reads_claims",
        "_tables",
        "_worlds",
    )

    def __init__(self, condition: Condition, *, is_deny: bool) -> None:
        self._condition = condition
        self._is_deny = is_deny
        self._tables: TablesAlike | None = None
        self._worlds: tuple[_World, ...] = ()
        self._is_plain = False
        """Whether nothing that the condition and its tables say reads otherwise there."""
        tree = tree_of(condition.source)
        roots = {path.root for path in condition.expression.paths}
        self._compares_alone = (
            tree is not None
            and _compares_texts_alone(tree)
            and roots <= {"user", "resource", "request"}
            and not condition.reads.path
        )
        self._reads_claims = bool(condition.reads.user & _BY_CLAIMS)

    def read_tables(self, tables: TablesAlike) -> None:
        """Those of its policy, before it is asked for the first time."""
        self._tables = tables
        self._worlds = tuple(
            _World(self._condition, tables, folds=folds) for folds in (False, True)
        )
        self._is_plain = not any(world.says_address for world in self._worlds)

    def outcome(self, as_written: Outcome, context: EvaluationContext) -> Outcome:
        """`as_written`: how the condition came out with all as it is written."""
        principal = context.principal
        # Who is kept away already has nothing to gain.
        if principal is None or as_written is self._is_deny or isinstance(as_written, str):
            return as_written
        if self._tables is None or self._tables.data is not context.data:
            self.read_tables(TablesAlike(context.data, [self._condition]))
        if self._is_plain and self._reads_plain_texts(context, principal):
            return as_written
        # `groß` may begin with what is joined, or stand in a table: an allow is not asked for that.
        worlds = self._worlds if self._is_deny or self._compares_alone else self._worlds[:1]
        for times, world in enumerate(worlds, 1):
            outcome, folds_more = self._outcome_in(world, context, principal, times)
            if outcome is not None and outcome is not as_written:
                return outcome
            if not folds_more:
                break
        return as_written

    def _reads_plain_texts(self, context: EvaluationContext, principal: Principal) -> bool:
        """Whether nothing of the call does, as of nearly all: asked apart, as it is quick."""
        claims, resource, reads = principal.claims, context.resource, self._condition.reads
        return (
            is_plain(principal.email)
            and is_plain(principal.subject)
            and is_plain(claims if self._reads_claims else claims.get("email"))
            and is_plain(
                resource
                if reads.whole_resource
                else [resource[name] for name in reads.resource if name in resource]
            )
            and is_plain(context.params)
            and is_plain(context.query)
            and is_plain(context.headers)
            and not (reads.path and not is_plain(context.call.segments))
        )

    def _outcome_in(
        self, world: _World, context: EvaluationContext, principal: Principal, times: int
    ) -> tuple[Outcome | None, bool]:
        """None where it cannot but come out as it is written; and whether it may come out otherwise
        where letters are folded.  `times`: how often it is read."""
        assert self._tables is not None, "worlds are made with their tables"
        alike = self._tables.alike(folds=world.folds)
        there = self._context_in(world, alike, context, principal)
        folds_more = alike.folds_more or world.folds_more
        if not (alike.says_address or world.says_address):
            return None, folds_more
        if self._compares_alone:
            # What equals what is the same as before.
            texts = {**alike.texts, **world.texts}
            if len(set(texts.values())) == len(texts):
                return None, folds_more
        elif _parts_read(self._condition, context) * times > MOST_PARTS:
            return _TOO_LONG, False
        functions = _functions_in(alike, context, principal)
        return outcome_of(world.condition.value(there, functions=functions)), folds_more

    def _context_in(
        self, world: _World, alike: Alike, context: EvaluationContext, principal: Principal
    ) -> EvaluationContext:
        there = replace(
            context,
            principal=self._caller_in(alike, principal),
            params=alike.value(context.params),
            query=alike.value(context.query),
            headers=alike.value(context.headers),
            resource=self._resource_in(alike, context.resource),
            data=world.data,
        )
        if "request" in self._condition.reads.roots:
            call = context.call
            segments = alike.value(call.segments) if self._condition.reads.path else call.segments
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
            claims=alike.value(claims) if self._reads_claims else claims,
            subject=alike.text(principal.subject),
            session_id=alike.value(principal.session_id),
            issuer=alike.text(principal.issuer),
            roles=alike.value(principal.roles),
            scopes=alike.value(principal.scopes),
            granted_scopes=alike.value(principal.granted_scopes),
        )

    def _resource_in(self, alike: Alike, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._condition.reads.whole_resource:
            whole: Mapping[str, Any] = alike.value(resource)
            return whole
        names = self._condition.reads.resource
        return {alike.key(name): alike.value(resource[name]) for name in names if name in resource}


def named_mailboxes(condition: Condition | None, *, is_deny: bool) -> NamedMailboxes | None:
    """None where it reads no address of the caller."""
    if condition is None or not condition.is_taken_apart:
        return None
    paths = condition.expression.paths
    if not any(_is_address(path) for path in paths if not path.against_null):
        return None
    return NamedMailboxes(condition, is_deny=is_deny)


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
