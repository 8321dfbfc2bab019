"""`/auth/keys` through real sockets."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.personal_keys import FRESH_S, LIFE_S
from gateway.identity.clients.clients import Clients
from gateway.identity.clients.key_form import well_formed
from gateway.identity.clients.personal_keys import KEYS_MAX
from gateway.model import Call, Credential, CredentialKind, Principal, Reason
from tests.edge.auth_house import CREDENTIALS, EMAIL, House, open_house, reason, request, told
from tests.edge.rig import Answer


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        account = await opened.register()
        await opened.deps.accounts.grant(account.id, "reader")
        yield opened


async def token_of(house: House) -> str:
    return str((await house.sign_in())["access_token"])


async def make(house: House, token: str, **fields: Any) -> Answer:
    return await house.ask("POST", "/auth/keys", {"name": "laptop", **fields}, token=token)


async def who(house: House, key: str) -> Principal | Reason:
    """As a route asks that accepts API keys."""
    call = Call(
        "GET", "h", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="https",
        credential=Credential(CredentialKind.API_KEY, key),
    )  # fmt: skip
    accept = frozenset({CredentialKind.API_KEY})
    return await house.deps.authenticator.authenticate(call, accept)


async def test_a_key_is_made_told_once_used_listed_and_ended(house: House) -> None:
    token = await token_of(house)
    limits = {"roles": ["reader"], "scopes": ["orders:read"], "routes": ["orders", "orders"]}
    made = await make(house, token, **limits, expires_in=3_600)
    assert made.status == 201
    body = told(made)
    key = body.pop("api_key")
    assert well_formed(key)
    assert body["expires_at"] - body["created_at"] == 3_600
    assert (body["roles"], body["scopes"], body["routes"]) == (
        ["reader"], ["orders:read"], ["orders"],
    )  # fmt: skip
    principal = await who(house, key)
    assert isinstance(principal, Principal)
    assert (principal.email, principal.roles) == (EMAIL, ("reader",))

    for path in ("/auth/keys", "/auth/sessions"):
        listed = await house.ask("GET", path, token=token)
        assert told(listed)["keys"] == [body]
        assert key not in str(listed.body)
    exported = told(await house.ask("GET", "/auth/me/export", token=token))
    (row,) = exported["personal_keys"]
    assert row == {**body, "ended_at": None}

    path = f"/auth/keys/{body['key_id']}"
    house.workers.confirm = False
    pending = await house.ask("DELETE", path, token=token)
    assert (pending.status, reason(pending)) == (503, "revocation_pending")
    house.workers.confirm = True
    assert (await house.ask("DELETE", path, token=token)).status == 204
    assert await who(house, key) is Reason.TOKEN_REVOKED
    assert told(await house.ask("GET", "/auth/keys", token=token)) == {"keys": []}
    told_of = [(e.kind, e.detail.get("key_id")) for e in house.recorded.events if "key" in e.kind]
    assert told_of[:2] == [
        (AuditKind.PERSONAL_KEY_CREATED, body["key_id"]),
        (AuditKind.PERSONAL_KEY_ENDED, body["key_id"]),
    ]


async def test_a_key_that_says_nothing_lives_for_ninety_days_and_has_no_limit(
    house: House,
) -> None:
    body = told(await make(house, await token_of(house)))
    assert body["expires_at"] - body["created_at"] == LIFE_S
    assert (body["roles"], body["scopes"], body["routes"]) == (None, None, None)


async def test_an_old_sign_in_makes_no_key(house: House) -> None:
    """A stolen session must not become a key that outlives it."""
    signed_in = await house.ask("POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"})
    line = next(v for v in signed_in.values("set-cookie") if v.startswith(b"__Host-session="))
    browser = [f"Cookie: {line.split(b';')[0].decode()}", "Sec-Fetch-Site: same-origin"]
    fresh = await house.ask("POST", "/auth/keys", {"name": "a"}, headers=browser)
    assert fresh.status == 201
    house.clock.move(FRESH_S + 1)
    answer = await house.ask("POST", "/auth/keys", {"name": "b"}, headers=browser)
    assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
    (challenge,) = answer.values("www-authenticate")
    assert f'max_age="{FRESH_S}"'.encode() in challenge
    listed = await house.ask("GET", "/auth/keys", headers=browser)
    assert [one["name"] for one in told(listed)["keys"]] == ["a"]
    foreign = [browser[0], "Sec-Fetch-Site: cross-site"]
    crossed = await house.ask("POST", "/auth/keys", {"name": "c"}, headers=foreign)
    assert (crossed.status, reason(crossed)) == (403, "cross_origin")


async def test_a_key_administers_no_account(house: House) -> None:
    key = told(await make(house, await token_of(house)))["api_key"]
    for method, path in (
        ("GET", "/auth/keys"),
        ("POST", "/auth/keys"),
        ("DELETE", "/auth/keys/pkey-0"),
        ("GET", "/auth/me"),
        ("GET", "/auth/sessions"),
        ("POST", "/auth/password/change"),
    ):
        answer = await house.ask(method, path, token=key)
        assert (answer.status, reason(answer)) == (401, "no_credential")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"roles": ["admin"]}, "roles"),
        ({"roles": "reader"}, "roles"),
        ({"roles": [1]}, "roles"),
        ({"scopes": ["a b"]}, "scopes"),
        ({"scopes": ["s"] * 65}, "scopes"),
        ({"routes": ["a/b"]}, "routes"),
        ({"routes": [""]}, "routes"),
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 366 * 86_400 + 1}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": 3600.0}, "expires_in"),
        ({"client_id": "x"}, ""),
    ],
)
async def test_a_wrong_field_is_named(house: House, fields: dict[str, Any], field: str) -> None:
    answer = await make(house, await token_of(house), **fields)
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert [one["field"] for one in told(answer)["errors"]] == [field]


async def test_a_client_is_told_whose_key_it_is_and_cannot_end_it(house: House) -> None:
    key = told(await make(house, await token_of(house)))["api_key"]
    client = await Clients(house.database).create("stock")
    assert client is not None
    secret = base64.b64encode(f"{client.client_id}:{client.client_secret}".encode()).decode()

    async def asked(path: str, key: str) -> Answer:
        form = f"token={key}".encode()
        return await house.raw(
            request(
                "POST", path, form, headers=[f"Authorization: Basic {secret}"],
                content_type="application/x-www-form-urlencoded",
            )
        )  # fmt: skip

    described = told(await asked("/auth/introspect", key))
    assert (described["active"], described["token_type"], described["username"]) == (
        True, "api_key", EMAIL,
    )  # fmt: skip
    assert "client_id" not in described
    answer = await asked("/auth/revoke", key)
    assert (answer.status, told(answer)["error"]) == (400, "invalid_grant")
    assert isinstance(await who(house, key), Principal)
    # What is good on some routes of the gateway is good nowhere else.
    limited = told(await make(house, await token_of(house), routes=["orders"]))["api_key"]
    assert told(await asked("/auth/introspect", limited)) == {"active": False}


async def test_somebody_elses_key_is_unknown(house: House) -> None:
    made = told(await make(house, await token_of(house)))
    await house.register("eve@example.com")
    eve = (await house.sign_in("eve@example.com"))["access_token"]
    for key_id in (made["key_id"], "pkey-0", "x" * 200, "%FF%00"):
        answer = await house.ask("DELETE", f"/auth/keys/{key_id}", token=eve)
        assert answer.status in (400, 404)
    assert isinstance(await who(house, made["api_key"]), Principal)


async def test_the_number_of_keys_and_of_new_ones_is_bounded(house: House) -> None:
    token = await token_of(house)
    ids = [told(await make(house, token))["key_id"] for _ in range(KEYS_MAX)]
    answer = await make(house, token)
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert "at most 50 live keys" in told(answer)["errors"][0]["problem"]
    for key_id in ids:
        assert (await house.ask("DELETE", f"/auth/keys/{key_id}", token=token)).status == 204
    made = [(await make(house, token)).status for _ in range(KEYS_MAX)]
    assert made.count(201) == KEYS_MAX - 1
    assert made[-1] == 429


async def test_the_owner_of_a_confirmed_address_is_told_by_mail(house: House) -> None:
    await make(house, await token_of(house), name="laptop www.evil.example/x")
    async with house.database.read_transaction() as tx:
        rows = await tx.all("SELECT recipient, fields FROM outbox WHERE template = 'key_created'")
    assert [row["recipient"] for row in rows] == [EMAIL]
    assert "www. evil. example/x" in rows[0]["fields"]


async def test_no_key_is_made_while_the_store_is_away(house: House) -> None:
    token = await token_of(house)
    house.database.away = True
    assert reason(await make(house, token)) == "store_unavailable"
