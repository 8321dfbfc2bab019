"""What surrounds a sign-in: the challenge, the device cookie, letters, and the audit log."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
from tests.edge.rig import Answer, Client

WRONG = {"email": EMAIL, "password": "wrong one 17"}
OTHER = "another horse 8 battery"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, verification="required") as opened:
        yield opened


async def login(house: House, body: dict[str, str], cookie: str | None = None) -> Answer:
    headers = [f"Cookie: __Host-device={cookie}"] if cookie else []
    return await house.ask("POST", "/auth/login", body, headers=headers)


def device_of(answer: Answer) -> str:
    (line,) = [c.decode() for c in answer.values("set-cookie") if c.startswith(b"__Host-device=")]
    return line.partition(";")[0].partition("=")[2]


def events(house: House) -> list[tuple[str, str, str | None]]:
    return [(e.kind.value, e.result, e.subject) for e in house.recorded.events]


async def letters(house: House) -> list[tuple[str, str]]:
    """Recipient and text."""
    await house.deps.mailer.drain()
    return [(mail.recipient, mail.content.text) for mail in await house.deps.mailer.waiting_mail()]


async def link_to(house: House, recipient: str) -> str:
    (text,) = [text for to, text in await letters(house) if to == recipient and "#token=" in text]
    match = re.search(r"#token=(\S+)", text)
    assert match is not None
    return match[1]


# --- the challenge ---


async def patiently(house: House, body: dict[str, str], times: int) -> list[int]:
    """Each as soon as the one before lets it in."""
    statuses = []
    for _ in range(times):
        statuses.append((await login(house, body)).status)
        house.clock.move(8)
    return statuses


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
    """Whoever had the address before, or had registered it, must be no device of its owner."""
    account = await house.register()
    device = device_of(await login(house, CREDENTIALS))
    assert (await login(house, CREDENTIALS, device)).status == 200
    await house.deps.publisher.publish(await house.deps.accounts.delete(account.id))
    house.clock.move(1)
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


# --- passwords and addresses ---


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


async def asked_to_move(house: House, token: str, email: str, password: str = PASSWORD) -> Answer:
    body = {"password": password, "email": email}
    return await house.ask("POST", "/auth/email/change", body, token=token)


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


# --- the audit log ---


async def test_sign_ins_good_and_bad_are_recorded_and_throttled_ones_counted(
    house: House,
) -> None:
    account = await house.register()
    await login(house, CREDENTIALS)
    await login(house, WRONG)
    await login(house, {"email": "nobody@example.com", "password": PASSWORD})
    house.clock.move(1)
    await patiently(house, WRONG, 5)
    assert events(house) == [
        ("signed_in", "ok", account.id),
        ("sign_in_failed", "invalid_credentials", account.id),
        ("sign_in_failed", "invalid_credentials", None),
        ("sign_in_failed", "invalid_credentials", account.id),
        ("sign_in_failed", "invalid_credentials", account.id),
    ]
    assert house.recorded.denials == [
        ("captcha_required", "/auth/login", None),
        ("captcha_required", "/auth/login", None),
        ("too_many_attempts", "/auth/login", None),
    ]


async def test_an_event_has_the_address_the_request_and_no_secret(house: House) -> None:
    await house.register()
    session = await house.sign_in(headers=["X-Request-Id: r-1"])
    await login(house, {"email": "nobody@example.com", "password": PASSWORD})
    signed_in, failed = house.recorded.events
    assert (signed_in.address, signed_in.request_id) == ("127.0.0.1", "r-1")
    assert signed_in.detail["amr"] == ["pwd"]
    assert "nobody@" not in str(failed)
    everything = str(house.recorded.events)
    for secret in (PASSWORD, session["access_token"], session["refresh_token"]):
        assert secret not in everything


async def test_a_reused_refresh_token_is_recorded(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    for _ in range(2):
        await house.ask("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]})
        house.clock.move(11)
    assert ("refresh_reused", "refresh_token_reused", account.id) in events(house)


async def test_a_refresh_token_that_is_used_twice_by_one_client_is_recorded(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    for _ in range(2):
        answer = await house.ask(
            "POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}
        )
        assert answer.status == 200
    assert ("refresh_repeated", "ok", account.id) in events(house)


async def test_what_mail_does_to_an_account_is_recorded(mail: House) -> None:
    account = await mail.register()
    await mail.ask("POST", "/auth/password/forgot", {"email": EMAIL})
    link = await link_to(mail, EMAIL)
    body = {"token": link, "password": OTHER}
    assert (await mail.ask("POST", "/auth/password/reset", body)).status == 204
    assert [event[0:3:2] for event in events(mail)] == [
        ("password_reset_requested", None),
        ("password_reset", account.id),
    ]
    assert link not in str(mail.recorded.events)


async def test_a_confirmed_and_a_changed_email_address_are_recorded(mail: House) -> None:
    await mail.ask("POST", "/auth/register", CREDENTIALS)
    confirmed = {"token": await link_to(mail, EMAIL), "password": PASSWORD}
    assert (await mail.ask("POST", "/auth/email/verify", confirmed)).status == 204
    session = await mail.sign_in()
    await asked_to_move(mail, session["access_token"], "anna@y.example")
    moved = {"token": await link_to(mail, "anna@y.example")}
    assert (await mail.ask("POST", "/auth/email/verify", moved)).status == 204
    user_id = session["user"]["user_id"]
    assert [event[0] for event in events(mail)] == [
        "registered",
        "email_verified",
        "signed_in",
        "email_changed",
    ]
    assert {event[2] for event in events(mail)[1:]} == {user_id}


async def test_what_an_owner_does_is_recorded(house: House) -> None:
    account = await house.register()
    session = await house.sign_in()
    other = await house.sign_in()
    sid: Any = told(await house.ask("GET", "/auth/me", token=other["access_token"]))["session_id"]
    token = session["access_token"]
    assert (await house.ask("DELETE", f"/auth/sessions/{sid}", token=token)).status == 204
    body = {"password": PASSWORD, "new_password": OTHER}
    assert (await house.ask("POST", "/auth/password/change", body, token=token)).status == 204
    assert events(house)[2:] == [
        ("session_ended", "ok", account.id),
        ("password_changed", "ok", account.id),
    ]


async def test_registering_and_signing_out_are_recorded(house: House) -> None:
    body = told(await house.ask("POST", "/auth/register", CREDENTIALS))
    session = await house.sign_in()
    assert (await house.ask("POST", "/auth/logout", token=session["access_token"])).status == 204
    assert [event[0] for event in events(house)] == ["registered", "signed_in", "signed_out"]
    registered, signed_in, signed_out = house.recorded.events
    assert registered.subject == signed_in.subject == body["user_id"]
    assert signed_out.detail["sid"] == signed_in.detail["sid"]


async def test_a_registration_by_mail_is_recorded_alike_for_every_address(mail: House) -> None:
    await mail.register()
    await mail.ask("POST", "/auth/register", CREDENTIALS)
    await mail.ask("POST", "/auth/register", {"email": "alicf@example.com", "password": PASSWORD})
    known, unknown = mail.recorded.events
    assert (known.kind, known.subject, set(known.detail)) == (
        unknown.kind,
        unknown.subject,
        set(unknown.detail),
    )
