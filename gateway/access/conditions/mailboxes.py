"""Conditions that name a mailbox, of a caller whose address is written in another way.

Law: what keeps a mailbox away does so in whatever spelling its owner wrote the address.  A fact
for which somebody is kept away holds where it does of any spelling.  One for which they pass
takes the address as written: `gross@x` may be somebody else's than `groß@x`, which are one
account here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import FieldPath, read_expression
from gateway.access.conditions.facts import Fact, Turn, facts_of, reads, turn_of
from gateway.access.conditions.parts import Outcome, Part, joined
from gateway.email_address import other_spellings
from gateway.model import Principal

_CLAIM = "email"
_ADDRESSES = (("user", _CLAIM), ("user", "claims", _CLAIM))


class NamedMailboxes:
    """Of one condition that keeps somebody away for their address."""

    __slots__ = ("_is_deny", "_part", "_settles")

    def __init__(self, fact: Fact, *, is_deny: bool) -> None:
        self._is_deny = is_deny
        self._settles: dict[Condition, bool] = {}
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

        def of_atom(atom: Condition) -> Outcome:
            outcome = atom.evaluate(context)
            settles = self._settles.get(atom)
            if settles is None or outcome is settles:
                return outcome
            outcomes = [atom.evaluate(other) for other in others]
            if settles in outcomes:
                return settles
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
            self._settles[atom] = fact.keeps_away
        return Part("atom", atom=atom)


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
    return fact.keeps_away or turn_of(node, _ADDRESSES) is not Turn.NO


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
