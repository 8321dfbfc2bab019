"""Rules, and the verdict of a policy: any deny wins, and without an allow it is a deny.

What decides does not depend on the order of the rules.  The order only settles which of
several rules that say the same is named, and so whose reason the client reads.

Law: a key that is limited to some roles of its account passes only where the policy allows it by
these and by all that the account has: a role may take away, and no limit gives that back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mypy_extensions import mypyc_attr

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.mailboxes import NamedMailboxes, named_mailboxes
from gateway.access.conditions.worlds_alike import PolicyTables
from gateway.access.definitions import Limit
from gateway.access.roles import RoleBook, matches
from gateway.access.step_up import StepUp
from gateway.access.templates import TextTemplate
from gateway.model import NOWHERE, Principal, Reason, SourceLocation

SIGNED_IN = "signed-in"
"""The built-in policy that allows every signed-in caller."""


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class ResourceField:
    """One field of a route's resource, filled from the call."""

    name: str
    template: TextTemplate


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    id: str
    effect: Effect
    actions: tuple[str, ...] = ()
    """Patterns; empty with `role_permissions`."""
    role_permissions: bool = False
    """The caller's roles must hold the route's action."""
    every_user: bool = False
    """Somebody must be signed in: the rule of `signed-in`."""
    condition: Condition | None = None
    reason: str | None = None
    conceal: bool = False
    shadow: bool = False
    step_up: StepUp | None = None
    limits: tuple[Limit, ...] = ()
    headers: tuple[tuple[str, TextTemplate], ...] = ()
    location: SourceLocation = NOWHERE
    _mailboxes: NamedMailboxes | None = field(init=False)

    def __post_init__(self) -> None:
        named = named_mailboxes(self.condition, is_deny=self.effect is Effect.DENY)
        object.__setattr__(self, "_mailboxes", named)

    def matches_action(self, action: str) -> bool:
        """Whether the rule has anything to say about `action`."""
        return self.role_permissions or any(matches(p, action) for p in self.actions)

    @property
    def reads_roles_alone(self) -> bool:
        """Whether its outcome follows from the caller's roles, and asks for nothing besides."""
        return not (self.condition or self.shadow or self.step_up or self.limits or self.headers)

    def applies(self, action: str, context: EvaluationContext) -> bool | str:
        """Whether it applies to this caller; a sentence where its condition fails.

        `step_up` is not asked here: of an allow it is an obligation, of a deny what lifts it.
        """
        principal = context.principal
        if principal is None and (self.role_permissions or self.every_user):
            return False
        if self.role_permissions and not (
            principal and context.roles.permits(principal.roles, action)
        ):
            return False
        if self.condition is None:
            return True
        outcome = self.condition.evaluate(context)
        named = self._mailboxes
        return outcome if named is None else named.outcome(outcome, context)

    def read_tables(self, tables: Mapping[str, Any]) -> None:
        """Those of its policy."""
        if self._mailboxes is not None and isinstance(tables, PolicyTables):
            tables.worlds(self._mailboxes)

    def is_by_spelling(self, context: EvaluationContext) -> bool:
        """Whether its condition would come out otherwise for the caller's address as written."""
        if self.condition is None or self._mailboxes is None:
            return False
        written = self.condition.evaluate(context)
        return self._mailboxes.outcome(written, replace(context, alike=None)) is not written

    def allows(self, action: str, context: EvaluationContext) -> bool:
        """Whether it lets this caller pass: `step_up` asked too."""
        if self.applies(action, context) is not True:
            return False
        return self.step_up is None or self.step_up.met(context.principal, context.now())


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What would have been decided, had the rule (or policy) in shadow been enforced."""

    policy: str
    rule: str | None
    allowed: bool
    reason: str
    location: SourceLocation


@dataclass(slots=True)
class Verdict:
    allowed: bool
    reason: str
    refusal: Reason | None
    rule: Rule | None = None
    location: SourceLocation = NOWHERE
    conceal: bool = False
    step_up: StepUp | None = None
    """What was asked for, with INSUFFICIENT_USER_AUTHENTICATION."""
    shadowed: tuple[Shadowed, ...] = ()
    by_held_roles: bool = False
    """Whether it is by all roles of the account, and not by those of its key."""
    held_rule: Rule | None = None
    """The rule that allows by all roles of the account, where a key has fewer."""


_ROLE_SETS_MAX = 1_024


@dataclass(frozen=True, slots=True)
class ActionRules:
    """The rules of a policy that cover one action, in the order of the file."""

    denies: tuple[Rule, ...]
    allows: tuple[Rule, ...]
    shadows: tuple[Rule, ...]
    query_names: frozenset[str]
    header_names: frozenset[str]
    param_names: frozenset[str] = frozenset()
    reads_path: bool = False
    may_take_long: bool = False
    headed: tuple[Rule, ...] = ()
    """Of the allows, those that add fields for the upstream."""
    by_roles: dict[tuple[str, ...] | None, Verdict] | None = field(default=None, compare=False)
    """Where the rules read nothing of a call but the caller's roles, the verdicts given so far:
    under the roles, or None for nobody.  None where they read more."""
    joined_limits: dict[tuple[int, int], tuple[tuple[Limit, ...], ...]] = field(
        default_factory=dict, compare=False
    )
    """What `both_limits` has joined, under what it is made of."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.denies + self.allows + self.shadows

    def both_limits(self, one: tuple[Limit, ...], other: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Each limit of either once: always the very same object (`Route.limits_after`)."""
        if one is other:
            return one
        known = self.joined_limits.get((id(one), id(other)))
        if known is None:
            # It holds both, so that nothing else has their addresses.
            joined = (*one, *(limit for limit in other if limit not in one))
            known = self.joined_limits[id(one), id(other)] = (joined, one, other)
        return known[0]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    name: str
    rules: tuple[Rule, ...] = ()
    roles: RoleBook = field(default_factory=RoleBook)
    shadow: bool = False
    """Judged and recorded, never enforced: meanwhile its routes take every signed-in caller."""
    location: SourceLocation = NOWHERE
    data: PolicyTables = field(default_factory=PolicyTables)
    named_values: dict[object, object] = field(init=False, default_factory=dict)
    """What routes have found of the values that conditions name (`routing/naming.py`)."""
    _by_action: dict[str, ActionRules] = field(init=False, default_factory=dict)

    def read_tables(self) -> None:
        """Before it is asked for the first time: what that takes, a call need not wait for."""
        for rule in self.rules:
            rule.read_tables(self.data)

    def rules_for(self, action: str) -> ActionRules:
        action_rules = self._by_action.get(action)
        if action_rules is None:
            action_rules = self._by_action[action] = self._build_action_rules(action)
        return action_rules

    def verdict(self, action: str, context: EvaluationContext) -> Verdict:
        """What this policy says of a call for `action`.  Never raises."""
        action_rules = self.rules_for(action)
        verdict = self._judged(action_rules, action, context)
        principal = context.principal
        if principal is not None and principal.held_roles is not None:
            whole = replace(context, principal=principal.with_held_roles(), alike=None)
            verdict = _both(verdict, self._judged(action_rules, action, whole))
        if self.shadow:
            return self._unenforced(verdict, signed_in=principal is not None)
        return verdict

    def _judged(
        self, action_rules: ActionRules, action: str, context: EvaluationContext
    ) -> Verdict:
        """By the roles that the caller of `context` has, and no others."""
        verdict = _evaluated(action_rules.denies, action_rules.allows, action, context)
        if verdict.location is NOWHERE:
            verdict.location = self.location
        if verdict.allowed and self.name == SIGNED_IN:
            verdict.reason = Reason.SIGNED_IN
        if action_rules.shadows:
            verdict.shadowed = self._shadowed(action_rules, verdict, action, context)
        return verdict

    def remember(
        self, action_rules: ActionRules, principal: Principal | None, verdict: Verdict
    ) -> None:
        """Keeps a verdict that the next caller with the same roles gets too; none of a key that is
        limited to them, which is judged by others as well."""
        limited = principal is not None and principal.held_roles is not None
        if action_rules.by_roles is not None and not limited:
            if len(action_rules.by_roles) >= _ROLE_SETS_MAX:
                action_rules.by_roles.clear()
            action_rules.by_roles[None if principal is None else principal.roles] = verdict

    def _build_action_rules(self, action: str) -> ActionRules:
        rules = [rule for rule in self.rules if rule.matches_action(action)]
        plain = not self.shadow and all(rule.reads_roles_alone for rule in rules)
        conditions = [rule.condition for rule in rules if rule.condition is not None]
        reads = [condition.reads for condition in conditions]
        allows = tuple(r for r in rules if r.effect is Effect.ALLOW and not r.shadow)
        return ActionRules(
            denies=tuple(r for r in rules if r.effect is Effect.DENY and not r.shadow),
            allows=allows,
            shadows=tuple(r for r in rules if r.shadow),
            query_names=frozenset().union(*(r.query for r in reads)),
            header_names=frozenset().union(*(r.headers for r in reads)),
            param_names=frozenset().union(*(r.params for r in reads)),
            reads_path=any(r.path for r in reads),
            may_take_long=any(condition.may_take_long for condition in conditions),
            headed=tuple(r for r in allows if r.headers),
            by_roles={} if plain else None,
        )

    def _shadowed(
        self, action_rules: ActionRules, verdict: Verdict, action: str, context: EvaluationContext
    ) -> tuple[Shadowed, ...]:
        """For each rule in shadow, the answer that enforcing it alone would have changed."""
        shadowed = []
        for rule in action_rules.shadows:
            if rule.effect is Effect.DENY:
                would = _evaluated((rule,), (), action, context) if verdict.allowed else None
                differs = would is not None and would.rule is rule
            else:
                denied = verdict.rule is not None and verdict.rule.effect is Effect.DENY
                undecided = not verdict.allowed and not denied
                would = _evaluated((), (rule,), action, context) if undecided else None
                differs = would is not None and would.allowed
            if would is not None and differs:
                shadowed.append(
                    Shadowed(self.name, rule.id, would.allowed, would.reason, rule.location)
                )
        return tuple(shadowed)

    def _unenforced(self, verdict: Verdict, *, signed_in: bool) -> Verdict:
        """What holds instead: somebody is signed in, on a route with `auth: optional` too."""
        shadowed = verdict.shadowed
        if verdict.allowed is not signed_in:
            rule = verdict.rule.id if verdict.rule else None
            shadowed = (
                *shadowed,
                Shadowed(self.name, rule, verdict.allowed, verdict.reason, verdict.location),
            )
        if signed_in:
            return Verdict(True, Reason.SIGNED_IN, None, location=self.location, shadowed=shadowed)
        reason = Reason.NO_RULE
        return Verdict(False, reason, reason, location=self.location, shadowed=shadowed)


def _both(verdict: Verdict, whole: Verdict) -> Verdict:
    """What holds for a key of fewer roles: `verdict` is by these, `whole` by all of its account.

    Where both refuse, what the account is not to know of is not told to its key either."""
    known = {one.rule for one in verdict.shadowed}
    if verdict.allowed and whole.allowed:
        # A rule in shadow that denies does so by either.
        verdict.shadowed += tuple(one for one in whole.shadowed if one.rule not in known)
        verdict.held_rule = whole.rule
        return verdict
    if whole.allowed:
        return verdict
    if not verdict.allowed:
        # And one that allows has to do so by both.
        whole.shadowed = tuple(one for one in whole.shadowed if one.rule in known)
        if verdict.conceal or not whole.conceal:
            verdict.shadowed = whole.shadowed
            return verdict
    whole.by_held_roles = True
    return whole


def signed_in_policy() -> Policy:
    """`policy: signed-in`."""
    return Policy(SIGNED_IN, (Rule("signed-in", Effect.ALLOW, ("*",), every_user=True),))


def _evaluated(
    denies: tuple[Rule, ...], allows: tuple[Rule, ...], action: str, context: EvaluationContext
) -> Verdict:
    for rule in denies:
        outcome = rule.applies(action, context)
        if outcome is False:
            continue
        if rule.step_up is not None and outcome is True:
            # A deny with `step_up` is lifted by the sign-in it asks for; one whose
            # condition failed is a deny like any other.
            if rule.step_up.met(context.principal, context.now()):
                continue
            if context.principal is not None:
                # To ask for it would tell that there is what it, or another rule, hides.
                itself = (rule, outcome) if rule.conceal else None
                hiding = itself or _hidden_by(denies, rule, action, context)
                return _step_up(rule) if hiding is None else _denied(*hiding, True)
        hidden = rule.conceal or _hidden_by(denies, rule, action, context) is not None
        return _denied(rule, outcome, hidden)
    waiting: Rule | None = None
    nearest: tuple[Rule, bool | str] | None = None
    for rule in allows:
        outcome = rule.applies(action, context)
        if outcome is True:
            if rule.step_up is None or rule.step_up.met(context.principal, context.now()):
                return Verdict(True, Reason.RULE_ALLOWED, None, rule, rule.location)
            waiting = waiting or rule
        if nearest is None and (rule.reason or outcome is not False):
            nearest = rule, outcome
    if waiting is not None and context.principal is not None:
        return _step_up(waiting)
    return _not_allowed(allows, nearest)


def _hidden_by(
    denies: tuple[Rule, ...], first: Rule, action: str, context: EvaluationContext
) -> tuple[Rule, bool | str] | None:
    """The deny behind `first` that applies and asks to conceal, with what its condition gave: an
    earlier, open one must not give it away."""
    for rule in denies[denies.index(first) + 1 :]:
        if rule.conceal and (outcome := rule.applies(action, context)) is not False:
            step_up = rule.step_up if outcome is True else None
            if step_up is None or not step_up.met(context.principal, context.now()):
                return rule, outcome
    return None


def _denied(rule: Rule, outcome: bool | str, conceal: bool) -> Verdict:
    """The rule's own reason; not where its condition could not be evaluated, which says nothing
    of what the rule is about."""
    if isinstance(outcome, str):
        reason = Reason.CONDITION_FAILED
        return Verdict(False, reason, reason, rule, rule.location, conceal=conceal)
    refusal = None if rule.reason else Reason.NO_RULE
    return Verdict(
        False, rule.reason or Reason.NO_RULE, refusal, rule, rule.location, conceal=conceal
    )


def _step_up(rule: Rule) -> Verdict:
    reason = Reason.INSUFFICIENT_USER_AUTHENTICATION
    return Verdict(False, reason, reason, rule, rule.location, step_up=rule.step_up)


def _not_allowed(allows: tuple[Rule, ...], nearest: tuple[Rule, bool | str] | None) -> Verdict:
    """No rule allows: the first is named that could have, and that gives a reason or could not
    be evaluated."""
    conceal = any(rule.conceal for rule in allows)
    if nearest is None:
        return Verdict(False, Reason.NO_RULE, Reason.NO_RULE, conceal=conceal)
    return _denied(*nearest, conceal)
