"""What counts of what a call presents, at a started gateway of two workers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.running import ROUTES, Answer, Running, started

PASSWORD = "correct horse 7 battery"
SAME = ("Sec-Fetch-Site", "same-origin")
BASIC = "Basic " + base64.b64encode(b"app:password").decode()
FOREIGN = [
    "token 0123456789abcdef",
    BASIC,
    "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=00",
    "Digest username=x",
    "abc",
    "",
]
MORE = """\
  - id: app
    match: {{path: /app}}
    policy: signed-in
    accept: [cookie]
    forward_authorization: true
    upstream: echo
  - id: page
    match: {{path: /page}}
    policy: signed-in
    accept: [cookie]
    upstream: echo
"""


@dataclass
class Visitor:
    """Sends the cookie as a browser does."""

    gateway: Running
    cookie: str
    tokens: dict[str, Any]

    def call(self, method: str, path: str, *fields: tuple[str, str], **more: Any) -> Answer:
        return self.gateway.call(
            method, path, ("Cookie", f"__Host-session={self.cookie}"), *fields, **more
        )

    def decide(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
        return self.gateway.admin(
            "/decide/nginx",
            ("Cookie", f"__Host-session={self.cookie}"),
            ("X-Original-Method", method),
            ("X-Original-URI", path),
            ("X-Original-Host", f"127.0.0.1:{self.gateway.port}"),
            ("X-Original-Proto", "http"),
            ("X-Original-IP", "127.0.0.1"),
            *fields,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    trusted = "version: 1\ndecision_api: {{trusted_peers: [127.0.0.1/32]}}\n"
    routes = ROUTES.replace("version: 1\n", trusted, 1) + MORE
    with started(tmp_path_factory.mktemp("keys") / "g", "--workers", "2", routes=routes) as running:
        yield running


@pytest.fixture
def visitor(site: Running) -> Visitor:
    tokens = site.sign_in("visitor@example.com")
    body = {"email": "visitor@example.com", "password": PASSWORD, "transport": "cookie"}
    answer = site.call("POST", "/auth/login", json_body=body)
    (line,) = [v for v in answer.all("set-cookie") if v.startswith("__Host-session=")]
    return Visitor(site, line.split(";")[0].partition("=")[2], tokens)


def received(answer: Answer, name: str) -> list[str]:
    return [value for key, value in answer.json["fields"] if key.lower() == name]


@pytest.mark.parametrize("authorization", FOREIGN)
def test_an_authorization_of_the_applications_own_goes_on_and_the_cookie_counts(
    visitor: Visitor, authorization: str
) -> None:
    field = ("Authorization", authorization)
    for path in ("/app", "/forward"):
        answer = visitor.call("POST", path, SAME, field)
        assert answer.status == 200, answer
        assert received(answer, "authorization") == [authorization]
        assert received(answer, "x-auth-email") == ["visitor@example.com"]
        assert received(answer, "cookie") == []
    for path in ("/page", "/me"):
        answer = visitor.call("GET", path, SAME, field)
        assert answer.status == 200
        assert received(answer, "authorization") == []
    decided = visitor.decide("/app", SAME, field)
    assert decided.status == 200
    assert (decided.all("authorization"), decided.all("cookie")) == ([authorization], [])
    assert decided.get("x-auth-email") == "visitor@example.com"


def test_a_bearer_counts_only_where_the_route_takes_it(visitor: Visitor) -> None:
    theirs = ("Authorization", "Bearer theirs")
    answer = visitor.call("GET", "/app", SAME, theirs)
    assert (answer.status, received(answer, "authorization")) == (200, ["Bearer theirs"])
    refused = visitor.call("GET", "/me", SAME, theirs)
    assert (refused.status, refused.reason) == (401, "token_malformed")
    unreadable = visitor.call("GET", "/me", SAME, ("Authorization", "Bearer"))
    assert (unreadable.status, unreadable.reason) == (401, "token_malformed")
    assert visitor.decide("/me", SAME, theirs).status == 401
    assert visitor.decide("/app", SAME, theirs).status == 200


@pytest.mark.parametrize("authorization", ["token x", BASIC, "Bearer theirs"])
def test_a_cookie_beside_it_still_needs_proof_of_intent(
    visitor: Visitor, authorization: str
) -> None:
    """What a page of another origin could do: send an `Authorization` of its own, so that the
    victim's cookie counts without being asked where it comes from."""
    field, foreign = ("Authorization", authorization), ("Sec-Fetch-Site", "cross-site")
    for path in ("/app", "/page"):
        answer = visitor.call("POST", path, foreign, field)
        assert (answer.status, answer.reason) == (403, "cross_origin")
        answer = visitor.call("POST", path, field)
        assert (answer.status, answer.reason) == (403, "csrf_invalid")
        answer = visitor.call("GET", path, foreign, field)
        assert (answer.status, answer.reason) == (401, "no_credential")
    assert visitor.decide("/app", foreign, field, method="POST").get("authgate-status") == "403"


def test_without_a_cookie_a_foreign_authorization_is_no_credential(site: Running) -> None:
    for authorization in FOREIGN:
        answer = site.call("GET", "/me", ("Authorization", authorization))
        assert (answer.status, answer.reason) == (401, "no_credential")
        assert answer.get("www-authenticate") == 'Bearer realm="authgate"'
        assert site.call("GET", "/maybe", ("Authorization", authorization)).status == 200


def test_the_gateways_own_endpoints_choose_alike(visitor: Visitor) -> None:
    for authorization in FOREIGN:
        answer = visitor.call("GET", "/auth/me", SAME, ("Authorization", authorization))
        assert answer.status == 200
        answer = visitor.call(
            "DELETE", "/auth/sessions/x", ("Authorization", authorization),
            ("Sec-Fetch-Site", "cross-site"),
        )  # fmt: skip
        assert (answer.status, answer.reason) == (403, "cross_origin")
    bearer = str(visitor.tokens["access_token"])
    answer = visitor.call("GET", "/auth/me", token=bearer)
    assert answer.json["session_id"] is not None
    # The cookie alone is asked for there, and the token beside it counts.
    assert visitor.call("GET", "/auth/csrf", SAME, token=bearer).reason == "no_credential"


def test_two_session_cookies_beside_it_are_refused_where_the_cookie_counts(
    visitor: Visitor,
) -> None:
    second = ("Cookie", "__Host-session=other")
    answer = visitor.call("GET", "/app", SAME, second, ("Authorization", "token x"))
    assert (answer.status, answer.reason) == (400, "ambiguous_header")
    bearer = str(visitor.tokens["access_token"])
    answer = visitor.call("GET", "/app", SAME, second, token=bearer)
    assert (answer.status, answer.reason) == (400, "ambiguous_header")
    assert visitor.call("GET", "/me", SAME, second, token=bearer).status == 200
