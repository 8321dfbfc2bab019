"""Tokens that their issuer is asked about: what is asked, what is believed, and what it costs."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.access.issuers import ClientAssertionKey, Introspection, Issuer
from gateway.access.secret_text import SecretText
from gateway.identity.issuers import asking_lane
from gateway.identity.issuers import introspection as module
from gateway.identity.issuers.fetching import AnswerTooLong, FetchFailed
from gateway.identity.issuers.form_posts import PostRefused
from gateway.identity.issuers.introspection import Introspector
from gateway.identity.issuers.issuer_tokens import IssuerTokens
from gateway.identity.issuers.verifier import ForeignClaims
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.identity.tokens.jws import BYTES_MAX
from gateway.model import Principal, Reason
from tests.identity.issuers.provider import (
    CLAIMS,
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
from tests.identity.keyring import START, Gate, HandClock, rsa_key
from tests.identity.presented import BEARER, Replica, call_with

ENDPOINT = f"{URL}/introspect"
COMPANY = frozenset(("own", "company"))
OPAQUE = "an-opaque-token-of-theirs"
ACTIVE = {**CLAIMS, "active": True, "token_type": "Bearer"}


def asking(name: str = "company", **changed: Any) -> Issuer:
    """An issuer that is asked."""
    more = {key: changed.pop(key) for key in ("issuer", "audience") if key in changed}
    words: dict[str, Any] = {"client_id": "gate", "secret": SecretText("s"), "endpoint": ENDPOINT}
    return issuer(name, introspection=Introspection(**{**words, **changed}), **more)


Asking = asyncio.Task[Principal | Reason]


class Door:
    """Who asks for a principal as a route does that takes some issuers."""

    def __init__(self, gate: Gate, tokens: IssuerTokens, replica: Replica | None = None) -> None:
        self.tokens = tokens
        self.authenticator = RequestAuthenticator(
            gate.verifier, gate.ring, replica or Replica(), gate.clock, issuers=tokens
        )

    @property
    def introspector(self) -> Introspector:
        return self.tokens.introspectors["company"]

    async def asks(
        self,
        text: str = OPAQUE,
        issuers: frozenset[str] = COMPANY,
        client_ip: str = "127.0.0.1",
    ) -> Principal | Reason:
        call = replace(call_with(text), client_ip=client_ip)
        return await self.authenticator.authenticate(call, BEARER, issuers)

    def strangers(self, many: int, text: str = "made-up-number-{}") -> list[Asking]:
        """Each asks from an address of its own."""
        return [
            asyncio.create_task(
                self.asks(text.format(number), client_ip=f"192.0.{number // 250}.{number % 250}")
            )
            for number in range(many)
        ]


class Slow(Answers):
    """An issuer that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__({OPAQUE: ACTIVE})
        self._seconds = seconds

    async def post(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        await asyncio.sleep(self._seconds)
        return await super().post(url, form, fields, bytes_max)


@pytest.fixture
def posts() -> Answers:
    return Answers({OPAQUE: ACTIVE})


@pytest.fixture
def door(gate: Gate, posts: Answers) -> Door:
    return made(gate, posts)


def made(gate: Gate, posts: Answers, *issuers: Issuer, documents: Any = None) -> Door:
    tokens = issuer_tokens(
        documents or Documents(), gate.clock, *(issuers or (asking(),)), posts=posts
    )
    return Door(gate, tokens)


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
    documents.there[DISCOVERY_URL] = discovery()
    door = made(gate, posts, asking(endpoint=None), documents=documents)
    assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert door.introspector.last_error == "the discovery names no introspection_endpoint"


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
    "body", [b"", b"[]", b"\xff", b"<html>", b'{"active":true,"active":false}', b"true"]
)
async def test_an_answer_that_is_none_calls_no_token_bad(
    door: Door, posts: Answers, body: bytes
) -> None:
    posts.of[OPAQUE] = body
    assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert door.introspector.last_error is not None


# What it costs


async def test_nothing_is_remembered_unless_the_configuration_says_so(
    door: Door, posts: Answers
) -> None:
    for _ in range(3):
        assert isinstance(await door.asks(), Principal)
    assert len(posts.asked) == 3
    posts.of[OPAQUE] = {"active": False}
    assert await door.asks() is Reason.TOKEN_REVOKED
    assert len(door.authenticator) == 0


async def test_an_active_answer_is_remembered_for_as_long_as_the_configuration_says(
    gate: Gate, posts: Answers, clock: HandClock
) -> None:
    door = made(gate, posts, asking(cache_s=30))
    first = await door.asks()
    clock.advance(29.9)
    assert await door.asks() is first
    posts.of[OPAQUE] = {"active": False}
    clock.advance(0.1)
    assert await door.asks() is Reason.TOKEN_REVOKED
    assert await door.asks() is Reason.TOKEN_REVOKED
    assert len(posts.asked) == 2


async def test_an_inactive_answer_is_remembered_for_five_seconds(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    for _ in range(100):
        assert await door.asks("made-up-by-a-stranger") is Reason.TOKEN_REVOKED
    assert len(posts.asked) == 1
    clock.advance(5)
    await door.asks("made-up-by-a-stranger")
    assert len(posts.asked) == 2


async def test_what_is_made_up_pushes_nobody_out(
    gate: Gate, posts: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_MOST", 10)
    door = made(gate, posts, asking(cache_s=30))
    await door.asks()
    for number in range(100):
        await door.asks(f"made-up-number-{number}")
    asked = len(posts.asked)
    assert isinstance(await door.asks(), Principal)
    assert len(posts.asked) == asked


async def test_calls_with_one_token_wait_for_one_answer(door: Door, posts: Answers) -> None:
    posts.gate = asyncio.Event()
    calls = [asyncio.create_task(door.asks()) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    calls[0].cancel()  # who gives up takes the answer from nobody
    posts.gate.set()
    got = await asyncio.gather(*calls[1:])
    assert all(isinstance(one, Principal) for one in got)
    assert len(posts.asked) == 1


async def test_an_issuer_is_asked_of_so_many_tokens_at_once(door: Door, posts: Answers) -> None:
    posts.gate = asyncio.Event()
    calls = door.strangers(module.MOST_WAITING)
    while len(posts.asked) < module.AT_ONCE:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(posts.asked) == module.AT_ONCE
    assert await door.asks("one-too-many") is Reason.ISSUER_UNAVAILABLE
    posts.gate.set()
    assert set(await asyncio.gather(*calls)) == {Reason.TOKEN_REVOKED}


async def test_who_finds_no_place_says_nothing_of_the_issuer(
    door: Door, posts: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLACE_WAIT_S", 0.02)
    monkeypatch.setattr(module, "ASK_WAIT_S", 0.05)
    monkeypatch.setattr(asking_lane, "FAILURES_MOST", module.AT_ONCE + 1)
    posts.gate = asyncio.Event()
    calls = door.strangers(2 * module.AT_ONCE)
    assert set(await asyncio.gather(*calls)) == {Reason.ISSUER_UNAVAILABLE}
    posts.gate.set()
    assert isinstance(await door.asks(), Principal)


async def test_strangers_who_ask_more_than_an_issuer_can_answer_close_it_to_nobody(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had a place when its time was nearly over says nothing of the issuer either."""
    monkeypatch.setattr(module, "PLACE_WAIT_S", 0.2)
    monkeypatch.setattr(module, "ASK_WAIT_S", 0.2)
    door = made(gate, Slow(0.12))
    strangers = door.strangers(5 * module.AT_ONCE)
    await asyncio.gather(*strangers)
    assert isinstance(await door.asks(), Principal)


async def test_a_token_that_was_good_waits_behind_none_that_is_made_up(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    assert isinstance(await door.asks(), Principal)
    posts.gate = asyncio.Event()
    strangers = door.strangers(module.MOST_WAITING)
    while len(posts.asked) < 1 + module.AT_ONCE:
        await asyncio.sleep(0)
    mine = asyncio.create_task(door.asks())
    for _ in range(5):
        await asyncio.sleep(0)
    assert posts.asked[-1][1]["token"] == OPAQUE
    posts.gate.set()
    assert isinstance(await mine, Principal)
    await asyncio.gather(*strangers)
    posts.of[OPAQUE] = {"active": False}
    assert await door.asks() is Reason.TOKEN_REVOKED
    # From now on it is one of the others.
    posts.gate = asyncio.Event()
    clock.advance(module.INACTIVE_S)
    strangers = door.strangers(module.MOST_WAITING)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    posts.gate.set()
    await asyncio.gather(*strangers)


async def test_who_makes_tokens_up_takes_a_share_of_what_an_issuer_is_asked(
    door: Door, posts: Answers
) -> None:
    posts.gate = asyncio.Event()
    calls = [
        asyncio.create_task(door.asks(f"made-up-number-{number}"))
        for number in range(module.UNKNOWN_OF_ADDRESS)
    ]
    while len(posts.asked) < len(calls):
        await asyncio.sleep(0)
    assert await door.asks("one-too-many") is Reason.ISSUER_UNAVAILABLE
    [other] = door.strangers(1, OPAQUE)
    posts.gate.set()
    assert isinstance(await other, Principal)
    assert set(await asyncio.gather(*calls)) == {Reason.TOKEN_REVOKED}
    assert await door.asks("one-too-many") is Reason.TOKEN_REVOKED


async def test_a_text_at_which_an_issuer_fails_closes_it_to_no_token_that_was_good(
    door: Door, posts: Answers
) -> None:
    assert isinstance(await door.asks(), Principal)
    posts.of["text-of-a-stranger"] = FetchFailed("answered 500")
    for _ in range(2 * asking_lane.FAILURES_MOST):
        assert await door.asks("text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(), Principal)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", AnswerTooLong("more than 16 KiB")])
async def test_an_answer_about_one_token_that_cannot_be_read_closes_it_to_no_other(
    door: Door, posts: Answers, answer: Any
) -> None:
    """Somebody is in ten thousand groups."""
    posts.of["of-ten-thousand-groups"] = answer
    for _ in range(2 * asking_lane.FAILURES_MOST):
        assert await door.asks("of-ten-thousand-groups") is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(), Principal)


async def test_an_issuer_that_is_back_is_asked_again_whoever_tries_it(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of[OPAQUE] = FetchFailed("away")
    for _ in range(asking_lane.FAILURES_MOST):
        await door.asks()
    posts.of = {OPAQUE: ACTIVE, "odd-text-of-a-stranger": PostRefused("answered 400")}
    clock.advance(asking_lane.REST_S)
    assert await door.asks("odd-text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(), Principal)


async def test_failing_and_working_by_turns_is_told_once_a_minute(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of["odd-text-of-a-stranger"] = PostRefused("answered 400")
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            await door.asks("odd-text-of-a-stranger")
            await door.asks()
        told = ["introspection-failed", "introspection-works"]
        assert [line["event"] for line in lines] == told
        clock.advance(module.TELL_EVERY_S)
        await door.asks("odd-text-of-a-stranger")
        await door.asks()
    assert [line["event"] for line in lines] == 2 * told


async def test_to_prove_who_asks_costs_no_more_than_a_signature(gate: Gate) -> None:
    """To read an RSA key takes a hundred times as long, and nobody else is served meanwhile."""
    pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = ClientAssertionKey(SecretText(pem), "RS256")
    door = made(gate, Answers(), asking(secret=None, key=key))
    began = time.thread_time()
    for number in range(20):
        assert await door.asks(f"made-up-number-{number}") is Reason.TOKEN_REVOKED
    assert time.thread_time() - began < 0.3


async def test_an_issuer_that_fails_is_left_alone_and_tried_with_one_token(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of[OPAQUE] = FetchFailed("away")
    for _ in range(20):
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert len(posts.asked) == asking_lane.FAILURES_MOST
    clock.advance(asking_lane.REST_S)
    for _ in range(20):
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert len(posts.asked) == asking_lane.FAILURES_MOST + 1
    posts.of[OPAQUE] = ACTIVE
    clock.advance(asking_lane.REST_S)
    assert isinstance(await door.asks(), Principal)
    assert door.introspector.last_error is None
    posts.of[OPAQUE] = FetchFailed("away")
    await door.asks()
    posts.of[OPAQUE] = ACTIVE
    assert isinstance(await door.asks(), Principal)


async def test_a_text_that_the_issuer_does_not_like_closes_it_to_nobody(
    door: Door, posts: Answers
) -> None:
    posts.of["odd-text-of-a-stranger"] = PostRefused("answered 400")
    for _ in range(20):
        assert await door.asks("odd-text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
    assert door.introspector.last_error == "answered 400"
    assert isinstance(await door.asks(), Principal)


async def test_each_question_is_told_with_its_outcome(clock: HandClock, posts: Answers) -> None:
    told: list[tuple[str, str]] = []
    tokens = issuer_tokens(Documents(), clock, asking(), posts=posts)
    verifier = tokens.introspectors["company"].verifier
    assert verifier.issuer.introspection is not None
    introspector = Introspector(
        verifier,
        verifier.issuer.introspection,
        posts,
        Documents(),
        clock,
        asked=lambda name, outcome: told.append((name, outcome)),
    )
    posts.of |= {"away": FetchFailed("away"), "refused": PostRefused("answered 401")}
    for text in (OPAQUE, "inactive", "away", "refused"):
        await introspector.ask(text, "192.0.2.1")
    outcomes = ["active", "inactive", "unreachable", "refused"]
    assert told == [("company", outcome) for outcome in outcomes]


async def test_what_is_remembered_is_at_hand_without_a_wait(gate: Gate, posts: Answers) -> None:
    door = made(gate, posts, asking(cache_s=30))
    call = call_with(OPAQUE)
    assert door.authenticator.authenticate_from_memory(call, BEARER, COMPANY) is None
    principal = await door.asks()
    assert door.authenticator.authenticate_from_memory(call, BEARER, COMPANY) is principal


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
    posts.gate.set()
    assert await call is Reason.ISSUER_UNAVAILABLE
    await door.tokens.close()


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
