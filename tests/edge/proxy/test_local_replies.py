"""`direct_response` and `redirect` on the wire: after the decision, and without an upstream."""

from __future__ import annotations

import json

import pytest

from gateway.access.authorizer import Decision
from gateway.access.definitions import STANDARD_SECURITY_HEADERS, Cors, DirectResponse
from gateway.limit_state import LimitState
from gateway.model import Reason
from tests.edge.rig import Rig, running

BOTH_LOOPS = True

GET = b"GET /a?q=1 HTTP/1.1\r\nHost: x\r\n\r\n"
TEXT = DirectResponse(200, (("Content-Type", "text/plain; charset=utf-8"), ("X-A", "a")), b"hello")


def answering(rig: Rig, answer: DirectResponse, **changes: object) -> None:
    rig.route(upstream=None, direct_response=answer, **changes)


async def test_a_route_answers_by_itself_and_the_connection_goes_on() -> None:
    async with running() as rig:
        answering(rig, TEXT, security_headers=STANDARD_SECURITY_HEADERS)
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            answer = await client.answer()
            assert (answer.line, answer.body) == (b"HTTP/1.1 200 OK", b"hello")
        assert answer.values("x-a") == [b"a"]
        assert answer.values("content-type") == [b"text/plain; charset=utf-8"]
        assert answer.values("x-content-type-options") == [b"nosniff"]
        assert answer.values("x-request-id")
        assert answer.values("date")
        assert not rig.upstream.requests


async def test_a_redirect_leads_where_the_route_says_and_keeps_the_query_as_it_came() -> None:
    async with running() as rig:
        answering(rig, DirectResponse(308, location="https://new.example/b", keep_query=True))
        answer = await rig.ask(b"POST /a?next=//evil%0d%0a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 308
        assert answer.values("location") == [b"https://new.example/b?next=//evil%0d%0a"]
        assert answer.values("content-length") == [b"0"]


async def test_nobody_is_answered_before_the_decision() -> None:
    async with running() as rig:
        answering(rig, TEXT)
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE, rig.gate.route)
        answer = await rig.ask(GET)
        assert (answer.status, json.loads(answer.body)["reason"]) == (403, "no_rule")
        assert answer.values("x-a") == []


async def test_head_has_the_fields_and_no_body() -> None:
    async with running() as rig:
        answering(rig, TEXT)
        client = await rig.client()
        await client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert (await client.answer(to_head=True)).values("content-length") == [b"5"]
        assert (await client.answer()).body == b"hello"


async def test_204_has_no_length_and_the_next_answer_follows() -> None:
    async with running() as rig:
        answering(rig, DirectResponse(204))
        client = await rig.client()
        await client.send(GET + GET)
        for _ in range(2):
            answer = await client.answer()
            assert (answer.status, answer.values("content-length")) == (204, [])


async def test_a_status_that_has_no_name_is_sent_without_one() -> None:
    async with running() as rig:
        answering(rig, DirectResponse(599))
        assert (await rig.ask(GET)).line == b"HTTP/1.1 599 "


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_a_body_is_not_waited_for_and_what_follows_is_no_request(expect: bytes) -> None:
    async with running() as rig:
        answering(rig, TEXT)
        back = await rig.all(
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n"
            + expect
            + b"\r\n"
            + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        head, _, body = back.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close" in head
        assert body == b"hello"


async def test_limits_and_cors_speak_on_it() -> None:
    async with running() as rig:
        answering(rig, TEXT, cors=Cors("c", frozenset(("https://app.example",))))
        limit = LimitState(0.0, '"ours";q=10;w=1', (("ours", 10.0),), (9,))
        rig.gate.decision = Decision(True, Reason.ROUTE_PUBLIC, route=rig.gate.route, limit=limit)
        answer = await rig.ask(GET[:-2] + b"Origin: https://app.example\r\n\r\n")
        assert answer.body == b"hello"
        assert answer.values("access-control-allow-origin") == [b"https://app.example"]
        assert answer.values("ratelimit")
