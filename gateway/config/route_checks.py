"""What routes and the rules of their policies need of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.access.definitions import Limit
from gateway.access.policies import Policy, ResourceField, Rule
from gateway.access.routing.routes import PatternSegment, SegmentKind
from gateway.access.suggestions import suggestion
from gateway.config.yaml_reader import Node, Reader
from gateway.model import ConfigProblem


@dataclass(slots=True)
class Need:
    """A field that a rule reads: whether any route gives it, and which do not."""

    rule: Rule
    given: bool = False
    lacking: list[Node] = field(default_factory=list)
    without: list[Node] = field(default_factory=list)
    """Those where only a field for the upstream is made of it, which is then left out."""
    near: set[str] = field(default_factory=set)
    """What the routes give instead."""


class Needs:
    """The fields that rules read, noted route by route and checked once all are read."""

    def __init__(self) -> None:
        self._needs: dict[tuple[str, str, str, str], Need] = {}

    def note(
        self,
        node: Node,
        policy: Policy,
        action: str,
        resource: tuple[ResourceField, ...],
        segments: tuple[PatternSegment, ...],
    ) -> None:
        """What rules need of the resource and the path; checked once all routes are read."""
        have = {
            "resource": {one.name for one in resource},
            "request.params": {s.text for s in segments if s.kind is not SegmentKind.LITERAL},
        }
        for rule in policy.rules_for(action).rules:
            for kind, name, must in _wanted(rule):
                need = self._needs.setdefault((policy.name, rule.id, kind, name), Need(rule))
                need.near |= have[kind]
                if name in have[kind]:
                    need.given = True
                elif must:
                    need.lacking.append(node)
                else:
                    need.without.append(node)

    def check(self, reader: Reader) -> None:
        """A field that no route gives is the rule's mistake; one that some lack, theirs."""
        for (_, _, kind, name), need in self._needs.items():
            rule = need.rule
            if not need.given and (need.lacking or need.without):
                hint = suggestion(name, sorted(need.near)) if need.near else ""
                text = (
                    f"rule `{rule.id}` reads `{kind}.{name}`, which no route of this policy gives"
                )
                reader.problems.append(ConfigProblem.at(rule.location, text + hint))
                continue
            how = f"add `resource: {{{name}: …}}`"
            if kind == "request.params":
                how = f"the path has no `{{{name}}}`"
            for node in need.lacking:
                reader.error(
                    node,
                    f"rule `{rule.id}` ({rule.location}) reads `{kind}.{name}`, which this route "
                    f"does not give: {how}",
                )


def check_limits(
    reader: Reader,
    node: Node,
    limits: tuple[Limit, ...],
    resource: tuple[ResourceField, ...],
    segments: tuple[PatternSegment, ...],
) -> None:
    """What the key of a limit reads of the path or the resource, its routes give."""
    params = {s.text for s in segments if s.kind is not SegmentKind.LITERAL}
    fields = {one.name for one in resource}
    for limit in limits:
        reads = limit.expression.reads if limit.expression is not None else None
        if reads is None:
            continue
        for kind, names, have, how in (
            ("request.params", reads.must_params, params, "the path has no `{%s}`"),
            ("resource", reads.must_resource, fields, "add `resource: {%s: …}`"),
        ):
            for name in sorted(names - have):
                hint = suggestion(name, sorted(have)) if have else ""
                reader.error(
                    node,
                    f"limit `{limit.name}` ({limit.location}) counts by `{kind}.{name}`, which "
                    f"this route does not give: {how % name}{hint}",
                )


def _wanted(rule: Rule) -> Iterator[tuple[str, str, bool]]:
    """What a rule reads, by kind and name, and whether it fails without."""
    if rule.condition is not None:
        reads = rule.condition.reads
        yield from (("resource", name, True) for name in reads.must_resource)
        yield from (("request.params", name, True) for name in reads.must_params)
    for _, template in rule.headers:
        yield from (("resource", name, False) for name in template.names("resource"))
        yield from (("request.params", name, False) for name in template.names("params"))
