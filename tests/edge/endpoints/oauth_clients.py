"""What the tests of the OAuth endpoints ask as a client."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import jwt

from gateway.identity.clients.clients import Clients, NewSecret
from gateway.identity.keys.jwk import PrivateKey, verifying
from tests.edge.auth_house import URL, House, request, told
from tests.edge.rig import Answer

FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def created(
    house: House, name: str = "billing", keys: Sequence[PrivateKey] = ()
) -> NewSecret:
    public = [verifying(key.public_key()) for key in keys]
    client = await Clients(house.database).create(name, ["reader", "writer"], public)
    assert client is not None
    return client


def basic(client_id: str, secret: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


async def post(
    house: House,
    path: str,
    form: dict[str, str] | Sequence[tuple[str, str]] | bytes,
    *headers: str,
    content_type: str = FORM,
) -> Answer:
    content = form if isinstance(form, bytes) else urlencode(form).encode()
    return await house.raw(
        request("POST", path, content, headers=headers, content_type=content_type)
    )


async def token_of(house: House, client: NewSecret) -> str:
    answer = await post(house, "/auth/token", GRANT, basic(client.client_id, client.client_secret))
    assert answer.status == 200, answer.body
    return str(told(answer)["access_token"])


def assertion(client: NewSecret, key: PrivateKey, house: House, **changed: Any) -> str:
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": f"{URL}/auth/token",
        "exp": int(house.clock.at) + 60,
        "iat": int(house.clock.at),
        "jti": "once",
        **changed,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, algorithm="ES256")


async def with_assertion(house: House, text: str, **more: str) -> Answer:
    form = {**GRANT, "client_assertion_type": TYPE, "client_assertion": text, **more}
    return await post(house, "/auth/token", form)
