"""How often one address may ask the gateway's own endpoints, and one session be renewed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.endpoints.audit_events import EVENTS_AT_ONCE, BoundedAuditSink
from gateway.edge.endpoints.rate_limits import (
    BY_ENDPOINT,
    CAPTCHA,
    DEVICE,
    DEVICE_FEW,
    EVENTS,
    RENEWALS,
    RESEND,
    SESSION,
    SIGN_INS,
    EndpointLimits,
)
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.sign_in.devices import COOKIE
from gateway.rate_limit.limiter import RateLimiter
from gateway.stores.redis import RedisStore, open_redis
from tests.authenticator import Authenticator
from tests.databases import Hands
from tests.edge.auth_house import (
    CREDENTIALS,
    EMAIL,
    PASSWORD,
    URL,
    House,
    open_house,
    reason,
    request,
    told,
)
from tests.edge.endpoints.passkey_calls import add_passkey, sign_in
from tests.edge.endpoints.sign_in_calls import device_of
from tests.edge.house_parts import Recorded
from tests.edge.rig import Answer

OPENAPI = Path(__file__).parents[3] / "gateway/schemas/openapi.yaml"
CHALLENGE = request("GET", "/auth/captcha", b"")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def often(house: House, data: bytes, times: int) -> list[Answer]:
    """Over one connection."""
    client = await house.client()
    answers = []
    for _ in range(times):
        await client.send(data)
        answers.append(await client.answer())
    return answers


def test_every_endpoint_has_a_limit_or_says_why_not() -> None:
    paths = yaml.safe_load(OPENAPI.read_text("utf-8"))["paths"]
    named = {
        tuple("*" if part[0] == "{" else part for part in path.split("/")[2:])
        for path in paths
        if path.startswith("/auth/")
    }
    assert set(BY_ENDPOINT) == named
    assert {name for name, limits in BY_ENDPOINT.items() if limits is None} == {
        ("email", "verify"),
        ("password", "reset"),
    }


async def test_one_address_may_ask_so_often_and_then_waits(house: House) -> None:
    (limit,) = CAPTCHA
    answers = await often(house, request("GET", "/auth/captcha", b""), limit.burst + 1)
    assert {answer.status for answer in answers[:-1]} == {200}
    assert (answers[-1].status, reason(answers[-1])) == (429, "rate_limited")
    assert answers[-1].values("retry-after") == [b"1"]
    # Another kind of endpoint, and this one a moment later.
    assert (await house.ask("GET", "/auth/me")).status == 401
    house.clock.move(1)
    assert (await house.ask("GET", "/auth/captcha")).status == 200


async def known_browser(house: House, email: str) -> bytes:
    """What a browser sends that has signed in to an account that is new."""
    await house.register(email)
    return await browser_of(house, email)


async def browser_of(house: House, email: str) -> bytes:
    signed_in = await house.ask("POST", "/auth/login", {"email": email, "password": PASSWORD})
    cookie = f"Cookie: {COOKIE}={device_of(signed_in)}"
    return request("GET", "/auth/captcha", b"", headers=[cookie])


async def test_a_browser_that_has_signed_in_before_has_calls_of_its_own(house: House) -> None:
    """Whoever uses up what an address has, as a neighbour may, leaves it these."""
    known = await known_browser(house, EMAIL)
    await often(house, CHALLENGE, CAPTCHA[0].burst)
    answers = await often(house, known, DEVICE_FEW[0].burst + DEVICE[0].burst + 1)
    assert {answer.status for answer in answers[:-1]} == {200}
    assert (answers[-1].status, reason(answers[-1])) == (429, "rate_limited")
    cookie = known.partition(b"Cookie: ")[2].partition(b"\r\n")[0].decode()
    for stranger in ("", "__Host-device=made-up", f"{cookie}x"):
        fields = [f"Cookie: {stranger}"] if stranger else []
        (answer,) = await often(house, request("GET", "/auth/captcha", b"", headers=fields), 1)
        assert answer.status == 429


async def test_who_has_many_accounts_at_the_owners_address_keeps_no_browser_of_theirs_out(
    house: House,
) -> None:
    """What all of them share is asked of those alone who have used up what is their own."""
    owner = await known_browser(house, EMAIL)
    others = [await known_browser(house, f"u{number}@example.com") for number in range(18)]
    await often(house, CHALLENGE, CAPTCHA[0].burst)
    used = [answer.status for other in others for answer in await often(house, other, 30)]
    assert 429 in used
    few = DEVICE_FEW[0].burst
    answers = await often(house, owner, few + 20)
    assert [answer.status for answer in answers] == [200] * few + [429] * 20
    # What was refused for the others' calls has used up none of the owner's.
    house.clock.move(3)
    await often(house, CHALLENGE, CAPTCHA[0].burst)
    answers = await often(house, owner, DEVICE[0].burst)
    assert {answer.status for answer in answers} == {200}


async def test_a_cookie_of_before_a_changed_password_takes_nothing_from_the_owners_browser(
    house: House,
) -> None:
    """A neighbour holds it, who knew the password of before or had registered the address."""
    older = await known_browser(house, EMAIL)
    few, more = DEVICE_FEW[0].burst, DEVICE[0].burst
    async with house.database.transaction() as tx:
        await tx.run("UPDATE accounts SET password_epoch = password_epoch + 1")
    owner = await browser_of(house, EMAIL)
    await often(house, CHALLENGE, CAPTCHA[0].burst)
    answers = await often(house, older, few + more + 1)
    # One more bucket for the password of before, and no more than that.
    assert [answer.status for answer in answers] == [200] * (few + more) + [429]
    answers = await often(house, owner, few + more)
    assert {answer.status for answer in answers} == {200}


async def test_who_asks_for_links_again_keeps_nobody_from_a_reset(house: House) -> None:
    resend = request("POST", "/auth/email/resend", b"{}")
    answers = await often(house, resend, RESEND[0].burst + 1)
    assert answers[-1].status == 429
    answer = await house.ask("POST", "/auth/password/forgot", {"email": "a@x.example"})
    assert answer.status == 202


async def refreshed(house: House, token: str) -> Answer:
    return await house.ask("POST", "/auth/refresh", {"refresh_token": token})


async def test_a_session_that_is_renewed_all_the_time_waits_and_keeps_its_token(
    house: House,
) -> None:
    await house.register()
    token = str((await house.sign_in())["refresh_token"])
    other = str((await house.sign_in())["refresh_token"])
    for _ in range(SESSION[0].burst):
        token = str(told(await refreshed(house, token))["refresh_token"])
    early = await refreshed(house, token)
    assert (early.status, reason(early)) == (429, "rate_limited")
    assert early.values("retry-after") == [b"1"]
    assert (await refreshed(house, other)).status == 200
    house.clock.move(1)
    assert (await refreshed(house, token)).status == 200


async def test_a_day_of_renewals_ends_with_a_thousand() -> None:
    clock, renewed = Hands(), 0
    limits = EndpointLimits(RateLimiter(clock))
    while await limits.session_wait_s("s") == 0.0:
        renewed += 1
        clock.move(1)
    # A thousand at once, and what comes back in a thousand seconds.
    assert renewed == 1_011
    assert 1 < await limits.session_wait_s("s") < 86.4


async def test_an_account_that_signs_in_all_day_waits_and_no_other_does(house: House) -> None:
    """Each sign-in, and each end of one, leaves rows and events."""
    account_id = (await house.register()).id
    await house.register("bob@example.com")
    for _ in range(SIGN_INS[0].burst):
        assert await house.deps.limits.account_wait_s(account_id, False) == 0.0
    early = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (early.status, reason(early)) == (429, "rate_limited")
    assert early.values("retry-after") == [b"18"]
    await house.sign_in("bob@example.com")
    house.clock.move(18)
    await house.sign_in()


async def test_who_has_the_password_alone_keeps_no_owner_from_a_known_device_or_a_passkey(
    house: House,
) -> None:
    """With a factor each right password is answered with a question, and nothing throttles it."""
    account_id = (await house.register()).id
    signed_in = await house.ask("POST", "/auth/login", CREDENTIALS)
    (device,) = (v for v in signed_in.values("set-cookie") if v.startswith(b"__Host-device="))
    authenticator = Authenticator(URL)
    await add_passkey(house, authenticator)
    while await house.deps.limits.account_wait_s(account_id, False) == 0.0:
        pass
    stranger = await house.ask("POST", "/auth/login", CREDENTIALS)
    assert (stranger.status, reason(stranger)) == (429, "rate_limited")
    cookie = f"Cookie: {device.decode().partition(';')[0]}"
    owner = await house.ask("POST", "/auth/login", CREDENTIALS, headers=[cookie])
    assert (owner.status, reason(owner)) == (401, "insufficient_user_authentication")
    assert (await sign_in(house, authenticator)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/auth/tenant", {"tenant": "acme"}),
        ("PATCH", "/auth/me/attributes", {"nickname": "Al"}),
        ("POST", "/auth/step-up", {"password": PASSWORD}),
        ("POST", "/auth/email/change", {"password": PASSWORD, "email": "anna@y.example"}),
        ("PATCH", f"/auth/factors/passkeys/{'0' * 8}-0000-4000-8000-{'0' * 12}", {"name": "key"}),
    ],
    ids=["tenant", "attributes", "step-up", "move", "rename"],
)
async def test_a_session_of_its_own_brings_an_account_no_more_events(
    house: House, method: str, path: str, body: dict[str, object]
) -> None:
    """Each session has a thousand a day, and an account signs in five thousand times."""
    account_id, facts = (await house.register()).id, AccountFacts(house.database)
    for one in (account_id, (await house.register("bob@example.com")).id):
        await facts.put_tenant(one, "acme", "member")
    for _ in range(EVENTS[0].burst):
        assert await house.deps.limits.account_event_wait_s(account_id) == 0.0
    tokens = [str((await house.sign_in())["access_token"]) for _ in range(2)]
    recorded = len(house.recorded.events)
    for token in tokens:
        early = await house.ask(method, path, body, token=token)
        assert (early.status, reason(early)) == (429, "rate_limited")
        assert early.values("retry-after") == [b"18"]
    assert len(house.recorded.events) == recorded
    other = str((await house.sign_in("bob@example.com"))["access_token"])
    assert (await house.ask(method, path, body, token=other)).status != 429


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/auth/tenant", {"tenant": None}, 200),
        ("PATCH", "/auth/me/attributes", {}, 204),
        ("PATCH", "/auth/me/attributes", {"nickname": None}, 204),
        ("POST", "/auth/step-up", {}, 401),
        ("POST", "/auth/step-up", {"password": PASSWORD, "code": "123456"}, 422),
    ],
    ids=["tenant", "no-attributes", "attributes", "step-up", "two-answers"],
)
async def test_what_changes_nothing_is_counted_as_no_event(
    house: House, method: str, path: str, body: dict[str, object], status: int
) -> None:
    account_id = (await house.register()).id
    token = str((await house.sign_in())["access_token"])
    recorded = len(house.recorded.events)
    assert (await house.ask(method, path, body, token=token)).status == status
    assert len(house.recorded.events) == recorded
    for _ in range(EVENTS[0].burst):
        assert await house.deps.limits.account_event_wait_s(account_id) == 0.0
    assert (await house.ask(method, path, body, token=token)).status == status


async def test_a_session_of_its_own_brings_an_account_no_more_renewals(house: House) -> None:
    account_id = (await house.register()).id
    renewed = 0
    while await house.deps.limits.session_wait_s(str(renewed // 50), account_id) == 0.0:
        renewed += 1
    assert renewed == pytest.approx(RENEWALS[0].burst, abs=1)
    early = await refreshed(house, str((await house.sign_in())["refresh_token"]))
    assert (early.status, reason(early)) == (429, "rate_limited")


async def test_a_session_of_a_cookie_waits_as_well(
    tmp_path: Path, redis_url: str, key_prefix: str
) -> None:
    store: RedisStore = open_redis(redis_url, prefix=key_prefix)
    async with open_house(tmp_path, redis=store) as house:
        await house.register()
        signed = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"})
        (cookie,) = [
            line.decode().partition(";")[0]
            for line in signed.values("set-cookie")
            if line.startswith(b"__Host-session=")
        ]
        headers = (f"Cookie: {cookie}", "Sec-Fetch-Site: same-origin")
        asked = request("POST", "/auth/refresh", b"", headers=headers)
        answers = await often(house, asked, SESSION[0].burst + 1)
    await store.close()
    assert {answer.status for answer in answers[:-1]} == {200}
    assert (answers[-1].status, reason(answers[-1])) == (429, "rate_limited")


def test_what_strangers_bring_about_is_written_a_thousand_times_and_then_counted() -> None:
    clock, recorded = Hands(), Recorded()
    audit = BoundedAuditSink(recorded, clock)
    for _ in range(EVENTS_AT_ONCE + 5):
        audit.record(AuditEvent(AuditKind.SIGN_IN_FAILED))
    assert len(recorded.events) == EVENTS_AT_ONCE
    assert recorded.denials == [("sign_in_failed", None, None)] * 5
    audit.record(AuditEvent(AuditKind.SIGNED_IN))
    clock.move(1)
    audit.record(AuditEvent(AuditKind.SIGN_IN_FAILED))
    assert len(recorded.events) == EVENTS_AT_ONCE + 2


def test_no_flood_of_wrong_tokens_hides_who_opens_the_console() -> None:
    recorded = Recorded()
    audit = BoundedAuditSink(recorded, Hands())
    wrong = AuditEvent(AuditKind.CONSOLE_OPENED, result="invalid_credentials")
    for _ in range(EVENTS_AT_ONCE + 5):
        audit.record(wrong)
    assert len(recorded.events) == EVENTS_AT_ONCE
    audit.record(AuditEvent(AuditKind.CONSOLE_OPENED))
    assert [event.result for event in recorded.events[EVENTS_AT_ONCE:]] == ["ok"]


@pytest.mark.parametrize("kind", [AuditKind.REGISTERED, AuditKind.PASSWORD_RESET_REQUESTED])
def test_what_anybody_is_told_is_well_is_bounded_though_its_result_is_ok(kind: AuditKind) -> None:
    recorded = Recorded()
    audit = BoundedAuditSink(recorded, Hands())
    for _ in range(EVENTS_AT_ONCE + 5):
        audit.record(AuditEvent(kind))
    assert len(recorded.events) == EVENTS_AT_ONCE
