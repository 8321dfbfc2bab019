"""Conditions that a finite set of callers settles, and those that it cannot.

A condition is settled by who the caller is (signed in or not, roles, being the one that the
resource names) when it compares nothing else.  Of any other, both outcomes are tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from gateway.access.conditions import Condition, Reads, compile_condition
from gateway.access.expressions import Token, tokens_of
from gateway.access.facts import Facts
from gateway.access.policies import Rule
from gateway.access.routes import Route

_SETTLED_CALLS = frozenset(("has_role", "has"))
_SETTLED_USER = frozenset(("id", "roles"))
_STRING = r"""(?:'[^'\\]*'|"[^"\\]*")"""
_ROLE_TEST = re.compile(rf"{_STRING}\s+in\s+user\.roles|has_role\(\s*{_STRING}\s*\)")
_CONSTANT_TEST = re.compile(
    rf"(resource\.[A-Za-z_][A-Za-z0-9_]*|request\.method)\s*[=!]=\s*{_STRING}"
    rf"|{_STRING}\s*[=!]=\s*(resource\.[A-Za-z_][A-Za-z0-9_]*|request\.method)"
)
_LEFT_OVER = re.compile(r"['\"0-9]")


@dataclass(slots=True)
class Assignment:
    """The outcomes that are tried now, by the text of the part of a condition."""

    outcomes: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Part:
    """A condition taken apart at its `&&`, `||` and `!`; an atom is judged as a whole."""

    kind: str
    """`and`, `or`, `not` or `atom`."""
    parts: tuple[Part, ...] = ()
    atom: Condition | None = None

    def atoms(self) -> Iterator[Condition]:
        if self.atom is not None:
            yield self.atom
        for part in self.parts:
            yield from part.atoms()


class Assumed(Condition):
    """A condition of which some atoms are assumed, and the others judged."""

    __slots__ = ("_assignment", "_opaque", "_part")

    def __init__(
        self, condition: Condition, part: Part, opaque: set[str], assignment: Assignment
    ) -> None:
        super().__init__(condition.source, condition.expression)
        # What it would have read of the request is assumed, so it cannot be ambiguous.
        self.reads = Reads()
        self._part = part
        self._opaque = opaque
        self._assignment = assignment

    def judge(self, facts: Facts) -> bool | str:
        return self._judge(self._part, facts)

    def _judge(self, part: Part, facts: Facts) -> bool | str:
        """As CEL does: one false settles an `and`, one true an `or`, whatever else fails."""
        if part.atom is not None:
            if part.atom.source in self._opaque:
                return self._assignment.outcomes[part.atom.source]
            return part.atom.judge(facts)
        outcomes = [self._judge(one, facts) for one in part.parts]
        if part.kind == "not":
            (outcome,) = outcomes
            return outcome if isinstance(outcome, str) else not outcome
        settles = part.kind == "or"
        if any(outcome is settles for outcome in outcomes):
            return settles
        return next((o for o in outcomes if isinstance(o, str)), not settles)


def taken_apart(condition: Condition) -> Part:
    """`condition` as its parts; one atom where it cannot be split."""
    tokens = tokens_of(condition.source)
    return _split(condition.source, tokens) if tokens else Part("atom", atom=condition)


def _split(source: str, tokens: list[Token]) -> Part:
    text = source[tokens[0].at : tokens[-1].at + len(tokens[-1].text)]
    whole = compile_condition(text, EVERY_TABLE)
    assert isinstance(whole, Condition), f"{text} was part of a good condition"
    if _at_top(tokens, "?"):
        return Part("atom", atom=whole)
    for sign, kind in (("||", "or"), ("&&", "and")):
        cuts = _at_top(tokens, sign)
        if cuts:
            edges = [-1, *cuts, len(tokens)]
            pieces = [tokens[a + 1 : b] for a, b in pairwise(edges)]
            return Part(kind, tuple(_split(source, piece) for piece in pieces))
    if tokens[0].text == "!" and _is_one(tokens[1:]):
        return Part("not", (_split(source, tokens[1:]),))
    if tokens[0].text == "(" and _is_one(tokens):
        return _split(source, tokens[1:-1])
    return Part("atom", atom=whole)


def _at_top(tokens: list[Token], sign: str) -> list[int]:
    """Where `sign` stands outside every bracket."""
    depth, found = 0, []
    for index, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        depth += (token.text in "([{") - (token.text in ")]}")
        if depth == 0 and token.text == sign:
            found.append(index)
    return found


def _is_one(tokens: list[Token]) -> bool:
    """Whether `tokens` are one pair of parentheses and what is in it."""
    if not tokens or tokens[0].text != "(":
        return False
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            return index == len(tokens) - 1
    return False


def is_settled(condition: Condition, routes: Iterable[Route]) -> bool:
    """Whether roles, sign-in and the identity of the caller settle it on each of `routes`."""
    reads = condition.reads
    if not reads.roots <= {"user", "resource", "request"} or reads.query or reads.headers:
        return False
    for chain in condition.expression.chains:
        # Of a bare `user` one can only ask whether there is one.
        if chain.root == "user" and chain.keys[:1] and chain.keys[0] not in _SETTLED_USER:
            return False
    if any(call.name not in _SETTLED_CALLS for call in condition.expression.calls):
        return False
    for chain in condition.expression.chains:
        if chain.root == "request" and chain.keys[:1] not in (("method",), ("params",)):
            return False
        if any(not isinstance(step, str) for step in chain.steps):
            return False
    constants = _CONSTANT_TEST.findall(condition.source)
    named = {one or two for one, two in constants}
    fields = {name.removeprefix("resource.") for name in named if name != "request.method"}
    for route in routes:
        for one in route.resource:
            sources = {piece.source for piece in one.template.pieces}
            read = one.name in reads.resource
            if read and not sources <= {"", "params"}:
                return False
            if (
                read
                and "params" in sources
                and (len(one.template.pieces) > 1 or one.name in fields)
            ):
                # Compared with a text, or only a part of one: no caller settles that.
                return False
    rest = _CONSTANT_TEST.sub("", _ROLE_TEST.sub("", condition.source))
    return _LEFT_OVER.search(rest) is None


def opaque_atoms(rules: Iterable[Rule], routes: list[Route]) -> set[str]:
    """The atoms of the rules' conditions whose outcome has to be assumed."""
    return {
        atom.source
        for rule in rules
        if rule.condition is not None
        for atom in taken_apart(rule.condition).atoms()
        if not is_settled(atom, routes)
    }


class _EveryTable(dict[str, object]):
    """Stands for the data at a second reading: its names were checked at the first."""

    def __contains__(self, key: object) -> bool:
        return True


EVERY_TABLE = _EveryTable()
