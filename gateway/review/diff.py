"""Who gains and who loses access between two configurations.

Exact over a finite product: every set of the roles that a policy knows × signed in or not ×
being each of the people that the resource names or not × every route and method of either
configuration, each asked of the real `Gate.decide` on both sides.  Where a condition reads
more than that, both of its outcomes are tried, and the answer says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from typing import Any

from gateway.access.asking import FixedClock, Known, Question, Unlimited, call_of, person, settled
from gateway.access.decision import Decision, Gate
from gateway.access.patterns import read_pattern
from gateway.access.policies import Policy
from gateway.access.routes import Kind, Match, PatternSegment, Route
from gateway.access.snapshot import Snapshot
from gateway.model import Call, CredentialKind, Place, Principal, Reason
from gateway.review.exchanging import with_policies
from gateway.review.flips import mentioned_in_conditions
from gateway.review.opaque import Assignment, Assumed, opaque_atoms, taken_apart

NOW = 1_800_000_000.0
MAX_ROLES = 6
"""Every set of so many roles is tried; of more, every set of at most two."""
MAX_OPAQUE = 6
"""Every combination of so many outcomes is tried; of more, all alike and each alone."""
ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE")
CALLER = {Kind.INT: "1000001", Kind.UUID: "11111111-1111-4111-8111-111111111111"}
OTHER = {Kind.INT: "2", Kind.UUID: "22222222-2222-4222-8222-222222222222"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    host: str | None
    pattern: str

    def __str__(self) -> str:
        return f"{self.method} {self.host or ''}{self.pattern}"


@dataclass(frozen=True, slots=True)
class Caller:
    """A class of callers.  `is_` names the parameters that hold the caller's own id."""

    roles: frozenset[str] = frozenset()
    signed_in: bool = True
    is_: frozenset[str] = frozenset()
    stale: bool = False
    """Signed in long ago, and with a password alone."""
    kind: CredentialKind = CredentialKind.BEARER

    def covers(self, other: Caller) -> bool:
        """Whether `other` is the same caller with more roles or more that is theirs."""
        return (
            self.roles <= other.roles
            and self.is_ <= other.is_
            and (self.signed_in, self.stale, self.kind)
            == (other.signed_in, other.stale, other.kind)
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One class of callers that gains or loses a request."""

    request: Request
    caller: Caller
    gains: bool
    conditions: tuple[tuple[str, bool], ...] = ()
    """Outcomes of conditions under which it is so; empty: whatever they give."""
    before: str = ""
    after: str = ""
    rule: str | None = None
    place: Place | None = None

    def who(self) -> str:
        if not self.caller.signed_in:
            return "anonymous"
        words = ["+".join(sorted(self.caller.roles)) or "everyone signed in"]
        if self.caller.is_:
            words.append("as {" + "}, {".join(sorted(self.caller.is_)) + "}")
        if self.caller.stale:
            words.append("without a fresh sign-in")
        if self.caller.kind is not CredentialKind.BEARER:
            words.append(f"with {self.caller.kind}")
        return " ".join(words)

    def __str__(self) -> str:
        verb = "GAINS" if self.gains else "LOSES"
        where = f" ({self.place})" if self.place is not None and self.place.line else ""
        text = f"{self.who()} {verb} {self.request}{where}"
        for source, outcome in self.conditions:
            text += f" where `{source}` is {'true' if outcome else 'not true'}"
        return text


@dataclass(slots=True)
class Report:
    changes: list[Change] = field(default_factory=list)
    asked: int = 0
    """Questions put to either side."""
    inexact: list[str] = field(default_factory=list)
    """Requests whose roles or conditions were too many to try every combination."""

    @property
    def widened(self) -> bool:
        return any(change.gains for change in self.changes)


def compare(old: Snapshot, new: Snapshot) -> Report:
    """Every change of access from `old` to `new`."""
    report = Report()
    for request in _requests(old, new):
        before, after = _route(old, request), _route(new, request)
        if _same(before, after):
            continue
        report.changes += _Comparison(old, new, request, report).changes()
    return report


def requests_of(snapshots: Iterable[Snapshot]) -> list[Request]:
    """Every route of any of them with each of its methods."""
    found: dict[Request, None] = {}
    named: set[str] = set()
    listed = [route for snapshot in snapshots for route in snapshot.routes]
    for route in listed:
        named.update(route.methods)
    everything = (*ANY_METHOD, *sorted(named - set(ANY_METHOD)))
    for route in listed:
        for method in route.methods or everything:
            found[Request(method, route.host, route.pattern)] = None
    return list(found)


def _requests(old: Snapshot, new: Snapshot) -> list[Request]:
    found = requests_of((old, new))
    # A pattern is asked with every method that either side knows for it.
    patterns = {(one.host, one.pattern): None for one in found}
    methods: dict[tuple[str | None, str], dict[str, None]] = {key: {} for key in patterns}
    for one in found:
        methods[one.host, one.pattern][one.method] = None
    return [Request(m, host, p) for (host, p), names in methods.items() for m in names]


class _Comparison:
    """Both sides of one request."""

    def __init__(self, old: Snapshot, new: Snapshot, request: Request, report: Report) -> None:
        self._request = request
        self._report = report
        self._segments = _segments(old, new, request)
        self._routes = [r for s in (old, new) if (r := _route(s, request)) is not None]
        self._assignment = Assignment({})
        self._sides = [_Side(s, self._assignment, self._routes) for s in (old, new)]
        self._opaque = sorted(set().union(*(side.opaque for side in self._sides)))

    def changes(self) -> list[Change]:
        assignments = list(self._assignments())
        found: list[Change] = []
        for caller in self._callers():
            differing: dict[bool, dict[tuple[bool, ...], Change]] = {True: {}, False: {}}
            for outcomes in assignments:
                self._assignment.outcomes = dict(zip(self._opaque, outcomes, strict=True))
                before, after = (self._ask(side, caller) for side in self._sides)
                if before.allowed != after.allowed:
                    change = _change(self._request, caller, before, after)
                    differing[after.allowed][outcomes] = change
            for changed in differing.values():
                found += self._summed_up(changed, assignments)
        return _least(found)

    def _ask(self, side: _Side, caller: Caller) -> Decision:
        self._report.asked += 1
        call, who = self._call(caller)
        gate = Gate(Known(who), Unlimited(), clock=FixedClock(NOW))
        return settled(gate, call, side.snapshot)

    def _call(self, caller: Caller) -> tuple[Call, Principal | Reason]:
        subject = "the-caller"
        parts: list[str] = []
        for segment in self._segments:
            if segment.kind is Kind.LITERAL:
                parts.append(segment.text)
            elif segment.text in caller.is_:
                subject = CALLER.get(segment.kind, subject)
                parts.append("")  # filled below, once the subject is known
            else:
                parts.append(OTHER.get(segment.kind, f"other-{segment.text}"))
        segments = tuple(
            subject if segment.kind is not Kind.LITERAL and segment.text in caller.is_ else part
            for segment, part in zip(self._segments, parts, strict=True)
        )
        who: Principal | Reason = Reason.NO_CREDENTIAL
        if caller.signed_in:
            who = person(
                subject,
                sorted(caller.roles),
                now=NOW,
                auth_time=NOW - 365 * 86_400 if caller.stale else NOW,
                amr=["pwd"] if caller.stale else ["pwd", *self._amr()],
            )
        host = self._request.host or "localhost"
        question = Question(self._request.method, "/", who, [("Host", host)], kind=caller.kind)
        call = call_of(question)
        assert isinstance(call, Call)
        call.path, call.segments = "/" + "/".join(segments), segments
        return call, who

    def _amr(self) -> list[str]:
        rules = [rule for side in self._sides for rule in side.rules]
        return sorted({m for rule in rules if rule.step_up for m in rule.step_up.amr})

    def _callers(self) -> Iterator[Caller]:
        roles = _roles(self._routes)
        size = len(roles) if len(roles) <= MAX_ROLES else 2
        if size < len(roles):
            self._report.inexact.append(f"{self._request}: sets of more than two roles")
        sets = chain.from_iterable(combinations(roles, n) for n in range(size + 1))
        own = _own_params(self._routes)
        mine = [frozenset(s) for n in range(len(own) + 1) for s in combinations(sorted(own), n)]
        mine = [one for one in mine if len(self._kinds(one)) <= 1]
        stale = [False, True] if any(r.step_up for s in self._sides for r in s.rules) else [False]
        kinds = [CredentialKind.BEARER]
        if len({route.accept for route in self._routes}) > 1:
            kinds = list(CredentialKind)
        yield Caller(signed_in=False)
        for held, is_, old_sign_in, kind in product(sets, mine, stale, kinds):
            yield Caller(frozenset(held), True, is_, old_sign_in, kind)

    def _kinds(self, names: frozenset[str]) -> set[Kind]:
        """Parameters of two types cannot hold one id."""
        typed = (Kind.INT, Kind.UUID, Kind.REST)
        return {s.kind for s in self._segments if s.kind in typed and s.text in names}

    def _assignments(self) -> Iterator[tuple[bool, ...]]:
        count = len(self._opaque)
        if count <= MAX_OPAQUE:
            yield from product((False, True), repeat=count)
            return
        self._report.inexact.append(f"{self._request}: combinations of {count} conditions")
        for value in (False, True):
            yield (value,) * count
            for at in range(count):
                yield tuple((not value) if i == at else value for i in range(count))

    def _summed_up(
        self, changed: dict[tuple[bool, ...], Change], tried: list[tuple[bool, ...]]
    ) -> list[Change]:
        """The changes of one caller, with the fewest conditions that tell them."""
        if not changed:
            return []
        if len(changed) == len(tried):
            return [next(iter(changed.values()))]
        left = dict(changed)
        found: list[Change] = []
        for at, value in product(range(len(self._opaque)), (True, False)):
            alike = [outcomes for outcomes in tried if outcomes[at] is value]
            if all(outcomes in changed for outcomes in alike) and any(o in left for o in alike):
                told = dataclasses.replace(
                    changed[alike[0]], conditions=((self._opaque[at], value),)
                )
                found.append(told)
                for outcomes in alike:
                    left.pop(outcomes, None)
        for outcomes, change in left.items():
            named = tuple(zip(self._opaque, outcomes, strict=True))
            found.append(dataclasses.replace(change, conditions=named))
        return found


class _Side:
    """One configuration, its opaque conditions exchanged for assumed ones."""

    def __init__(self, snapshot: Snapshot, assignment: Assignment, routes: list[Route]) -> None:
        policies = {r.policy.name: r.policy for r in snapshot.routes if r.policy is not None}
        concerned = [p for r in routes if (p := r.policy) and policies.get(p.name) is p]
        self.opaque: set[str] = set()
        self.rules = [rule for policy in concerned for rule in policy.rules]
        exchanged: dict[str, Policy] = {}
        for policy in concerned:
            judged = [route for route in routes if route.policy is policy]
            opaque = opaque_atoms(policy.rules, judged)
            self.opaque |= opaque
            if opaque:
                exchanged[policy.name] = _assuming(policy, opaque, assignment)
        self.snapshot = with_policies(snapshot, exchanged)


def _assuming(policy: Policy, opaque: set[str], assignment: Assignment) -> Policy:
    rules = tuple(
        rule
        if rule.condition is None
        else dataclasses.replace(
            rule,
            condition=Assumed(rule.condition, taken_apart(rule.condition), opaque, assignment),
        )
        for rule in policy.rules
    )
    return dataclasses.replace(policy, rules=rules, _plans={})


def _route(snapshot: Snapshot, request: Request) -> Route | None:
    segments = _segments(snapshot, snapshot, request)
    path = tuple(
        s.text if s.kind is Kind.LITERAL else OTHER.get(s.kind, f"other-{s.text}") for s in segments
    )
    match = snapshot.routes.match(request.host or "localhost", request.method, path)
    return match.route if isinstance(match, Match) else None


def _segments(old: Snapshot, new: Snapshot, request: Request) -> Sequence[PatternSegment]:
    for snapshot in (old, new):
        for route in snapshot.routes:
            if (route.host, route.pattern) == (request.host, request.pattern):
                return route.segments
    made = read_pattern(request.pattern)
    assert not isinstance(made, str)
    return made


def _roles(routes: Iterable[Route]) -> list[str]:
    """The roles that can matter: any other is as good as none."""
    found: set[str] = set()
    for route in routes:
        if route.policy is None:
            continue
        book = route.policy.roles
        named = set(mentioned_in_conditions(route.policy))
        for role in book.roles:
            if named & book.held((role,)) or book.permits((role,), route.action):
                found.add(role)
        found |= named
    return sorted(found)


def _own_params(routes: Iterable[Route]) -> set[str]:
    """Path parameters that a condition may compare with the caller's id."""
    found: set[str] = set()
    for route in routes:
        if route.policy is None:
            continue
        for rule in route.policy.plan(route.action).rules:
            if rule.condition is None or "id" not in rule.condition.reads.user:
                continue
            found |= rule.condition.reads.params & set(route.param_names)
            for one in route.resource:
                if one.name in rule.condition.reads.resource:
                    found.update(one.template.names("params"))
    return found


def _change(request: Request, caller: Caller, before: Decision, after: Decision) -> Change:
    # Who loses because no rule allows any more is told which one did.
    silent = after.reason == Reason.NO_RULE and after.rule is None
    told = before if silent or after.place is None else after
    return Change(
        request,
        caller,
        after.allowed,
        before=str(before.reason),
        after=str(after.reason),
        rule=told.rule,
        place=told.place,
    )


def _least(changes: list[Change]) -> list[Change]:
    """Without those that a told change of a broader class of callers says already."""
    ordered = sorted(
        changes, key=lambda c: (len(c.conditions), len(c.caller.roles) + len(c.caller.is_))
    )
    kept: list[Change] = []
    for change in ordered:
        said = any(
            other.gains is change.gains
            and other.caller.covers(change.caller)
            and set(other.conditions) <= set(change.conditions)
            for other in kept
        )
        if not said:
            kept.append(change)
    return kept


def _same(before: Route | None, after: Route | None) -> bool:
    """Whether nothing that decides differs, so that no caller can."""
    if before is None or after is None:
        return before is after
    if before.rewrite is not None or after.rewrite is not None:
        # Where a rewrite leads may belong to another route, which may have changed.
        return False
    return _decisive(before) == _decisive(after)


def _decisive(route: Route) -> tuple[Any, ...]:
    policy = route.policy
    return (
        route.pattern,
        route.host,
        route.auth,
        route.accept,
        route.action,
        tuple((one.name, one.template.text) for one in route.resource),
        route.allow_encoded_slash,
        None if policy is None else _policy_key(policy),
    )


def _policy_key(policy: Policy) -> tuple[Any, ...]:
    rules = tuple(
        (
            rule.effect,
            rule.actions,
            rule.role_permissions,
            rule.every_user,
            rule.condition.source if rule.condition is not None else None,
            rule.shadow,
            rule.step_up,
        )
        for rule in policy.rules
    )
    roles = tuple(
        (role.name, role.inherits, role.permissions)
        for role in sorted(policy.roles.roles.values(), key=lambda role: role.name)
    )
    return (policy.shadow, rules, roles, repr(policy.data))
