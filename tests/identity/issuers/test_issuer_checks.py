"""An issuer asked now, and a token of it judged: the rows that an operator reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from gateway.access.issuers import Introspection, Issuer
from gateway.access.secret_text import SecretText
from gateway.identity.issuers import issuer_checks
from gateway.identity.issuers.issuer_checks import CheckedIssuer, IssuerChecks
from gateway.identity.issuers.jwk_set import SET_BYTES_MAX
from gateway.identity.issuers.verifier import IssuerVerifier
from tests.identity.issuers.provider import CLAIMS, Signer, document, issuer, signer
from tests.identity.issuers.test_fetching import Serve, loopback, serve
from tests.identity.keyring import START, HandClock

__all__ = ["serve"]

Row = tuple[str, bool | None, str]
KEY = signer("ES256")


class Server:
    """Answers each path with a document, and 404 where there is none."""

    def __init__(self) -> None:
        self.url = ""
        self.there: dict[str, bytes] = {}
        self.status = 404
        self.date = formatdate(START, usegmt=True)
        self.forms: list[str] = []
        self.hangs = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.forms.append(await request.text())
        if request.path == self.hangs:
            await asyncio.Event().wait()
        body = self.there.get(request.path)
        status = self.status if body is None else 200
        return web.Response(body=body or b"", status=status, headers={"Date": self.date})

    def publish(self, *keys: Any, **changed: Any) -> None:
        discovery = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **changed}
        self.there["/.well-known/openid-configuration"] = json.dumps(discovery).encode()
        self.there["/keys"] = document(*keys)

    def says(self, **answer: Any) -> None:
        """Of any token that it is asked about."""
        self.there["/introspect"] = json.dumps(answer).encode()

    def named(self, **changed: Any) -> Issuer:
        words = {"issuer": self.url, "algorithms": ("ES256",), **changed}
        return issuer(**words)

    def asked(self, **changed: Any) -> Issuer:
        endpoint = {"endpoint": f"{self.url}/introspect", **changed}
        return self.named(introspection=Introspection("gate", SecretText("s"), **endpoint))


@pytest.fixture
async def server(serve: Serve) -> Server:
    made = Server()
    made.url = f"http://localhost:{await serve(made.answer)}"
    made.publish(KEY)
    return made


Check = Callable[..., Awaitable[CheckedIssuer]]


@pytest.fixture
def check() -> Check:
    async def checked(
        issuer: Issuer, token: str | None = None, *, at: float = START
    ) -> CheckedIssuer:
        clock = HandClock(at)
        verifier = IssuerVerifier(issuer, max_life_s=3_600, now=clock.now)
        [one] = await IssuerChecks(loopback, clock).check([verifier], token)
        assert {row.issuer for row in one.rows} == {"company"}
        return one

    return checked


def rows(checked: CheckedIssuer) -> list[Row]:
    return [(row.check, row.good, row.detail) for row in checked.rows]


def after_the_key(checked: CheckedIssuer) -> list[Row]:
    """The rows of the token."""
    found = rows(checked)
    at = [check for check, _, _ in found].index("key k-1")
    return found[at + 1 :]


# Its keys


async def test_an_issuer_is_told_with_its_keys_and_its_clock(server: Server, check: Check) -> None:
    left_out = {"kty": "oct", "kid": "o", "k": "c2VjcmV0"}
    server.publish(KEY, signer("RS256", "r"), signer("EdDSA", "e"), left_out)
    checked = await check(server.named(algorithms=("RS256", "ES256")))
    assert not checked.is_away
    assert rows(checked) == [
        ("discovery", True, f"{server.url}/.well-known/openid-configuration"),
        ("keys", True, f"{server.url}/keys, to be kept for 300 s"),
        ("clock", True, "in step with ours"),
        ("key k-1", True, "EC P-256, for ES256"),
        ("key r", True, "RSA 2048, for RS256"),
        ("key e", None, "Ed25519, for no alg that is taken"),
        ("left out", None, "key o: it is a shared secret, and no token is judged by one"),
    ]


async def test_a_key_is_told_with_every_alg_that_it_may_be_used_with(
    server: Server, check: Check
) -> None:
    server.publish(signer("RS256").public(alg=...))
    checked = await check(server.named(algorithms=("RS256", "PS256")))
    assert rows(checked)[-1] == ("key k-1", True, "RSA 2048, for RS256, PS256")


async def test_where_the_configuration_says_where_the_keys_are_no_discovery_is_read(
    server: Server, check: Check
) -> None:
    del server.there["/.well-known/openid-configuration"]
    checked = await check(server.named(jwks_uri=f"{server.url}/keys"))
    assert [check for check, _, _ in rows(checked)] == ["keys", "clock", "key k-1"]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys"])
async def test_a_document_that_is_not_there_is_told_and_its_issuer_is_away(
    server: Server, check: Check, path: str
) -> None:
    del server.there[path]
    checked = await check(server.named())
    assert checked.is_away
    asked = "keys" if path == "/keys" else "discovery"
    assert rows(checked)[-1] == (asked, False, f"{server.url}{path} answered 404")


async def test_a_set_of_keys_is_read_to_its_limit(server: Server, check: Check) -> None:
    server.there["/keys"] = document(KEY).ljust(SET_BYTES_MAX)
    assert rows(await check(server.named()))[-1][0] == "key k-1"
    server.there["/keys"] += b" "
    told = f"{server.url}/keys answered more than {SET_BYTES_MAX // 1024} KiB"
    assert rows(await check(server.named()))[-1] == ("keys", False, told)


async def test_what_is_not_to_be_believed_is_told_and_its_issuer_is_there(
    server: Server, check: Check
) -> None:
    server.publish(KEY, KEY)
    checked = await check(server.named())
    assert not checked.is_away
    assert rows(checked)[1:] == [("keys", False, "the key set names two keys k-1")]
    server.publish(KEY, jwks_uri=None)
    checked = await check(server.named())
    assert not checked.is_away
    assert rows(checked)[1:] == [("keys", False, "the discovery names no jwks_uri")]
    server.publish(KEY, issuer="https://evil.example")
    checked = await check(server.named())
    assert not checked.is_away
    told = f"the discovery is of the issuer https://evil.example, not of {server.url}"
    assert rows(checked) == [("discovery", False, told)]


async def test_an_issuer_is_asked_by_the_authorities_that_are_configured(
    server: Server, check: Check
) -> None:
    url = server.url.replace("http://", "https://")
    told = "none holds no authorities that can be read: no such file or directory"
    checked = await check(server.named(jwks_uri=f"{url}/keys", ca="none"))
    assert rows(checked) == [("keys", False, told)]
    asked = server.asked(endpoint=f"{url}/introspect")
    checked = await check(issuer(issuer=server.url, introspection=asked.introspection, ca="none"))
    told = f"{url}/introspect could not be asked: no such file or directory"
    assert rows(checked) == [("introspection", False, told)]


@pytest.mark.parametrize(
    ("off_s", "good", "told"),
    [
        (0, True, "in step with ours"),
        (9, True, "in step with ours"),
        (-9, True, "in step with ours"),
        (
            10,
            False,
            "it is 10 s ahead of ours; 7 s are the most, and its new tokens are refused",
        ),
        (
            -10,
            False,
            "it is 10 s behind ours; 7 s are the most, and its tokens end too early here",
        ),
    ],
)
async def test_its_clock_may_be_off_by_the_leeway_and_what_an_answer_takes(
    server: Server, check: Check, off_s: int, good: bool, told: str
) -> None:
    checked = await check(server.named(leeway_s=7), at=START - off_s)
    assert rows(checked)[2] == ("clock", good, told)


async def test_an_answer_without_a_time_says_nothing_of_the_clock(
    server: Server, check: Check
) -> None:
    server.date = "tomorrow"
    checked = await check(server.named())
    assert [check for check, _, _ in rows(checked)] == ["discovery", "keys", "key k-1"]


# A signed token


def signed(server: Server, key: Signer = KEY, **claims: Any) -> str:
    return key.token(**{"iss": server.url, **claims})


async def test_a_good_token_is_told_with_whom_it_speaks_of(server: Server, check: Check) -> None:
    roles = {"roles": ["viewer", "editor", "a b", "c d"]}
    told = after_the_key(await check(server.named(), signed(server, realm_access=roles)))
    assert told[:2] == [("kid", True, "k-1"), ("signature", True, "ES256")]
    checks = ["typ", "use", "cnf", "claims.aud", "claims.sub", "sid", "jti", "roles", "email"]
    checks += ["iat", "nbf", "life", "exp"]
    assert told[2:15] == [(check, True, "") for check in checks]
    assert told[15:] == [
        ("user.id", None, "company:alice"),
        ("user.roles", None, "viewer, editor"),
        ("roles left out", None, "a b, c d"),
        ("user.email", None, "alice@example.com"),
        ("user.session_id", None, "company:s-1"),
        ("client", None, "company:shop"),
        ("user.scopes", None, "openid, orders:read"),
    ]


async def test_what_a_token_does_not_say_is_not_told(server: Server, check: Check) -> None:
    names = ("sid", "azp", "scope", "email", "realm_access")
    without: dict[str, Any] = dict.fromkeys(names, ...)
    told = after_the_key(await check(server.named(), signed(server, **without)))
    assert told[15:] == [("user.id", None, "company:alice"), ("user.roles", None, "none")]


async def test_a_token_for_resources_alone_is_told(server: Server) -> None:
    clock = HandClock()
    verifier = IssuerVerifier(
        server.named(),
        max_life_s=3_600,
        now=clock.now,
        resource_paths={"company": frozenset(("/orders",))},
    )
    token = signed(server, aud="https://api.example/orders")
    [checked] = await IssuerChecks(loopback, clock).check([verifier], token)
    assert rows(checked)[-1] == ("only for", None, "the resources that it names")


async def test_a_token_that_is_refused_is_told_with_what_is_wrong_alone(
    server: Server, check: Check
) -> None:
    told = after_the_key(await check(server.named(), signed(server, exp=START - 20)))
    assert told[-1] == ("exp", False, "it ended 20 s ago")
    assert [row for row in told if row[1] is not True] == told[-1:]


async def test_what_is_no_token_of_the_issuer_is_told_by_its_header(
    server: Server, check: Check
) -> None:
    told = "its header has no alg and kid, or brings a key or an extension"
    for token in (
        "a-text",
        signed(server, iss="https://other.example"),
        KEY.token(header={"jwk": KEY.public()}, iss=server.url),
    ):
        assert after_the_key(await check(server.named(), token)) == [("header", False, told)]


async def test_a_signature_of_another_key_is_told_with_the_algs_that_are_taken(
    server: Server, check: Check
) -> None:
    issuer = server.named(algorithms=("RS256", "ES256"))
    told = after_the_key(await check(issuer, signed(server, signer())))
    wrong = "it is none of this key with ES256; RS256 or ES256 would be right"
    assert told[:2] == [("kid", True, "k-1"), ("signature", False, wrong)]
    assert told[2:4] == [("typ", True, ""), ("use", True, "")]
    told = after_the_key(await check(issuer, signed(server, signer(kid="other"))))
    wrong = "it is other; the issuer publishes no such key"
    assert told[:2] == [("kid", False, wrong), ("typ", True, "")]


async def test_without_keys_no_signature_is_judged_and_the_claims_are(
    server: Server, check: Check
) -> None:
    del server.there["/keys"]
    told = rows(await check(server.named(), signed(server)))
    why = "not judged: the keys of the issuer are not there"
    assert told[2:4] == [("signature", None, why), ("typ", True, "")]


# An issuer that is asked about its tokens


async def test_without_a_token_an_issuer_is_asked_about_one_that_nobody_has(
    server: Server, check: Check
) -> None:
    server.says(active=False)
    checked = await check(server.asked())
    assert rows(checked) == [("introspection", True, "it answers client_id gate")]
    assert server.forms == ["token=a.token.of.nobody&token_type_hint=access_token"]


async def test_an_issuer_is_asked_about_the_token_and_its_answer_is_judged(
    server: Server, check: Check
) -> None:
    active = {**CLAIMS, "active": True, "token_type": "Bearer", "iss": server.url}
    answers = ("introspection", True, "it answers client_id gate")
    server.says(**active)
    told = rows(await check(server.asked(), "opaque"))
    assert server.forms == ["token=opaque&token_type_hint=access_token"]
    assert told[:3] == [answers, ("active", True, ""), ("token_type", True, "")]
    assert ("user.id", None, "company:alice") in told
    for absent in ("iss", "jti"):
        server.says(**{name: value for name, value in active.items() if name != absent})
        told = rows(await check(server.asked(), "opaque"))
        assert ("user.id", None, "company:alice") in told
    server.says(**{**active, "iss": "https://other.example"})
    wrong = f"it is https://other.example; {server.url} would be right"
    told = rows(await check(server.asked(), "opaque"))
    assert told == [answers, ("active", True, ""), ("iss", False, wrong)]
    for value in (False, None, "true", 1):
        server.says(**{**active, "active": value, "iss": "https://other.example"})
        told = rows(await check(server.asked(), "opaque"))
        assert told == [answers, ("active", False, "the issuer says that it is not")]


@pytest.mark.parametrize(
    ("status", "answer", "is_away", "told"),
    [
        (401, None, False, "{url} answered 401, to client_id gate"),
        (503, None, True, "{url} answered 503"),
        (200, b"[]", False, "its answer is no JSON object"),
    ],
)
async def test_a_question_that_is_not_answered_is_told(
    server: Server, check: Check, status: int, answer: bytes | None, is_away: bool, told: str
) -> None:
    server.status = status
    if answer is not None:
        server.there["/introspect"] = answer
    checked = await check(server.asked())
    told = told.format(url=f"{server.url}/introspect")
    assert rows(checked) == [("introspection", False, told)]
    assert checked.is_away is is_away


async def test_an_issuer_that_names_no_endpoint_cannot_be_asked(
    server: Server, check: Check
) -> None:
    checked = await check(server.asked(endpoint=None))
    told = "the discovery names no introspection_endpoint"
    assert (rows(checked), checked.is_away) == ([("introspection", False, told)], False)
    server.publish(introspection_endpoint=f"{server.url}/introspect")
    server.says(active=False)
    told = "it answers client_id gate"
    assert rows(await check(server.asked(endpoint=None))) == [("introspection", True, told)]


async def test_a_question_costs_as_much_time_as_for_a_call(
    server: Server, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_checks, "ASK_WAIT_S", 0.2)
    server.hangs = "/introspect"
    told = f"{server.url}/introspect did not answer within 0.2 s"
    checked = await check(server.asked())
    assert (rows(checked), checked.is_away) == ([("introspection", False, told)], True)


# Many of them


async def test_issuers_are_told_in_their_order_and_of_none_nothing(server: Server) -> None:
    clock = HandClock()
    checks = IssuerChecks(loopback, clock)
    assert await checks.check([]) == []
    verifiers = [
        IssuerVerifier(issuer(name, issuer=server.url), max_life_s=60, now=clock.now)
        for name in ("b", "a", "c")
    ]
    told = await checks.check(verifiers)
    assert [one.verifier for one in told] == verifiers
    assert [{row.issuer for row in one.rows} for one in told] == [{"b"}, {"a"}, {"c"}]


async def test_a_defect_is_raised_and_no_question_goes_on(server: Server) -> None:
    ended: list[str] = []

    async def addresses(host: str, port: int) -> list[str]:
        del port
        if host == "broken.example":
            raise ZeroDivisionError
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(host)
        return []

    clock = HandClock()
    verifiers = [
        IssuerVerifier(issuer(issuer=f"https://{host}"), max_life_s=60, now=clock.now)
        for host in ("slow.example", "broken.example")
    ]
    with pytest.raises(ZeroDivisionError):
        await IssuerChecks(addresses, clock).check(verifiers, within_s=0.5)
    assert ended == ["slow.example"]
