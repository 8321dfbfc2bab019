"""examples/verify: what a backend with the sample middleware lets pass, and what it does not."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from examples.verify.verifier import FIELD, Refused
from gateway.identity.keys.jwk import verifying
from tests.contract.running import Running
from tests.deploy.proxies import Site, site
from tests.examples.backends import KINDS, Ask, Trust, backend

pytestmark = pytest.mark.slow

AUDIENCE = "shop"
PATH = "/catalogue/a%20b/c%C3%A9"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("verify")) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(house: Site) -> Running:
    """Its own public listener: it carries the calls, and adds the assertions."""
    return Running(
        house.public,
        house.admin,
        house.folder,
        house.echo,
        house.gateway,
        house.environment,
        house.folder / "log",
    )


@pytest.fixture(scope="module")
def token(gateway: Running) -> str:
    return str(gateway.sign_in("ada@example.com")["access_token"])


@pytest.fixture(scope="module")
def trust(house: Site) -> Trust:
    origin = f"http://127.0.0.1:{house.public}"
    return Trust(origin, AUDIENCE, f"{origin}/.well-known/jwks.json")


@pytest.fixture(params=KINDS)
async def ask(request: pytest.FixtureRequest, trust: Trust) -> AsyncIterator[Ask]:
    async with backend(request.param, trust) as found:
        yield found


def sent_on(gateway: Running, method: str, target: str, token: str) -> list[tuple[str, str]]:
    """The `X-Auth-*` fields that the gateway adds to this call."""
    answer = gateway.call(method, target, token=token)
    assert answer.status == 200, answer
    return [(n, v) for n, v in answer.json["fields"] if n.lower().startswith("x-auth-")]


async def test_a_call_through_the_gateway_is_its_callers(
    gateway: Running, token: str, ask: Ask
) -> None:
    said = await ask("GET", "/me?a=b", sent_on(gateway, "GET", "/me?a=b", token))
    assert said.status == 200
    assert said.body["caller"] == gateway.users["ada@example.com"]["user_id"]
    assert said.body["fields"] == []


async def test_a_call_around_the_gateway_is_refused(gateway: Running, token: str, ask: Ask) -> None:
    # Whoever reaches the backend can write every field but the assertion.
    fields = [pair for pair in sent_on(gateway, "GET", "/me", token) if pair[0] != FIELD]
    assert len(fields) >= 3
    assert (await ask("GET", "/me", fields)).status == 401
    assert (await ask("GET", "/me", [])).status == 401


async def test_an_assertion_serves_no_other_call(gateway: Running, token: str, ask: Ask) -> None:
    fields = sent_on(gateway, "GET", "/me", token)
    assert (await ask("POST", "/me", fields)).status == 401
    for other in ("/me/", "/Me", "/m%65x", "/", "/users/x/orders"):
        assert (await ask("GET", other, fields)).status == 401


async def test_an_access_token_is_no_assertion(token: str, ask: Ask) -> None:
    assert (await ask("GET", "/me", [(FIELD, token)])).status == 401


def test_an_assertion_is_no_access_token(gateway: Running, token: str) -> None:
    # CVE-2024-47616: what a backend was given opens nothing at the gateway.
    (text,) = [value for name, value in sent_on(gateway, "GET", "/me", token) if name == FIELD]
    answer = gateway.call("GET", "/me", token=text)
    assert (answer.status, answer.reason) == (401, "key_unknown")


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "null", "eyJhbGciOiJub25lIn0.e30."])
async def test_what_is_no_token_is_refused(ask: Ask, text: str) -> None:
    assert (await ask("GET", "/me", [(FIELD, text)])).status == 401


async def test_two_assertions_are_none(gateway: Running, token: str, ask: Ask) -> None:
    fields = sent_on(gateway, "GET", "/me", token)
    twice = [*fields, *(pair for pair in fields if pair[0] == FIELD)]
    assert (await ask("GET", "/me", twice)).status == 401


async def test_a_flipped_bit_is_refused(gateway: Running, token: str, ask: Ask) -> None:
    (text,) = [value for name, value in sent_on(gateway, "GET", "/me", token) if name == FIELD]
    head, payload, signature = text.split(".")
    other = "A" if signature[9] != "A" else "B"
    flipped = f"{head}.{payload}.{signature[:9]}{other}{signature[10:]}"
    assert (await ask("GET", "/me", [(FIELD, flipped)])).status == 401


async def test_the_assertion_for_another_audience_is_refused(
    gateway: Running, token: str, trust: Trust
) -> None:
    fields = sent_on(gateway, "GET", "/me", token)
    for kind in KINDS:
        other = Trust(trust.issuer, "warehouse", trust.jwks_url)
        async with backend(kind, other) as ask:
            assert (await ask("GET", "/me", fields)).status == 401, kind


async def test_anonymous_calls_pass_where_they_are_wanted_and_bad_ones_never(
    gateway: Running, token: str, trust: Trust
) -> None:
    wanted = Trust(trust.issuer, AUDIENCE, trust.jwks_url, anonymous=True)
    forged = [("X-Auth-User-Id", "root"), ("x-auth-roles", "admin")]
    for kind in KINDS:
        async with backend(kind, wanted) as ask:
            said = await ask("GET", "/catalogue/a", forged)
            assert (said.status, said.body["caller"]) == (200, None), kind
            assert said.body["fields"] == []
            assert (await ask("GET", "/me", [(FIELD, "bad")])).status == 401, kind
            good = await ask("GET", "/me", sent_on(gateway, "GET", "/me", token))
            assert good.body["caller"], kind


# --- what a real gateway never sends: signed here -----------------------------------------------

KEY = Ed25519PrivateKey.generate()
ISSUER = "https://gate.example"
FETCHED: list[str] = []


def local(**changes: Any) -> Trust:
    def fetch(url: str) -> bytes:
        FETCHED.append(url)
        return json.dumps({"keys": [verifying(KEY.public_key()).jwk()]}).encode()

    return Trust(ISSUER, AUDIENCE, "https://gate.example/jwks", fetch=fetch, **changes)


def signed(*, typ: str = "authgate-assertion+jwt", kid: str | None = None, **changes: Any) -> str:
    """`exp` and `iat` count from now."""
    now = int(time.time())
    changes = {
        name: now + value if name in ("exp", "iat") and value is not None else value
        for name, value in changes.items()
    }
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "u-1",
        "roles": [],
        "method": "GET",
        "path": PATH,
        "iat": now,
        "exp": now + 60,
    }
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    kid = kid or verifying(KEY.public_key()).kid
    return jwt.encode(claims, KEY, "EdDSA", headers={"typ": typ, "kid": kid})


PYTHON = KINDS[:4]


@pytest.mark.parametrize("kind", PYTHON)
async def test_a_path_is_compared_as_it_was_sent(kind: str) -> None:
    async with backend(kind, local()) as ask:
        assert (await ask("GET", PATH + "?x=1", [(FIELD, signed())])).status == 200
        assert (await ask("GET", "/catalogue/a%20b/c", [(FIELD, signed())])).status == 401


@pytest.mark.parametrize("kind", PYTHON)
@pytest.mark.parametrize(
    "changes",
    [
        {"typ": "at+jwt"},
        {"typ": "JWT"},
        {"kid": "unknown"},
        {"iss": "https://gate.example.evil"},
        {"iss": None},
        {"aud": ["shop", "warehouse"]},
        {"aud": None},
        {"exp": -30},
        {"exp": None},
        {"iat": 60},
        {"iat": None},
        {"sub": None},
        {"method": None},
        {"path": None},
        {"method": "get"},
    ],
    ids=str,
)
async def test_whatever_is_wrong_in_it_is_refused(kind: str, changes: dict[str, Any]) -> None:
    async with backend(kind, local()) as ask:
        assert (await ask("GET", PATH, [(FIELD, signed(**changes))])).status == 401


def test_invented_key_ids_do_not_make_us_fetch_again_and_again() -> None:
    FETCHED.clear()
    verifier = local().verifier()
    for n in range(50):
        with pytest.raises(Refused):
            verifier.verify(signed(kid=f"k{n}"), "GET", PATH)
    assert len(FETCHED) == 1
    assert verifier.verify(signed(), "GET", PATH).subject == "u-1"
