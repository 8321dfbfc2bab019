"""Questions to a call, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gateway.review.calls import Source, Values
from gateway.review.surveys import Survey, TableStep
from gateway.review.values import Choice, ComparedValues, known

MAX_TRIED = 40_000
"""Calls that are made up for one group of questions."""
MAX_KEPT = 200
"""Calls of one kind that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to a call, and the inputs that settle it."""

    key: str
    """`text 0 user.id == 'ann'` (of the side 0), `permits 1`, `step-up 900 totp`, `kind`, …"""
    inputs: frozenset[str]
    answer: Callable[[Values], Hashable]
    survey: Survey | None = None
    """Of a part of a condition: what it compares."""
    data: Mapping[str, Any] = field(default_factory=dict)
    side: int = 0
    sources: Mapping[TableStep, Source | None] = field(default_factory=dict)
    """Where each path that it reads comes from."""
    wrapped: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class World:
    """What is the same for all groups of one pair of routes."""

    ordinary: Mapping[str, Any]
    """The values of inputs that nobody compares."""
    made_up: Callable[[str], Sequence[Choice]]
    """Values of an input that no configuration names, the ordinary one first."""
    is_good: Callable[[str, str], bool]
    """Whether an input may have a text."""
    roles: Collection[str]
    """Every role that a policy defines."""
    does: Callable[[str, Collection[str]], frozenset[Hashable]]
    """What a role does, where conditions ask for some roles by name."""
    extra: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Texts that an input is to be tried with besides."""
    actions: frozenset[str] = frozenset()
    presented: Sequence[Choice] = ()
    """What a caller may show, where that is asked for."""
    ids: frozenset[str] = frozenset()
    """A caller of each foreign issuer: what their id is compared with may be it."""
    is_possible: Callable[[Values], bool] = lambda _: True
    has_capitals: bool = False
    """Whether what is asked in other letters is written in capitals anywhere."""


def compared_by(
    probes: Sequence[Probe], values: Values, ordinary: Mapping[str, str] = MappingProxyType({})
) -> ComparedValues:
    """What the parts of conditions among `probes` compare with."""
    surveyed = ((o.side, o.survey, o.data, o.sources) for o in probes if o.survey is not None)
    return known(surveyed, values, ordinary)
