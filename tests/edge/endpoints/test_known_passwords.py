"""Whose password the world knows is told so at a sign-in, once of each password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.passwords import PasswordOptions
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, House, open_house, reason
from tests.edge.endpoints.sign_in_calls import letters

KNOWN: set[str] = set()
"""What the world has learned, after it was chosen."""
OTHER = "another horse 8 battery"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    options = PasswordOptions(is_known=KNOWN.__contains__)
    async with open_house(tmp_path, passwords=options) as opened:
        await opened.register()
        KNOWN.add(PASSWORD)
        yield opened
        KNOWN.clear()


async def mails(house: House) -> int:
    subject_text = "a\nlist of passwords that were stolen somewhere"
    return sum(
        to == EMAIL and subject_text in text.replace("\r\n", "\n")
        for to, text in await letters(house)
    )


async def test_the_owner_is_told_once_and_signs_in_all_the_same(house: House) -> None:
    for _ in range(3):
        await house.sign_in()
    assert await mails(house) == 1


async def test_whoever_tries_another_password_tells_nobody_anything(house: House) -> None:
    refused = await house.ask("POST", "/auth/login", {**CREDENTIALS, "password": OTHER})
    assert refused.status == 401
    assert await mails(house) == 0


async def test_the_next_password_is_told_of_too_and_a_good_one_is_not(house: House) -> None:
    token = (await house.sign_in())["access_token"]
    body = {"password": PASSWORD, "new_password": OTHER}
    assert (await house.ask("POST", "/auth/password/change", body, token=token)).status == 204
    await house.ask("POST", "/auth/login", {"email": EMAIL, "password": OTHER})
    assert await mails(house) == 1
    KNOWN.add(OTHER)
    await house.ask("POST", "/auth/login", {"email": EMAIL, "password": OTHER})
    assert await mails(house) == 2


async def test_a_known_password_is_refused_at_a_change_with_a_hint(house: House) -> None:
    token = (await house.sign_in())["access_token"]
    KNOWN.add(OTHER)
    body = {"password": PASSWORD, "new_password": OTHER}
    refused = await house.ask("POST", "/auth/password/change", body, token=token)
    assert (refused.status, reason(refused)) == (422, "weak_password")


async def test_an_export_says_when_the_owner_was_told(house: House) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    told = []
    for _ in range(2):
        export = await house.deps.accounts.export(account.id)
        assert export is not None
        told.append(export["known_password_told_at"])
        await house.sign_in()
    assert told == [None, int(house.clock.now())]
