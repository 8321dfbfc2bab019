"""What a policy reads of the body, what a step-up asks for, and a refusal explained."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.simulation import FixedAuthenticator, NoLimits
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.edge.proxy.local_replies import DenialPage
from gateway.model import Call, Principal
from gateway.review.error_page import ExplainedDenial
from tests.access.worlds import who
from tests.edge.rig import OK, Answer, Exchange, Rig, running

BOTH_LOOPS = True

ROUTES = """
version: 1
upstreams: {{api: {{targets: ["http://127.0.0.1:{port}"]}}}}
cors: {{app: {{origins: ["https://app.example.com"], credentials: true}}}}
defaults: {{policy: p, upstream: api}}
routes:
  - id: make
    match: {{path: /docs, methods: [POST]}}
    cors: app
    action: docs:create
    resource: {{owner: "{{body.meta.owner}}"}}
  - id: pay
    match: {{path: /pay, methods: [POST]}}
    action: money:move
  - id: shown
    match: {{path: "/shown/{{id}}", methods: [GET]}}
    action: docs:read
    errors: {{explain: operator}}
"""
POLICY = """
version: 1
policy: p
roles: {chief: {inherits: [operator]}, operator: []}
rules:
  - {id: own, allow: [docs:create], when: resource.owner == user.id, reason: not_yours}
  - {id: pay, allow: [money:move], step_up: {max_age: 5m, amr: [totp]}}
  - {id: read, allow: [docs:read], when: "'reader' in user.roles", conceal: true}
"""


def configured(rig: Rig, policy: str) -> Snapshot:
    routes = ROUTES.format(port=rig.upstream.port)
    found = compile_snapshot(Sources(("routes.yaml", routes), (("policies/p.yaml", policy),)))
    assert isinstance(found, Snapshot), [str(problem) for problem in found]
    return found


@asynccontextmanager
async def house(
    caller: Principal, page: DenialPage | None = None
) -> AsyncIterator[tuple[Rig, list[bytes]]]:
    bodies: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        bodies.append(await exchange.body())
        exchange.send(OK)

    async with running(script, denial_page=page) as rig:
        rig.snapshot = configured(rig, POLICY)
        setattr(rig.gate, "decide", Authorizer(FixedAuthenticator(caller), NoLimits()).decide)  # noqa: B010
        yield rig, bodies


def post(body: bytes, *fields: str, path: str = "/docs") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Authorization: Bearer a", *fields]
    if not any("chunked" in line for line in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


JSON = "Content-Type: application/json"
MINE = b'{"meta": {"owner":  "u1"}, "text": "\\u00e9"}'


def reason(answer: Answer) -> str:
    return str(json.loads(answer.body)["reason"])


async def test_a_body_that_was_judged_goes_on_unchanged() -> None:
    async with house(who("u1")) as (rig, bodies):
        assert (await rig.ask(post(MINE, JSON))).status == 200
        assert bodies == [MINE]


async def test_a_body_that_comes_slowly_is_judged_by_the_configuration_of_its_end() -> None:
    async with house(who("u1")) as (rig, bodies):
        head, body = post(MINE, JSON, "Expect: 100-continue").split(b"\r\n\r\n")
        client = await rig.client()
        await client.send(head + b"\r\n\r\n")
        assert (await client.head()).status == 100
        rig.snapshot = configured(rig, POLICY.replace("user.id", "'nobody'"))
        await client.send(body)
        answer = await client.answer()
        assert (answer.status, reason(answer)) == (403, "not_yours")
        assert bodies == []


@pytest.mark.parametrize(
    "text",
    [
        b'"meta.kind": 1, "metaowner": 1, "a.owner": 1, "a[meta.owner]": 1, "owner": 1, "$metas": 1',
        b'"$set": {"a": {"meta": 1}}, "$ref": "meta", "$id": 1, "": 1, "$": {"owner": 1}',
        b'"a": {"__proto__": 1, "meta.owner": 1, "Meta": 1}, "proto__": {}',
        b'"title": "a\\u0000b", "a": {"b\\u0000": 1}, "c\\\\u0000": 1',
        b'"[owner]": 1, "[a][meta]": 1, "$rename": {"a": "owner"}, "constructor": {"name": "meta"}',
    ],
)
async def test_names_that_lead_elsewhere_pass(text: bytes) -> None:
    async with house(who("u1")) as (rig, bodies):
        body = b'{"meta": {"owner": "u1", "$set": {"a": 1}, "own.ers": 1}, ' + text + b"}"
        assert (await rig.ask(post(body, JSON))).status == 200
        assert bodies == [body]


async def test_a_chunked_body_is_judged_too() -> None:
    chunked = b"5\r\n" + MINE[:5] + b"\r\n%x\r\n" % (len(MINE) - 5) + MINE[5:] + b"\r\n0\r\n\r\n"
    async with house(who("u1")) as (rig, bodies):
        answer = await rig.ask(post(chunked, JSON, "Transfer-Encoding: chunked"))
        assert answer.status == 200
        assert bodies == [MINE]


async def test_somebody_elses_is_refused_and_the_upstream_sees_nothing() -> None:
    async with house(who("u2")) as (rig, bodies):
        answer = await rig.ask(post(MINE, JSON))
        assert (answer.status, reason(answer)) == (403, "not_yours")
        assert bodies == []


@pytest.mark.parametrize(
    ("body", "fields", "status", "said"),
    [
        (b'{"meta": {"owner": "u1"}', (JSON,), 400, "body_malformed"),
        # Two owners: the policy would read one and the backend another.
        (b'{"meta": {"owner": "u1", "owner": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "\xff"}}', (JSON,), 400, "body_malformed"),
        # A parser in C ends a name, and a text, at its NUL (json-c).
        (b'{"meta": {"owner": "u1", "owner\\u0000x": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1"}, "meta\\u0000": 1}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1\\u0000x"}}', (JSON,), 400, "body_malformed"),
        # A backend in another case, which Go's encoding/json takes.
        (b'{"meta": {"owner": "u1", "Owner": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"Meta": {"owner": "u1"}}', (JSON,), 400, "body_malformed"),
        # What a parser makes the same that translates `ownerId` to `owner_id`.
        (b'{"meta": {"owner": "u1", "own_er": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1"}, "me-ta.Own-er": "u2"}', (JSON,), 400, "body_malformed"),
        # So does camelCase of lodash with all that has the same letters.
        (b'{"meta": {"owner": "u1", "own.er": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1", " owner": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1", "\xc3\xb3wner": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1"}, "$meta": {"owner": "u2"}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1"}, ".meta": 1}', (JSON,), 400, "body_malformed"),
        # Mongoose, MongoDB and lodash take these for `owner` of `meta`, or as a part of it.
        *(
            (b'{"meta": {"owner": "u1"}, ' + text + b"}", (JSON,), 400, "body_malformed")
            for text in (
                b'"meta.owner": "u2"',
                b'"Meta.Owner": "u2"',
                b'"meta.owner.id": "u2"',
                b'"meta[owner]": "u2"',
                b'"meta[\\"owner\\"]": "u2"',
                b'"[meta]": {"owner": "u2"}',
                b'"[meta].owner": "u2"',
                b'"[meta][owner]": "u2"',
                b'"[\\"meta\\"].owner": "u2"',
                b'"$rename": {"title": "meta.owner"}',
                b'"$rename": {"title": "meta"}',
                b'"constructor": {"prototype": {"owner": "u2"}}',
                b'"$set": {"meta.owner": "u2"}',
                b'"$set": {"meta": {"owner": "u2"}}',
                b'"$set": {"$set": {"META": 1}}',
                b'"__proto__": {"meta": {"owner": "u2"}}',
            )
        ),
        (b'{"meta": {"owner": "u1", "owner.x": 1}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": "u1", "__proto__": {}}}', (JSON,), 400, "body_malformed"),
        (b'{"meta.owner": "u1"}', (JSON,), 400, "body_malformed"),
        # What the policy cannot read, the backend may.
        *(
            (MINE, (f"Content-Type: {text}",), 415, "media_type_unsupported")
            for text in (
                "text/plain",
                "text/json",
                "application/json;",
                "application/json; charset=utf-16",
                "application/json; charset=utf-8; a=b",
                "application/json; profile=a",
                "application/json, text/plain",
                "application/merge-patch+json",
                "application/x-json",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=a",
                "json",
                "",
            )
        ),
        (MINE, (), 415, "media_type_unsupported"),
        (MINE, ("Content_Type: application/json",), 400, "ambiguous_header"),
        (MINE, (JSON, "Content.Type: text/plain"), 400, "ambiguous_header"),
        (MINE, (JSON, "Connection: content-type"), 400, "ambiguous_header"),
        (MINE, (JSON, "Content_Encoding: gzip"), 415, "media_type_unsupported"),
        # Taken for a body without fields, these would pass a rule that asks `has(…)`.
        (MINE, (JSON, JSON), 400, "ambiguous_header"),
        (MINE, (JSON, "Content-Type: text/plain"), 400, "ambiguous_header"),
        (MINE, (JSON, "Content-Encoding: gzip"), 415, "media_type_unsupported"),
        (b"[]", (JSON,), 400, "body_malformed"),
        (b"null", (JSON,), 400, "body_malformed"),
        (b" null\n", (JSON,), 400, "body_malformed"),
        (b'[{"meta": {"owner": "u2"}}]', (JSON,), 400, "body_malformed"),
        (b'{"meta": [{"owner": "u2"}]}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": 9223372036854775808}}', (JSON,), 400, "body_malformed"),
        # The engine would take one of these for its neighbour.
        (b'{"meta": {"owner": [18446744073709551617]}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": {"a": [-9223372036854775809]}}}', (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": 9007199254740992.0}}', (JSON,), 400, "body_malformed"),
        # And take 20 ms for each condition that reads this.
        (b'{"meta": {"owner": [' + b"[]," * 4_096 + b"1]}}", (JSON,), 400, "body_malformed"),
        (b'{"meta": {"owner": [' + b"[]," * 4_094 + b"1]}}", (JSON,), 403, "not_yours"),
        (
            b'{"meta": {"owner": [' + b"9007199254740991," * 900 + b"1.5]}}",
            (JSON,),
            403,
            "not_yours",
        ),
        (b"", (JSON,), 403, "condition_failed"),
        (b'{"x": "' + b"a" * 70_000 + b'"}', (JSON,), 413, "body_too_large"),
        # Half of a surrogate pair, which no field of a rule could hold.
        (b'{"x": "\\ud800"}', (JSON,), 400, "body_malformed"),
        (b'{"\\uDFFF": 1}', (JSON,), 400, "body_malformed"),
    ],
)
async def test_what_cannot_be_judged_is_refused(
    body: bytes, fields: tuple[str, ...], status: int, said: str
) -> None:
    async with house(who("u1")) as (rig, bodies):
        answer = await rig.ask(post(body, *fields))
        assert (answer.status, reason(answer)) == (status, said)
        assert bodies == []


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"x", "text/plain", 415),
        (b'{"x": "' + b"a" * 70_000 + b'"}', "application/json", 413),
        (b'{"meta": {"owner": "u2"}}', "application/json", 403),
        (MINE, "application/json", 200),
    ],
)
async def test_a_page_of_another_origin_may_read_what_was_wrong_with_its_body(
    body: bytes, media_type: str, status: int
) -> None:
    fields = (f"Content-Type: {media_type}", "Origin: https://app.example.com")
    async with house(who("u1")) as (rig, _):
        answer = await rig.ask(post(body, *fields))
        assert answer.status == status
        allowed = b"\r\naccess-control-allow-origin: https://app.example.com\r\n"
        assert allowed in answer.head.lower()


async def test_a_body_too_long_to_be_judged_is_told_what_bounds_it() -> None:
    """It is another bound than `max_body`, which may be `off` there."""
    async with house(who("u1")) as (rig, _):
        answer = await rig.ask(post(b'{"x": "' + b"a" * 70_000 + b'"}', JSON))
        assert b"A policy reads this body" in answer.body
        assert b"65,536 bytes" in answer.body


async def test_a_client_that_waits_is_told_to_go_on() -> None:
    async with house(who("u1")) as (rig, bodies):
        client = await rig.client()
        head, _, body = post(MINE, JSON, "Expect: 100-continue").partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        assert (await client.head()).status == 100
        await client.send(body)
        assert (await client.answer()).status == 200
        assert bodies == [MINE]
        assert rig.upstream.requests[0].values("expect") == []


async def test_the_connection_goes_on_after_a_judged_body() -> None:
    async with house(who("u1")) as (rig, bodies):
        client = await rig.client()
        for _ in range(3):
            await client.send(post(MINE, JSON))
            assert (await client.answer()).status == 200
        assert bodies == [MINE] * 3


async def test_a_step_up_says_how_to_sign_in() -> None:
    async with house(who("u1")) as (rig, _):
        answer = await rig.ask(post(b"", path="/pay"))
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        (challenge,) = answer.values("www-authenticate")
        assert challenge.decode() == (
            'Bearer realm="authgate", error="insufficient_user_authentication", '
            'acr_values="totp", max_age="300"'
        )


SHOWN = b"GET /shown/%3Cb%3E HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAccept: text/html\r\n\r\n"


@pytest.mark.parametrize("role", ["operator", "chief"])
async def test_an_operator_is_shown_why(role: str) -> None:
    async with house(who("u1", role), ExplainedDenial()) as (rig, _):
        answer = await rig.ask(SHOWN)
        assert answer.status == 404
        assert answer.values("content-type") == [b"text/html; charset=utf-8"]
        text = answer.body.decode()
        assert "policies/p.yaml:7" in text
        assert "the caller had the role reader" in text
        assert "<b>" not in text


@pytest.mark.parametrize(
    ("caller", "request_bytes"),
    [
        (who("u1"), SHOWN),
        (who("u1", "operator"), SHOWN.replace(b"text/html", b"application/json")),
    ],
)
async def test_everybody_else_gets_the_plain_answer(
    caller: Principal, request_bytes: bytes
) -> None:
    async with house(caller, ExplainedDenial()) as (rig, _):
        answer = await rig.ask(request_bytes)
        assert (answer.status, reason(answer)) == (404, "route_unknown")


class SlowPage:
    """A page that another call must not wait for."""

    headers = {"Content-Type": "text/html"}

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.finish = threading.Event()

    def is_for(self, call: Call, decision: Decision) -> bool:
        return call.path.startswith("/shown")

    def render(self, call: Call, decision: Decision, snapshot: Snapshot, request_id: str) -> bytes:
        self.begun.set()
        assert self.finish.wait(10)
        return b"page"


async def test_a_page_that_takes_long_holds_nobody_else_up() -> None:
    page = SlowPage()
    async with house(who("u1", "operator"), page) as (rig, _):
        client = await rig.client()
        await client.send(SHOWN)
        try:
            answer = await rig.ask(post(MINE, JSON))
            assert answer.status == 200
            assert not page.finish.is_set()
        finally:
            page.finish.set()
        assert (await client.answer()).body == b"page"
        assert page.begun.is_set()
