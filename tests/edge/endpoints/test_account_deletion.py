"""`DELETE /auth/me`: an owner erases their own account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.audit.log import AuditKind
from tests.edge.auth_house import CREDENTIALS, EMAIL, House, open_house, reason, told
from tests.edge.endpoints.mail_house import MailHouse

SAME_ORIGIN = "Sec-Fetch-Site: same-origin"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


async def test_who_has_just_signed_in_erases_the_account_and_is_told_by_mail(
    house: House,
) -> None:
    session, other = await house.sign_in(), await house.sign_in()
    answer = await house.ask("DELETE", "/auth/me", token=session["access_token"])
    assert answer.status == 204
    assert await house.deps.accounts.by_email(EMAIL) is None
    for one in (session, other):
        assert (await house.ask("GET", "/auth/me", token=one["access_token"])).status == 401
    assert (await house.ask("POST", "/auth/login", CREDENTIALS)).status == 401
    event = house.recorded.events[-2]
    assert (event.kind, event.detail["change"]) == (AuditKind.ACCOUNT_CHANGED, "deleted")
    (letter,) = await MailHouse(house, house.deps.mailer).letters()
    assert letter.recipient == EMAIL
    assert letter.content.subject == "Your account at gate.example was deleted"


async def test_a_session_that_may_be_stolen_erases_nothing(house: House) -> None:
    session = await house.sign_in()
    house.clock.move(301)
    answer = await house.ask("DELETE", "/auth/me", token=session["access_token"])
    assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
    assert b"max_age=300" in answer.values("www-authenticate")[0].replace(b'"', b"")
    assert await house.deps.accounts.by_email(EMAIL) is not None


async def test_a_cookie_goes_with_the_account(house: House) -> None:
    body = {**CREDENTIALS, "transport": "cookie"}
    signed_in = await house.ask("POST", "/auth/login", body)
    cookie = signed_in.values("set-cookie")[0].decode().partition(";")[0]
    fields = [f"Cookie: {cookie}", SAME_ORIGIN]
    answer = await house.ask("DELETE", "/auth/me", headers=fields)
    assert answer.status == 204
    assert b"Max-Age=0" in answer.values("set-cookie")[0]
    assert (await house.ask("GET", "/auth/me", headers=fields)).status == 401


async def test_another_page_erases_no_account(house: House) -> None:
    body = {**CREDENTIALS, "transport": "cookie"}
    signed_in = await house.ask("POST", "/auth/login", body)
    cookie = signed_in.values("set-cookie")[0].decode().partition(";")[0]
    fields = [f"Cookie: {cookie}", "Sec-Fetch-Site: same-site"]
    answer = await house.ask("DELETE", "/auth/me", headers=fields)
    assert (answer.status, told(answer)["reason"]) == (403, "cross_origin")


async def test_a_session_that_ended_while_it_asked_erases_nothing(house: House) -> None:
    session = await house.sign_in()
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    sid = told(await house.ask("GET", "/auth/me", token=session["access_token"]))["session_id"]
    await house.deps.sessions.end(sid, "by an operator")
    answer = await house.ask("DELETE", "/auth/me", token=session["access_token"])
    assert answer.status == 401
    assert await house.deps.accounts.by_email(EMAIL) is not None


async def test_while_a_worker_has_not_confirmed_it_the_answer_says_so(house: House) -> None:
    session = await house.sign_in()
    house.workers.confirm = False
    answer = await house.ask("DELETE", "/auth/me", token=session["access_token"])
    assert (answer.status, reason(answer)) == (503, "revocation_pending")
    assert await house.deps.accounts.by_email(EMAIL) is None


@pytest.fixture
async def barring(tmp_path: Path) -> AsyncIterator[tuple[House, str]]:
    """With the id of an account that has a role which only takes away."""
    async with open_house(tmp_path, barring_roles=frozenset(("suspended",))) as opened:
        await opened.register()
        account = await opened.deps.accounts.by_email(EMAIL)
        assert account is not None
        await opened.deps.accounts.grant(account.id, "suspended")
        yield opened, account.id


async def test_who_is_kept_away_by_a_role_does_not_come_back_without_it(
    barring: tuple[House, str],
) -> None:
    house, account_id = barring
    session = await house.sign_in()
    answer = await house.ask("DELETE", "/auth/me", token=session["access_token"])
    assert (answer.status, reason(answer)) == (403, "no_rule")
    assert "whoever runs this service" in told(answer)["detail"]
    assert (await house.ask("GET", "/auth/me", token=session["access_token"])).status == 200
    await house.deps.accounts.revoke(account_id, "suspended")
    session = await house.sign_in()
    answer = await house.ask("DELETE", "/auth/me", token=session["access_token"])
    assert answer.status == 204


async def test_who_is_kept_away_by_a_role_moves_to_no_other_address(
    barring: tuple[House, str],
) -> None:
    house, _ = barring
    session = await house.sign_in()
    body = {"email": "other@x.example", "password": CREDENTIALS["password"]}
    answer = await house.ask("POST", "/auth/email/change", body, token=session["access_token"])
    assert (answer.status, reason(answer)) == (403, "no_rule")
    assert "another address" in told(answer)["detail"]
