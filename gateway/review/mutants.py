"""Tests tested: each rule removed, negated and widened, and whether any case notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.access.facts import Facts
from gateway.access.policies import SIGNED_IN, Effect, Policy, Rule
from gateway.access.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.review.exchanging import with_policies
from gateway.review.suite import Result, Statuses, run_case


@dataclass(frozen=True, slots=True)
class Mutant:
    policy: Policy
    rule: Rule
    how: str
    """`removed`, `negated`, `without its condition`, `for every action`, `for every role`."""
    mutated: Policy

    def __str__(self) -> str:
        return f"{self.rule.place}: rule {self.rule.id} {self.how}"


@dataclass(slots=True)
class MutationReport:
    tried: int = 0
    survivors: list[Mutant] = dataclasses.field(default_factory=list)


def mutation_report(
    results: Sequence[Result], snapshot: Snapshot, statuses: Statuses
) -> MutationReport:
    """Tries every mutant with the cases that reach its policy.  `results` all passed."""
    by_policy: dict[str, list[Result]] = {}
    for result in results:
        route = result.answer.decision.route
        if route is not None and route.policy is not None:
            by_policy.setdefault(route.policy.name, []).append(result)
    report = MutationReport()
    for mutant in mutants(snapshot):
        report.tried += 1
        world = with_policies(snapshot, {mutant.policy.name: mutant.mutated})
        cases = by_policy.get(mutant.policy.name, ())
        if all(run_case(result.case, world, statuses).passed for result in cases):
            report.survivors.append(mutant)
    return report


def mutants(snapshot: Snapshot) -> Iterator[Mutant]:
    """Every mutant that could change an answer on some route."""
    routes: dict[str, list[Route]] = {}
    for route in snapshot.routes:
        if route.policy is not None:
            routes.setdefault(route.policy.name, []).append(route)
    for policy in snapshot.policies.values():
        if policy.name == SIGNED_IN:
            continue
        for rule in policy.rules:
            for how, other in _changes(rule, routes.get(policy.name, [])):
                rules = tuple(
                    kept
                    for kept in (other if one is rule else one for one in policy.rules)
                    if kept is not None
                )
                mutated = dataclasses.replace(policy, rules=rules, _plans={})
                yield Mutant(policy, rule, how, mutated)


def _changes(rule: Rule, routes: list[Route]) -> Iterator[tuple[str, Rule | None]]:
    yield "removed", None
    conditional = rule.condition is not None or rule.role_permissions
    if conditional:
        yield "negated", _negated(rule)
    if rule.condition is not None:
        yield "without its condition", dataclasses.replace(rule, condition=None)
    if rule.role_permissions:
        widened = dataclasses.replace(rule, role_permissions=False, actions=("*",), every_user=True)
        yield "for every role", widened
    elif any(not rule.covers(route.action) and _can_hold(rule, route) for route in routes):
        yield "for every action", dataclasses.replace(rule, actions=("*",))


def _can_hold(rule: Rule, route: Route) -> bool:
    """Whether the rule could make a difference on the route: an allow whose condition reads
    what the route does not give fails there, and changes nothing."""
    if rule.condition is None or rule.effect is Effect.DENY:
        return True
    reads = rule.condition.reads
    given = {one.name for one in route.resource}
    return reads.must_resource <= given and reads.must_params <= set(route.param_names)


class _Negated(Rule):
    """Holds where the rule would not."""

    __slots__ = ()

    def holds(self, action: str, facts: Facts) -> bool | str:
        outcome = Rule.holds(self, action, facts)
        return outcome if isinstance(outcome, str) else not outcome


def _negated(rule: Rule) -> Rule:
    values = {one.name: getattr(rule, one.name) for one in dataclasses.fields(rule)}
    return _Negated(**values)
