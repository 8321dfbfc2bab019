"""How long a body is, both ways: framing, interim answers, and answers that come early."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.authorizer import Decision
from gateway.edge.server.listener import ListenerLimits
from gateway.model import Reason
from tests.edge.rig import OK, Exchange, answering, running

BOTH_LOOPS = True
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n"


async def test_a_body_that_ends_with_the_connection_is_chunked_to_1_1() -> None:
    async with running(answering(b"HTTP/1.1 200 OK\r\n\r\nabc", close=True)) as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            answer = await client.answer()
            assert answer.values("transfer-encoding") == [b"chunked"]
            assert answer.body == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    ],
)
async def test_a_body_without_a_length_is_closed_to_1_0(data: bytes) -> None:
    async with running(answering(data, close=True)) as rig:
        head, _, body = (await rig.all(OLD)).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert b"\r\nConnection: close" in head
        assert body == b"abc"


async def test_a_1_0_client_may_ask_to_go_on() -> None:
    async with running() as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await client.answer()
            assert answer.values("connection") == [b"keep-alive"]
        port = b"127.0.0.1:%d" % rig.upstream.port
        assert rig.upstream.requests[0].values("host") == [port]


async def test_chunks_and_trailers_pass() -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nX-Request-Id: t\r\n"
        b"Set-Cookie: __Host-session=x\r\n\r\n"
    )
    async with running(answering(data)) as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            answer = await client.answer()
            assert answer.body == b"abcde"
            assert answer.trailers == [b"X-Sum: 1"]
        assert rig.upstream.connections == 1


async def test_head_204_and_304_have_no_body() -> None:
    async with running() as rig:
        client = await rig.client()
        for status, request in (
            (b"200 OK", b"HEAD"),
            (b"204 No Content", b"GET"),
            (b"304 Not Modified", b"GET"),
        ):
            rig.upstream.script = answering(
                b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n"
            )
            await client.send(request + b" /a HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await client.answer(to_head=True)
            assert answer.line == b"HTTP/1.1 " + status
            assert answer.values("content-length") == ([] if answer.status == 204 else [b"5"])
        rig.upstream.script = answering(OK)
        await client.send(GET)
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("size", [0, 1, 100, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_arrives_whole(size: int, chunked: bool) -> None:
    content = bytes(i % 251 for i in range(size))
    bodies: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        bodies.append(await exchange.body())
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bodies[-1])
        await exchange.writer.drain()

    head = b"POST /a HTTP/1.1\r\nHost: x\r\n"
    if chunked:
        pieces = [content[i : i + 50_000] for i in range(0, size, 50_000)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        request = head + b"Transfer-Encoding: chunked\r\n\r\n" + framed
    else:
        request = head + b"Content-Length: %d\r\n\r\n" % size + content
    async with running(script) as rig:
        client = await rig.client()
        sending = asyncio.create_task(client.send(request))
        answer = await client.answer()
        await sending
        assert bodies == [content]
        assert answer.body == content


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(1, 60), max_size=12), st.sampled_from(range(4)))
async def test_an_answer_means_the_same_however_it_is_cut(cuts: list[int], kind: int) -> None:
    data = [
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde",
        b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    ][kind]

    async def script(exchange: Exchange) -> None:
        at = 0
        for cut in [*cuts, len(data)]:
            exchange.send(data[at : at + cut])
            at += cut
            await exchange.writer.drain()
            await asyncio.sleep(0)
        if kind == 2:
            exchange.close()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        answer = await client.answer()
        if kind == 0:
            assert answer.status == 103
            answer = await client.answer()
        assert answer.body == (b"" if kind == 3 else b"abcde")
        assert answer.trailers == ([b"X: y"] if kind == 1 else [])


EXPECTING = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"


async def test_interim_answers_reach_a_1_1_client_only() -> None:
    data = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    async with running(answering(data)) as rig:
        client = await rig.client()
        await client.send(GET)
        interim = await client.answer()
        assert (interim.status, interim.values("link")) == (103, [b"</a>"])
        assert (await client.answer()).status == 200
        assert (await rig.all(OLD)).startswith(b"HTTP/1.1 200 ")


async def test_continue_is_sent_when_the_upstream_sends_it() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await exchange.body()
        exchange.send(OK)

    async with running(script) as rig:
        client = await rig.client()
        await client.send(EXPECTING)
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).status == 200
        assert rig.upstream.requests[0].values("expect") == [b"100-continue"]


async def test_continue_is_sent_after_a_while_where_the_upstream_does_not() -> None:
    async with running() as rig:
        client = await rig.client()
        await client.send(EXPECTING)
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).status == 200


async def test_continue_is_never_sent_before_a_refusal() -> None:
    async with running() as rig:
        rig.gate.decision = Decision(False, Reason.NO_CREDENTIAL, Reason.NO_CREDENTIAL)
        everything = await rig.all(EXPECTING)
        assert everything.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nConnection: close\r\n" in everything
        assert not rig.upstream.requests


async def test_an_early_answer_closes_and_its_upstream_is_not_used_again() -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.received.line.startswith(b"POST"):
            exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        else:
            exchange.send(OK)

    async with running(script) as rig:
        everything = await rig.all(
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nGET /b HTTP/1.1\r\n\r\n"
        )
        assert everything.startswith(b"HTTP/1.1 403 ")
        assert b"\r\nConnection: close\r\n" in everything
        assert everything.endswith(b"no")
        assert (await rig.ask(GET)).status == 200
        assert rig.upstream.connections == 2


async def test_a_refusal_is_read_even_by_a_client_that_sends_on() -> None:
    async with running(limits=ListenerLimits(linger_s=0.5)) as rig:
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE)
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        await client.send(b"x" * 30_000)
        answer = await client.answer()
        assert answer.status == 403
        assert answer.values("connection") == [b"close"]
        assert await client.rest() == b""


async def test_a_known_length_past_the_limit_is_413_before_the_upstream_sees_a_byte() -> None:
    async with running() as rig:
        rig.route(max_body_bytes=10)
        answer = await rig.ask(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
        assert answer.status == 413
        assert answer.values("connection") == [b"close"]
        assert b"`max_body` of the route `r` is 10 bytes." in answer.body
        assert rig.upstream.connections == 0


async def test_chunks_past_the_limit_are_413_and_never_a_whole_request() -> None:
    whole: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        whole.append(await exchange.body())

    async with running(script) as rig:
        rig.route(max_body_bytes=10)
        answer = await rig.ask(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n"
        )
        assert answer.status == 413
        assert b"`max_body` of the route `r` is 10 bytes." in answer.body
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert not whole
