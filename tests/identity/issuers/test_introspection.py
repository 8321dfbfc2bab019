"""Tokens that their issuer is asked about: what is asked, and what is believed."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.access.issuers import ClientAssertionKey, Issuer
from gateway.access.secret_text import SecretText
from gateway.identity.issuers import introspection as module
from gateway.identity.issuers.form_posts import PostRefused
from gateway.identity.issuers.issuer_tokens import IssuerTokens, IssuerTokensOptions
from gateway.identity.issuers.verifier import ForeignClaims
from gateway.identity.tokens.jws import BYTES_MAX
from gateway.model import Principal, Reason
from tests.identity.issuers.asked_issuer import (
    ACTIVE,
    COMPANY,
    ENDPOINT,
    OPAQUE,
    Door,
    asking,
    made,
)
from tests.identity.issuers.provider import (
    DISCOVERY_URL,
    URL,
    Answers,
    Documents,
    discovery,
    fetched,
    issuer,
    issuer_tokens,
    published,
    signer,
)
from tests.identity.keyring import ISSUER as OWN_URL
from tests.identity.keyring import MAX_LIFE_S, START, Gate, HandClock
from tests.identity.presented import Replica


async def test_an_active_token_speaks_of_whom_its_issuer_says(door: Door, posts: Answers) -> None:
    principal = await door.asks()
    assert isinstance(principal, Principal)
    assert (principal.subject, principal.issuer) == ("company:alice", "company")
    assert (principal.session_id, principal.client_id) == ("company:s-1", "company:shop")
    assert (principal.token_id, principal.kid) == ("company:t-1", "company:introspection")
    assert principal.roles == ("viewer", "orders:read")
    assert principal.granted_scopes == ("openid", "orders:read")


async def test_it_is_asked_as_the_rfc_has_it(door: Door, posts: Answers) -> None:
    await door.asks()
    [(url, form, fields)] = posts.asked
    assert url == ENDPOINT
    assert form == {"token": OPAQUE, "token_type_hint": "access_token"}
    assert fields == {"Authorization": "Basic " + base64.b64encode(b"gate:s").decode()}


async def test_a_secret_with_odd_letters_is_form_encoded_first(gate: Gate) -> None:
    # RFC 6749 section 2.3.1
    posts = Answers({OPAQUE: ACTIVE})
    door = made(gate, posts, asking(client_id="a:b", secret=SecretText("p:w d%ü")))
    await door.asks()
    sent = base64.b64decode(posts.asked[0][2]["Authorization"].removeprefix("Basic ")).decode()
    assert [unquote_plus(half) for half in sent.split(":")] == ["a:b", "p:w d%ü"]


async def test_a_private_key_proves_who_asks_anew_each_time(gate: Gate, clock: HandClock) -> None:
    # RFC 7523 section 2.2
    one = signer("ES256")
    pem = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    posts = Answers({OPAQUE: ACTIVE})
    key = ClientAssertionKey(SecretText(pem), "ES256", "our-kid")
    door = made(gate, posts, asking(secret=None, key=key))
    await door.asks()
    await door.asks()
    seen = []
    for _, form, fields in posts.asked:
        assert fields == {}
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert form["client_assertion_type"] == kind
        text = form["client_assertion"]
        assert jwt.get_unverified_header(text)["kid"] == "our-kid"
        options: Any = {"verify_exp": False, "verify_iat": False}
        public = one.key.public_key()
        claims = jwt.decode(text, public, ["ES256"], audience=URL, options=options)
        assert (claims["iss"], claims["sub"]) == ("gate", "gate")
        assert (claims["iat"], claims["exp"]) == (START, START + 60)
        seen.append(claims["jti"])
    assert len(set(seen)) == 2


async def test_the_endpoint_is_that_of_the_discovery_where_none_is_configured(gate: Gate) -> None:
    documents = published()
    documents.there[DISCOVERY_URL] = discovery(introspection_endpoint=ENDPOINT)
    posts = Answers({OPAQUE: ACTIVE})
    door = made(gate, posts, asking(endpoint=None), documents=documents)
    for _ in range(2):
        assert isinstance(await door.asks(), Principal)
    assert ([url for url, _, _ in posts.asked], documents.asked) == (
        [ENDPOINT] * 2,
        [DISCOVERY_URL],
    )
    for document, why in (
        (discovery(), "the discovery names no introspection_endpoint"),
        (b" " * 100_000, f"{DISCOVERY_URL} answered more than 64 KiB"),
    ):
        documents.there[DISCOVERY_URL] = document
        door = made(gate, posts, asking(endpoint=None), documents=documents)
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
        assert door.introspector.last_error == why


async def test_a_configured_endpoint_is_never_looked_for(gate: Gate, clock: HandClock) -> None:
    documents = published()
    documents.there[DISCOVERY_URL] = discovery(introspection_endpoint=f"{URL}/another")
    posts = Answers({OPAQUE: PostRefused("answered 404")})
    door = made(gate, posts, documents=documents)
    assert door.introspector.last_error is None
    for _ in range(2):
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
        clock.advance(module.FIND_EVERY_S + 1)
    assert ([url for url, _, _ in posts.asked], documents.asked) == ([ENDPOINT] * 2, [])


async def test_many_first_questions_look_for_the_endpoint_once(gate: Gate) -> None:
    documents = published()
    documents.there[DISCOVERY_URL] = discovery(introspection_endpoint=ENDPOINT)
    door = made(gate, Answers(), asking(endpoint=None), documents=documents)
    assert set(await asyncio.gather(*door.strangers(20))) == {Reason.TOKEN_REVOKED}
    assert documents.asked == [DISCOVERY_URL]


async def test_an_endpoint_that_has_moved_is_looked_for_again(gate: Gate, clock: HandClock) -> None:
    documents = published()
    documents.there[DISCOVERY_URL] = discovery(introspection_endpoint=ENDPOINT)
    posts = Answers({OPAQUE: PostRefused("answered 404")})
    door = made(gate, posts, asking(endpoint=None), documents=documents)
    for _ in range(3):
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert documents.asked == [DISCOVERY_URL]
    clock.advance(61)
    await door.asks()
    documents.there[DISCOVERY_URL] = discovery(introspection_endpoint=f"{URL}/new")
    posts.of[OPAQUE] = ACTIVE
    assert isinstance(await door.asks(), Principal)
    assert (posts.asked[-1][0], len(documents.asked)) == (f"{URL}/new", 2)


async def test_no_stranger_makes_good_tokens_depend_on_the_discovery(
    gate: Gate, clock: HandClock
) -> None:
    documents = published()
    documents.there[DISCOVERY_URL] = discovery(introspection_endpoint=ENDPOINT)
    posts = Answers({OPAQUE: ACTIVE, "odd-text-of-a-stranger": PostRefused("answered 400")})
    door = made(gate, posts, asking(endpoint=None), documents=documents)
    assert isinstance(await door.asks(), Principal)
    clock.advance(module.FIND_EVERY_S + 1)
    documents.there.clear()
    for _ in range(3):
        assert await door.asks("odd-text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
        assert isinstance(await door.asks(), Principal)
    assert len(documents.asked) == 2


# Which tokens are asked about


async def test_a_signed_token_of_an_issuer_that_is_asked_is_asked_about(
    door: Door, posts: Answers
) -> None:
    for text in (signer().token(), signer().token(header={"kid": ...})):
        posts.of[text] = ACTIVE
        assert isinstance(await door.asks(text), Principal)


async def test_a_route_that_takes_no_issuer_that_is_asked_asks_nobody(
    gate: Gate, posts: Answers
) -> None:
    door = made(gate, posts, asking(), issuer("other", issuer="https://other.example"))
    for taken in (frozenset(("own",)), frozenset(("own", "other"))):
        assert await door.asks(issuers=taken) is Reason.TOKEN_MALFORMED
        assert await door.asks(signer().token(), taken) is Reason.TOKEN_CLAIMS_INVALID
    assert posts.asked == []


async def test_a_token_of_ours_is_shown_to_nobody(door: Door, gate: Gate, posts: Answers) -> None:
    own = gate.token()
    assert isinstance(await door.asks(own), Principal)
    broken = own[:-10] + ("A" if own[-10] != "A" else "B") + own[-9:]
    for text in (broken, "a.b.c", signer().token(iss="https://unknown.example")):
        assert isinstance(await door.asks(text), Reason)
    assert posts.asked == []


@pytest.mark.parametrize("text", ["", "short", "with space", "é" * 20, "x" * 8193, "a=b=c=d=e"])
async def test_what_is_no_token_at_all_is_shown_to_nobody(
    door: Door, posts: Answers, text: str
) -> None:
    assert await door.asks(text) is Reason.TOKEN_MALFORMED
    assert posts.asked == []


@pytest.mark.parametrize("text", ["x" * 8, "x" * 8192, "a/b~c+de==", "-._~+/00"])
async def test_the_shortest_and_the_longest_opaque_token_are_asked_about(
    door: Door, posts: Answers, text: str
) -> None:
    assert await door.asks(text) is Reason.TOKEN_REVOKED
    assert [form["token"] for _, form, _ in posts.asked] == [text]


async def test_a_signed_token_is_shown_to_its_issuer_up_to_8_kib(
    door: Door, posts: Answers
) -> None:
    key, texts = signer(), {}
    for letters in range(5300, 5900):
        text = key.token(header={"kid": ...}, more="x" * letters)
        texts[len(text)] = text
    longest = max(size for size in texts if size <= BYTES_MAX)
    shortest = min(size for size in texts if size > BYTES_MAX)
    assert (longest, shortest - longest <= 2) == (BYTES_MAX, True)
    assert await door.asks(texts[longest]) is Reason.TOKEN_REVOKED
    assert await door.asks(texts[shortest]) is Reason.TOKEN_MALFORMED
    assert len(posts.asked) == 1


@pytest.mark.parametrize("iss", [[URL], {URL: 1}, None, 7, ...])
async def test_a_signed_token_that_names_nobody_is_shown_to_nobody(
    door: Door, posts: Answers, iss: Any
) -> None:
    assert isinstance(await door.asks(signer().token(header={"kid": ...}, iss=iss)), Reason)
    assert posts.asked == []


async def test_what_kind_of_token_it_must_be_can_be_shown(door: Door) -> None:
    check = door.introspector.verifier.checks[0]
    claims = {**ACTIVE, "token_type": "N_A"}
    problem = check.problem(ForeignClaims("company", claims, None, module.KID, b""))
    assert (check.what, problem) == ("token_type", "it is N_A; Bearer would be right")


async def test_an_opaque_token_that_could_be_of_two_issuers_is_shown_to_none(
    gate: Gate, posts: Answers
) -> None:
    """Nobody is to see the tokens of another."""
    door = made(gate, posts, asking(), asking("other", issuer="https://other.example"))
    both = frozenset(("company", "other"))
    assert await door.asks(issuers=both) is Reason.TOKEN_MALFORMED
    assert posts.asked == []
    assert isinstance(await door.asks(issuers=COMPANY), Principal)


# What is believed


@pytest.mark.parametrize("active", [False, None, "true", 1, ..., [], {}])
async def test_only_true_itself_is_active(door: Door, posts: Answers, active: Any) -> None:
    answer = {k: v for k, v in {**ACTIVE, "active": active}.items() if v is not ...}
    posts.of[OPAQUE] = answer
    assert await door.asks() is Reason.TOKEN_REVOKED


async def test_a_token_that_is_over_is_told_so_where_its_issuer_says_when(
    door: Door, posts: Answers
) -> None:
    posts.of["expired-token"] = {"active": False, "exp": START}
    posts.of["revoked-token"] = {"active": False, "exp": START + 1}
    posts.of["strange-token"] = {"active": False, "exp": "0"}
    assert await door.asks("expired-token") is Reason.TOKEN_EXPIRED
    assert await door.asks("revoked-token") is Reason.TOKEN_REVOKED
    assert await door.asks("strange-token") is Reason.TOKEN_REVOKED


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "account"},
        {"aud": ...},
        {"sub": ...},
        {"exp": ...},
        {"iat": ...},
        {"nbf": START + 60},
        {"exp": START + 10**6},
        {"token_type": ...},
        {"token_type": "DPoP"},
        {"token_type": "N_A"},
        {"token_use": "refresh_token"},
        {"typ": "Refresh"},
        {"typ": "ID"},
        {"at_hash": "x"},
        {"events": {}},
    ],
)
async def test_an_active_token_is_judged_as_every_other(
    door: Door, posts: Answers, changed: dict[str, Any]
) -> None:
    answer = {**ACTIVE, **changed}
    posts.of[OPAQUE] = {name: value for name, value in answer.items() if value is not ...}
    assert await door.asks() is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": ...},
        {"token_type": "bearer"},
        {"token_use": "access_token"},
        {"typ": "Bearer"},
        {"jti": ...},
    ],
)
async def test_answers_of_several_makes_are_taken(
    door: Door, posts: Answers, changed: dict[str, Any]
) -> None:
    answer = {**ACTIVE, **changed}
    posts.of[OPAQUE] = {name: value for name, value in answer.items() if value is not ...}
    assert isinstance(await door.asks(), Principal)


async def test_a_client_that_speaks_for_itself_is_named_by_its_id(
    door: Door, posts: Answers
) -> None:
    machine = {name: value for name, value in ACTIVE.items() if name != "sub"}
    posts.of[OPAQUE] = {**machine, "client_id": "batch"}
    principal = await door.asks()
    assert isinstance(principal, Principal)
    assert (principal.subject, principal.client_id) == ("company:batch", "company:batch")
    posts.of["of-a-person"] = {**ACTIVE, "client_id": "batch"}
    principal = await door.asks("of-a-person")
    assert isinstance(principal, Principal)
    assert (principal.subject, principal.client_id) == ("company:alice", "company:batch")
    posts.of["of-a-person-without-sub"] = {**machine, "client_id": "batch", "username": "alice"}
    assert await door.asks("of-a-person-without-sub") is Reason.TOKEN_CLAIMS_INVALID


async def test_expiry_and_revocation_are_asked_besides(gate: Gate, posts: Answers) -> None:
    replica = Replica()
    tokens = issuer_tokens(Documents(), gate.clock, asking(), posts=posts)
    door = Door(gate, tokens, replica)
    replica.refused["company:t-1"] = Reason.TOKEN_REVOKED
    assert await door.asks() is Reason.TOKEN_REVOKED
    replica.refused.clear()
    gate.clock.advance(310)
    assert await door.asks() is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "its answer is no JSON that everybody reads alike: "),
        (b"\xff", "its answer is no JSON that everybody reads alike: "),
        (b"<html>", "its answer is no JSON that everybody reads alike: "),
        (b'{"active":true,"active":false}', "its answer is no JSON that everybody reads alike: "),
        (b'{"active":true,"sub":"\\ud800"}', "its answer is no JSON that everybody reads alike: "),
        (b"[]", "its answer is no JSON object"),
        (b"true", "its answer is no JSON object"),
        (b" " * (module.ANSWER_BYTES_MAX + 1), f"{ENDPOINT} answered more than 16 KiB"),
    ],
)
async def test_an_answer_that_is_none_calls_no_token_bad(
    door: Door, posts: Answers, body: bytes, why: str
) -> None:
    posts.of[OPAQUE] = body
    assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert str(door.introspector.last_error).startswith(why)


# Another configuration


async def test_a_changed_issuer_is_asked_anew_and_an_unchanged_one_is_not(
    gate: Gate, posts: Answers
) -> None:
    door = made(gate, posts, asking(cache_s=30))
    await door.asks()
    door.tokens.adopt({"company": asking(cache_s=30)})
    await door.asks()
    assert len(posts.asked) == 1
    door.tokens.adopt({"company": asking(cache_s=30, audience=("other",))})
    assert await door.asks() is Reason.TOKEN_CLAIMS_INVALID
    door.tokens.adopt({})
    await door.tokens.close()
    assert posts.closed
    assert await door.asks() is Reason.TOKEN_MALFORMED


async def test_who_waits_when_an_issuer_is_removed_has_an_answer(
    gate: Gate, posts: Answers
) -> None:
    posts.gate = asyncio.Event()
    door = made(gate, posts)
    call = asyncio.create_task(door.asks())
    while not posts.asked:
        await asyncio.sleep(0)
    door.tokens.adopt({})
    closing = asyncio.create_task(door.tokens.close())
    await asyncio.sleep(0)
    assert not posts.closed
    posts.gate.set()
    assert await call is Reason.ISSUER_UNAVAILABLE
    await closing
    assert posts.closed


async def test_an_issuer_that_is_asked_may_tell_of_ends_by_its_keys(
    gate: Gate, posts: Answers
) -> None:
    telling = replace(asking(), events=True)
    documents = published(signer())
    door = made(gate, posts, telling, documents=documents)
    assert isinstance(await door.asks(), Principal)  # whatever becomes of its keys
    found = await door.tokens.find(telling, "k-1")
    assert not isinstance(found, Reason)
    assert await made(gate, posts).tokens.find(asking(), "k-1") is Reason.ISSUER_UNAVAILABLE


@pytest.mark.parametrize("first", ["asked", "by keys"])
async def test_an_issuer_that_is_asked_and_one_that_signs_stand_beside_each_other(
    gate: Gate, posts: Answers, first: str
) -> None:
    key, by_asking = signer(), asking("asked", issuer="https://asked.example")
    both = (by_asking, issuer()) if first == "asked" else (issuer(), by_asking)
    door = made(gate, posts, *both, documents=published(key))
    await fetched(door.tokens)
    posts.of[OPAQUE] = {**ACTIVE, "iss": "https://asked.example"}
    for text, subject in ((OPAQUE, "asked:alice"), (key.token(), "company:alice")):
        principal = await door.asks(text, frozenset(("asked", "company")))
        assert isinstance(principal, Principal)
        assert principal.subject == subject


async def test_each_issuer_is_asked_over_connections_of_its_own(gate: Gate) -> None:
    made_for: list[str] = []

    def posts(of: Issuer) -> Answers:
        made_for.append(of.name)
        return Answers()

    told: list[tuple[str, str]] = []
    tokens = IssuerTokens(
        IssuerTokensOptions(OWN_URL, MAX_LIFE_S),
        published(signer()),
        None,
        gate.clock,
        posts=posts,
        fetched=lambda *outcome: told.append(outcome),
        asked=lambda *outcome: told.append(outcome),
    )
    other = asking("other", issuer="https://other.example")
    tokens.adopt({one.name: one for one in (asking(), other, issuer("signs"))})
    assert made_for == ["company", "other"]
    await fetched(tokens)
    await Door(gate, tokens).asks()
    assert told == [("signs", "ok"), ("company", "inactive")]


async def test_an_issuer_may_come_to_be_asked_and_back(gate: Gate, posts: Answers) -> None:
    by_keys = replace(issuer(), events=True)
    by_asking = replace(asking(), events=True)
    tokens = await fetched(issuer_tokens(published(signer()), gate.clock, by_keys, posts=posts))
    until = tokens.believed_until["company"]
    assert until < 1e9
    tokens.adopt({"company": by_asking})
    await fetched(tokens)
    assert tokens.believed_until["company"] > 1e9
    tokens.adopt({"company": by_keys})
    assert tokens.believed_until["company"] < 0
    await fetched(tokens)
    assert tokens.believed_until["company"] == until


# --- what lasts ---


async def test_of_what_lasts_the_issuer_is_asked_again(gate: Gate) -> None:
    posts = Answers({OPAQUE: ACTIVE})
    door = made(gate, posts)
    principal = await door.asks()
    assert isinstance(principal, Principal)
    assert door.tokens.is_asked_about(principal)
    assert not door.tokens.is_asked_about(replace(principal, kid="company:k-1"))

    async def refusal() -> Reason | None:
        return await door.tokens.refusal_now(principal, OPAQUE, "127.0.0.1")

    assert await refusal() is None
    assert len(posts.asked) == 2
    posts.of[OPAQUE] = {**ACTIVE, "sub": "bob"}
    assert await refusal() is Reason.TOKEN_OUTDATED
    posts.of[OPAQUE] = PostRefused("no")
    assert await refusal() is Reason.ISSUER_UNAVAILABLE
    posts.of[OPAQUE] = {"active": False}
    assert await refusal() is Reason.TOKEN_REVOKED
    door.tokens.adopt({})
    assert await refusal() is None
