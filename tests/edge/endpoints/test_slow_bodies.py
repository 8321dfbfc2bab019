"""Who asks for a change in a body that comes for up to ten seconds, and has lost what they ask
with when its last byte is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.identity.revocations import refuse
from gateway.model import ChangeKind, Principal
from tests.edge.auth_house import PASSWORD, House, open_house, reason, request
from tests.edge.endpoints.test_tenants import bearer
from tests.edge.rig import Client

BODIES: dict[str, dict[str, Any]] = {
    "/auth/keys": {"name": "laptop"},
    "/auth/step-up": {"password": PASSWORD},
    "/auth/password/change": {"password": PASSWORD, "new_password": PASSWORD + " x9"},
    "/auth/email/change": {"password": PASSWORD, "email": "bob@example.com"},
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


async def begin(house: House, path: str, token: str) -> tuple[Client, bytes]:
    """All but the last byte of a call, which is sent; and that byte."""
    whole = request("POST", path, json.dumps(BODIES[path]).encode(), token=token)
    client = await house.client()
    await client.send(whole[:-1])
    # The head is read, and who calls was asked, before anything is taken from them.
    assert (await house.ask("GET", "/auth/sessions", token=token)).status == 200
    return client, whole[-1:]


async def own_token(house: House) -> tuple[str, Principal]:
    token = str((await house.sign_in())["access_token"])
    return token, await bearer(house, token)


@pytest.mark.parametrize("path", BODIES)
async def test_a_token_that_was_refused_before_the_last_byte_changes_nothing(
    house: House, path: str
) -> None:
    """The session lives: an operator who finds a token in a log refuses that one alone."""
    token, principal = await own_token(house)
    client, last = await begin(house, path, token)
    changes = await refuse(house.database, ChangeKind.TOKEN, principal.token_id)
    assert await house.workers.publish(changes)
    before = len(house.recorded.events)
    await client.send(last)
    answer = await client.answer()
    assert (answer.status, reason(answer)) == (401, "token_revoked")
    assert len(house.recorded.events) == before


@pytest.mark.parametrize("path", BODIES)
async def test_a_token_that_expired_before_the_last_byte_changes_nothing(
    house: House, path: str
) -> None:
    token, principal = await own_token(house)
    house.clock.move(principal.expires_at - house.clock.at - 1)
    await house.ring.refresh()
    client, last = await begin(house, path, token)
    house.clock.move(1)
    await house.ring.refresh()
    await client.send(last)
    answer = await client.answer()
    assert (answer.status, reason(answer)) == (401, "token_expired")


@pytest.mark.parametrize("path", BODIES)
async def test_a_stranger_is_refused_before_the_body_is_read(house: House, path: str) -> None:
    whole = request("POST", path, json.dumps(BODIES[path]).encode(), token="nobody's")
    client = await house.client()
    await client.send(whole[:-1])
    answer = await client.answer()
    assert answer.status == 401


@pytest.mark.parametrize("path", BODIES)
async def test_who_is_there_still_is_answered_as_ever(house: House, path: str) -> None:
    token, _ = await own_token(house)
    client, last = await begin(house, path, token)
    await client.send(last)
    assert (await client.answer()).status in (200, 201, 202, 204)
