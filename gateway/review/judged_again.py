"""Recorded decisions made again by another configuration.

Law: what a record does not hold is not guessed.  A call is judged with every outcome that a
condition may have had which reads such a thing, and where the answers differ, or a part of the
call that is looked at is not there, the answer is unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.conditions.conditions import Condition, Outcome
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import Expression
from gateway.access.conditions.mailboxes import named_mailboxes
from gateway.access.decision_record import RecordedDecision
from gateway.access.policies import Effect, Policy, Rule
from gateway.access.record_gaps import LeftOut
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.destinations import MOVING
from gateway.access.simulation import FixedClock, NoLimits, SlowAuthenticator, run_sync
from gateway.access.snapshot import Snapshot
from gateway.model import (
    OWN_ISSUER,
    OWN_ISSUERS,
    Call,
    Credential,
    CredentialKind,
    Principal,
    Reason,
)
from gateway.review.opaque import possible_outcomes
from gateway.review.other_letters import PartsInOtherLetters
from gateway.review.parts import Part, taken_apart
from gateway.review.policy_override import with_policies
from gateway.review.unknown_reads import unknown_reads

MOST_TRIALS = 64
"""Ways in which the conditions of one call may come out that are tried."""

_OF_EVERY_TOKEN = frozenset(("claims", "session_id"))
_OF_OUR_TOKENS = frozenset(("attributes", "tenants", "tenant", "tenant_role"))
"""What a record does not hold of a caller; of another issuer's nobody has the latter."""

_STANDING = frozenset(
    (Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED, Reason.TOKEN_OUTDATED, Reason.SESSION_UNKNOWN)
)
"""Refusals of a credential that no configuration would take; of another it may be otherwise."""

_EVERY_KIND = frozenset(CredentialKind)
_LOOKED_AT = frozenset((Reason.NO_CREDENTIAL, Reason.NO_RULE, Reason.ROUTE_OPTIONAL))
"""Answers to who was looked for and was nobody."""


@dataclass(slots=True)
class JudgedAgain:
    decision: Decision
    """One that may have been made; where `unknown` is empty, the one."""
    unknown: list[str]
    """What the decision depends on and the record does not hold."""
    absent: list[str]
    """What else of the caller the rules read and the record does not hold."""


class SecondJudge:
    """Judges recorded calls by one configuration."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._trials = _Trials()
        self._snapshot = with_policies(snapshot, _watched(snapshot, self._trials))
        self._clock = _WatchedClock(0.0)  # set to the time of each decision
        self._caller = _RecordedCaller(snapshot.version)
        self._authorizer = Authorizer(
            self._caller, NoLimits(), clock=self._clock, origins=OwnOrigins(snapshot.public_url)
        )

    def judge(self, recorded: RecordedDecision, *, whole: bool = True) -> JudgedAgain:
        """`whole` is whether the record is one of the decision log, which holds more."""
        self._caller.asked_of(recorded, whole=whole)
        self._trials.lacks_email = not whole
        bearer = Credential(CredentialKind.BEARER, "")
        # Whoever the caller is, `_RecordedCaller` says it.
        call = dataclasses.replace(recorded.call, credential=bearer, presented=None)
        self._clock.asked = False
        self._trials.names = set()
        decisions = self._decisions(call, recorded.at)
        if self._clock.asked and recorded.took_s:
            # It was decided between the two, which are told to a thousandth.
            for at in (recorded.at - recorded.took_s - 0.001, recorded.at + 0.0005):
                decisions |= self._decisions(call, at)
        decision = next(iter(decisions.values()))
        unknown: set[str] = set()
        if len(decisions) > 1:
            unknown |= self._trials.names or {"moment of the decision"}
        if self._caller.is_unknown:
            unknown.add("credential that came")
        elif self._caller.asked or decision.refusal is not Reason.AMBIGUOUS_PATH:
            unknown.update(unknown_reads(recorded, decision))
        if decision.allowed and not recorded.holds_roles and _reads_roles(decision):
            unknown.add("all roles of the account")
        written = call.method in MOVING and not recorded.holds_destination
        if written and decision.route is not None and decision.reason != Reason.AMBIGUOUS_PATH:
            unknown.add("header destination")
        absent = self._trials.absent(decision)
        return JudgedAgain(decision, sorted(unknown), sorted(absent - unknown))

    def _decisions(self, call: Call, at: float) -> dict[tuple[bool, str], Decision]:
        """Those that may have been made at that time, by their answers; not all where there are
        two, as it is unknown then, nor where there are too many to try."""
        self._clock.at = at
        found: dict[tuple[bool, str], Decision] = {}
        waiting: list[tuple[Outcome, ...]] = [()]
        for _ in range(MOST_TRIALS):
            begun = waiting.pop()
            self._trials.begin(begun)
            decision = run_sync(self._authorizer, call, self._snapshot)
            # Allowed is allowed: which rule did it is no change that a client sees.
            answer = (decision.allowed, "" if decision.allowed else str(decision.reason))
            found.setdefault(answer, decision)
            waiting += self._trials.others(len(begun))
            if len(found) > 1 or not waiting:
                return found
        found.setdefault((False, ""), decision)  # no answer has this one
        return found


class _WatchedClock(FixedClock):
    asked = False

    def now(self) -> float:
        self.asked = True
        return self.at


class _RecordedCaller(SlowAuthenticator):
    """Says who called, as far as the record knows what came."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._recorded: RecordedDecision | None = None
        self._whole = True
        self.asked = False
        self.is_unknown = False

    def asked_of(self, recorded: RecordedDecision, *, whole: bool) -> None:
        self._recorded, self._whole = recorded, whole
        self.asked = self.is_unknown = False

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        assert self._recorded is not None
        self.asked = True
        caller = self._found(self._recorded, accept)
        if caller is None:
            self.is_unknown = True
            return Reason.NO_CREDENTIAL
        if isinstance(caller, Principal) and caller.issuer not in issuers:
            return Reason.TOKEN_CLAIMS_INVALID
        return caller

    def _found(
        self, recorded: RecordedDecision, accept: frozenset[CredentialKind]
    ) -> Principal | Reason | None:
        """Whom a route that accepts these kinds would have found; None where nobody knows."""
        caller, beside = recorded.caller, recorded.beside
        if beside is None:
            return _found_before(recorded, accept, whole=self._whole)
        came = beside.credentials & accept
        if not isinstance(caller, Principal):
            if caller is Reason.NO_CREDENTIAL:
                # What came was of no kind that was accepted, or nobody looked at it.
                return None if came else caller
            if len(beside.credentials) > 1:
                return None  # one of them was refused
            if not came:
                return Reason.NO_CREDENTIAL
            stands = caller in _STANDING or recorded.version == self._version
            return caller if stands else None
        # Where the cookie counted, no `Authorization` did that came beside it.
        if came - {recorded.kind, CredentialKind.COOKIE}:
            return None
        if recorded.kind in accept:
            return caller
        return None if came else Reason.NO_CREDENTIAL


def _reads_roles(decision: Decision) -> bool:
    """Whether a role more may refuse what is allowed: an allow by the permissions of roles never
    does."""
    route = decision.route
    if route is None or route.action_rules is None or route.policy is None or route.policy.shadow:
        return False
    rules = route.action_rules.rules
    for rule in rules:
        if rule.effect is Effect.DENY and rule.role_permissions and not rule.shadow:
            return True
        if rule.shadow or rule.condition is None:
            continue
        expression = rule.condition.expression
        if any(one.name == "has_role" for one in expression.calls):
            return True
        if any(one.root == "user" and one.keys[:1] == ("roles",) for one in expression.paths):
            return True
    return False


def _found_before(
    recorded: RecordedDecision, accept: frozenset[CredentialKind], *, whole: bool
) -> Principal | Reason | None:
    """The same of a record that does not say what came.  Of the access log that is nothing new: it
    tells of nobody as of one who brought nothing."""
    caller = recorded.caller
    if isinstance(caller, Principal):
        return caller if recorded.kind in accept else None
    if caller is not Reason.NO_CREDENTIAL:
        every = not whole or accept | {CredentialKind.BASIC} == _EVERY_KIND
        return caller if caller in _STANDING and every else None
    looked = recorded.rule is not None or recorded.reason in _LOOKED_AT
    return caller if looked and not whole else None


@dataclass(slots=True)
class _Trials:
    """How conditions come out that read what a record does not hold: each as it is told to, and
    from there on in the first of the ways in which it may."""

    lacks_email: bool = False
    names: set[str] = field(default_factory=set)
    """What they read of it."""
    _begun: tuple[Outcome, ...] = ()
    _taken: list[Outcome] = field(default_factory=list)
    _ways: list[tuple[Outcome, ...]] = field(default_factory=list)
    _known: dict[tuple[int, int], tuple[Outcome, EvaluationContext]] = field(default_factory=dict)

    def begin(self, outcomes: tuple[Outcome, ...]) -> None:
        self._begun, self._taken, self._ways, self._known = outcomes, [], [], {}

    def others(self, begun: int) -> Iterator[tuple[Outcome, ...]]:
        """How else it may come out, behind the first outcomes that were told."""
        for at in range(begun, len(self._taken)):
            before = tuple(self._taken[:at])
            yield from ((*before, way) for way in self._ways[at][1:])

    def outcome(
        self, condition: Condition, context: EvaluationContext, ways: tuple[Outcome, ...]
    ) -> Outcome:
        """That of one condition, which is the same each time that it is asked."""
        asked = id(condition), id(context)
        if asked in self._known:
            return self._known[asked][0]
        at = len(self._taken)
        outcome = self._begun[at] if at < len(self._begun) else ways[0]
        self._taken.append(outcome)
        self._ways.append(ways)
        self._known[asked] = outcome, context  # which is held, as another may be where it was
        return outcome

    def not_held(self, expression: Expression, context: EvaluationContext) -> Iterator[str]:
        """What it reads of the call and the record does not hold."""
        for path in expression.paths:
            if path.root == "user" and path.keys and context.principal is not None:
                if self._lacks(path.keys[0], context.principal):
                    yield str(path)
            elif path.root == "resource":
                read = path.keys[:1] or tuple(context.resource)
                values = (context.resource.get(name) for name in read)
                if any(isinstance(value, LeftOut) for value in values):
                    yield str(path)

    def absent(self, decision: Decision) -> set[str]:
        """What of the caller the rules of a decision read and the record does not hold."""
        route, principal = decision.route, decision.principal
        if route is None or route.action_rules is None or principal is None:
            return set()
        conditions = (rule.condition for rule in route.action_rules.rules if not rule.shadow)
        paths = (path for one in conditions if one is not None for path in one.expression.paths)
        return {
            str(path)
            for path in paths
            if path.root == "user" and path.keys and self._lacks(path.keys[0], principal)
        }

    def _lacks(self, name: str, principal: Principal) -> bool:
        ours = principal.issuer == OWN_ISSUER
        lacks = name in _OF_EVERY_TOKEN or (ours and name in _OF_OUR_TOKENS)
        return lacks or (self.lacks_email and name == "email")


class _Watched(Condition):
    """A condition that may come out in every way that the record leaves open."""

    is_as_written = False

    __slots__ = ("_in_other_letters", "_mailboxes", "_part", "_trials")

    def __init__(self, condition: Condition, trials: _Trials, *, is_deny: bool) -> None:
        super().__init__(condition.source, condition.expression)
        self._mailboxes = named_mailboxes(condition, is_deny=is_deny)
        self._part: Part = taken_apart(condition)
        self._in_other_letters = PartsInOtherLetters(condition, is_deny=is_deny)
        self._trials = trials

    def evaluate(self, context: EvaluationContext) -> Outcome:
        names = set(self._trials.not_held(self.expression, context))
        if not names:
            outcome = super().evaluate(context)
            mailboxes = self._mailboxes
            return outcome if mailboxes is None else mailboxes.outcome(outcome, context)

        def of_atom(atom: Condition) -> Outcome | None:
            if any(True for _ in self._trials.not_held(atom.expression, context)):
                return None
            outcome = atom.evaluate(context)
            # Where it comes out otherwise there, what that settles is not known.
            is_known = not self._trials.lacks_email
            other = self._in_other_letters.outcome(atom, outcome, context, is_known=is_known)
            return outcome if other is outcome else None

        ways = possible_outcomes(self._part, of_atom)
        if len(ways) == 1:
            return ways[0]
        self._trials.names |= names
        return self._trials.outcome(self, context, ways)


class _InShadow(Condition):
    """That of a rule in shadow, which changes no answer: it is asked nothing."""

    __slots__ = ()

    def evaluate(self, context: EvaluationContext) -> Outcome:
        return False


def _watched(snapshot: Snapshot, trials: _Trials) -> Mapping[str, Policy]:
    """The policies of which a condition may read what records do not hold."""
    return {
        name: dataclasses.replace(
            policy,
            rules=tuple(_watched_rule(rule, trials, shadow=policy.shadow) for rule in policy.rules),
        )
        for name, policy in snapshot.policies.items()
        if any(
            _may_lack(rule.condition, reads_bodies=snapshot.reads_bodies)
            for rule in policy.rules
            if rule.condition is not None
        )
    }


def _may_lack(condition: Condition, *, reads_bodies: bool) -> bool:
    fields = _OF_EVERY_TOKEN | _OF_OUR_TOKENS | {"email"}
    return any(
        (path.root == "user" and path.keys[:1] and path.keys[0] in fields)
        or (path.root == "resource" and reads_bodies)
        for path in condition.expression.paths
    )


def _watched_rule(rule: Rule, trials: _Trials, *, shadow: bool) -> Rule:
    condition = rule.condition
    if condition is None:
        return rule
    if shadow or rule.shadow:
        changed: Condition = _InShadow(condition.source, condition.expression)
    else:
        changed = _Watched(condition, trials, is_deny=rule.effect is Effect.DENY)
    return dataclasses.replace(rule, condition=changed)
