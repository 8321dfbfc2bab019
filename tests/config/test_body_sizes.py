"""What `max_body` may say."""

from __future__ import annotations

import pytest

from gateway.access.routing.routes import UNLIMITED_BODY
from tests.access.worlds import problems, snapshot

ROUTE = "- {id: a, match: {path: /a}, auth: public, upstream: api, max_body: %s}"


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0B", 0),
        ("64KiB", 64 * 1024),
        ("5GiB", 5 * 1024**3),
        ("2TiB", 2 * 1024**4),
        ("off", UNLIMITED_BODY),
        ("'off'", UNLIMITED_BODY),
    ],
)
def test_a_size_has_a_unit_or_is_off(written: str, size: int) -> None:
    route = snapshot(ROUTE % written).routes.get("a")
    assert route is not None
    assert route.max_body_bytes == size


@pytest.mark.parametrize("written", ["2TB", "none", "-1B", "1PiB", "false", "[off]", "1.5GiB"])
def test_what_is_no_size_is_told_with_what_would_be_one(written: str) -> None:
    (said,) = problems(ROUTE % written)
    assert "`max_body`" in said


def test_no_length_that_a_head_can_say_is_past_no_bound() -> None:
    longest = int("9" * 18)
    assert longest < UNLIMITED_BODY
