"""What an issued access token says, and what is never issued."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from gateway.identity.keys.jwk import Alg
from gateway.identity.tokens.access_tokens import FIRST_PARTY_CLIENT, acr_of
from gateway.identity.tokens.jws import BYTES_MAX
from gateway.model import Principal
from gateway.stores.protocols import StoreUnavailable
from tests.identity.keyring import (
    ALICE,
    AUDIENCE,
    ISSUER,
    START,
    Gate,
    HandClock,
    opened,
    unb64,
)
from tests.identity.test_access_tokens import CLAIMS


async def test_an_issued_token_is_believed_and_speaks_of_its_subject(gate: Gate) -> None:
    principal = gate.verifier.verify(gate.token())
    assert isinstance(principal, Principal)
    assert principal.subject == ALICE.subject
    assert principal.roles == ALICE.roles
    assert principal.session_id == ALICE.session_id
    assert (principal.email, principal.email_verified) == (ALICE.email, True)
    assert principal.client_id == FIRST_PARTY_CLIENT
    assert (principal.issued_at, principal.expires_at) == (START, START + 900)
    assert (principal.auth_time, principal.amr) == (START, ("pwd",))
    assert principal.kid == gate.ring.signing_key().kid


async def test_a_token_holds_the_claims_of_the_contract(gate: Gate) -> None:
    issued = gate.issuer.issue(ALICE, START)
    assert not any(b" " in unb64(part) for part in issued.text.split(".")[:2])
    header, payload = (json.loads(unb64(part)) for part in issued.text.split(".")[:2])
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": gate.ring.signing_key().kid}
    assert payload == {
        **CLAIMS,
        "roles": list(ALICE.roles),
        "jti": issued.token_id,
        "client_id": FIRST_PARTY_CLIENT,
        "acr": "pwd",
    }
    assert issued.expires_at == payload["exp"]


async def test_a_client_has_neither_address_nor_session(gate: Gate) -> None:
    client = replace(
        ALICE, subject="c-1", client_id="c-1", email=None, session_id=None, auth_time=None
    )
    text = gate.token(client)
    payload = json.loads(unb64(text.split(".")[1]))
    assert not {"email", "email_verified", "sid", "auth_time"} & payload.keys()
    principal = gate.verifier.verify(text)
    assert isinstance(principal, Principal)
    assert (principal.email, principal.session_id) == (None, None)


@pytest.mark.parametrize(
    ("until_s", "life_s"),
    [(300, 300), (899, 899), (900, 900), (901, 900), (1, 1), (0, 1), (-60, 1)],
)
async def test_a_token_that_must_end_earlier_lives_for_no_longer_and_for_a_second_at_least(
    gate: Gate, until_s: int, life_s: int
) -> None:
    issued = gate.issuer.issue(ALICE, START, until=START + until_s)
    assert issued.expires_at == START + life_s
    assert json.loads(unb64(issued.text.split(".")[1]))["exp"] == START + life_s


@pytest.mark.parametrize(
    ("amr", "acr"),
    [
        ((), None),
        (("otp",), None),
        (("pwd",), "pwd"),
        (("mfa",), "mfa"),
        (("pwd", "otp", "mfa"), "mfa"),
    ],
)
def test_more_than_one_factor_counts_for_more_than_a_password(
    amr: tuple[str, ...], acr: str | None
) -> None:
    assert acr_of(amr) == acr


async def test_no_two_tokens_have_the_same_id(gate: Gate) -> None:
    assert len({gate.issuer.issue(ALICE, START).token_id for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""},
        {"subject": "a b"},
        {"roles": ("a,b",)},
        {"session_id": "x" * 129},
        {"client_id": "é"},
        {"email": "a\r\nX-Auth-Roles: admin@example.com"},
    ],
)
async def test_nobody_is_given_a_token_that_would_be_refused(
    gate: Gate, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="form"):
        gate.token(replace(ALICE, **change))


async def test_roles_that_make_the_token_too_long_are_an_error_not_a_dead_token(gate: Gate) -> None:
    with pytest.raises(ValueError, match="too long"):
        gate.token(replace(ALICE, roles=tuple(f"r{n:0120d}" for n in range(60))))


async def test_a_token_as_long_as_can_be_accepted_is_issued(gate: Gate) -> None:
    lengths = {}
    for more in range(1, 120):
        whom = replace(ALICE, roles=(*(f"r{n:0120d}" for n in range(44)), "r" * more, "s" * 128))
        with suppress(ValueError):
            lengths[more] = len(gate.token(whom))
    assert max(lengths.values()) == BYTES_MAX


async def test_without_a_sure_key_nothing_is_signed(gate: Gate, clock: HandClock) -> None:
    clock.advance(10_000)
    with pytest.raises(StoreUnavailable):
        gate.token()
    with pytest.raises(StoreUnavailable):
        gate.issuer.require_key()


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # RFC 9864 names it Ed25519
@pytest.mark.parametrize("alg", list(Alg))
async def test_stock_libraries_believe_our_tokens_from_the_jwks_alone(
    tmp_path: Path, clock: HandClock, alg: Alg
) -> None:
    async with opened(tmp_path, clock) as database:
        gate = await Gate(database, clock, alg=alg).start()
        text, jwks = gate.token(), json.loads(gate.ring.jwks.body)

        kid = jwt.get_unverified_header(text)["kid"]
        key = next(k for k in jwt.PyJWKSet.from_dict(jwks).keys if k.key_id == kid)
        options: Any = {"verify_exp": False, "verify_iat": False}
        by_pyjwt = jwt.decode(
            text, key, algorithms=[alg], audience=AUDIENCE, issuer=ISSUER, options=options
        )
        by_joserfc = joserfc_jwt.decode(text, KeySet.import_key_set(jwks), algorithms=[alg])
        assert by_pyjwt == by_joserfc.claims
        assert by_pyjwt["sub"] == ALICE.subject
