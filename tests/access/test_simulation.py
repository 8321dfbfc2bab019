"""A request as a person writes it becomes the call that the edge would have read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    NoLimits,
    SimulatedRequest,
    person,
    run_sync,
    simulate,
    simulated_call,
)
from gateway.model import Call, Credential, CredentialKind, Principal, Reason
from tests.access.worlds import NOW, snapshot, who

BEARER = Credential(CredentialKind.BEARER, "")
WORLD = snapshot(
    "- {id: a, match: {path: /a}, auth: public, limits: [per-user], upstream: api}",
)


def call(**more: Any) -> Call:
    """`GET /a` at localhost, but for `more`."""
    host = more.pop("field", more.get("host", "localhost")).encode("latin-1", "replace")
    fields: dict[str, Any] = {
        "method": "GET", "host": "localhost", "path": "/a", "segments": ("a",), "query": "",
        "headers": ((b"Host", host),), "client_ip": "127.0.0.1", "scheme": "http",
    }  # fmt: skip
    return Call(**(fields | more))


@pytest.mark.parametrize(
    ("request_", "read"),
    [
        (SimulatedRequest("GET", "/a"), call()),
        (SimulatedRequest("get", "/a"), call()),
        (SimulatedRequest("GET", "/a?b=http://c"), call(query="b=http://c")),
        (
            SimulatedRequest("GET", "http://h.example/a?b=http://c"),
            call(host="h.example", query="b=http://c"),
        ),
        (
            SimulatedRequest("GET", "HTTPS://H.example./a?b"),
            call(scheme="https", host="h.example", field="H.example.", query="b"),
        ),
        (
            SimulatedRequest("GET", "http://h.example:8080"),
            call(path="/", segments=("",), host="h.example", field="h.example:8080"),
        ),
        (
            SimulatedRequest("GET", "http://h.example:/a"),
            call(host="h.example", field="h.example:"),
        ),
        (SimulatedRequest("GET", "http://[::1]/a"), call(host="[::1]")),
        (SimulatedRequest("GET", "http://[::1]:80/a"), call(host="[::1]", field="[::1]:80")),
        (
            SimulatedRequest("GET", "http://h.example/a:/b"),
            call(path="/a:/b", segments=("a:", "b"), host="h.example"),
        ),
        (
            SimulatedRequest("GET", "http://h.example/a", headers=[("X-A", "é"), ("hOST", "I")]),
            call(host="i", headers=((b"X-A", "é".encode()), (b"hOST", b"I"))),
        ),
        (
            SimulatedRequest("GET", "/a", headers=[("X-☃", "1")]),
            call(headers=((b"Host", b"localhost"), (b"X-?", b"1"))),
        ),
        (SimulatedRequest("GET", "/é"), call(path="/é".encode().decode("latin-1"),
                                             segments=("é",))),
        (
            SimulatedRequest("POST", "/a%2Fb", client_ip="10.0.0.1", body={"x": 1}),
            call(method="POST", path="/a%2Fb", segments=("a/b",), client_ip="10.0.0.1",
                 body={"x": 1}, encoded_slash=True,
                 headers=((b"Host", b"localhost"), (b"Transfer-Encoding", b"chunked"))),
        ),
        (
            SimulatedRequest("POST", "/a", headers=[("content-length", "9")], body={"x": 1}),
            call(method="POST", body={"x": 1},
                 headers=((b"Host", b"localhost"), (b"content-length", b"9"))),
        ),
        (
            SimulatedRequest("GET", "/a;b"),
            call(path="/a;b", segments=("a;b",), files_only=True),
        ),
        (SimulatedRequest("GET", "/a", who()), call(credential=BEARER)),
        (
            SimulatedRequest("GET", "/a", who(), kind=CredentialKind.COOKIE),
            call(credential=Credential(CredentialKind.COOKIE, "")),
        ),
        (
            SimulatedRequest("GET", "/a", Reason.TOKEN_EXPIRED, kind=CredentialKind.COOKIE),
            call(credential=BEARER),
        ),
        (SimulatedRequest("GET", "/a", Reason.NO_CREDENTIAL), call()),
    ],
)  # fmt: skip
def test_a_call_is_read_as_it_is_written(request_: SimulatedRequest, read: Call) -> None:
    assert simulated_call(request_) == read


@pytest.mark.parametrize(
    ("method", "url", "reason"),
    [
        ("CONNECT", "/a", Reason.METHOD_NOT_ALLOWED),
        ("trace", "/a", Reason.METHOD_NOT_ALLOWED),
        ("GET", "/a/../b", Reason.AMBIGUOUS_PATH),
    ],
)
def test_what_the_edge_would_refuse_is_refused(method: str, url: str, reason: Reason) -> None:
    request = SimulatedRequest(method, url)
    assert simulated_call(request) is reason
    answer = simulate(request, WORLD)
    assert answer.call is None
    assert answer.decision == Decision(False, reason, reason)


@pytest.mark.parametrize(
    ("host", "read"),
    [
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[::0001]:80", "[::1]"),
        ("API.example.:8080", "api.example"),
        ("a..", None),
        ("h.example:x", None),
        ("☃.example", None),
        (".x", None),
        ("x@y", None),
        ("x:0", None),
        ("x:99999", None),
        ("[::1].", None),
    ],
)
def test_a_host_is_read_as_the_edge_reads_it(host: str, read: str | None) -> None:
    call = simulated_call(SimulatedRequest("GET", "/a", headers=(("Host", host),)))
    assert (None if isinstance(call, Reason) else call.host) == read
    assert read is not None or call is Reason.REQUEST_MALFORMED


def test_no_limit_applies() -> None:
    answer = simulate(SimulatedRequest("GET", "/a"), WORLD)
    assert answer.decision.allowed
    assert answer.decision.limit is not None
    assert (answer.decision.limit.wait_s, answer.decision.limit.limits) == (0.0, ())


def test_a_page_of_the_public_url_may_send_the_cookie() -> None:
    needed = snapshot("- {id: a, match: {path: /a}, policy: signed-in, upstream: api}")
    for public_url, refusal in (("https://own.example", None), ("", Reason.CROSS_ORIGIN)):
        request = SimulatedRequest(
            "POST",
            "/a",
            who(),
            [("Origin", "https://own.example")],
            kind=CredentialKind.COOKIE,
        )
        decision = simulate(request, replace(needed, public_url=public_url)).decision
        assert decision.refusal is refusal


def test_a_person_is_signed_in_now_for_a_year() -> None:
    assert person("u1", now=NOW + 0.5) == Principal(
        subject="u1", roles=(), session_id="session", token_id="made-up", client_id=None,
        kid="made-up", issued_at=int(NOW), expires_at=int(NOW) + 366 * 86_400,
        auth_time=int(NOW), amr=("pwd",),
    )  # fmt: skip
    assert person(
        "u2", ["a", "b"], now=NOW, email="e", email_verified=True, session_id="s", client_id="c",
        auth_time=NOW - 9.5, amr=["otp"], scopes=["x"], claims={"y": 1},
    ) == Principal(
        subject="u2", roles=("a", "b"), session_id="s", token_id="made-up", client_id="c",
        kid="made-up", issued_at=int(NOW), expires_at=int(NOW) + 366 * 86_400, email="e",
        email_verified=True, auth_time=int(NOW - 9.5), amr=("otp",), scopes=("x",),
        claims={"y": 1},
    )  # fmt: skip


def test_a_clock_that_stands_says_one_time() -> None:
    assert (FixedClock(NOW).now(), FixedClock(NOW).steady()) == (NOW, NOW)


async def test_the_caller_is_known_by_a_credential_of_a_kind_that_is_taken() -> None:
    key = call(credential=Credential(CredentialKind.API_KEY, ""))
    caller = who("u1")
    known = FixedAuthenticator(caller)
    takes_keys, takes_none = frozenset((CredentialKind.API_KEY,)), frozenset[CredentialKind]()
    assert await known.authenticate(key, takes_keys) is caller
    assert await known.authenticate(key, takes_none) is Reason.NO_CREDENTIAL
    assert await known.authenticate(call(), takes_none) is caller
    others = frozenset(("company",))
    assert await known.authenticate(key, takes_keys, others) is Reason.TOKEN_CLAIMS_INVALID


def test_a_decision_that_waits_for_something_is_no_simulation() -> None:
    class Waiting:
        def __await__(self) -> Any:
            yield

    class Slow(FixedAuthenticator):
        async def authenticate(self, *given: Any, **more: Any) -> Principal | Reason:
            await Waiting()
            return self.caller

    gate = Authorizer(Slow(who()), NoLimits(), clock=FixedClock(NOW))
    needed = snapshot("- {id: a, match: {path: /a}, policy: signed-in, upstream: api}")
    with pytest.raises(AssertionError, match="waited for something"):
        run_sync(gate, call(), needed)
