"""Texts that a rule compares with numbers, or with true and false, alone: to CEL no two of them
are equal, so a deny of `resource.id == 7` never applies where the path gives the `id`.

Where all of it stands in the condition it does not load (`access/conditions/type_check.py`); what
a resource is made of say the routes, and what a table holds the files in `data/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.access.conditions.resource_uses import ITEM, Place
from gateway.access.policies import ResourceField, Rule
from gateway.access.routing.naming import named_places, values_at
from gateway.access.routing.routes import Route
from gateway.model import ConfigProblem

_BODY = "body"


def never_equal(routes: Iterable[Route]) -> Iterator[ConfigProblem]:
    """A notice of each such rule and what it reads, with a route that gives a text for it."""
    given: dict[tuple[Rule, str], list[Route]] = {}
    unequal: dict[Rule, dict[str, Place]] = {}
    for route in routes:
        if route.policy is None or route.action_rules is None:
            continue
        texts = {(one.name,) for one in route.resource if _is_text(one)}
        for rule in route.action_rules.rules:
            if rule not in unequal:
                unequal[rule] = dict(_unequal(rule, route.policy.data))
            for shown, place in unequal[rule].items():
                if len(place) > 1 or place in texts:
                    given.setdefault((rule, shown), []).append(route)
    for (rule, shown), found in given.items():
        yield _notice(rule, shown, found if len(unequal[rule][shown]) == 1 else [])


def _is_text(one: ResourceField) -> bool:
    pieces = one.template.pieces
    return len(pieces) > 1 or pieces[0].source != _BODY


def _unequal(rule: Rule, data: Mapping[str, Any]) -> Iterator[tuple[str, Place]]:
    """What it compares with values of which none is a text, as a condition writes it."""
    if rule.condition is None:
        return
    expression = rule.condition.expression
    for uses, is_call in ((expression.uses, False), (expression.call_uses, True)):
        for place in named_places(uses) - uses.texts - uses.any_form:
            if len(place) != 1 + is_call or place[-1] is ITEM:
                continue
            values = values_at(uses, place, data)
            if values and not any(isinstance(one, str) for one in values):
                yield _shown(place, is_call=is_call), place


def _shown(place: Place, *, is_call: bool) -> str:
    root = "request" if is_call else "resource"
    if place[0] == "headers" and is_call:
        return f"{root}.headers['{place[1]}']"
    return ".".join((root, *map(str, place)))


def _notice(rule: Rule, shown: str, routes: list[Route]) -> ConfigProblem:
    gives = "which is a text"
    if routes:
        more = f" and {len(routes) - 1} more give" if len(routes) > 1 else " gives"
        gives = f"which route `{routes[0].id}` ({routes[0].location}){more} as a text"
    text = (
        f"rule `{rule.id}` compares `{shown}`, {gives}, with what is none: text and a number, or"
        " true or false, are never equal. Let the condition, or its table, write them as texts"
        f" (`'7'`), or make a number of the text: `int({shown})`"
    )
    return ConfigProblem.at(rule.location, text)
