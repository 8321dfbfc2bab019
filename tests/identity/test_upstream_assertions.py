"""`X-Auth-Assertion`: what it says, how long it is given again, and that it opens nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.identity.keys.jwk import Alg, VerifyingKey
from gateway.identity.tokens.jws import parse as opened_jws
from gateway.identity.tokens.upstream_assertions import PERIOD_S, Assertions
from gateway.model import Principal, Reason
from gateway.stores.protocols import Database
from tests.identity.keyring import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Gate,
    HandClock,
    opened,
    unb64,
)

WHO = Principal(
    subject="u-alice",
    roles=("viewer", "orders:read"),
    session_id="s-1",
    token_id="t-1",
    client_id="authgate",
    kid="k",
    issued_at=0,
    expires_at=1 << 40,
    email="alice@example.com",
    email_verified=True,
)


# HKDF of SHA-256 over the key for assertions and the salt, by the number of the period.
KIDS = [
    "T8URxo0jatrb4N-wptEiqQAlx8oqMDmdMJnIpeWk7HU",
    "hcRJqrPI9KhsHl_z2ZUOcBgAc5S0By4i6obi_gu6gAI",
    "_OUVC0PRxY9i_LHD9AON47cYo8Ys5-25YtgoIfrqygU",
]


@pytest.fixture
async def database(tmp_path: Path, clock: HandClock) -> AsyncIterator[Database]:
    async with opened(tmp_path, clock) as store:
        yield store


@pytest.fixture
async def assertions(database: Database, clock: HandClock) -> Assertions:
    new_assertions = Assertions(database, SECRET, clock, issuer=ISSUER)
    await new_assertions.open()
    return new_assertions


def said(text: str | None) -> dict[str, Any]:
    assert text is not None
    claims: dict[str, Any] = json.loads(unb64(text.split(".")[1]))
    return claims


def kid(text: str | None) -> str:
    assert text is not None
    parsed = opened_jws(text)
    assert parsed is not None
    return parsed.kid


def key_of(assertions: Assertions, text: str) -> VerifyingKey:
    return {key.kid: key for key in assertions.verifying_keys()}[kid(text)]


async def test_it_says_who_calls_and_what_for(assertions: Assertions, clock: HandClock) -> None:
    text = assertions.assertion(WHO, "orders", "GET", "/orders/7")
    now = int(clock.now())
    assert said(text) == {
        "iss": ISSUER,
        "aud": "orders",
        "sub": "u-alice",
        "roles": ["viewer", "orders:read"],
        "sid": "s-1",
        "email": "alice@example.com",
        "email_verified": True,
        "method": "GET",
        "path": "/orders/7",
        "iat": now,
        "exp": now + 60,
    }


async def test_a_client_has_neither_session_nor_address(assertions: Assertions) -> None:
    machine = Principal("c-1", (), None, "t", "c-1", kid="k", issued_at=0, expires_at=1 << 40)
    claims = said(assertions.assertion(machine, "orders", "GET", "/"))
    assert not {"sid", "email", "email_verified"} & claims.keys()


async def test_a_stock_library_verifies_it_with_the_published_key(assertions: Assertions) -> None:
    text = assertions.assertion(WHO, "orders", "GET", "/")
    assert text is not None
    key = jwt.PyJWK(key_of(assertions, text).jwk())
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(text, key, ["EdDSA"], audience="orders", issuer=ISSUER, options=options)
    assert claims["sub"] == "u-alice"
    assert jwt.get_unverified_header(text)["typ"] == "authgate-assertion+jwt"


async def test_one_flipped_bit_breaks_it(assertions: Assertions) -> None:
    text = assertions.assertion(WHO, "orders", "GET", "/")
    assert text is not None
    parsed = opened_jws(text)
    assert parsed is not None
    key = key_of(assertions, text)
    assert key.verifies(parsed.signed, parsed.signature)
    for at in range(0, len(parsed.signature) * 8, 37):
        flipped = bytearray(parsed.signature)
        flipped[at // 8] ^= 1 << at % 8
        assert not key.verifies(parsed.signed, bytes(flipped))


async def test_it_is_given_again_for_30_s_and_never_longer(
    assertions: Assertions, clock: HandClock
) -> None:
    first = assertions.assertion(WHO, "orders", "GET", "/")
    clock.advance(29)
    assert assertions.assertion(WHO, "orders", "GET", "/") == first
    clock.advance(1)
    again = assertions.assertion(WHO, "orders", "GET", "/")
    assert again != first
    assert said(again)["exp"] == int(clock.now()) + 60


@pytest.mark.parametrize(
    "asked",
    [
        (WHO, "orders2", "GET", "/a"),
        (WHO, "orders", "POST", "/a"),
        (WHO, "orders", "GET", "/a/"),
        (WHO, "ordersG", "ET", "/a"),
        (replace(WHO, subject="u-bob"), "orders", "GET", "/a"),
        (replace(WHO, roles=("admin",)), "orders", "GET", "/a"),
        (replace(WHO, session_id="s-2"), "orders", "GET", "/a"),
        (replace(WHO, email="bob@example.com"), "orders", "GET", "/a"),
        (replace(WHO, email_verified=False), "orders", "GET", "/a"),
        (
            Principal("u-bob", WHO.roles, "s-1", "t-1", None, kid="k", issued_at=0, expires_at=1),
            "orders",
            "GET",
            "/a",
        ),
        (
            Principal(
                "u-alice", ("admin",), "s-1", "t-1", None, kid="k", issued_at=0, expires_at=1
            ),
            "orders",
            "GET",
            "/a",
        ),
        (
            Principal("u-alice", WHO.roles, "s-2", "t-1", None, kid="k", issued_at=0, expires_at=1),
            "orders",
            "GET",
            "/a",
        ),
        (
            Principal("u-alice", WHO.roles, None, "t-1", None, kid="k", issued_at=0, expires_at=1),
            "orders",
            "GET",
            "/a",
        ),
    ],
)
async def test_nothing_that_differs_shares_one(
    assertions: Assertions, asked: tuple[Principal, str, str, str]
) -> None:
    first = assertions.assertion(WHO, "orders", "GET", "/a")
    other = assertions.assertion(*asked)
    assert other != first
    claims = said(other)
    who, audience, method, path = asked
    assert (claims["sub"], claims["aud"]) == (who.subject, audience)
    assert (claims["method"], claims["path"]) == (method, path)
    assert claims["roles"] == list(who.roles)


async def test_a_stranger_cannot_fill_the_memory(assertions: Assertions) -> None:
    for n in range(4_200):
        assertions.assertion(WHO, "orders", "GET", f"/{n}")
        assert len(assertions._recent) <= 4_096
    before = len(assertions._recent)
    assert assertions.assertion(WHO, "orders", "GET", "/" + "a" * 8_000)
    assert len(assertions._recent) == before


@pytest.mark.parametrize(("length", "kept"), [(512, 1), (513, 0)])
async def test_a_longer_path_is_signed_anew_each_time(
    assertions: Assertions, length: int, kept: int
) -> None:
    assert assertions.assertion(WHO, "orders", "GET", "/" + "a" * (length - 1))
    assert len(assertions._recent) == kept


async def test_every_version_derives_the_same_keys(database: Database) -> None:
    """Nodes of two versions serve side by side while one replaces the other."""
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO installation (name, value) VALUES ('assertion_salt', :salt)",
            salt="c2FsdCBvZiB0aGUgaW5zdGFsbGF0aW9uLCAzMiBieXQ=",
        )
    one = Assertions(database, SECRET, HandClock(), issuer=ISSUER)
    await one.open()
    assert [key.kid for key in one.verifying_keys()] == KIDS


async def test_the_salt_is_256_random_bits(assertions: Assertions, database: Database) -> None:
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT value FROM installation WHERE name = 'assertion_salt'")
    assert row is not None
    assert len(base64.b64decode(row["value"], validate=True)) == 32


async def test_to_open_again_keeps_what_was_signed_unless_the_salt_is_another(
    assertions: Assertions, database: Database, clock: HandClock
) -> None:
    first = assertions.assertion(WHO, "orders", "GET", "/")
    clock.advance(1)
    await assertions.open()
    assert assertions.assertion(WHO, "orders", "GET", "/") == first
    async with database.transaction() as tx:
        await tx.run("UPDATE installation SET value = 'YWFh' WHERE name = 'assertion_salt'")
    await assertions.open()
    again = assertions.assertion(WHO, "orders", "GET", "/")
    assert kid(again) != kid(first)
    assert kid(again) in {key.kid for key in assertions.verifying_keys()}
    assert kid(first) not in {key.kid for key in assertions.verifying_keys()}


async def test_before_the_salt_is_read_there_is_none(database: Database, clock: HandClock) -> None:
    closed = Assertions(database, SECRET, clock, issuer=ISSUER)
    assert closed.assertion(WHO, "orders", "GET", "/") is None
    assert closed.verifying_keys() == []


async def test_every_worker_has_the_same_key(
    assertions: Assertions, database: Database, clock: HandClock
) -> None:
    second = Assertions(database, SECRET, clock, issuer=ISSUER)
    await second.open()
    assert second.verifying_keys() == assertions.verifying_keys()


async def test_neither_the_secret_nor_the_dump_alone_gives_the_key(
    assertions: Assertions, database: Database, clock: HandClock, tmp_path: Path
) -> None:
    thief = Assertions(database, bytes(32), clock, issuer=ISSUER)
    await thief.open()
    kids = {key.kid for key in assertions.verifying_keys()}
    assert not kids & {key.kid for key in thief.verifying_keys()}
    other = tmp_path / "other"
    other.mkdir()
    async with opened(other, clock) as elsewhere:
        leaked = Assertions(elsewhere, SECRET, clock, issuer=ISSUER)
        await leaked.open()
        assert not kids & {key.kid for key in leaked.verifying_keys()}


async def test_the_key_of_the_next_period_is_published_before_it_signs(
    assertions: Assertions, clock: HandClock
) -> None:
    clock.at = float(clock.at // PERIOD_S * PERIOD_S + PERIOD_S - 1)
    published = {key.kid for key in assertions.verifying_keys()}
    last = kid(assertions.assertion(WHO, "orders", "GET", "/"))
    clock.advance(31)
    first = kid(assertions.assertion(WHO, "orders", "GET", "/"))
    assert first != last
    assert first in published
    assert last in {key.kid for key in assertions.verifying_keys()}


async def test_an_assertion_is_no_access_token(
    assertions: Assertions, database: Database, clock: HandClock
) -> None:
    # CVE-2024-47616: what proves one thing must not pass for another.
    gate = await Gate(database, clock).start()
    gate.ring.publish(assertions.verifying_keys())
    text = assertions.assertion(WHO, AUDIENCE, "GET", "/")
    assert text is not None
    assert gate.verifier.verify(text) is Reason.KEY_UNKNOWN


async def test_even_one_signed_by_the_key_of_tokens_is_none(
    database: Database, clock: HandClock
) -> None:
    from gateway.identity.tokens import jws

    gate = await Gate(database, clock).start()
    key = gate.ring.signing_key()
    claims = said(gate.token())
    header = {"alg": key.alg, "typ": "authgate-assertion+jwt", "kid": key.kid}
    forged = jws.signed(header, claims, key.sign)
    assert gate.verifier.verify(forged) is Reason.TOKEN_CLAIMS_INVALID
    good = jws.signed({**header, "typ": "at+jwt"}, claims, key.sign)
    assert isinstance(gate.verifier.verify(good), Principal)


async def test_the_jwks_shows_its_keys_beside_those_of_tokens(
    assertions: Assertions, database: Database, clock: HandClock
) -> None:
    gate = await Gate(database, clock).start()
    before = gate.ring.jwks.etag
    gate.ring.publish(assertions.verifying_keys())
    shown = {key["kid"]: key for key in json.loads(gate.ring.jwks.body)["keys"]}
    assert shown.keys() == gate.ring.kids() | {k.kid for k in assertions.verifying_keys()}
    assert gate.ring.jwks.etag != before
    await gate.ring.refresh()
    assert {key["kid"] for key in json.loads(gate.ring.jwks.body)["keys"]} == shown.keys()
    mine = [shown[key.kid] for key in assertions.verifying_keys()]
    assert {(key["alg"], key["use"]) for key in mine} == {(Alg.EDDSA.value, "sig")}
