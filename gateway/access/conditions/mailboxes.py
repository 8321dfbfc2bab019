"""Conditions that name a mailbox, of a caller whose address is written in another way.

Law: what keeps a mailbox away does so in whatever spelling its owner wrote the address.  A fact
for which somebody is kept away holds where it does of any spelling.  One for which they pass
takes the address as written: `gross@x` may be somebody else's than `groß@x`, which are one
account here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import FieldPath, read_expression
from gateway.access.conditions.facts import Fact, Turn, compares_alone, facts_of, reads, turn_of
from gateway.access.conditions.parts import Outcome, Part, joined
from gateway.access.conditions.syntax import texts_in
from gateway.email_address import other_spellings
from gateway.model import Principal

_CLAIM = "email"
MOST_PARTS = 4_096
"""Times the other spellings of the caller: what is longer keeps them away unread.  One who writes
capitals has one such spelling, and a body has no more parts."""
_WALKED = frozenset(("user", "resource"))
_ADDRESSES = (("user", _CLAIM), ("user", "claims", _CLAIM))


@dataclass(frozen=True, slots=True)
class _Sought:
    """A fact by which somebody is kept away for their address."""

    settles: bool
    """What it gives where they are."""
    texts: frozenset[str] | None
    """Those that are written in it, where it says of no spelling but one that equals some text of
    it or of what it reads; None where it may say more."""


class NamedMailboxes:
    """Of one condition that keeps somebody away for their address."""

    __slots__ = ("_asked", "_is_deny", "_part")

    def __init__(self, fact: Fact, *, is_deny: bool) -> None:
        self._is_deny = is_deny
        self._asked: dict[Condition, _Sought] = {}
        self._part = self._compiled(fact)

    def outcome(self, written: Outcome, context: EvaluationContext) -> Outcome:
        """`written`: how the condition came out for the address as it is."""
        principal = context.principal
        # Who is kept away already has nothing to gain.
        if principal is None or written is self._is_deny or isinstance(written, str):
            return written
        others = [replace(context, principal=one) for one in _spelled(principal)]
        if not others:
            return written
        # What a condition reads may be long, and each spelling takes it as long again.
        named = {
            atom: others
            if asked.texts is None
            else _named(others, asked.texts | _texts_read(atom, context, principal))
            for atom, asked in self._asked.items()
        }
        if not any(named.values()):
            return written

        def of_atom(atom: Condition) -> Outcome:
            outcome = atom.evaluate(context)
            asked = self._asked.get(atom)
            if asked is None or outcome is asked.settles:
                return outcome
            if asked.texts is None and _parts_read(atom, context) * len(others) > MOST_PARTS:
                return asked.settles
            outcomes = [atom.evaluate(other) for other in named[atom]]
            if asked.settles in outcomes:
                return asked.settles
            # What fails of another spelling, such as one that is no key of a table, says nothing.
            if isinstance(outcome, bool):
                return outcome
            return next((one for one in outcomes if isinstance(one, bool)), outcome)

        return joined(self._part, of_atom)

    def _compiled(self, fact: Fact) -> Part:
        if fact.kind != "fact":
            return Part(fact.kind, tuple(map(self._compiled, fact.parts)))
        # Its names and types were checked with the whole condition.
        atom = Condition(fact.text, read_expression(fact.text))
        if _keeps_away(fact):
            self._asked[atom] = _Sought(fact.keeps_away, _texts_of(fact, atom))
        return Part("atom", atom=atom)


def _texts_of(fact: Fact, atom: Condition) -> frozenset[str] | None:
    node = fact.node
    if node is None or turn_of(node, _ADDRESSES) is Turn.UNCLEAR or not compares_alone(node):
        return None
    if not {path.root for path in atom.expression.paths} <= _WALKED:
        return None
    return frozenset(texts_in(node, {}))


def _texts_read(
    atom: Condition, context: EvaluationContext, principal: Principal
) -> frozenset[str]:
    """All that stand in what the fact reads of the resource, and what is said of the caller."""
    texts: set[str] = set()
    said = [principal.subject, principal.issuer, principal.session_id, principal.email]
    for value in _values(
        [*_resource_read(atom, context), *said, principal.roles, principal.claims]
    ):
        if isinstance(value, str):
            texts.add(value)
        elif isinstance(value, Mapping):
            texts.update(value)
    return frozenset(texts)


def _parts_read(atom: Condition, context: EvaluationContext) -> int:
    """How much of the resource the engine is handed for each spelling."""
    return sum(1 for _ in _values(_resource_read(atom, context)))


def _resource_read(atom: Condition, context: EvaluationContext) -> list[Any]:
    if atom.reads.whole_resource:
        return [context.resource]
    return [context.resource.get(name) for name in atom.reads.resource]


def _values(values: list[Any]) -> Iterator[Any]:
    """These, and all that lie within them."""
    left = list(values)
    while left:
        value = left.pop()
        yield value
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


def _named(others: list[EvaluationContext], texts: frozenset[str]) -> list[EvaluationContext]:
    """Those of which the address is one of the texts."""
    return [
        one
        for one in others
        if one.principal is not None
        and any(
            isinstance(address, str) and address in texts
            for address in (one.principal.email, one.principal.claims.get(_CLAIM))
        )
    ]


def named_mailboxes(condition: Condition | None, *, is_deny: bool) -> NamedMailboxes | None:
    """None where nobody is kept away for an address."""
    if condition is None or not condition.is_taken_apart:
        return None
    if not any(path.root == "user" for path in condition.expression.paths):
        return None
    fact = facts_of(condition.source, _ADDRESSES, is_deny=is_deny)
    if not any(map(_keeps_away, fact.facts())):
        return None
    return NamedMailboxes(fact, is_deny=is_deny)


def mailboxes_sought(condition: Condition, *, is_deny: bool) -> Iterator[Fact]:
    """The facts by which it keeps somebody away for their address."""
    yield from filter(_keeps_away, facts_of(condition.source, _ADDRESSES, is_deny=is_deny).facts())


def _keeps_away(fact: Fact) -> bool:
    """What is not taken apart further does so, too, where a part of it may turn it round."""
    node = fact.node
    if node is None:
        expression = read_expression(fact.text)
        return (fact.keeps_away or expression.negates) and any(map(_is_address, expression.paths))
    if not reads(node, _ADDRESSES):
        return False
    turn = turn_of(node, _ADDRESSES)
    # Turned round, it keeps away where it does not hold.
    return turn is Turn.UNCLEAR or fact.keeps_away is (turn is Turn.NO)


def _is_address(path: FieldPath) -> bool:
    read = (path.root, *(step if isinstance(step, str) else None for step in path.steps))
    return any(
        all(one in (None, other) for one, other in zip(read, address, strict=False))
        for address in _ADDRESSES
    )


def _spelled(principal: Principal) -> Iterator[Principal]:
    """The caller with each other spelling of the address, and of the claim."""
    email, claim = principal.email, principal.claims.get(_CLAIM)
    for other in () if email is None else other_spellings(email):
        claims = {**principal.claims, _CLAIM: other} if claim == email else principal.claims
        yield replace(principal, email=other, claims=claims)
    if isinstance(claim, str) and claim != email:
        for other in other_spellings(claim):
            yield replace(principal, claims={**principal.claims, _CLAIM: other})
