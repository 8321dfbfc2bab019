"""A client that signs an assertion with its key (RFC 7523) in place of a secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.identity.clients.clients import Clients
from gateway.identity.keys.jwk import Alg, generate, public_jwk
from tests.edge.auth_house import URL, House, open_house, told
from tests.edge.endpoints.oauth_clients import (
    assertion,
    created,
    with_assertion,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def test_a_signed_assertion_is_as_good_as_a_secret(house: House) -> None:
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    assert (await with_assertion(house, assertion(client, key, house))).status == 200
    text = assertion(client, key, house, aud=[URL], jti="2")
    assert (await with_assertion(house, text, client_id=client.client_id)).status == 200


async def test_an_assertion_is_good_once(house: House) -> None:
    """CVE-2020-15222: what keeps the jti is SQL, which all workers ask."""
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    text = assertion(client, key, house)
    answers = await asyncio.gather(*(with_assertion(house, text) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 7


async def test_an_assertion_that_is_sent_again_and_again_asks_no_store(house: House) -> None:
    """It is signed as it should be: who has found one would else write to SQL each time."""
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    text = assertion(client, key, house)
    assert (await with_assertion(house, text)).status == 200
    house.database.away = True
    assert (await with_assertion(house, text)).status == 401
    fresh = assertion(client, key, house, jti="fresh")
    assert (await with_assertion(house, fresh)).status == 503


async def test_an_assertion_of_a_client_that_was_deleted_is_refused(house: House) -> None:
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    assert (await with_assertion(house, assertion(client, key, house))).status == 200
    await Clients(house.database).delete(client.client_id)
    text = assertion(client, key, house, jti="late")
    assert (await with_assertion(house, text)).status == 401


async def test_another_key_of_a_client_counts_within_a_minute(house: House) -> None:
    """As after a restore; the one before counts no more from the next call on."""
    key, other = generate(Alg.ES256), generate(Alg.ES256)
    client = await created(house, keys=[key])
    assert (await with_assertion(house, assertion(client, key, house))).status == 200
    jwks = json.dumps([public_jwk(other.public_key())])
    async with house.database.transaction() as tx:
        await tx.run("UPDATE clients SET public_jwks = :jwks", jwks=jwks)
    house.clock.move(60)
    old = assertion(client, key, house, jti="2")
    assert (await with_assertion(house, old)).status == 401
    text = assertion(client, other, house, jti="3")
    assert (await with_assertion(house, text)).status == 200


async def test_two_clients_may_use_the_same_jti(house: House) -> None:
    key = generate(Alg.ES256)
    one, two = await created(house, "a", [key]), await created(house, "b", [key])
    assert (await with_assertion(house, assertion(one, key, house))).status == 200
    assert (await with_assertion(house, assertion(two, key, house))).status == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "client-0"},
        {"sub": "client-0"},
        {"iss": None},
        {"sub": None},
        {"aud": None},
        {"aud": "https://elsewhere.example"},
        {"aud": [URL, "https://elsewhere.example"]},
        {"aud": f"{URL}/auth/token/"},
        {"exp": None},
        {"exp": 1_800_000_000},
        {"exp": 1_800_000_000 + 3_661},
        {"nbf": 1_800_000_000 + 6},
        {"iat": 1_800_000_000 + 6},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": "\ud800"},
    ],
)
async def test_an_assertion_that_is_not_ours_now_is_refused(
    house: House, changed: dict[str, Any]
) -> None:
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    answer = await with_assertion(house, assertion(client, key, house, **changed))
    assert (answer.status, told(answer)["error"]) == (401, "invalid_client")


async def test_an_assertion_of_another_key_is_refused(house: House) -> None:
    client = await created(house, keys=[generate(Alg.ES256)])
    answer = await with_assertion(house, assertion(client, generate(Alg.ES256), house))
    assert answer.status == 401


async def test_an_assertion_signed_with_the_secret_or_the_public_key_is_refused(
    house: House,
) -> None:
    key = generate(Alg.ES256)
    client = await created(house, keys=[key])
    claims = jwt.decode(assertion(client, key, house), options={"verify_signature": False})
    for secret in (client.client_secret, "x" * 64):
        forged = jwt.encode(claims, secret, algorithm="HS256")
        assert (await with_assertion(house, forged)).status == 401
    assert (await with_assertion(house, jwt.encode(claims, "", algorithm="none"))).status == 401


@pytest.mark.parametrize("text", ["x", "a.b.c", "." * 4000, "x" * 5000, "é"])
async def test_anything_else_is_no_assertion(house: House, text: str) -> None:
    await created(house)
    assert (await with_assertion(house, text)).status == 401
