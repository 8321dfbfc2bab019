"""docs/security/budgets.md has a row for every endpoint, with the limit that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.flood_requests import OWN
from gateway.access.definitions import Limit
from gateway.edge.endpoints.rate_limits import BY_ENDPOINT

PAGE = Path(__file__).parents[1] / "docs/security/budgets.md"
ROW = re.compile(r"^\| `(?:GET|POST|PATCH|DELETE) /auth/([a-z/*-]+)` \| ([^|]+) \|", re.M)


def shown(limits: tuple[Limit, ...] | None) -> str:
    if limits is None:
        return "a good link passes"
    (limit,) = limits
    return f"{limit.per_s:g}/s, {limit.burst:,} at once"


def rows() -> dict[tuple[str, ...], str]:
    return {tuple(path.split("/")): cell for path, cell in ROW.findall(PAGE.read_text("utf-8"))}


def test_the_page_has_a_row_for_every_endpoint() -> None:
    assert set(rows()) == set(BY_ENDPOINT)


@pytest.mark.parametrize("endpoint", BY_ENDPOINT, ids="/".join)
def test_a_row_says_the_limit_that_there_is(endpoint: tuple[str, ...]) -> None:
    assert rows()[endpoint] == shown(BY_ENDPOINT[endpoint])


def test_every_endpoint_is_flooded() -> None:
    named = {flood.name.partition(",")[0].partition(" /auth/")[2] for flood in OWN}
    assert {"/".join(endpoint) for endpoint in BY_ENDPOINT} <= named
