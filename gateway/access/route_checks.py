"""What routes and the rules of their policies need of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.access.policies import SIGNED_IN, Effect, Policy, ResourceField, Rule
from gateway.access.reading import Node, Problem, Reader
from gateway.access.routes import Kind, PatternSegment, RouteTable
from gateway.access.suggestions import suggestion


@dataclass(slots=True)
class Need:
    """A field that a rule reads: whether any route gives it, and which do not."""

    rule: Rule
    given: bool = False
    lacking: list[Node] = field(default_factory=list)
    near: set[str] = field(default_factory=set)
    """What the routes give instead."""


class Needs:
    """The fields that rules read, noted route by route and judged once all are read."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, str], Need] = {}

    def note(
        self,
        node: Node,
        policy: Policy,
        action: str,
        resource: tuple[ResourceField, ...],
        segments: tuple[PatternSegment, ...],
    ) -> None:
        """What rules need of the resource and the path; judged once all routes are read."""
        have = {
            "resource": {one.name for one in resource},
            "request.params": {s.text for s in segments if s.kind is not Kind.LITERAL},
        }
        for rule in policy.plan(action).rules:
            if rule.condition is None:
                continue
            reads = rule.condition.reads
            for kind, wanted in (
                ("resource", reads.must_resource),
                ("request.params", reads.must_params),
            ):
                for name in wanted:
                    need = self._found.setdefault((policy.name, rule.id, kind, name), Need(rule))
                    need.near |= have[kind]
                    if name in have[kind]:
                        need.given = True
                    else:
                        need.lacking.append(node)

    def check(self, reader: Reader, problems: list[Problem]) -> None:
        """A field that no route gives is the rule's mistake; one that some lack, theirs."""
        for (_, _, kind, name), need in self._found.items():
            hint = suggestion(name, sorted(need.near)) if need.near else ""
            rule = need.rule
            if not need.given and need.lacking:
                place = rule.place
                text = (
                    f"rule `{rule.id}` reads `{kind}.{name}`, which no route of this policy gives"
                )
                problems.append(Problem(place.file, place.line, place.column, text + hint))
                continue
            how = f"add `resource: {{{name}: …}}`"
            if kind == "request.params":
                how = f"the path has no `{{{name}}}`"
            for node in need.lacking:
                reader.wrong(
                    node,
                    f"rule `{rule.id}` ({rule.place}) reads `{kind}.{name}`, which this route does "
                    f"not give: {how}{hint}",
                )


def notices(table: RouteTable, policies: Mapping[str, Policy]) -> list[Problem]:
    """What is no mistake, but hardly meant: routes that nobody can ever pass, and policies
    that judge nothing."""
    used = {route.policy.name for route in table if route.policy is not None}
    found = [
        Problem(p.place.file, p.place.line, p.place.column, f"no route names policy `{p.name}`")
        for p in policies.values()
        if p.name not in used and p.name != SIGNED_IN
    ]
    for route in table:
        policy = route.policy
        if policy is None or policy.name == SIGNED_IN or policy.shadow:
            continue
        if any(rule.effect is Effect.ALLOW for rule in policy.plan(route.action).rules):
            continue
        patterns = {p for rule in policy.rules for p in rule.actions if "*" not in p}
        said = f"`{route.action}`" if route.action else "a route without `action`"
        found.append(
            Problem(
                route.place.file, route.place.line, route.place.column,
                f"route `{route.id}`: no rule of policy `{policy.name}` allows {said}, so nobody "
                f"can pass{suggestion(route.action, sorted(patterns))}",
            )
        )  # fmt: skip
    return found
