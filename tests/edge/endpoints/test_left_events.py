"""Whoever leaves before the answer takes no event of the audit log along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import AuditKind
from tests.authenticator import (
    BACKED_UP,
    BACKUP_ELIGIBLE,
    USER_PRESENT,
    USER_VERIFIED,
    Authenticator,
)
from tests.edge.auth_house import EMAIL, PASSWORD, House, open_house, request, told
from tests.edge.auth_house import URL as OWN
from tests.edge.endpoints.passkey_calls import (
    PASSKEYS,
    SIGN_IN,
    add_passkey,
    asked_to_sign_in,
    signed_in_by_passkey,
)
from tests.edge.rig import leave

LEFT_S = 0.1
"""So long a server has to see that its client is gone."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


async def asked_and_left(
    house: House, method: str, path: str, body: Any, token: str | None = None
) -> None:
    """A call whose client is gone before what it writes is committed."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    house.recorded.events.clear()
    house.database.before_commit = hold
    client = await house.client()
    await client.send(request(method, path, json.dumps(body).encode(), token=token))
    await reached.wait()
    leave(client.writer)
    house.database.before_commit = None
    opening = asyncio.ensure_future(go_on.wait())
    await asyncio.wait([opening], timeout=LEFT_S)
    go_on.set()
    await opening
    await house.api.close()


def kinds(house: House) -> list[AuditKind]:
    return [event.kind for event in house.recorded.events]


async def by_software(house: House) -> tuple[Authenticator, str]:
    """A passkey that can be copied, and the token of who signed in with it."""
    made = Authenticator(OWN, flags=USER_PRESENT | USER_VERIFIED | BACKUP_ELIGIBLE)
    await add_passkey(house, made)
    return made, await signed_in_by_passkey(house, made)


async def test_what_a_passkey_says_anew_is_written_down_though_its_client_leaves(
    house: House,
) -> None:
    authenticator, _ = await by_software(house)
    authenticator.flags ^= BACKED_UP
    options = await asked_to_sign_in(house)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    await asked_and_left(house, "POST", SIGN_IN, body)
    assert kinds(house) == [AuditKind.PASSKEY_BACKUP_CHANGED, AuditKind.SIGNED_IN]


async def test_a_passkey_is_told_to_be_renamed_though_its_client_leaves(house: House) -> None:
    _, token = await by_software(house)
    [passkey] = told(await house.ask("GET", PASSKEYS, token=token))["passkeys"]
    path = f"{PASSKEYS}/{passkey['passkey_id']}"
    await asked_and_left(house, "PATCH", path, {"name": "laptop"}, token)
    assert kinds(house) == [AuditKind.PASSKEY_RENAMED]


async def test_recovery_codes_are_told_to_be_made_though_their_client_leaves(house: House) -> None:
    _, token = await by_software(house)
    await asked_and_left(house, "POST", "/auth/factors/recovery-codes", {}, token)
    assert kinds(house) == [AuditKind.RECOVERY_CODES_MADE]


async def test_a_move_is_told_to_be_asked_for_though_its_client_leaves(house: House) -> None:
    token = str((await house.sign_in())["access_token"])
    body = {"password": PASSWORD, "email": "new@example.com"}
    await asked_and_left(house, "POST", "/auth/email/change", body, token)
    assert kinds(house) == [AuditKind.EMAIL_CHANGE_REQUESTED]


async def test_a_reset_is_told_to_be_asked_for_though_its_client_leaves(house: House) -> None:
    await asked_and_left(house, "POST", "/auth/password/forgot", {"email": EMAIL})
    assert kinds(house) == [AuditKind.PASSWORD_RESET_REQUESTED]
