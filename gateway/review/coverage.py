"""Which rules and routes a set of policy tests has seen decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.access.policies import SIGNED_IN, Effect, Policy, Rule
from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.review.suite import CaseResult


@dataclass(frozen=True, slots=True)
class Coverage:
    rules: int
    routes: int
    open_rules: tuple[tuple[Policy, Rule], ...]
    """Rules that allowed or denied in no test."""
    open_routes: tuple[Route, ...]
    """Routes that no test calls."""

    @property
    def rules_percent(self) -> float:
        return 100.0 * (self.rules - len(self.open_rules)) / self.rules if self.rules else 100.0

    @property
    def routes_percent(self) -> float:
        return 100.0 * (self.routes - len(self.open_routes)) / self.routes if self.routes else 100.0


def coverage(results: Iterable[CaseResult], snapshot: Snapshot) -> Coverage:
    """A rule counts once it decided: an allow that allowed, a deny that denied, a rule in
    shadow that would have changed the answer."""
    decided: set[tuple[str, str]] = set()
    called: set[str] = set()
    effects = {
        (policy.name, rule.id): rule.effect
        for policy in snapshot.policies.values()
        for rule in policy.rules
    }
    for result in results:
        decision = result.actual.decision
        if decision.route is not None:
            called.add(decision.route.id)
        for one in decision.shadowed:
            decided.add((one.policy, one.rule or ""))
        if decision.evaluated and decision.policy is not None and decision.rule is not None:
            key = (decision.policy, decision.rule)
            # A refusal may name an allow that did not hold: that has not decided anything.
            if decision.allowed or effects.get(key) is Effect.DENY or decision.max_age_s:
                decided.add(key)
    rules = [
        (policy, rule)
        for policy in snapshot.policies.values()
        if policy.name != SIGNED_IN
        for rule in policy.rules
    ]
    routes = list(snapshot.routes)
    return Coverage(
        len(rules),
        len(routes),
        tuple((p, r) for p, r in rules if (p.name, r.id) not in decided),
        tuple(route for route in routes if route.id not in called),
    )
