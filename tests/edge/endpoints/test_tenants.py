"""`/auth/tenant` and `/auth/me/attributes` through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.access.attributes import Attribute, AttributeType, SetBy, tenant_of, tenants_of
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.session_reissue import SessionReissue
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.model import Call, Credential, CredentialKind, Principal
from tests.edge.auth_house import ATTRIBUTES, CREDENTIALS, House, open_house, reason, request, told
from tests.edge.endpoints.cookie_calls import ask, signed_in
from tests.edge.endpoints.oauth_clients import created, token_of
from tests.edge.endpoints.test_factors import code_at, enrol


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        account = await opened.register()
        facts = AccountFacts(opened.database)
        for tenant in ("acme", "globex"):
            await facts.put_tenant(account.id, tenant, "member")
        await facts.put_attributes(account.id, {"department": "sales", "salary": 7})
        yield opened


async def who(house: House, credential: Credential) -> Principal:
    call = Call(
        "GET",
        "gate.example",
        "/",
        ("",),
        "",
        headers=(),
        client_ip="192.0.2.1",
        scheme="https",
        credential=credential,
    )
    principal = await house.deps.authenticator.authenticate(
        call, frozenset((CredentialKind.BEARER, CredentialKind.COOKIE, CredentialKind.API_KEY))
    )
    assert isinstance(principal, Principal), principal
    return principal


async def bearer(house: House, token: str) -> Principal:
    return await who(house, Credential(CredentialKind.BEARER, token))


async def test_a_bearer_chooses_a_tenant(house: House) -> None:
    signed_in = await house.sign_in()
    token = str(signed_in["access_token"])
    assert (await bearer(house, token)).claims["department"] == "sales"
    before = await house.ask("GET", "/auth/tenant", token=token)
    assert told(before) == {"tenant": None, "tenants": {"acme": "member", "globex": "member"}}
    chosen = await house.ask("POST", "/auth/tenant", {"tenant": "globex"}, token=token)
    assert chosen.status == 200
    assert set(told(chosen)) == {"access_token", "token_type", "expires_in", "user"}
    assert tenant_of(await bearer(house, told(chosen)["access_token"])) == "globex"
    refreshed = await house.ask(
        "POST", "/auth/refresh", {"refresh_token": signed_in["refresh_token"]}
    )
    assert tenant_of(await bearer(house, told(refreshed)["access_token"])) == "globex"
    none = await house.ask("POST", "/auth/tenant", {"tenant": None}, token=token)
    assert tenant_of(await bearer(house, told(none)["access_token"])) is None
    kinds = [event.kind for event in house.recorded.events]
    assert kinds.count(AuditKind.TENANT_CHOSEN) == 2


async def test_a_choice_that_changes_nothing_leaves_no_event(house: House) -> None:
    token = str((await house.sign_in())["access_token"])
    for tenant in (None, None, "acme", "acme"):
        chosen = await house.ask("POST", "/auth/tenant", {"tenant": tenant}, token=token)
        assert chosen.status == 200
    kinds = [event.kind for event in house.recorded.events]
    assert kinds.count(AuditKind.TENANT_CHOSEN) == 1


async def test_who_has_a_token_alone_chooses_tenants_for_as_long_as_it_lives(house: House) -> None:
    """Whoever has stolen one would else renew it for a week, without the refresh token."""
    token = str((await house.sign_in())["access_token"])
    ends_at = (await bearer(house, token)).expires_at
    house.clock.move(600)
    for tenant in ("acme", None, "globex"):
        chosen = told(await house.ask("POST", "/auth/tenant", {"tenant": tenant}, token=token))
        token = str(chosen["access_token"])
        principal = await bearer(house, token)
        assert (tenant_of(principal), principal.expires_at) == (tenant, ends_at)
        assert chosen["expires_in"] == ends_at - principal.issued_at
    house.clock.move(ends_at - house.clock.at)
    late = await house.ask("POST", "/auth/tenant", {"tenant": "acme"}, token=token)
    assert (late.status, reason(late)) == (401, "token_expired")


async def test_who_has_a_token_alone_gets_nothing_of_what_its_owner_proves_meanwhile(
    house: House,
) -> None:
    """A stolen one would else be as fresh as the owner, who steps up in the same session."""
    signed_in = await house.sign_in()
    stolen = str(signed_in["access_token"])
    before = await bearer(house, stolen)
    secret, _ = await enrol(house, stolen)
    house.clock.move(400)
    stepped = await house.ask(
        "POST", "/auth/step-up", {"code": code_at(house, secret)}, token=stolen
    )
    owner = await bearer(house, str(told(stepped)["access_token"]))
    assert (owner.auth_time, "mfa" in owner.amr) == (int(house.clock.at), True)
    for tenant in ("acme", None):
        chosen = await house.ask("POST", "/auth/tenant", {"tenant": tenant}, token=stolen)
        thief = await bearer(house, str(told(chosen)["access_token"]))
        assert (thief.auth_time, thief.amr) == (before.auth_time, before.amr)
    kept = str(
        told(
            await house.ask("POST", "/auth/refresh", {"refresh_token": signed_in["refresh_token"]})
        )["access_token"]
    )
    chosen = await house.ask("POST", "/auth/tenant", {"tenant": "acme"}, token=kept)
    assert (await bearer(house, str(told(chosen)["access_token"]))).auth_time == owner.auth_time


async def test_who_sends_a_body_slowly_gets_no_token_after_theirs_has_expired(
    house: House,
) -> None:
    """It may come for ten seconds, and the new token lived for one more: one after the other
    whoever had stolen one kept it for as long as the session."""
    token = str((await house.sign_in())["access_token"])
    expires_at = (await bearer(house, token)).expires_at
    house.clock.move(600)
    whole = request("POST", "/auth/tenant", b'{"tenant": null}', token=token)
    client = await house.client()
    await client.send(whole[:-5])
    assert (await house.ask("GET", "/auth/tenant", token=token)).status == 200
    house.clock.move(expires_at - house.clock.at)
    await house.ring.refresh()
    await client.send(whole[-5:])
    answer = await client.answer()
    assert (answer.status, reason(answer)) == (401, "token_expired")


async def test_no_token_is_given_by_one_that_expired_while_its_session_was_waited_for(
    house: House,
) -> None:
    token = str((await house.sign_in())["access_token"])
    principal = await bearer(house, token)
    assert principal.session_id is not None
    grant = await house.deps.refresh_tokens.renew(principal.session_id, "bearer")
    assert grant is not None
    reissue = SessionReissue(house.deps.issuer, house.deps.cookies)
    call = Call(
        "POST", "gate.example", "/auth/tenant", ("auth", "tenant"), "", headers=(),
        client_ip="192.0.2.1", scheme="https", credential=Credential(CredentialKind.BEARER, token),
    )  # fmt: skip
    for issued_at, status in ((principal.expires_at - 1, 200), (principal.expires_at, 401)):
        reply = await reissue.reply(call, replace(grant, issued_at=issued_at), by=principal)
        given = 401 if isinstance(reply, ProblemReply) else reply.status
        assert given == status


async def test_a_cookie_chooses_a_tenant(house: House) -> None:
    answer = await house.ask(
        "POST", "/auth/login",
        {**CREDENTIALS, "transport": "cookie"},
    )  # fmt: skip
    assert answer.status == 200, answer.body
    cookie = next(
        line.decode().partition("=")[2].partition(";")[0]
        for line in answer.values("set-cookie")
        if line.startswith(b"__Host-session=")
    )
    headers = [f"Cookie: __Host-session={cookie}", "Sec-Fetch-Site: same-origin"]
    chosen = await house.ask("POST", "/auth/tenant", {"tenant": "acme"}, headers=headers)
    assert chosen.status == 200
    assert set(told(chosen)) == {"expires_in", "csrf_token", "user"}
    principal = await who(house, Credential(CredentialKind.COOKIE, cookie))
    assert tenant_of(principal) == "acme"
    assert principal.claims["attributes"] == {"department": "sales"}


async def test_what_a_cookies_holder_has_lost_is_lost_on_every_call(house: House) -> None:
    """The account is read again once; what the session had before must not be left in it."""
    cookie, _ = await signed_in(house)
    chosen = await ask(house, "POST", "/auth/tenant", cookie, body={"tenant": "acme"})
    assert chosen.status == 200
    credential = Credential(CredentialKind.COOKIE, cookie)
    principal = await who(house, credential)
    assert tenants_of(principal) == {"acme": "member", "globex": "member"}
    facts = AccountFacts(house.database)
    for tenant in ("acme", "globex"):
        await house.deps.publisher.publish(await facts.put_tenant(principal.subject, tenant, None))
    taken = await facts.put_attributes(principal.subject, {"department": None})
    await house.deps.publisher.publish(taken)
    for _ in range(3):
        after = await who(house, credential)
        assert (tenant_of(after), tenants_of(after)) == (None, {})
        assert after.claims.keys().isdisjoint({"tenant", "tenants", "attributes", "department"})


async def test_a_cookie_that_acts_for_nobody_any_more_does_so_on_every_call(house: House) -> None:
    cookie, _ = await signed_in(house)
    for tenant in ("acme", None):
        chosen = await ask(house, "POST", "/auth/tenant", cookie, body={"tenant": tenant})
        assert chosen.status == 200
        principal = await who(house, Credential(CredentialKind.COOKIE, cookie))
        assert tenant_of(principal) == tenant


@pytest.mark.parametrize(
    ("body", "status"),
    [({"tenant": "initech"}, 422), ({"tenant": "a b"}, 422), ({"tenant": 1}, 422), ({}, 422)],
)
async def test_a_tenant_of_somebody_else_cannot_be_chosen(
    house: House, body: dict[str, Any], status: int
) -> None:
    token = str((await house.sign_in())["access_token"])
    answer = await house.ask("POST", "/auth/tenant", body, token=token)
    assert answer.status == status
    assert b"initech" not in answer.body


async def test_without_a_credential_nothing_is_told(house: House) -> None:
    for method, path in (
        ("GET", "/auth/tenant"), ("POST", "/auth/tenant"), ("GET", "/auth/me/attributes"),
        ("PATCH", "/auth/me/attributes"),
    ):  # fmt: skip
        assert reason(await house.ask(method, path)) == "no_credential"


async def test_a_person_sets_what_the_configuration_leaves_to_them(house: House) -> None:
    token = str((await house.sign_in())["access_token"])
    path = "/auth/me/attributes"
    shown = told(await house.ask("GET", path, token=token))
    assert shown == {
        "attributes": {"department": "sales", "salary": 7},
        "editable": {"nickname": {"type": "string", "values": []}},
    }
    changed = await house.ask("PATCH", path, {"nickname": "Al"}, token=token)
    assert changed.status == 204
    assert reason(await house.ask("GET", path, token=token)) == "token_outdated"
    token = str((await house.sign_in())["access_token"])
    assert (await bearer(house, token)).claims["attributes"]["nickname"] == "Al"
    gone = await house.ask("PATCH", path, {"nickname": None}, token=token)
    assert gone.status == 204
    assert AuditKind.ATTRIBUTES_CHANGED in [event.kind for event in house.recorded.events]


async def test_a_body_that_comes_after_the_sign_out_sets_nothing(house: House) -> None:
    """Of ten seconds: whoever has a copy of the token begins one in time."""
    token = str((await house.sign_in())["access_token"])
    whole = request("PATCH", "/auth/me/attributes", b'{"nickname": "x"}', token=token)
    client = await house.client()
    await client.send(whole[:-5])
    assert (await house.ask("POST", "/auth/logout", token=token)).status == 204
    await client.send(whole[-5:])
    assert reason(await client.answer()) == "token_revoked"
    token = str((await house.sign_in())["access_token"])
    shown = told(await house.ask("GET", "/auth/me/attributes", token=token))
    assert "nickname" not in shown["attributes"]


async def test_who_sets_them_again_and_again_waits_and_can_still_sign_in(house: House) -> None:
    """Whoever had a session cookie could else keep its owner from signing in, and from what they
    do with a new password: each change put the next sign-in a second later."""
    cookie, _ = await signed_in(house)
    path, answers = "/auth/me/attributes", []
    for number in range(12):
        body = {"nickname": f"n{number}"}
        answers.append(await ask(house, "PATCH", path, cookie, body=body))
    assert {answer.status for answer in answers} == {204, 429}
    last = answers[-1]
    assert (reason(last), last.values("retry-after")) == ("rate_limited", [b"1"])
    house.clock.move(1)
    assert await house.sign_in()


@pytest.mark.parametrize(
    "body", [{"department": "support"}, {"secret-name": 1}, {"nickname": 1}, {"nickname": ""}, []]
)
async def test_a_person_sets_nothing_else(house: House, body: Any) -> None:
    token = str((await house.sign_in())["access_token"])
    answer = await house.ask("PATCH", "/auth/me/attributes", body, token=token)
    assert answer.status == 422
    assert b"secret-name" not in answer.body


async def test_a_personal_key_carries_them(house: House) -> None:
    token = str((await house.sign_in())["access_token"])
    made = await house.ask("POST", "/auth/keys", {"name": "laptop"}, token=token)
    key = Credential(CredentialKind.API_KEY, told(made)["api_key"])
    assert (await who(house, key)).claims["attributes"] == {"department": "sales"}


async def test_a_client_has_no_attributes_to_set(house: House) -> None:
    token = await token_of(house, await created(house))
    answer = await house.ask("PATCH", "/auth/me/attributes", {"nickname": "Al"}, token=token)
    assert answer.status == 422
    shown = await house.ask("GET", "/auth/me/attributes", token=token)
    assert told(shown) == {"attributes": {}, "editable": {}}


async def test_what_a_person_says_again_is_theirs_where_it_did_not_count(house: House) -> None:
    """A provider gave it before only people could."""
    path = "/auth/me/attributes"
    account = await house.deps.accounts.by_email(CREDENTIALS["email"])
    assert account is not None
    facts = AccountFacts(house.database)
    await facts.put_attributes(account.id, {"nickname": "Al"}, "provider https://id.example")
    token = str((await house.sign_in())["access_token"])
    assert "nickname" not in (await bearer(house, token)).claims["attributes"]
    assert told(await house.ask("GET", path, token=token))["attributes"]["nickname"] == "Al"
    assert (await house.ask("PATCH", path, {"nickname": "Al"}, token=token)).status == 204
    token = str((await house.sign_in())["access_token"])
    assert (await bearer(house, token)).claims["attributes"]["nickname"] == "Al"


async def test_a_truth_is_set_where_a_number_was_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attribute was an `integer` before; to Python both are equal."""
    news = Attribute("news", AttributeType.BOOLEAN, set_by=frozenset((SetBy.PERSON,)))
    monkeypatch.setitem(ATTRIBUTES, "news", news)
    account = await house.deps.accounts.by_email(CREDENTIALS["email"])
    assert account is not None
    facts, path = AccountFacts(house.database), "/auth/me/attributes"
    await facts.put_attributes(account.id, {"news": 1}, "person")
    token = str((await house.sign_in())["access_token"])
    assert (await house.ask("PATCH", path, {"news": True}, token=token)).status == 204
    stored = {one.name: one.value for one in await facts.attributes(account.id)}
    assert stored["news"] is True


async def test_whoever_has_a_session_keeps_its_owner_from_no_second_step_by_attributes(
    house: House,
) -> None:
    """Each change outdates who has given the password and looks for the code."""
    cookie, _ = await signed_in(house)
    statuses = []
    for number in range(30):
        house.clock.move(20)
        await house.ring.refresh()
        body = {"nickname": f"n{number}"}
        answer = await ask(house, "PATCH", "/auth/me/attributes", cookie, body=body)
        statuses.append(answer.status)
    # One comes back in three minutes.
    assert statuses[:20] == [204] * 20
    assert statuses[20:].count(204) <= 4
    assert set(statuses[20:]) == {204, 429}
