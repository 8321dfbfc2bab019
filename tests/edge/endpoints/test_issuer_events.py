"""`/auth/issuers/NAME/…`: another issuer tells of an end, and is answered when it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.audit.log import AuditKind
from gateway.identity.revocations import unpublished
from gateway.model import Change, ChangeKind, Principal, Reason, without_session
from gateway.revocation.revocation_list import RevocationList
from tests.edge.auth_house import House, open_house, reason, request, told
from tests.edge.rig import Answer
from tests.identity.issuers.event_provider import (
    ABSENT,
    CAEP,
    NAME,
    RISC,
    iss_sub,
    opaque,
    rsa_key,
)

FORM = "application/x-www-form-urlencoded"
SET = "application/secevent+jwt"
LOGOUT_PATH = f"/auth/issuers/{NAME}/backchannel-logout"
EVENTS_PATH = f"/auth/issuers/{NAME}/events"
REVOKED = CAEP + "session-revoked"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def logout(house: House, text: str, path: str = LOGOUT_PATH) -> Answer:
    content = urlencode({"logout_token": text}).encode()
    return await house.raw(request("POST", path, content, content_type=FORM))


async def pushed(house: House, text: str, path: str = EVENTS_PATH) -> Answer:
    return await house.raw(request("POST", path, text.encode(), content_type=SET))


def logout_token(house: House, **changed: Any) -> str:
    return house.provider.logout_token(house.clock.now(), **changed)


def event(house: House, happened: dict[str, Any], **changed: Any) -> str:
    return house.provider.security_event(house.clock.now(), happened, **changed)


def targets(changes: list[Change]) -> list[tuple[ChangeKind, str]]:
    return [(change.kind, change.target) for change in changes]


# --- a logout token ---


async def test_a_logout_is_answered_200_once_every_worker_has_it(house: House) -> None:
    answer = await logout(house, logout_token(house))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.values("cache-control") == [b"no-store"]
    assert targets(house.workers.told) == [
        (ChangeKind.SESSION, "company:session-1"),
        (ChangeKind.SUBJECT, without_session("company:alice")),
    ]
    assert {change.cause for change in house.workers.told} == {Reason.TOKEN_REVOKED}
    assert house.workers.told[1].not_before == int(house.clock.now())
    assert house.reports == [(NAME, "taken")]


async def test_without_a_session_it_ends_all_of_the_subject(house: House) -> None:
    claims: dict[str, Any] = {"iat": int(house.clock.now()) - 7}
    text = house.provider.logout_token(house.clock.now(), **claims, sid=ABSENT)
    assert (await logout(house, text)).status == 200
    assert targets(house.workers.told) == [(ChangeKind.SUBJECT, "company:alice")]
    assert house.workers.told[0].not_before == claims["iat"]


async def test_what_is_not_confirmed_is_503_and_may_be_told_again(house: House) -> None:
    house.workers.confirm = False
    text = logout_token(house)
    answer = await logout(house, text)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")
    assert answer.values("retry-after") == [b"1"]
    house.workers.confirm = True
    assert (await logout(house, text)).status == 200
    # The second time tells of the same rows.
    first, second = house.workers.told[:2], house.workers.told[2:]
    assert first == second
    assert house.reports == [(NAME, "pending"), (NAME, "taken")]


async def test_a_logout_token_is_taken_once(house: House) -> None:
    text = logout_token(house)
    assert (await logout(house, text)).status == 200
    again = await logout(house, text)
    assert (again.status, told(again)["error"]) == (400, "invalid_request")
    assert again.values("cache-control") == [b"no-store"]
    assert len(house.workers.told) == 2
    other = logout_token(house, jti="logout-2")
    assert (await logout(house, other)).status == 200


async def test_what_was_taken_under_another_name_of_the_issuer_is_taken_again(house: House) -> None:
    happened = {REVOKED: {"subject": iss_sub("alice")}}
    text = event(house, happened)
    assert (await pushed(house, text)).status == 202
    house.issuers["renamed"] = replace(house.issuers.pop(NAME), name="renamed")
    path = EVENTS_PATH.replace(NAME, "renamed")
    assert (await pushed(house, text, path)).status == 202
    assert targets(house.workers.told) == [
        (ChangeKind.SUBJECT, "company:alice"),
        (ChangeKind.SUBJECT, "renamed:alice"),
    ]


async def test_while_it_is_being_taken_a_repeat_is_503(house: House) -> None:
    text = logout_token(house)
    began, go_on = asyncio.Event(), asyncio.Event()

    async def before_commit() -> None:
        began.set()
        await go_on.wait()

    house.database.before_commit = before_commit
    first = asyncio.create_task(logout(house, text))
    await began.wait()
    answer = await logout(house, text)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")
    go_on.set()
    assert (await first).status == 200


async def test_without_sql_nothing_is_taken_and_it_may_be_told_again(house: House) -> None:
    text = logout_token(house)
    house.database.away = True
    answer = await logout(house, text)
    assert (answer.status, reason(answer)) == (503, "store_unavailable")
    house.database.away = False
    assert (await logout(house, text)).status == 200


async def test_without_redis_nobody_knows_whether_it_was_taken(house: House) -> None:
    house.deliveries.away = True
    answer = await logout(house, logout_token(house))
    assert (answer.status, reason(answer)) == (503, "store_unavailable")
    assert house.workers.told == []


async def test_while_the_keys_cannot_be_had_it_is_503(house: House) -> None:
    house.provider.away = True
    for answer in (
        await logout(house, logout_token(house)),
        await pushed(house, event(house, {REVOKED: {}}, sub_id=iss_sub())),
    ):
        assert (answer.status, reason(answer)) == (503, "issuer_unavailable")
        assert answer.values("retry-after") == [b"5"]
    assert house.reports == [(NAME, "unavailable")] * 2


async def test_a_bad_logout_token_is_400_and_its_error_a_constant(house: House) -> None:
    forged = logout_token(house, header={"key": rsa_key()}, sub="mallory")
    for text in (forged, logout_token(house, nonce="n"), "x.y.z"):
        answer = await logout(house, text)
        assert answer.status == 400
        assert answer.values("content-type") == [b"application/json"]
        assert answer.values("cache-control") == [b"no-store"]
        assert set(told(answer)) == {"error", "error_description"}
        assert told(answer)["error"] == "invalid_request"
        assert b"mallory" not in answer.body
    assert house.workers.told == []
    assert house.recorded.events == []
    assert house.recorded.denials == [("invalid_logout_token", LOGOUT_PATH, None)] * 3
    assert house.reports == [(NAME, "refused")] * 3


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (b"", 400),
        (b"logout_token=", 400),
        (b"token=x", 400),
        (b"logout_token=a&logout_token=b", 400),
        (b"logout_token=%ff", 400),
        (b"\xff", 400),
        (b"&" * 100, 400),
        (b"logout_token=" + b"a" * 70_000, 413),
    ],
)
async def test_a_form_that_is_none_is_refused(house: House, form: bytes, status: int) -> None:
    answer = await house.raw(request("POST", LOGOUT_PATH, form, content_type=FORM))
    assert answer.status == (415 if not form else status)


@pytest.mark.parametrize("path", [LOGOUT_PATH, EVENTS_PATH])
async def test_another_content_type_is_415(house: House, path: str) -> None:
    for content_type in ("application/json", "application/jwt", "text/plain", None):
        sent = request("POST", path, b"{}", content_type=content_type)
        answer = await house.raw(sent)
        assert (answer.status, reason(answer)) == (415, "media_type_unsupported")


# --- what names an issuer ---


@pytest.mark.parametrize("path", [LOGOUT_PATH, EVENTS_PATH])
async def test_an_issuer_that_there_is_not_or_that_tells_nothing_is_404(
    house: House, path: str
) -> None:
    async def told_at(path: str) -> Answer:
        text = logout_token(house)
        return await (logout if path == LOGOUT_PATH else pushed)(house, text, path)

    assert (await told_at(path)).status == 200 if path == LOGOUT_PATH else 400
    for unknown in (path.replace(NAME, "own"), path.replace(NAME, "*"), path.replace(NAME, "x")):
        answer = await (logout if path == LOGOUT_PATH else pushed)(house, "x", unknown)
        assert (answer.status, reason(answer)) == (404, "route_unknown")
    house.issuers[NAME] = house.provider.issuer(backchannel_logout=False, events=False)
    answer = await told_at(path)
    assert (answer.status, reason(answer)) == (404, "route_unknown")


@pytest.mark.parametrize("path", [LOGOUT_PATH, EVENTS_PATH])
async def test_they_are_only_posted_to(house: House, path: str) -> None:
    answer = await house.ask("GET", path)
    assert (answer.status, answer.values("allow")) == (405, [b"POST"])
    assert (await house.ask("POST", path + "/")).status == 404
    assert (await house.ask("POST", path + "/x")).status == 404


async def test_a_cookie_asks_for_no_proof_of_intent(house: House) -> None:
    content = urlencode({"logout_token": logout_token(house)}).encode()
    headers = ["Cookie: __Host-session=abc", "Sec-Fetch-Site: cross-site"]
    sent = request("POST", LOGOUT_PATH, content, content_type=FORM, headers=headers)
    assert (await house.raw(sent)).status == 200


# --- security events ---


async def test_an_event_is_answered_202_once_every_worker_has_it(house: House) -> None:
    subject = {"format": "complex", "user": iss_sub(), "session": opaque("s-1")}
    answer = await pushed(house, event(house, {REVOKED: {}}, sub_id=subject))
    assert (answer.status, answer.body) == (202, b"")
    assert targets(house.workers.told) == [
        (ChangeKind.SESSION, "company:s-1"),
        (ChangeKind.SUBJECT, without_session("company:alice")),
    ]


async def test_an_event_that_was_taken_may_come_again_and_changes_nothing(house: House) -> None:
    text = event(house, {RISC + "account-disabled": {}}, sub_id=iss_sub())
    assert (await pushed(house, text)).status == 202
    assert (await pushed(house, text)).status == 202
    assert len(house.workers.told) == 1
    assert house.reports == [(NAME, "taken"), (NAME, "repeated")]


async def test_an_event_that_is_not_confirmed_is_503(house: House) -> None:
    house.workers.confirm = False
    text = event(house, {REVOKED: {}}, sub_id=iss_sub())
    answer = await pushed(house, text)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")
    house.workers.confirm = True
    assert (await pushed(house, text)).status == 202


async def test_an_event_of_another_type_asks_no_store(house: House) -> None:
    house.database.away = house.deliveries.away = True
    text = event(house, {"https://schemas.openid.net/secevent/ssf/event-type/verification": {}})
    assert (await pushed(house, text)).status == 202
    assert house.reports == [(NAME, "ignored")]


async def test_a_bad_event_is_400_with_the_codes_of_its_specification(house: House) -> None:
    codes = {
        "invalid_request": event(house, {REVOKED: {}}),
        "invalid_key": event(house, {REVOKED: {}}, header={"kid": "k9", "key": rsa_key()}),
        "invalid_issuer": event(house, {REVOKED: {}}, iss="https://elsewhere.example"),
        "invalid_audience": event(house, {REVOKED: {}}, aud="another"),
        "authentication_failed": event(house, {REVOKED: {}}, header={"key": rsa_key()}),
    }
    for code, text in codes.items():
        answer = await pushed(house, text)
        assert (answer.status, told(answer)["err"]) == (400, code)
        assert set(told(answer)) == {"err", "description"}
        assert answer.values("content-type") == [b"application/json"]
        assert answer.values("content-language") == [b"en"]
    assert house.workers.told == []


async def test_an_event_of_a_megabyte_is_413(house: House) -> None:
    text = event(house, {REVOKED: {}}, sub_id=iss_sub(), padding="x" * 1_000_000)
    answer = await pushed(house, text)
    assert (answer.status, reason(answer)) == (413, "body_too_large")


async def test_a_logout_token_is_no_event_and_the_reverse(house: House) -> None:
    assert (await pushed(house, logout_token(house))).status == 400
    assert (await logout(house, event(house, {REVOKED: {}}, sub_id=iss_sub()))).status == 400
    assert house.workers.told == []


# --- what is left of it ---


async def test_an_end_is_in_the_audit_log_with_who_told_of_it(house: House) -> None:
    await logout(house, logout_token(house))
    (recorded,) = house.recorded.events
    assert recorded.kind is AuditKind.REVOKED
    assert (recorded.subject, recorded.actor) == ("company:alice", "issuer:company")
    assert recorded.detail == {
        "sid": "company:session-1",
        "change": "backchannel-logout",
        "jti": "logout-1",
    }
    assert recorded.request_id


async def test_its_rows_are_kept_for_workers_that_start_later(house: House) -> None:
    await logout(house, logout_token(house))
    house.clock.at += 60
    assert sorted(targets(await unpublished(house.database, -60))) == sorted(
        targets(house.workers.told)
    )


async def test_a_session_that_ends_takes_the_tokens_that_name_no_session(house: House) -> None:
    """A provider whose access tokens have no `sid` must not leave them good after a logout that
    names both; those of another session of the same person go on."""
    await logout(house, logout_token(house))
    now = int(house.clock.now())
    ended = RevocationList()
    for change in house.workers.told:
        ended.apply(change, 1e9)
    assert ended.refusal(_principal("session-1", now)) is Reason.TOKEN_REVOKED
    assert ended.refusal(_principal(None, now)) is Reason.TOKEN_REVOKED
    assert ended.refusal(_principal(None, now + 1)) is None
    assert ended.refusal(_principal("session-2", now)) is None
    assert ended.refusal(_principal(None, now, "company:bob")) is None


def _principal(sid: str | None, issued_at: int, subject: str = "company:alice") -> Principal:
    return Principal(
        subject=subject,
        roles=(),
        session_id=sid and f"company:{sid}",
        token_id="company:t",
        client_id=None,
        kid="company:k1",
        issued_at=issued_at,
        expires_at=issued_at + 300,
        issuer=NAME,
    )
