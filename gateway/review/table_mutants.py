"""What conditions read of `policies/data/`, changed: lists emptied or mixed up, truths turned
round, values gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access.policies import Policy
from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.model import NOWHERE, SourceLocation

Steps = tuple[str | None, ...]
"""The keys of a read, None where any entry may be meant: `teams`, None, `members`."""


@dataclass(frozen=True, slots=True)
class ChangedTable:
    name: str
    """`data.teams.*.members`."""
    how: str
    location: SourceLocation
    policies: Mapping[str, Policy]
    """Those that read it, with the change."""


def changed_tables(
    policies: Sequence[Policy], routes: Mapping[str, list[Route]], snapshot: Snapshot
) -> Iterator[ChangedTable]:
    """One change of everything that a read can mean, whatever entry: a table may have very
    many, and a test is not to be asked for each."""
    reads: dict[Steps, list[Policy]] = {}
    valued: set[Steps] = set()
    for policy in policies:
        for steps, guarded in dict.fromkeys(_reads(policy, routes[policy.name])):
            if policy not in reads.setdefault(steps, []):
                reads[steps].append(policy)
            # Of what only `has(…)` asks for, the value does not matter.
            valued |= set() if guarded else {steps}
    for steps, reading in reads.items():
        for how, change in _changes(reading[0].data, steps, valued=steps in valued):
            changed = {
                policy.name: dataclasses.replace(policy, data=_with(policy.data, steps, change))
                for policy in reading
            }
            table = snapshot.data_locations.get(steps[0] or "")
            name = ".".join(("data", *(step or "*" for step in steps)))
            yield ChangedTable(name, how, table.location if table else NOWHERE, changed)


def _reads(policy: Policy, routes: Sequence[Route]) -> Iterator[tuple[Steps, bool]]:
    """Each read, and whether it is only asked whether there is such a thing."""
    for route in routes:
        for rule in policy.rules_for(route.action).rules:
            for path in rule.condition.expression.paths if rule.condition is not None else ():
                if path.root == "data" and path.keys:
                    steps = tuple(step if isinstance(step, str) else None for step in path.steps)
                    yield steps, path.guarded


def _changes(
    data: Any, steps: Steps, *, valued: bool
) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Changes of the values of a read, as far as there are values for them."""
    values = list(_values(data, steps))
    if not valued:
        if values:
            yield "gone", lambda value: _GONE
        return
    lists = [value for value in values if isinstance(value, list)]
    if any(lists) or any(isinstance(value, Mapping) and value for value in values):
        yield "empty", lambda value: type(value)() if isinstance(value, list | dict) else value
    together = [item for value in lists for item in value]
    if any(len(value) < len(_once(together)) for value in lists):
        yield (
            "the same everywhere",
            lambda value: _once(together) if isinstance(value, list) else value,
        )
    if any(isinstance(value, bool) for value in values):
        yield "the other way round", lambda value: not value if isinstance(value, bool) else value
    if any(isinstance(value, str | int | float) for value in values):
        yield "gone", lambda value: _GONE if isinstance(value, str | int | float) else value


_GONE = object()


def _once(items: Sequence[Any]) -> list[Any]:
    unique: list[Any] = []
    seen: set[str] = set()
    for item in items:
        if repr(item) not in seen:
            seen.add(repr(item))
            unique.append(item)
    return unique


def _values(value_here: Any, steps: Steps) -> Iterator[Any]:
    if not steps:
        yield value_here
    elif isinstance(value_here, Mapping):
        first, rest = steps[0], steps[1:]
        for key, value in value_here.items():
            if first in (None, key):
                yield from _values(value, rest)


def _with(table: Any, steps: Steps, change: Callable[[Any], Any]) -> Any:
    """`held` with the values of a read changed; copied on the way there alone."""
    if not steps:
        return change(table)
    if not isinstance(table, Mapping):
        return table
    first, rest = steps[0], steps[1:]
    changed: dict[str, Any] = {}
    for key, value in table.items():
        inner = _with(value, rest, change) if first in (None, key) else value
        if inner is not _GONE:
            changed[key] = inner
    return changed
