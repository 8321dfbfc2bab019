"""What counts of what a call presents, at a started gateway of two workers."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import ROUTES, Running, started

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
  - id: wiki
    match: {{path: /wiki}}
    policy: signed-in
    accept: [cookie]
    forward_authorization: true
    upstream: echo
  - id: packages
    match: {{path: "/packages/{{rest:path}}"}}
    policy: signed-in
    accept: [bearer, cookie, basic]
    challenge: basic
    realm: 'Packages of "Acme"'
    upstream: echo
  - id: kept-packages
    match: {{path: /kept}}
    policy: signed-in
    accept: [api_key, basic]
    forward_authorization: true
    upstream: echo
  - id: held
    match: {{path: "/held/{{user_id}}"}}
    policy: orders
    action: orders:read
    resource: {{owner: "{{user_id}}"}}
    accept: [basic]
    upstream: echo
  - id: narrow
    match: {{path: /narrow}}
    policy: signed-in
    upstream: narrow
  - id: page
    match: {{path: /page}}
    policy: signed-in
    accept: [cookie]
    upstream: echo
"""


NARROW = """\
  narrow:
    targets: ["http://127.0.0.1:{port}"]
    max_connections: 1
    queue: 100
    timeout: {{connect: 30s, response: 30s, idle: 30s}}
limits:
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
    routes = ROUTES.replace("version: 1\n", trusted, 1).replace("limits:\n", NARROW, 1) + MORE
    with started(tmp_path_factory.mktemp("keys") / "g", "--workers", "2", routes=routes) as running:
        yield running


@pytest.fixture
def visitor(site: Running) -> Visitor:
    tokens = site.sign_in("visitor@example.com")
    body = {"email": "visitor@example.com", "password": PASSWORD, "transport": "cookie"}
    answer = site.call("POST", "/auth/login", json_body=body)
    (line,) = [v for v in answer.all("set-cookie") if v.startswith("__Host-session=")]
    return Visitor(site, line.split(";")[0].partition("=")[2], tokens)


def basic(user: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def machine_key(site: Running) -> str:
    assert site.cli("clients", "create", "ci").returncode == 0
    return str(json.loads(site.cli("clients", "key", "ci", "--json").stdout)["api_key"])


def received(answer: Answer, name: str) -> list[str]:
    return [value for key, value in answer.json["fields"] if key.lower() == name]


@pytest.mark.parametrize("authorization", FOREIGN)
def test_an_authorization_of_the_applications_own_goes_on_and_the_cookie_counts(
    visitor: Visitor, authorization: str
) -> None:
    field = ("Authorization", authorization)
    for path in ("/wiki", "/forward"):
        answer = visitor.call("POST", path, SAME, field)
        assert answer.status == 200, answer
        assert received(answer, "authorization") == [authorization]
        assert received(answer, "x-auth-email") == ["visitor@example.com"]
        assert received(answer, "cookie") == []
    for path in ("/page", "/me"):
        answer = visitor.call("GET", path, SAME, field)
        assert answer.status == 200
        assert received(answer, "authorization") == []
    decided = visitor.decide("/wiki", SAME, field)
    assert decided.status == 200
    assert (decided.all("authorization"), decided.all("cookie")) == ([authorization], [])
    assert decided.get("x-auth-email") == "visitor@example.com"


def test_a_bearer_counts_only_where_the_route_takes_it(visitor: Visitor) -> None:
    theirs = ("Authorization", "Bearer theirs")
    answer = visitor.call("GET", "/wiki", SAME, theirs)
    assert (answer.status, received(answer, "authorization")) == (200, ["Bearer theirs"])
    refused = visitor.call("GET", "/me", SAME, theirs)
    assert (refused.status, refused.reason) == (401, "token_malformed")
    unreadable = visitor.call("GET", "/me", SAME, ("Authorization", "Bearer"))
    assert (unreadable.status, unreadable.reason) == (401, "token_malformed")
    assert visitor.decide("/me", SAME, theirs).status == 401
    assert visitor.decide("/wiki", SAME, theirs).status == 200


@pytest.mark.parametrize("authorization", ["token x", BASIC, "Bearer theirs"])
def test_a_cookie_beside_it_still_needs_proof_of_intent(
    visitor: Visitor, authorization: str
) -> None:
    """What a page of another origin could do: send an `Authorization` of its own, so that the
    victim's cookie counts without being asked where it comes from."""
    field, foreign = ("Authorization", authorization), ("Sec-Fetch-Site", "cross-site")
    for path in ("/wiki", "/page"):
        answer = visitor.call("POST", path, foreign, field)
        assert (answer.status, answer.reason) == (403, "cross_origin")
        answer = visitor.call("POST", path, field)
        assert (answer.status, answer.reason) == (403, "csrf_invalid")
        answer = visitor.call("GET", path, foreign, field)
        assert (answer.status, answer.reason) == (401, "no_credential")
    assert visitor.decide("/wiki", foreign, field, method="POST").get("authgate-status") == "403"


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
    answer = visitor.call("GET", "/wiki", SAME, second, ("Authorization", "token x"))
    assert (answer.status, answer.reason) == (400, "ambiguous_header")
    bearer = str(visitor.tokens["access_token"])
    answer = visitor.call("GET", "/wiki", SAME, second, token=bearer)
    assert (answer.status, answer.reason) == (400, "ambiguous_header")
    assert visitor.call("GET", "/me", SAME, second, token=bearer).status == 200


CHALLENGE = r'Basic realm="Packages of \"Acme\"", charset="UTF-8"'


def test_a_key_comes_as_the_password_of_any_user(site: Running, machine_key: str) -> None:
    for user in ("", "ci", "übel", "x" * 4_000):
        answer = site.call("PUT", "/packages/a", basic(user, machine_key), body=b"x")
        assert answer.status == 200, answer
        assert received(answer, "authorization") == []
        assert received(answer, "x-auth-user-id")[0].startswith("client-")
    # A name cannot hold a colon: what follows the first one is the password, and no key.
    answer = site.call("PUT", "/packages/a", basic("a:b", machine_key), body=b"x")
    assert (answer.status, answer.reason) == (401, "token_malformed")
    kept = site.call("GET", "/kept", basic("ci", machine_key))
    assert received(kept, "authorization") == [basic("ci", machine_key)[1]]
    # Where the route does not take it, it is the application's own.
    assert site.call("GET", "/me", basic("ci", machine_key)).reason == "no_credential"


def test_a_401_asks_for_a_key_in_the_routes_own_words(site: Running, visitor: Visitor) -> None:
    answer = site.call("GET", "/packages/a")
    assert (answer.status, answer.get("www-authenticate")) == (401, CHALLENGE)
    answer = site.call("GET", "/packages/a", basic("ci", "ag_" + "0" * 49))
    assert (answer.reason, answer.get("www-authenticate")) == ("token_malformed", CHALLENGE)
    asked = visitor.decide("/packages/a", ("Sec-Fetch-Site", "cross-site"))
    assert (asked.status, asked.get("www-authenticate")) == (401, CHALLENGE)


@pytest.mark.parametrize(
    "token",
    ["", "=", "YTpi=", "YTpi YTpi", "ég", base64.b64encode(b"no colon").decode(),
     base64.b64encode(b"\xff:x").decode(), base64.b64encode(b"a\nb:c").decode(), "YTpi" * 2_049],
)  # fmt: skip
def test_basic_that_cannot_be_read_is_refused(site: Running, token: str) -> None:
    answer = site.call("GET", "/packages/a", ("Authorization", f"Basic {token}"))
    assert (answer.status, answer.reason) == (401, "token_malformed")


def test_a_page_of_another_origin_cannot_use_what_the_browser_remembers(
    site: Running, machine_key: str
) -> None:
    foreign = ("Sec-Fetch-Site", "cross-site")
    answer = site.call("POST", "/packages/a", basic("ci", machine_key), foreign)
    assert (answer.status, answer.reason) == (403, "cross_origin")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl_is_asked_and_answers(site: Running, machine_key: str) -> None:
    """It sends nothing until the challenge names Basic (`--anyauth`)."""
    url = f"http://127.0.0.1:{site.port}/packages/a"
    done = subprocess.run(
        ["curl", "-s", "--anyauth", "-u", f"ci:{machine_key}", url],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["target"] == "/packages/a"


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
def test_git_asks_its_helper_for_the_key(site: Running, machine_key: str, tmp_path: Path) -> None:
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\necho username=ci\necho password={machine_key}\n")
    helper.chmod(0o700)
    site.echo.seen.clear()
    subprocess.run(
        ["git", "-c", f"credential.helper={helper}", "ls-remote",
         f"http://127.0.0.1:{site.port}/packages/repo.git"],
        capture_output=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_TERMINAL_PROMPT": "0"},
    )  # fmt: skip
    first = site.echo.seen[0]
    assert first["target"] == "/packages/repo.git/info/refs?service=git-upload-pack"


# --- personal keys ---


KEY = "agp_" + "0" * 49
"""Its checksum is wrong."""


def personal_key(visitor: Visitor, **limits: Any) -> dict[str, Any]:
    made = visitor.gateway.call(
        "POST", "/auth/keys", token=str(visitor.tokens["access_token"]),
        json_body={"name": "laptop", **limits},
    )  # fmt: skip
    assert made.status == 201, made
    return dict(made.json)


def ended(visitor: Visitor, key_id: str) -> None:
    """204, repeated where a machine this busy could not confirm it in time."""
    path, token = f"/auth/keys/{key_id}", str(visitor.tokens["access_token"])
    deadline = time.monotonic() + 60
    while (done := visitor.gateway.call("DELETE", path, token=token)).status == 503:
        assert time.monotonic() < deadline
    assert done.status == 204, done


def test_a_personal_key_calls_as_its_person_within_its_limits(visitor: Visitor) -> None:
    site = visitor.gateway
    made = personal_key(visitor, routes=["packages", "me"])
    as_person = site.call("GET", "/me", token=made["api_key"])
    assert as_person.status == 200
    assert received(as_person, "x-auth-email") == ["visitor@example.com"]
    assert received(as_person, "x-auth-user-id") == [visitor.tokens["user"]["user_id"]]
    assert received(as_person, "x-auth-session-id") == []
    native = site.call("GET", "/packages/a", basic("visitor", made["api_key"]))
    assert received(native, "x-auth-email") == ["visitor@example.com"]
    for field in (basic("visitor", made["api_key"]), ("Authorization", f"Bearer {KEY}")):
        decided = Visitor(site, "", {}).decide("/packages/a", field)
        accepted = field[1].startswith("Basic")
        assert decided.status == (200 if accepted else 401), decided
        assert decided.get("x-auth-email") == ("visitor@example.com" if accepted else None)
        assert decided.all("authorization") == []
    elsewhere = site.call("GET", "/forward", token=made["api_key"])
    assert (elsewhere.status, elsewhere.reason) == (403, "no_rule")

    reads = personal_key(visitor, scopes=["orders:read"])["api_key"]
    own = f"/v1/users/{visitor.tokens['user']['user_id']}/orders/7"
    assert site.call("GET", own, token=reads).status == 200
    assert site.call("GET", "/me", token=reads).reason == "no_rule"
    assert site.call("GET", "/v1/users/x/orders/7", token=reads).reason == "no_rule"


def test_a_role_change_and_the_end_of_the_account_hold_for_its_keys(site: Running) -> None:
    tokens = site.sign_in("leaver@example.com")
    leaver = Visitor(site, "", tokens)
    key = str(personal_key(leaver)["api_key"])
    others = "/v1/users/x/orders/7"
    assert site.call("GET", others, token=key).status == 403
    assert site.confirmed("roles", "grant", "leaver@example.com", "viewer").returncode == 0
    answers = [site.call("GET", others, token=key) for _ in range(12)]
    assert {answer.status for answer in answers} == {200}
    assert received(answers[0], "x-auth-roles") == ["viewer"]
    assert site.confirmed("roles", "revoke", "leaver@example.com", "viewer").returncode == 0
    assert {site.call("GET", others, token=key).status for _ in range(12)} == {403}
    assert site.confirmed("users", "disable", "leaver@example.com").returncode == 0
    refused = [site.call("GET", "/me", token=key) for _ in range(12)]
    assert {(one.status, one.reason) for one in refused} == {(401, "token_revoked")}
    assert site.cli("users", "enable", "leaver@example.com").returncode == 0
    assert {site.call("GET", "/me", token=key).status for _ in range(12)} == {401}


def test_a_role_that_takes_away_takes_from_keys_that_do_not_have_it(site: Running) -> None:
    """Also from those that are made while the account has it."""
    email, path = "suspended@example.com", "/v1/users/x/orders/7"
    person = Visitor(site, "", site.sign_in(email))
    assert site.confirmed("roles", "grant", email, "manager").returncode == 0
    person.tokens = site.sign_in(email)
    limits: tuple[dict[str, Any], ...] = ({}, {"roles": ["manager"]}, {"roles": []})
    keys = [str(personal_key(person, **limit)["api_key"]) for limit in limits]
    answers = [site.call("GET", path, token=key) for key in keys]
    assert [one.status for one in answers] == [200, 200, 403]
    assert received(answers[1], "x-auth-roles") == ["manager"]
    assert site.confirmed("roles", "grant", email, "suspended").returncode == 0
    person.tokens = site.sign_in(email)
    keys += [str(personal_key(person, **limit)["api_key"]) for limit in limits]
    own = f"/v1/users/{person.tokens['user']['user_id']}/orders/7"
    native = f"/held/{person.tokens['user']['user_id']}"
    for key in keys:
        for to, field in ((own, ("Authorization", f"Bearer {key}")), (native, basic("x", key))):
            decided = Visitor(site, "", {}).decide(to, field)
            assert decided.status == 403, decided
            assert site.call("GET", to, field).reason == "account_suspended"
        refused = [site.call("GET", own, token=key) for _ in range(4)]
        assert {(one.status, one.reason) for one in refused} == {(403, "account_suspended")}
    assert site.confirmed("roles", "revoke", email, "suspended").returncode == 0
    assert {site.call("GET", own, token=key).status for key in keys for _ in range(4)} == {200}


def test_a_role_that_takes_away_takes_from_the_keys_of_a_client(site: Running) -> None:
    made = ("clients", "create", "held", "--role", "viewer", "--role", "suspended")
    assert site.cli(*made).returncode == 0
    for limit in ((), ("--role", "viewer")):
        key = json.loads(site.cli("clients", "key", "held", *limit, "--json").stdout)["api_key"]
        refused = site.call("GET", "/v1/users/x/orders/7", token=key)
        assert (refused.status, refused.reason) == (403, "account_suspended")
        decided = Visitor(site, "", {}).decide(
            "/v1/users/x/orders/7", ("Authorization", f"Bearer {key}")
        )
        assert decided.status == 403


def test_after_the_204_no_worker_accepts_the_key(visitor: Visitor) -> None:
    """Calls go on all the while, so that both workers remember the key when it ends."""
    site, made = visitor.gateway, personal_key(visitor)
    key, told = str(made["api_key"]), threading.Event()
    begun_after: list[int] = []

    def calls() -> None:
        for _ in range(200):
            after = told.is_set()
            status = site.call("GET", "/me", token=key).status
            if after:
                begun_after.append(status)
                if len(begun_after) > 60:
                    return

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    ended(visitor, made["key_id"])
    told.set()
    for thread in threads:
        thread.join(60)
    begun_after += [site.call("GET", "/me", token=key).status for _ in range(20)]
    assert set(begun_after) == {401}


@pytest.mark.parametrize("ends", ["key", "person"])
def test_a_call_on_its_way_is_judged_again_before_its_first_byte_goes_out(
    visitor: Visitor, ends: str
) -> None:
    """Its key ends, or its person is disabled, while it waits for the one connection to the
    backend."""
    site, email = visitor.gateway, f"{ends}@example.com"
    owner = Visitor(site, "", site.sign_in(email))
    made = personal_key(owner)
    token = str(visitor.tokens["access_token"])
    holding = []
    for _ in range(45):  # of both workers: so many go to one of them once in 2^45 times
        sock = socket.create_connection(("127.0.0.1", site.port), timeout=60)
        sock.sendall(
            f"POST /narrow HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: 2\r\n\r\na".encode()
        )
        holding.append(sock)
    site.echo.seen.clear()
    waiting = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    waiting.sendall(
        f"GET /narrow?waiting HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
        f"Authorization: Bearer {made['api_key']}\r\nConnection: close\r\n\r\n".encode()
    )
    for _ in range(10):  # by then it waits; were it not read yet, it would be refused all the same
        assert site.call("GET", "/me", token=str(made["api_key"])).status == 200
    if ends == "key":
        ended(owner, made["key_id"])
    else:
        assert site.confirmed("users", "disable", email).returncode == 0
    for sock in holding:
        sock.sendall(b"b")
    answer = read_answer(waiting.makefile("rb"), "GET")
    assert (answer.status, answer.reason) == (401, "token_revoked")
    assert all("waiting" not in one["target"] for one in site.echo.seen)
    for sock in (*holding, waiting):
        sock.close()
