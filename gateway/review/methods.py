"""Methods that conditions tell apart, where a route takes any."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from gateway.access.policies import Policy
from gateway.access.routing.routes import Route
from gateway.review.affixes import Affix, affixed, in_order, met_by
from gateway.review.atoms import atom_of
from gateway.review.parts import taken_apart
from gateway.review.surveys import Path, Survey, TableStep

ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE")
OTHER_METHOD = "OTHER"
"""Stands for every method that no configuration names."""
METHOD: Path = ("request", "method")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 9.1."""


class AskedMethods:
    """Those that conditions of some routes, or the tables that these read, compare a method with;
    one for each beginning, end and filling that is asked for, and before and after each text by
    which methods are put in order; and one of no such name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        texts: dict[str, None] = {}
        affixes: set[Affix] = set()
        ordered: set[str] = set()
        concerned = ((one.policy, one.action) for one in routes if one.policy is not None)
        for policy, action in dict.fromkeys(concerned):
            for survey in _surveys(policy, action):
                texts |= dict.fromkeys(sorted(survey.texts))
                affixes |= survey.affixes.get(METHOD, set())
                for steps in survey.tables:
                    found = dict.fromkeys(texts_of(policy.data, steps, METHOD))
                    texts |= found
                    ordered |= found.keys() if survey.orders else set()
        named = [text for text in texts if _TOKEN.fullmatch(text)]
        taken = {*named, *ANY_METHOD, "HEAD"}
        # That it begins with nothing, is asked of none: so there is one of no such name.
        asked = sorted({*affixes, ("startsWith", "")})
        self._affixes, self._ordered = affixes, sorted(ordered)
        made_up = chain(
            affixed(asked, taken, readable=OTHER_METHOD),
            in_order(affixes, ordered, readable=OTHER_METHOD),
        )
        self._made_up = [
            text for text in dict.fromkeys(made_up) if _TOKEN.fullmatch(text) and text not in taken
        ]
        self.all = (*named, *self._made_up)

    def stand_in(self, method: str) -> str:
        """The one that is asked in the place of this one."""
        if method in (*ANY_METHOD, "HEAD", *self.all):
            return method
        alike = [one for one in self._made_up if self._looks(one) == self._looks(method)]
        return (alike or self._made_up)[0]

    def _looks(self, method: str) -> tuple[object, ...]:
        return met_by(method, self._affixes), bisect_right(self._ordered, method)


def _surveys(policy: Policy, action: str) -> Iterator[Survey]:
    """Of the parts of its rules that read the method and can be understood."""
    for rule in policy.rules_for(action).rules:
        if rule.condition is not None:
            for condition in taken_apart(rule.condition).atoms():
                survey = atom_of(condition).survey
                if survey is not None and METHOD in survey.paths:
                    yield survey


def texts_of(table: Any, steps: tuple[TableStep, ...], key: Path | None = None) -> Iterator[str]:
    """Every text of a table that a condition reads by these steps, whatever the call names; and
    each of the names that stand for `key`."""
    if not steps:
        yield from _texts(table)
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, tuple):
        if isinstance(table, Mapping):
            if step == key:
                yield from (name for name in table if isinstance(name, str))
            for entry in table.values():
                yield from texts_of(entry, rest, key)
    elif isinstance(table, Mapping):
        yield from texts_of(table.get(step), rest, key)
    elif isinstance(table, list) and isinstance(step, int) and step < len(table):
        yield from texts_of(table[step], rest, key)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _texts(name)
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
