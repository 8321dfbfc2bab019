"""Configurations of one route and one policy, as texts."""

from __future__ import annotations

from tests.access.worlds import problems


def one(route: str, policy: str = "policy: p\nrules: [{id: a, allow: ['*']}]") -> str:
    said = problems(route, policy)
    assert len(said) == 1, said
    return said[0]


# YAML
PUBLIC = "- {id: a, match: {path: /a}, auth: public, upstream: api}"
