"""Owners who move their account to another address, or change its password, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.endpoints.factor_changes import FRESH_S
from tests.edge.auth_house import CREDENTIALS, PASSWORD, House, open_house, reason, told
from tests.edge.endpoints.sign_in_calls import (
    OTHER,
    asked_to_move,
    device_of,
    letters,
    link_to,
    login,
    patiently,
)
from tests.edge.endpoints.test_factors import code_at, enrol


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def test_a_changed_password_is_told_to_its_owner(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    answer = await house.ask(
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": OTHER},
        token=session["access_token"],
    )
    assert answer.status == 204
    assert ["was changed" in text for _, text in await letters(house)] == [True]


async def test_an_account_moves_to_an_address_that_confirms_it(mail: House) -> None:
    await mail.register()
    session = await mail.sign_in()
    answer = await asked_to_move(mail, session["access_token"], "Anna@y.example")
    assert (answer.status, told(answer)) == (202, {"status": "verification_sent"})
    link = await link_to(mail, "Anna@y.example")
    assert (await mail.ask("POST", "/auth/email/verify", {"token": link})).status == 204
    refused = await mail.ask("GET", "/auth/me", token=session["access_token"])
    assert reason(refused) == "token_outdated"
    again = {"email": "anna@y.example", "password": PASSWORD}
    assert told(await login(mail, again))["user"]["email"] == "Anna@y.example"
    assert (await login(mail, CREDENTIALS)).status == 401


async def test_strangers_do_not_lock_out_the_browser_that_opened_the_link(mail: House) -> None:
    """It was a device of the address of before: who guesses at the new one locks it out."""
    await mail.register()
    token = str((await mail.sign_in())["access_token"])
    await asked_to_move(mail, token, "anna@y.example")
    link = await link_to(mail, "anna@y.example")
    moved = await mail.ask("POST", "/auth/email/verify", {"token": link})
    assert moved.status == 204
    guess = {"email": "anna@y.example", "password": "wrong one 17"}
    assert (await patiently(mail, guess, 12))[-1] == 429
    right = {"email": "anna@y.example", "password": PASSWORD}
    assert (await login(mail, right)).status == 429
    assert (await login(mail, right, device_of(moved))).status == 200


async def test_moving_needs_the_password_and_counts_as_an_attempt(house: House) -> None:
    await house.register()
    session = await house.sign_in()
    answers = []
    for number in range(7):
        answers.append(
            await asked_to_move(house, session["access_token"], "anna@y.example", f"guess {number}")
        )
        house.clock.move(8)
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 2
    assert await letters(house) == []


async def test_who_has_a_factor_gives_it_before_the_account_moves(mail: House) -> None:
    """With a stolen session and the password, by which nobody signs in, a thief would move the
    account to a mailbox of theirs, where its owner can have no new password sent to."""
    await mail.register()
    stolen = (await mail.sign_in())["access_token"]
    secret, confirmed = await enrol(mail, stolen)
    own = str(confirmed["access_token"])
    mail.clock.move(FRESH_S)
    await mail.ring.refresh()
    for password in (PASSWORD, "a guess"):
        answer = await asked_to_move(mail, own, "thief@y.example", password)
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        assert b'max_age="300"' in answer.values("www-authenticate")[0]
    assert not [text for to, text in await letters(mail) if to == "thief@y.example"]
    stepped = await mail.ask("POST", "/auth/step-up", {"code": code_at(mail, secret)}, token=own)
    answer = await asked_to_move(
        mail, str(told(stepped)["access_token"]), "Anna@y.example", PASSWORD
    )
    assert answer.status == 202
    assert await link_to(mail, "Anna@y.example")


async def test_moving_to_an_address_that_has_an_account_says_the_same(house: House) -> None:
    await house.register()
    await house.register("bob@example.com")
    session = await house.sign_in()
    free = await asked_to_move(house, session["access_token"], "anna@y.example")
    taken = await asked_to_move(house, session["access_token"], "bob@example.com")
    assert (free.status, free.body) == (taken.status, taken.body)


@pytest.mark.parametrize("email", ["", "x", "a@b@c.example", "a@y.example\r\nBcc: b@y.example"])
async def test_moving_to_what_is_no_address_is_refused(house: House, email: str) -> None:
    await house.register()
    session = await house.sign_in()
    assert (await asked_to_move(house, session["access_token"], email)).status == 422
