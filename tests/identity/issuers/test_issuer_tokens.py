"""A call with a token of another issuer, from the credential to who calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.access.issuers import RequiredClaim
from gateway.identity.issuers.issuer_tokens import IssuerTokens
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.keys.jwk import Alg, SigningKey, generate
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Credential, CredentialKind, Principal, Reason
from tests.identity.issuers.provider import (
    URL,
    Documents,
    Signer,
    discovery,
    document,
    fetched,
    issuer,
    issuer_tokens,
    path,
    published,
    signer,
)
from tests.identity.keyring import Gate, HandClock, signed
from tests.identity.presented import BEARER, Replica, call_with
from tests.identity.test_access_tokens import CLAIMS as OWN_CLAIMS
from tests.identity.test_jwk import public_pem

COMPANY = frozenset(("own", "company"))
OWN = frozenset(("own",))
KEY = signer("ES256")
OTHER_URL = "https://other.example"


class Door:
    """Who asks for a principal as a route does that takes some issuers."""

    def __init__(self, gate: Gate, replica: Replica, tokens: IssuerTokens) -> None:
        self.tokens = tokens
        self.authenticator = RequestAuthenticator(
            gate.verifier, gate.ring, replica, gate.clock, issuers=tokens
        )

    async def asks(self, text: str, issuers: frozenset[str] = COMPANY) -> Principal | Reason:
        return await self.authenticator.authenticate(call_with(text), BEARER, issuers)

    def asks_memory(self, text: str, issuers: frozenset[str] = COMPANY) -> Any:
        return self.authenticator.authenticate_now(call_with(text), BEARER, issuers)


@pytest.fixture
def documents() -> Documents:
    return published(KEY)


@pytest.fixture
async def door(gate: Gate, replica: Replica, documents: Documents, clock: HandClock) -> Door:
    return Door(gate, replica, await fetched(issuer_tokens(documents, clock)))


async def test_a_token_of_another_issuer_is_believed_and_remembered(door: Door) -> None:
    text = KEY.token()
    first = await door.asks(text)
    assert isinstance(first, Principal)
    assert (first.subject, first.issuer) == ("company:alice", "company")
    assert await door.asks(text) is first
    assert len(door.authenticator) == 1


async def test_our_own_tokens_are_judged_as_before(door: Door, gate: Gate) -> None:
    principal = await door.asks(gate.token())
    assert isinstance(principal, Principal)
    assert (principal.subject, principal.issuer) == ("u-alice", "own")


async def test_a_route_that_does_not_take_an_issuer_asks_and_remembers_nothing(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents
) -> None:
    documents.gate = asyncio.Event()  # it would hang
    door = Door(gate, replica, issuer_tokens(documents, clock))
    for text in (KEY.token(), signer(kid="unknown").token()):
        assert await door.asks(text, OWN) is Reason.TOKEN_CLAIMS_INVALID
        assert door.asks_memory(text, OWN) is Reason.TOKEN_CLAIMS_INVALID
    assert (documents.asked, len(door.authenticator)) == ([], 0)


async def test_a_remembered_token_is_good_on_no_route_that_does_not_take_its_issuer(
    door: Door,
) -> None:
    text = KEY.token()
    await door.asks(text)
    assert await door.asks(text, OWN) is Reason.TOKEN_CLAIMS_INVALID


async def test_a_route_that_takes_an_issuer_alone_takes_no_token_of_ours(
    door: Door, gate: Gate
) -> None:
    assert await door.asks(gate.token(), frozenset(("company",))) is Reason.TOKEN_CLAIMS_INVALID


async def test_expiry_and_revocation_are_asked_on_every_call(
    door: Door, replica: Replica, clock: HandClock
) -> None:
    text = KEY.token()
    await door.asks(text)
    replica.refused["company:t-1"] = Reason.TOKEN_REVOKED
    assert await door.asks(text) is Reason.TOKEN_REVOKED
    assert door.asks_memory(text) is Reason.TOKEN_REVOKED
    replica.refused.clear()
    clock.advance(309)
    assert isinstance(await door.asks(text), Principal)
    clock.advance(1)
    assert await door.asks(text) is Reason.TOKEN_EXPIRED
    assert door.asks_memory(text) is Reason.TOKEN_EXPIRED


# Whoever tries to be taken for somebody else


async def test_a_key_of_theirs_with_our_kid_signs_nothing_of_ours(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    own = gate.ring.signing_key()
    evil = signer("EdDSA", own.kid)
    door = Door(gate, replica, await fetched(issuer_tokens(published(evil), clock)))
    forged = evil.token(**OWN_CLAIMS)
    assert await door.asks(forged) is Reason.TOKEN_SIGNATURE_INVALID
    principal = await door.asks(evil.token())
    assert isinstance(principal, Principal)
    assert principal.kid == f"company:{own.kid}"


async def test_our_key_signs_nothing_of_theirs(door: Door, gate: Gate, clock: HandClock) -> None:
    own = gate.ring.signing_key()
    header = {"alg": own.alg, "typ": "at+jwt", "kid": own.kid}
    forged = signed(own, header, {**OWN_CLAIMS, "iss": URL, "aud": "api"})
    clock.advance(10)
    assert await door.asks(forged) is Reason.KEY_UNKNOWN
    # ... not even where they have published a key under our kid.
    door = Door(
        gate, Replica(), await fetched(issuer_tokens(published(signer(kid=own.kid)), clock))
    )
    assert await door.asks(forged) is Reason.TOKEN_SIGNATURE_INVALID


async def test_our_token_with_the_name_of_an_unknown_issuer_is_refused_as_before(
    door: Door, gate: Gate
) -> None:
    own = gate.ring.signing_key()
    header = {"alg": own.alg, "typ": "at+jwt", "kid": own.kid}
    text = signed(own, header, {**OWN_CLAIMS, "iss": "https://unknown.example"})
    assert await door.asks(text) is Reason.TOKEN_CLAIMS_INVALID


async def test_the_kid_of_another_issuer_leads_to_no_key_of_it(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    theirs = signer("ES256", "their-kid")
    documents = published(KEY)
    documents.there |= {
        f"{OTHER_URL}/.well-known/openid-configuration": discovery(
            issuer=OTHER_URL, jwks_uri=f"{OTHER_URL}/keys"
        ),
        f"{OTHER_URL}/keys": document(theirs),
    }
    other = issuer("other", issuer=OTHER_URL)
    tokens = await fetched(issuer_tokens(documents, clock, issuer(), other))
    door, both = Door(gate, replica, tokens), frozenset(("company", "other"))
    good = await door.asks(theirs.token(iss=OTHER_URL), both)
    assert isinstance(good, Principal)
    assert good.subject == "other:alice"
    clock.advance(10)
    assert await door.asks(theirs.token(), both) is Reason.KEY_UNKNOWN
    same_kid = Signer("k-1", "ES256", theirs.key).token()
    assert await door.asks(same_kid, both) is Reason.TOKEN_SIGNATURE_INVALID


async def test_an_issuer_that_calls_itself_ours_judges_nothing_of_ours(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    impostor = issuer(issuer=URL)
    tokens = issuer_tokens(published(KEY), clock, impostor, own_issuer=URL)
    assert (await fetched(tokens)).read(KEY.token(), COMPANY) is None


@pytest.mark.parametrize("name", ["sub", "sid", "jti", "client_id"])
async def test_a_token_of_ours_bears_no_name_of_an_issuer(
    gate: Gate, door: Door, name: str
) -> None:
    """An imported key can sign what it likes: it must not speak of `company:alice`."""
    private = generate(Alg.ES256)
    imported = await gate.rotation.import_key(public_pem(private), verify_only=True)
    key = SigningKey(imported.kid, Alg.ES256, private)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": imported.kid}

    def token(value: str) -> str:
        more = {"user_id": value} if name == "sub" else {}
        return signed(key, header, {**OWN_CLAIMS, name: value, **more})

    for refused in ("company:alice", "company:", "company:a:b"):
        assert await door.asks(token(refused)) is Reason.TOKEN_CLAIMS_INVALID
        assert door.asks_memory(token(refused)) is Reason.TOKEN_CLAIMS_INVALID
    for taken in ("company", "companys:alice", "x:company:alice"):
        assert isinstance(await door.asks(token(taken)), Principal)


async def test_without_other_issuers_no_name_is_theirs(door: Door, gate: Gate) -> None:
    door.tokens.adopt({})
    assert isinstance(await door.asks(gate.token()), Principal)


async def test_a_name_that_was_remembered_is_forgotten_once_it_is_an_issuers(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    tokens = issuer_tokens(published(KEY), clock, issuer("first"))
    door = Door(gate, replica, tokens)
    private = generate(Alg.ES256)
    imported = await gate.rotation.import_key(public_pem(private), verify_only=True)
    key = SigningKey(imported.kid, Alg.ES256, private)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": imported.kid}
    text = signed(key, header, {**OWN_CLAIMS, "sid": "company:s-1"})
    assert isinstance(await door.asks(text), Principal)
    tokens.adopt({"company": issuer()})
    assert await door.asks(text) is Reason.TOKEN_CLAIMS_INVALID


# Keys that come and go


async def test_an_unknown_kid_is_asked_for_and_then_believed(
    door: Door, documents: Documents, clock: HandClock
) -> None:
    new = signer(kid="new")
    documents.publish(KEY, new)
    clock.advance(10)
    assert door.asks_memory(new.token()) is None
    assert isinstance(await door.asks(new.token()), Principal)
    assert isinstance(door.asks_memory(new.token()), Principal)


async def test_a_key_that_is_no_more_published_is_believed_no_more(
    door: Door, documents: Documents, clock: HandClock
) -> None:
    # CVE-2026-33496
    new = signer(kid="new")
    documents.publish(KEY, new)
    await fetched(door.tokens)
    old_text, new_text = KEY.token(), new.token()
    kept = await door.asks(new_text)
    assert isinstance(await door.asks(old_text), Principal)
    documents.publish(new)
    await fetched(door.tokens)
    assert len(door.authenticator) == 1
    assert await door.asks(new_text) is kept
    assert await door.asks(old_text) is Reason.KEY_UNKNOWN


async def test_an_issuer_without_keys_is_unavailable_and_no_token_of_it_is_bad(
    gate: Gate, replica: Replica, clock: HandClock
) -> None:
    door = Door(gate, replica, issuer_tokens(Documents(), clock))
    assert await door.asks(KEY.token()) is Reason.ISSUER_UNAVAILABLE
    assert door.asks_memory(KEY.token()) is None


async def test_keys_that_are_too_old_believe_nobody_who_is_remembered(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents
) -> None:
    tokens = await fetched(issuer_tokens(documents, clock, issuer(max_stale_s=100)))
    door = Door(gate, replica, tokens)
    text = KEY.token()
    await door.asks(text)
    documents.there.clear()
    clock.advance(99)
    assert isinstance(await door.asks(text), Principal)
    clock.advance(1)
    assert await door.asks(text) is Reason.ISSUER_UNAVAILABLE
    assert door.asks_memory(text) is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(gate.token()), Principal)
    documents.there = published(KEY).there
    await fetched(tokens)
    assert isinstance(await door.asks(text), Principal)


async def test_the_first_step_of_a_call_waits_for_nobody(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents
) -> None:
    """Decisions are begun outside a task: a wait needs one."""
    door = Door(gate, replica, issuer_tokens(documents, clock))
    begun = door.authenticator.authenticate(call_with(KEY.token()), BEARER, COMPANY)
    assert begun.send(None) is None
    begun.close()
    assert documents.asked == []


# Another configuration


async def test_a_removed_issuer_is_believed_in_nothing_and_its_keys_are_not_kept(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents, tmp_path: Path
) -> None:
    kept = KeptKeys(tmp_path / "issuers")
    tokens = await fetched(issuer_tokens(documents, clock, kept=kept))
    door = Door(gate, replica, tokens)
    text = KEY.token()
    await door.asks(text)
    assert (tmp_path / "issuers" / "company.json").exists()
    tokens.adopt({})
    assert len(door.authenticator) == 0
    assert not isinstance(await door.asks(text), Principal)
    assert not (tmp_path / "issuers" / "company.json").exists()


async def test_a_kept_file_that_cannot_be_removed_keeps_no_issuer(
    documents: Documents, clock: HandClock, tmp_path: Path
) -> None:
    (tmp_path / "company.json").mkdir()
    tokens = issuer_tokens(documents, clock, kept=KeptKeys(tmp_path))
    tokens.adopt({})
    assert not tokens.key_sets


@pytest.mark.parametrize(
    "changed",
    [
        {"audience": ("other",)},
        {"require": (RequiredClaim(path("claims.azp"), ("till",)),)},
        {"algorithms": ("RS256",)},
        {"issuer": OTHER_URL},
    ],
)
async def test_what_a_changed_issuer_refuses_is_not_remembered(
    door: Door, changed: dict[str, Any]
) -> None:
    text = KEY.token()
    await door.asks(text)
    door.tokens.adopt({"company": issuer(**changed)})
    assert len(door.authenticator) == 0
    assert isinstance(await door.asks(text), Reason)


async def test_an_issuer_that_stays_as_it_is_is_not_forgotten(
    door: Door, documents: Documents
) -> None:
    text = KEY.token()
    first = await door.asks(text)
    asked = len(documents.asked)
    door.tokens.adopt({"company": issuer(), "new": issuer("new", issuer=OTHER_URL)})
    assert await door.asks(text) is first
    assert len(documents.asked) == asked


async def test_a_token_that_waited_is_judged_by_the_configuration_that_then_is(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents
) -> None:
    documents.gate = asyncio.Event()
    tokens = issuer_tokens(documents, clock)
    door = Door(gate, replica, tokens)
    asking = asyncio.create_task(door.asks(KEY.token()))
    while not documents.asked:
        await asyncio.sleep(0)
    tokens.adopt({})
    assert await asking is Reason.TOKEN_CLAIMS_INVALID


async def test_a_token_whose_issuer_is_removed_before_it_is_asked_is_refused(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents
) -> None:
    tokens = issuer_tokens(documents, clock)
    asking = asyncio.create_task(Door(gate, replica, tokens).asks(KEY.token()))
    await asyncio.sleep(0)
    tokens.adopt({})
    assert await asking is Reason.TOKEN_CLAIMS_INVALID
    assert documents.asked == []


async def test_resources_of_routes_let_their_own_urls_in(
    gate: Gate, replica: Replica, clock: HandClock, documents: Documents
) -> None:
    tokens = await fetched(issuer_tokens(documents, clock))
    door = Door(gate, replica, tokens)
    text = KEY.token(aud="https://gate.example/mcp")
    assert await door.asks(text) is Reason.TOKEN_CLAIMS_INVALID
    tokens.adopt({"company": issuer()}, {"company": frozenset(("/mcp",))})
    principal = await door.asks(text)
    assert isinstance(principal, Principal)
    assert principal.resource_only


# In the background


@asynccontextmanager
async def running(tokens: IssuerTokens) -> AsyncIterator[None]:
    task = asyncio.create_task(tokens.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await tokens.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


async def test_new_issuers_are_fetched_and_those_that_are_due(clock: HandClock) -> None:
    documents = published(KEY)
    tokens = issuer_tokens(documents, clock)
    async with running(tokens):
        await until(lambda: tokens.key_sets["company"].is_believed())
        documents.there |= {
            f"{OTHER_URL}/.well-known/openid-configuration": discovery(
                issuer=OTHER_URL, jwks_uri=f"{OTHER_URL}/keys"
            ),
            f"{OTHER_URL}/keys": document(signer()),
        }
        tokens.adopt({"company": issuer(), "other": issuer("other", issuer=OTHER_URL)})
        await until(lambda: tokens.key_sets["other"].is_believed())
        assert documents.asked_for_keys() == 1
        clock.advance(3600)
        tokens.adopt({"company": issuer()})
        await until(lambda: documents.asked_for_keys() == 2)
        assert documents.asked.count(f"{OTHER_URL}/keys") == 1


async def test_a_failed_fetch_is_repeated_by_itself(clock: HandClock) -> None:
    documents = Documents()
    tokens = issuer_tokens(documents, clock)
    async with running(tokens):
        await until(lambda: tokens.key_sets["company"].last_error is not None)
        documents.there = published(KEY).there
        clock.advance(1)
        await until(lambda: tokens.key_sets["company"].is_believed())


async def test_an_issuer_that_hangs_keeps_no_other_waiting(clock: HandClock) -> None:
    class Partly(Documents):
        async def get(self, url: str, ca: str | None, bytes_max: int) -> Any:
            if url.startswith(OTHER_URL):
                await asyncio.Event().wait()
            return await super().get(url, ca, bytes_max)

    documents = Partly(published(KEY).there)
    other = issuer("other", issuer=OTHER_URL)
    tokens = issuer_tokens(documents, clock, other, issuer())
    async with running(tokens):
        await until(lambda: tokens.key_sets["company"].is_believed())


async def test_the_token_of_a_cookie_is_never_asked_of_an_issuer(door: Door) -> None:
    call = call_with(Credential(CredentialKind.COOKIE, KEY.token()))
    got = await door.authenticator.authenticate(call, frozenset(CredentialKind), COMPANY)
    assert got is Reason.NO_CREDENTIAL
