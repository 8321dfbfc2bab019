"""`/auth/token`: who is given a token, and who is not believed."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.edge.endpoints.rate_limits import CLIENT_TOKENS
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.clients import Clients
from gateway.identity.keys.jwk import Alg, generate
from gateway.model import Principal
from gateway.stores.protocols import Transaction
from tests.edge.auth_house import URL, House, open_house, reason, told
from tests.edge.endpoints.oauth_clients import (
    FORM,
    GRANT,
    basic,
    created,
    post,
    token_of,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


# --- /auth/token ---


async def test_a_client_gets_a_token_that_speaks_for_it(house: House) -> None:
    client = await created(house)
    answer = await post(house, "/auth/token", GRANT, basic(client.client_id, client.client_secret))
    assert answer.status == 200
    assert answer.values("cache-control") == [b"no-store"]
    assert answer.values("pragma") == [b"no-cache"]
    body = told(answer)
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    principal = house.deps.verifier.verify(body["access_token"])
    assert isinstance(principal, Principal)
    assert principal.subject == principal.client_id == client.client_id
    assert principal.roles == ("reader", "writer")
    assert (principal.session_id, principal.email) == (None, None)


async def test_a_client_that_asks_for_tokens_all_day_waits_and_no_other_does(house: House) -> None:
    """Each leaves an event, and what a client revokes every worker holds for two days."""
    client, other = await created(house), await created(house, "other")
    given = 0
    while await house.deps.limits.client_wait_s(client.client_id) == 0.0:
        given += 1
    assert given == pytest.approx(CLIENT_TOKENS[0].burst, abs=1)  # a sum of as many fractions
    secret = basic(client.client_id, client.client_secret)
    answer = await post(house, "/auth/token", GRANT, secret)
    assert (answer.status, reason(answer)) == (429, "rate_limited")
    assert answer.values("retry-after") == [b"1"]
    await token_of(house, other)
    house.clock.move(1)
    await token_of(house, client)


async def test_both_secrets_work_during_a_rotation_and_the_third_ends_the_first(
    house: House,
) -> None:
    client = await created(house)
    clients = Clients(house.database)
    second = await clients.rotate(client.client_id)
    assert second is not None
    await token_of(house, client)
    await token_of(house, second[0])
    third = await clients.rotate(client.client_id)
    assert third is not None
    answer = await post(house, "/auth/token", GRANT, basic(client.client_id, client.client_secret))
    assert (answer.status, told(answer)["error"]) == (401, "invalid_client")


async def test_a_secret_that_ends_while_a_token_is_asked_for_with_it_gives_none(
    house: House,
) -> None:
    """Who has a leaked secret and asks all the time waits for the lock of the very rotation."""
    client = await created(house)
    begin = house.database.transaction

    @asynccontextmanager
    async def rotated_before_it() -> AsyncIterator[Transaction]:
        house.database.transaction = begin  # type: ignore[method-assign]
        assert await Clients(house.database).rotate(client.client_id, at_once=True) is not None
        async with begin() as tx:
            yield tx

    house.database.transaction = rotated_before_it  # type: ignore[method-assign]
    answer = await post(house, "/auth/token", GRANT, basic(client.client_id, client.client_secret))
    assert (answer.status, told(answer)["error"]) == (401, "invalid_client")


async def test_id_and_secret_may_be_form_encoded_inside_basic(house: House) -> None:
    client = await created(house)
    encoded = client.client_id.replace("-", "%2D")
    answer = await post(house, "/auth/token", GRANT, basic(encoded, client.client_secret))
    assert answer.status == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Authorization: Basic",
        "Authorization: Basic !!!",
        "Authorization: Basic " + base64.b64encode(b"no colon").decode(),
        "Authorization: Basic " + base64.b64encode(b":x").decode(),
        "Authorization: Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Authorization: Basic " + "A" * 2000,
        "Authorization: Bearer x",
        basic("client-0", "x"),
        basic("client-0' OR '1'='1", "x"),
    ],
)
async def test_who_is_not_believed_gets_the_401_of_the_rfc(
    house: House, header: str | None
) -> None:
    await created(house)
    answer = await post(house, "/auth/token", GRANT, *([header] if header else []))
    assert answer.status == 401
    assert told(answer)["error"] == "invalid_client"
    assert [v.split()[0] for v in answer.values("www-authenticate")] == [b"Basic"]


async def test_a_wrong_secret_of_a_known_client_is_answered_like_an_unknown_client(
    house: House,
) -> None:
    machine = await created(house)
    wrong = await post(house, "/auth/token", GRANT, basic(machine.client_id, "x"))
    unknown = await post(house, "/auth/token", GRANT, basic("client-0", "x"))
    assert wrong.body == unknown.body


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({**GRANT, "scope": "orders:read"}, "invalid_scope"),
        ([("grant_type", "client_credentials")] * 2, "invalid_request"),
        ({**GRANT, "client_secret": "x"}, "invalid_request"),
        ({**GRANT, "client_id": "client-0"}, "invalid_request"),
        ({**GRANT, "client_assertion": "x"}, "invalid_request"),
        (b"grant_type=%ff", "invalid_request"),
        (b"grant_type=\xff", "invalid_request"),
        (b"&".join(b"a%d=1" % n for n in range(60)), "invalid_request"),
    ],
)
async def test_a_wrong_form_gets_the_error_that_the_rfc_names(
    house: House, form: Any, error: str
) -> None:
    client = await created(house)
    answer = await post(house, "/auth/token", form, basic(client.client_id, client.client_secret))
    assert (answer.status, told(answer)["error"]) == (400, error)
    assert answer.values("content-type") == [b"application/json"]


async def test_a_parameter_that_is_not_known_is_ignored(house: House) -> None:
    client = await created(house)
    answer = await post(
        house,
        "/auth/token",
        {**GRANT, "resource": "https://x.example", "empty": ""},
        basic(client.client_id, client.client_secret),
    )
    assert answer.status == 200


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", f"{FORM}; charset=x"])
async def test_only_a_form_is_read(house: House, content_type: str) -> None:
    client = await created(house)
    answer = await post(
        house,
        "/auth/token",
        GRANT,
        basic(client.client_id, client.client_secret),
        content_type=content_type,
    )
    assert (answer.status, told(answer)["error"]) == (400, "invalid_request")


async def test_two_authorization_headers_are_refused(house: House) -> None:
    client = await created(house)
    header = basic(client.client_id, client.client_secret)
    answer = await post(house, "/auth/token", GRANT, header, header)
    assert answer.status == 400


async def test_a_form_that_is_too_large_is_413(house: House) -> None:
    client = await created(house)
    answer = await post(
        house,
        "/auth/token",
        b"x=" + b"a" * 70_000,
        basic(client.client_id, client.client_secret),
    )
    assert answer.status == 413


async def test_without_sql_no_client_is_called_unknown(house: House) -> None:
    client = await created(house)
    house.database.away = True
    answer = await post(house, "/auth/token", GRANT, basic(client.client_id, client.client_secret))
    assert (answer.status, reason(answer)) == (503, "store_unavailable")


async def test_a_token_given_is_recorded_and_one_refused_is_counted(house: House) -> None:
    """Each failure a row: whoever asked a thousand times a second filled the audit log."""
    client = await created(house)
    await token_of(house, client)
    await post(house, "/auth/token", GRANT, basic(client.client_id, "x"))
    await post(house, "/auth/introspect", {"token": "t"}, basic("nobody", "x"))
    told_of = [(e.kind.value, e.result, e.subject) for e in house.recorded.events]
    assert told_of == [("client_token", "ok", client.client_id)]
    assert house.recorded.denials == [
        ("invalid_client", "/auth/token", client.client_id),
        ("invalid_client", "/auth/introspect", None),
    ]


async def test_after_twenty_failures_nothing_is_looked_at_for_a_minute(house: House) -> None:
    client, other = await created(house), await created(house, "other")
    wrong = basic(client.client_id, "x")
    for _ in range(21):
        assert (await post(house, "/auth/token", GRANT, wrong)).status == 401
    house.database.away = True
    refused = await post(house, "/auth/token", GRANT, wrong)
    assert (refused.status, reason(refused)) == (429, "too_many_attempts")
    assert refused.values("retry-after") == [b"60"]
    house.database.away = False
    await token_of(house, other)  # a wrong program stops none beside it
    house.clock.move(60)
    await token_of(house, client)


async def test_who_makes_clients_up_is_counted_by_address(house: House) -> None:
    statuses = [
        (await post(house, "/auth/token", GRANT, basic(f"client-{n}", "x"))).status
        for n in range(303)
    ]
    assert statuses == [401] * 301 + [429] * 2


@pytest.mark.parametrize("client_id", ["a%00b", "%ED%A0%80", "x" * 129, "a b"])
async def test_what_no_client_can_be_called_is_no_client(house: House, client_id: str) -> None:
    answer = await post(house, "/auth/token", GRANT, basic(client_id, "x"))
    assert answer.status == 401


# --- API keys on the gateway's own endpoints, and a stock client ---


async def test_an_api_key_does_not_open_a_users_account(house: House) -> None:
    client = await created(house)
    key = await ApiKeys(house.database).create(client.client_id)
    assert key is not None
    answer = await house.ask("GET", "/auth/me", token=key.text)
    assert (answer.status, reason(answer)) == (401, "no_credential")


@pytest.mark.parametrize("method", ["client_secret_basic", "private_key_jwt"])
async def test_a_stock_client_gets_introspects_and_revokes(house: House, method: str) -> None:
    key = generate(Alg.RS256)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    made = await created(house, keys=[key])
    base = f"http://127.0.0.1:{house.port}"
    house.clock.at = time.time()  # the client takes it from the machine
    stock = OAuth2Session(
        client_id=made.client_id,
        client_secret=made.client_secret if method == "client_secret_basic" else pem,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
    )
    if method == "private_key_jwt":
        stock.register_client_auth_method(PrivateKeyJWT(f"{URL}/auth/token"))

    def whole_round() -> tuple[Any, Any, Any, Any]:
        token = stock.fetch_token(f"{base}/auth/token", grant_type="client_credentials")
        text = token["access_token"]
        before = stock.introspect_token(f"{base}/auth/introspect", token=text)
        gone = stock.revoke_token(f"{base}/auth/revoke", token=text)
        after = stock.introspect_token(f"{base}/auth/introspect", token=text)
        return token, before.json(), gone.status_code, after.json()

    token, before, gone, after = await asyncio.to_thread(whole_round)
    assert token["token_type"] == "Bearer"
    assert before["active"] is True
    assert (gone, after) == (200, {"active": False})
