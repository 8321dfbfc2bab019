"""Who keeps guessing is asked for a challenge and waits; the owner, by a device cookie, is let in."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.audit.log import AuditKind
from gateway.identity.accounts.passwords import PasswordOptions
from tests.edge.auth_house import (
    CREDENTIALS,
    EMAIL,
    PASSWORD,
    House,
    open_house,
    reason,
    request,
    told,
)
from tests.edge.endpoints.sign_in_calls import (
    OTHER,
    WRONG,
    device_of,
    letters,
    link_to,
    login,
    patiently,
)
from tests.edge.rig import Answer, Client


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


# --- the challenge ---


async def test_three_failures_ask_for_a_challenge_and_its_solution_signs_in(house: House) -> None:
    await house.register()
    assert await patiently(house, WRONG, 3) == [401] * 3
    refused = await login(house, CREDENTIALS)
    assert (refused.status, reason(refused)) == (403, "captcha_required")
    answer = await login(house, {**CREDENTIALS, "captcha": house.solution()})
    assert answer.status == 200


async def test_a_solution_in_another_spelling_is_none_and_no_defect(house: House) -> None:
    assert await patiently(house, WRONG, 3) == [401] * 3
    payload = json.loads(base64.b64decode(house.solution()))
    payload["challenge"]["parameters"]["cost"] = 1.0
    captcha = base64.b64encode(json.dumps(payload).encode()).decode()
    refused = await login(house, {**WRONG, "captcha": captcha})
    assert (refused.status, reason(refused)) == (403, "captcha_required")


async def test_an_address_without_an_account_is_asked_for_a_challenge_alike(house: House) -> None:
    nobody = {"email": "nobody@example.com", "password": PASSWORD}
    statuses = await patiently(house, nobody, 7)
    assert statuses == [401, 401, 401, 403, 403, 429, 429]
    await house.register()
    assert await patiently(house, WRONG, 7) == statuses


async def test_the_first_failure_already_makes_the_next_attempt_wait(house: House) -> None:
    await house.register()
    assert (await login(house, WRONG)).status == 401
    early = await login(house, CREDENTIALS)
    assert (early.status, reason(early)) == (429, "too_many_attempts")
    assert early.values("retry-after") == [b"1"]
    house.clock.move(1)
    assert (await login(house, CREDENTIALS)).status == 200


# --- the device ---


async def test_a_sign_in_makes_the_browser_a_device_that_strangers_cannot_lock_out(
    house: House,
) -> None:
    await house.register()
    device = device_of(await login(house, CREDENTIALS))
    for _ in range(9):
        await login(house, WRONG)
    assert (await login(house, CREDENTIALS)).status == 429
    assert (await login(house, CREDENTIALS, device)).status == 200


async def changed(house: House, token: str, device: str, old: str, new: str) -> Answer:
    return await house.ask(
        "POST",
        "/auth/password/change",
        {"password": old, "new_password": new},
        token=token,
        headers=[f"Cookie: __Host-device={device}"],
    )


async def test_a_changed_password_makes_every_device_but_the_one_that_changed_it_a_stranger(
    house: House,
) -> None:
    await house.register()
    laid_up = [device_of(await login(house, CREDENTIALS)) for _ in range(3)]
    session = await house.sign_in()
    answer = await changed(house, session["access_token"], laid_up[0], PASSWORD, OTHER)
    assert answer.status == 204
    await patiently(house, WRONG, 5)
    again = {"email": EMAIL, "password": OTHER}
    assert [(await login(house, again, device)).status for device in laid_up] == [429] * 3
    assert (await login(house, again, device_of(answer))).status == 200


async def test_strangers_keep_the_owner_from_changing_neither_password_nor_address(
    house: House,
) -> None:
    await house.register()
    signed_in = await login(house, CREDENTIALS)
    token, device = str(told(signed_in)["access_token"]), device_of(signed_in)
    await patiently(house, WRONG, 9)
    moved = await house.ask(
        "POST",
        "/auth/email/change",
        {"password": PASSWORD, "email": "anna@y.example"},
        token=token,
        headers=[f"Cookie: __Host-device={device}"],
    )
    assert moved.status == 202
    assert (await changed(house, token, device, PASSWORD, OTHER)).status == 204


async def test_a_crowd_that_registers_keeps_no_known_device_waiting(tmp_path: Path) -> None:
    async with open_house(tmp_path, passwords=PasswordOptions(threads=1), rounds=10) as house:
        await house.register()
        device = device_of(await login(house, CREDENTIALS))
        crowd = [
            asyncio.create_task(
                house.ask(
                    "POST",
                    "/auth/register",
                    {"email": f"u{n}@y.example", "password": f"{n} quiet rivers carry boats"},
                )
            )
            for n in range(20)
        ]
        while house.deps.passwords.under_way < 15:
            await asyncio.sleep(0)
        assert (await login(house, CREDENTIALS, device)).status == 200
        # One that was under way, one or two whose turn it was: not the whole row.
        assert sum(task.done() for task in crowd) < 12
        assert {answer.status for answer in await asyncio.gather(*crowd)} == {201}


async def test_who_has_many_accounts_keeps_nobody_out_who_comes_from_elsewhere(
    tmp_path: Path,
) -> None:
    options = PasswordOptions(threads=1, queue=10)
    async with open_house(tmp_path, passwords=options, rounds=10) as house:
        await house.register()
        accounts = [(await house.register(f"m{n}@y.example")).email for n in range(4)]
        crowd = [
            asyncio.create_task(login(house, {"email": email, "password": PASSWORD}))
            for email in accounts
            for _ in range(5)
        ]
        while house.deps.passwords.under_way < 11:
            await asyncio.sleep(0)
        near = await house.ask("POST", "/auth/login", CREDENTIALS)
        assert (near.status, reason(near)) == (503, "hashing_busy")
        streams = await asyncio.open_connection(
            "127.0.0.1", house.port, local_addr=("127.0.0.2", 0)
        )
        house.clients.append(Client(*streams))
        await house.clients[-1].send(
            request("POST", "/auth/login", json.dumps(CREDENTIALS).encode())
        )
        assert (await house.clients[-1].answer()).status == 200
        assert not all(task.done() for task in crowd)
        assert {answer.status for answer in await asyncio.gather(*crowd)} == {200, 503}


async def test_a_failed_sign_in_makes_no_device(house: House) -> None:
    await house.register()
    assert (await login(house, WRONG)).values("set-cookie") == []


async def test_who_resets_by_mail_gets_in_while_strangers_go_on_guessing(mail: House) -> None:
    await mail.register()
    for _ in range(9):
        await login(mail, WRONG)
    await mail.ask("POST", "/auth/password/forgot", {"email": EMAIL})
    body = {"token": await link_to(mail, EMAIL), "password": OTHER}
    reset = await mail.ask("POST", "/auth/password/reset", body)
    assert reset.status == 204
    for _ in range(9):
        await login(mail, WRONG)
    again = {"email": EMAIL, "password": OTHER}
    assert (await login(mail, again)).status == 429
    assert (await login(mail, again, device_of(reset))).status == 200


async def test_a_device_of_an_account_that_is_gone_is_a_stranger_to_the_next(house: House) -> None:
    """Whoever had the address before, or had registered it, must be no device of its owner: not
    within the second either, as often as a password that is changed may be ahead of the time."""
    account = await house.register()
    device = device_of(await login(house, CREDENTIALS))
    assert (await login(house, CREDENTIALS, device)).status == 200
    await house.deps.publisher.publish(await house.deps.accounts.delete(account.id))
    await house.register()
    assert (await login(house, CREDENTIALS, device)).status == 200
    known = [
        event.detail["known_device"]
        for event in house.recorded.events
        if event.kind is AuditKind.SIGNED_IN
    ]
    assert known == [False, True, False]


async def test_a_device_cookie_is_no_credential(house: House) -> None:
    """CVE-2024-47616: one signed value must not pass for another."""
    await house.register()
    device = device_of(await login(house, CREDENTIALS))
    answer = await house.ask("GET", "/auth/me", headers=[f"Cookie: __Host-device={device}"])
    assert answer.status == 401
    answer = await house.ask("GET", "/auth/me", token=device)
    assert (answer.status, reason(answer)) == (401, "token_malformed")


async def test_the_owner_is_told_of_a_device_that_the_account_has_not_seen(house: House) -> None:
    await house.register()
    first = await house.ask("POST", "/auth/login", CREDENTIALS, headers=["User-Agent: Firefox"])
    assert first.status == 200
    assert await letters(house) == []
    await house.ask("POST", "/auth/login", CREDENTIALS, headers=["User-Agent: curl/8"])
    ((recipient, text),) = await letters(house)
    assert recipient == EMAIL
    assert "curl/8" in text


async def test_a_known_device_is_told_to_nobody(house: House) -> None:
    await house.register()
    device = device_of(await login(house, CREDENTIALS))
    cookie = f"Cookie: __Host-device={device}"
    await house.ask("POST", "/auth/login", CREDENTIALS, headers=["User-Agent: new", cookie])
    assert await letters(house) == []
