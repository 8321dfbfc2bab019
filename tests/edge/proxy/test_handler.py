"""A proxied call from end to end: what passes, in which framing, and who notices an end."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest

from gateway.access.authorizer import Decision
from gateway.access.definitions import STANDARD_SECURITY_HEADERS, Cors
from gateway.access.routing.routes import PatternSegment, SegmentKind
from gateway.limit_state import LimitState
from gateway.model import Call, Reason
from tests.edge.rig import answering, running, target

BOTH_LOOPS = True
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n"


async def test_the_bytes_sent_are_the_bytes_received() -> None:
    target = b"/a%20b/%E2%82%AC/~'()*?q=%2F..%2f&x=a+b&"
    async with running() as rig:
        await rig.ask(b"GET " + target + b" HTTP/1.1\r\nHost: X.Example:80\r\n\r\n")
        (received,) = rig.upstream.requests
        assert received.line == b"GET " + target + b" HTTP/1.1"
        assert received.values("host") == [b"X.Example:80"]
        (call,) = rig.gate.calls
        assert call.host == "x.example"
        assert call.segments == ("a b", "€", "~'()*")


async def test_a_stranger_cannot_write_a_field_that_rules_write() -> None:
    forged = b"X-Tenant: evil\r\nx_tenant: evil\r\nX.TENANT: evil\r\nX-Tenants: mine\r\n"
    async with running() as rig:
        rig.gate.route = replace(rig.gate.route, claimed_headers=frozenset((b"x-tenant",)))
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n" + forged + b"\r\n")
        (received,) = rig.upstream.requests
        assert b"evil" not in received.head
        assert received.values("x-tenants") == [b"mine"]


async def test_an_absolute_target_is_sent_as_its_path() -> None:
    async with running() as rig:
        await rig.ask(b"GET http://X/a?b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rig.upstream.requests[0].line == b"GET /a?b HTTP/1.1"


async def test_the_host_of_the_upstream_is_sent_where_it_names_one() -> None:
    async with running() as rig:
        rig.spec(host="internal.example")
        await rig.ask(GET)
        (received,) = rig.upstream.requests
        assert received.values("host") == [b"internal.example"]
        assert received.values("x-forwarded-host") == [b"x"]


async def test_an_answer_passes_with_its_reason_fields_and_body() -> None:
    data = (
        b"HTTP/1.1 418 I'm a \xe9 teapot\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nContent-Length: 3\r\nDate: now\r\nServer: them\r\n\r\nabc"
    )
    async with running(answering(data)) as rig:
        answer = await rig.ask(GET)
        assert answer.line == b"HTTP/1.1 418 I'm a \xe9 teapot"
        assert answer.values("x-a") == [b"1", b"2"]
        assert answer.values("set-cookie") == [b"a=1", b"b=2"]
        assert answer.values("server") == [b"them"]
        assert answer.body == b"abc"


async def test_hop_by_hop_fields_of_an_answer_stay_behind() -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
        b"Upgrade: h2\r\nProxy-Authenticate: x\r\nX-Request-Id: theirs\r\nVia: 1.0 inner\r\n"
        b"Set-Cookie: __Host-session=evil\r\nset-cookie: __HOST-DEVICE=evil; Path=/\r\n"
        b"Set-Cookie: mine=1\r\nContent-Length: 2\r\n\r\nok"
    )
    async with running(answering(data)) as rig:
        answer = await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\nX-Request-Id: req-1\r\n\r\n")
        for name in ("x-hop", "keep-alive", "upgrade", "proxy-authenticate", "connection"):
            assert not answer.values(name)
        assert answer.values("x-request-id") == [b"req-1"]
        assert answer.values("via") == [b"1.0 inner, 1.1 authgate"]
        assert answer.values("set-cookie") == [b"mine=1"]


async def test_no_cookie_without_a_name_stands_for_one_of_ours() -> None:
    # Some browsers send such a cookie back as its value alone: `Cookie: __Host-session=evil`.
    data = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: =__Host-session=evil; Path=/\r\n"
        b"Set-Cookie: = __host-DEVICE=evil\r\nSet-Cookie: __Host-session\r\n"
        b"Set-Cookie: =mine\r\nContent-Length: 0\r\n\r\n"
    )
    async with running(answering(data)) as rig:
        assert (await rig.ask(GET)).values("set-cookie") == [b"=mine"]


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        (b"abc-1._:@/+=", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"a b", False),
        (b"", False),
    ],
)
async def test_a_request_id_is_kept_when_valid_else_made(given_id: bytes, kept: bool) -> None:
    async with running() as rig:
        answer = await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + given_id + b"\r\n\r\n"
        )
        (sent,) = rig.upstream.requests[0].values("x-request-id")
        assert (sent == given_id) is kept
        assert answer.values("x-request-id") == [sent]


@pytest.mark.parametrize(
    ("parent", "kept"),
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        (b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        (b"nonsense", False),
    ],
)
async def test_a_traceparent_is_kept_when_valid_else_made(parent: bytes, kept: bool) -> None:
    async with running() as rig:
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\ntraceparent: " + parent + b"\r\n\r\n")
        (sent,) = rig.upstream.requests[0].values("traceparent")
        assert (sent == parent) is kept
        assert len(sent) == 55


async def test_security_headers_are_added_where_the_upstream_set_none() -> None:
    data = b"HTTP/1.1 200 OK\r\nReferrer-Policy: origin\r\nContent-Length: 0\r\n\r\n"
    async with running(answering(data)) as rig:
        rig.route(security_headers=STANDARD_SECURITY_HEADERS)
        answer = await rig.ask(GET)
        assert answer.values("referrer-policy") == [b"origin"]
        assert answer.values("x-content-type-options") == [b"nosniff"]
        assert not answer.values("strict-transport-security")


async def test_a_security_header_that_spoke_of_the_connection_was_not_set() -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nConnection: Referrer-Policy\r\nReferrer-Policy: origin\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    async with running(answering(data)) as rig:
        rig.route(security_headers=STANDARD_SECURITY_HEADERS)
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            ours = (await client.answer()).values("referrer-policy")
            assert ours == [b"strict-origin-when-cross-origin"]


@pytest.mark.parametrize("status", [b"200 OK", b"304 Not Modified"])
async def test_an_answer_without_a_date_gets_the_time_at_which_it_came(status: bytes) -> None:
    async with running(answering(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as rig:
        before = int(time.time())
        answer = await rig.ask(GET)
        (said,) = answer.values("date")
        assert before <= parsedate_to_datetime(said.decode()).timestamp() <= time.time()
        assert said.endswith(b" GMT")


@pytest.mark.parametrize("name", [b"Date", b"date", b"DATE"])
async def test_an_upstreams_own_date_stays_as_it_is(name: bytes) -> None:
    dated = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b: Tue, 01 Jan 2019 00:00:00 GMT\r\n\r\n"
    async with running(answering(dated % name)) as rig:
        for _ in range(2):
            answer = await rig.ask(GET)
            assert answer.values("date") == [b"Tue, 01 Jan 2019 00:00:00 GMT"]


async def test_a_date_that_connection_names_was_for_the_gateway_alone() -> None:
    named = b"Date: Tue, 01 Jan 2019 00:00:00 GMT\r\nConnection: keep-alive, date\r\n"
    async with running(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + named + b"\r\n")
    ) as rig:
        (said,) = (await rig.ask(GET)).values("date")
        assert b"2019" not in said


async def test_rate_limit_fields_are_ours_where_a_limit_applied() -> None:
    data = b'HTTP/1.1 200 OK\r\nRateLimit: "theirs";r=1\r\nContent-Length: 0\r\n\r\n'
    async with running(answering(data)) as rig:
        assert (await rig.ask(GET)).values("ratelimit") == [b'"theirs";r=1']
        state = LimitState(0.0, '"ours";q=10;w=1', (("ours", 10.0),), (9,))
        rig.gate.decision = Decision(True, "signed_in", route=rig.gate.route, limit=state)
        answer = await rig.ask(GET)
        assert answer.values("ratelimit") == [state.standing().encode()]
        assert answer.values("ratelimit-policy") == [b'"ours";q=10;w=1']


EXPECTING = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"


async def test_a_target_keeps_its_mark_though_its_query_is_empty() -> None:
    async with running() as rig:
        await rig.ask(b"GET /a? HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rig.upstream.requests[0].line == b"GET /a? HTTP/1.1"


# --- refusals ---


async def test_a_concealed_refusal_is_that_of_an_unknown_route_to_the_byte() -> None:
    request = b"GET /a HTTP/1.1\r\nHost: x\r\nX-Request-Id: same\r\n\r\n"

    def undated(answer: bytes) -> list[bytes]:
        return [line for line in answer.split(b"\r\n") if not line.startswith(b"Date:")]

    async with running() as rig:
        rig.gate.decision = Decision(False, "account_suspended", conceal=True, retry_after_s=3)
        concealed = await rig.ask(request)
        rig.gate.decision = Decision(False, Reason.ROUTE_UNKNOWN, Reason.ROUTE_UNKNOWN)
        unknown = await rig.ask(request)
        assert undated(concealed.head) == undated(unknown.head)
        assert concealed.body == unknown.body
        assert concealed.status == 404


async def test_a_concealed_refusal_does_not_tell_that_a_store_was_asked() -> None:
    """The body, which comes with its head, is there when the store has answered."""
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    unknown = Decision(False, Reason.ROUTE_UNKNOWN, Reason.ROUTE_UNKNOWN)
    concealed = Decision(False, "account_suspended", conceal=True)

    async def decide_behind_the_body(call: Call, snapshot: object) -> Decision:
        for _ in range(9):
            await asyncio.sleep(0)
        return concealed

    async with running() as rig:
        rig.gate.decision = unknown
        told = await rig.ask(request)
        rig.gate.decide = decide_behind_the_body  # type: ignore[method-assign]
        hidden = await rig.ask(request)
        assert told.values("connection") == hidden.values("connection") == [b"close"]


async def test_a_refusal_leaves_the_connection_open() -> None:
    async with running() as rig:
        client = await rig.client()
        rig.gate.decision = Decision(False, Reason.NO_CREDENTIAL, Reason.NO_CREDENTIAL)
        await client.send(GET)
        answer = await client.answer()
        assert answer.status == 401
        assert answer.values("www-authenticate") == [b'Bearer realm="authgate"']
        assert answer.values("proxy-status")
        rig.gate.decision = None
        await client.send(GET)
        assert (await client.answer()).status == 200


async def test_a_refusal_to_head_has_no_body() -> None:
    async with running() as rig:
        client = await rig.client()
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE)
        await client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer(to_head=True)).status == 403
        rig.gate.decision = None
        await client.send(GET)
        assert (await client.answer()).body == b"ok"


async def test_a_rules_own_reason_is_403() -> None:
    async with running() as rig:
        rig.gate.decision = Decision(False, "account_suspended")
        answer = await rig.ask(GET)
        assert answer.status == 403
        assert json.loads(answer.body)["reason"] == "account_suspended"


# --- CORS ---


APP = Cors("app", frozenset(("https://app.example",)), credentials=True, headers=("x-a",))
ORIGIN = b"Origin: https://app.example\r\n"
PREFLIGHT = b"OPTIONS /a HTTP/1.1\r\nHost: x\r\nAccess-Control-Request-Method: PUT\r\n"


async def test_a_preflight_is_answered_before_anybody_is_judged() -> None:
    async with running() as rig:
        rig.gate.decision = Decision(False, Reason.NO_CREDENTIAL, Reason.NO_CREDENTIAL)
        plain = (PatternSegment(SegmentKind.LITERAL, "a"),)
        rig.publish(replace(rig.gate.route, segments=plain, methods=("PUT",), cors=APP))
        answer = await rig.ask(PREFLIGHT + ORIGIN + b"\r\n")
        assert answer.status == 204
        assert answer.values("access-control-allow-origin") == [b"https://app.example"]
        assert answer.values("access-control-allow-methods") == [b"PUT"]
        assert not rig.gate.calls
        refused = await rig.ask(PREFLIGHT + b"Origin: https://evil.example\r\n\r\n")
        assert refused.status == 403
        assert json.loads(refused.body)["reason"] == "cross_origin"
        assert b"evil" not in refused.head + refused.body


async def test_every_answer_on_a_route_with_cors_carries_its_fields_and_no_others() -> None:
    data = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n"
    request = b"GET /a HTTP/1.1\r\nHost: x\r\n" + ORIGIN + b"\r\n"
    async with running(answering(data)) as rig:
        assert (await rig.ask(request)).values("access-control-allow-origin") == [b"*"]
        rig.route(cors=APP)
        rig.gate.decision = Decision(True, "signed_in", route=rig.gate.route)
        passed = await rig.ask(request)
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE, rig.gate.route)
        refused = await rig.ask(request)
        rig.spec(targets=(target(1),))
        rig.gate.decision = Decision(True, "signed_in", route=rig.gate.route)
        failed = await rig.ask(request)
        assert (passed.status, refused.status, failed.status) == (200, 403, 502)
        for answer in (passed, refused, failed):
            assert answer.values("access-control-allow-origin") == [b"https://app.example"]
            assert answer.values("vary") == [b"Origin"]


async def test_the_gateways_own_endpoints_have_the_cors_of_auth() -> None:
    async with running() as rig:
        rig.publish(auth_cors=APP)
        answer = await rig.ask(b"GET /auth/me HTTP/1.1\r\nHost: x\r\n" + ORIGIN + b"\r\n")
        assert answer.values("access-control-allow-origin") == [b"https://app.example"]
        preflight = PREFLIGHT.replace(b"/a ", b"/auth/me ") + ORIGIN + b"\r\n"
        assert (await rig.ask(preflight)).status == 204


# --- the gateway's own endpoints, and what is to come ---


async def test_own_endpoints_answer_on_every_host_with_headers_of_ours() -> None:
    async with running() as rig:
        client = await rig.client()
        for body in (b"", b"abc"):
            length = b"Content-Length: %d\r\n" % len(body)
            await client.send(b"POST /auth/x HTTP/1.1\r\nHost: any\r\n" + length + b"\r\n" + body)
            answer = await client.answer()
            assert answer.body == b"own /auth/x %d" % len(body)
            assert answer.values("server") == [b"authgate"]
            assert answer.values("cache-control") == [b"no-store"]
            assert len(answer.values("x-request-id")) == 1
        assert not rig.upstream.requests


async def test_an_own_endpoint_gets_the_body_that_waits_for_continue() -> None:
    async with running() as rig:
        client = await rig.client()
        await client.send(EXPECTING.replace(b"/a", b"/auth/x"))
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"own /auth/x 3"


async def test_an_upgrade_is_not_passed_on_and_the_upstream_answers_for_itself() -> None:
    data = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"
    async with running(answering(data)) as rig:
        client = await rig.client()
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n" + GET)
        assert (await client.answer()).status == 426
        assert (await client.answer()).status == 426
        assert not rig.upstream.requests[0].values("upgrade")
