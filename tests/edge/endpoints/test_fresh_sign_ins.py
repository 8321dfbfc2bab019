"""For what a sign-in must be a few minutes old at most: one from the future proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.step_up import signed_in_within
from gateway.edge.console.pages import Operator
from tests.edge.auth_house import open_house, reason
from tests.edge.endpoints.cookie_calls import ask, signed_in


@pytest.mark.parametrize(
    ("auth_time", "holds"),
    [(None, False), (699, False), (700, True), (1_000, True), (1_005, True), (1_006, False)],
)
def test_how_long_ago_somebody_signed_in(auth_time: int | None, holds: bool) -> None:
    assert signed_in_within(300, auth_time, 1_000) is holds
    if auth_time is not None:
        assert Operator("u-1", "ann", frozenset(), auth_time=auth_time).is_fresh(1_000) is holds


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/auth/keys", {"name": "laptop"}),
        ("POST", "/auth/factors/totp", {}),
        ("DELETE", "/auth/me", None),
    ],
)
async def test_a_node_whose_clock_is_behind_takes_no_old_cookie_for_a_new_one(
    tmp_path: Path, method: str, path: str, fields: dict[str, str] | None
) -> None:
    async with open_house(tmp_path) as house:
        account = await house.register()
        cookie, _ = await signed_in(house)
        house.clock.move(-600)
        answer = await ask(house, method, path, cookie, body=fields)
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        assert await house.deps.accounts.by_id(account.id) is not None
