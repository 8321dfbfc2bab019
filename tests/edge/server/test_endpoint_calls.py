"""What aiohttp serves, as a client sees it: nothing of aiohttp's own."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.server.connection import Connection
from gateway.edge.server.endpoint_calls import REQUEST_BODY, EndpointHandler
from gateway.edge.server.request_body import RequestBody
from tests.edge.rig import HUNG_S, Rig, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BANNERS = (b"aiohttp", b"python", b"internal server error", b"traceback", b"server got itself")


class Endpoint:
    """A listener's handler whose every request is one call of `handler`."""

    def __init__(self, rig: Rig, handler: EndpointHandler) -> None:
        self._handler = handler
        rig.listener.handler = self

    def serve(
        self, client: Connection, head: RequestHead, body: RequestBody
    ) -> Coroutine[Any, Any, bool]:
        return client.answer(head, body, self._handler)


async def shown(request: web.BaseRequest) -> web.StreamResponse:
    """What an endpoint reads of its request."""
    body = await request[REQUEST_BODY].read_whole(1 << 20)
    assert isinstance(body, bytes)
    fields = [[name, value] for name, value in request.headers.items()]
    said = [request.method, request.raw_path, fields, body.decode(), list(request.version)]
    return web.Response(text=json.dumps(said), headers={"Server": "authgate"})


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a?b=c%20d&e", "/a?b=c%20d&e"),
        ("http://x/a?b", "/a?b"),
        ("http://x", "/"),
        ("http://x?b", "/?b"),
        ("*", "/"),
        ("x:443", "/"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "BREW", "TRACE"])
async def test_an_endpoint_reads_the_request_as_our_own_parser_has_read_it(
    method: str, target: str, path: str
) -> None:
    """aiohttp's refuses a method that it does not know, and a field that comes twice."""
    fields = [
        ["Host", "x"],
        ["Content-Type", "a/b"],
        ["Content-Type", "c/d"],
        ["User-Agent", "\xe9"],
        ["User-Agent", ""],
        ["Upgrade", "h2c"],
        ["Connection", "Upgrade"],
        ["Transfer-Encoding", "chunked"],
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
    async with running() as rig:
        Endpoint(rig, shown)
        client = await rig.client()
        for _ in range(2):
            await client.send(head + b"3\r\nabc\r\n0\r\n\r\n")
            answer = await client.answer()
            assert answer.status == 200
            assert json.loads(answer.body) == [method, path, fields, "abc", [1, 1]]


async def test_a_client_of_1_0_is_told_whether_its_connection_goes_on() -> None:
    async with running() as rig:
        Endpoint(rig, shown)
        client = await rig.client()
        await client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.answer()
        assert answer.values("connection") == [b"keep-alive"]
        await client.send(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await client.answer()).values("connection") == []
        assert await client.rest() == b""


async def test_an_answer_to_head_is_its_head() -> None:
    async with running() as rig:
        Endpoint(rig, shown)
        client = await rig.client()
        await client.send(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert (await client.answer(to_head=True)).status == 200
        assert (await client.answer()).body.startswith(b'["GET"')


@pytest.mark.parametrize("error", [LookupError("a secret"), web.HTTPGone(text="a secret")])
async def test_a_defect_of_an_endpoint_is_a_problem_of_ours(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(request: web.BaseRequest) -> web.StreamResponse:
        raise error

    caplog.set_level(logging.DEBUG)
    async with running() as rig:
        Endpoint(rig, fails)
        everything = await rig.all(GET.replace(b"Host", b"Accept: text/html\r\nHost"))
    assert everything.startswith(b"HTTP/1.1 500 ")
    head, _, body = everything.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert json.loads(body)["reason"] == "internal_error"
    lowered = everything.partition(b"\r\n")[2].lower()
    assert [word for word in (*BANNERS, b"secret") if word in lowered] == []
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_an_answer_that_breaks_after_it_began_is_cut() -> None:
    async def breaks(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"part")
        raise LookupError

    async with running() as rig:
        Endpoint(rig, breaks)
        client = await rig.client()
        await client.send(GET)
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_an_endpoint_whose_call_is_cancelled_holds_no_connection() -> None:
    async def cancelled(request: web.BaseRequest) -> web.StreamResponse:
        raise asyncio.CancelledError

    async with running() as rig:
        Endpoint(rig, cancelled)
        assert await rig.all(GET) == b""


async def test_a_client_that_leaves_cancels_its_endpoint() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def waits(request: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        raise AssertionError

    async with running() as rig:
        Endpoint(rig, waits)
        client = await rig.client()
        await client.send(GET)
        await begun.wait()
        client.writer.transport.abort()
        async with asyncio.timeout(HUNG_S):
            await over.wait()


async def test_a_body_that_breaks_is_400_where_the_endpoint_lets_it() -> None:
    async def reads(request: web.BaseRequest) -> web.StreamResponse:
        await request[REQUEST_BODY].readany()
        await request[REQUEST_BODY].readany()
        raise AssertionError

    async with running() as rig:
        Endpoint(rig, reads)
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await rig.client()
        await client.send(head + b"1\r\na\r\n")
        await client.send(b"broken\r\n")
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["reason"]) == (400, "request_malformed")


async def test_an_endpoint_writes_no_faster_than_its_client_reads() -> None:
    written = 0

    async def floods(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)
            written += 100_000

    async with running() as rig:
        Endpoint(rig, floods)
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET)
        before = -1
        async with asyncio.timeout(HUNG_S):
            while written != before or not written:
                before = written
                await asyncio.sleep(0.2)
        assert written < 32_000_000
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(HUNG_S):
            with suppress(asyncio.IncompleteReadError):
                await client.reader.readexactly(written + 1_000_000)
        assert written > before


async def test_a_draining_listener_lets_an_endpoints_answer_say_close() -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def waits(request: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        await go.wait()
        return web.Response(text="ok")

    async with running() as rig:
        Endpoint(rig, waits)
        client = await rig.client()
        await client.send(GET)
        await begun.wait()
        rig.listener.drain()
        go.set()
        assert (await client.answer()).values("connection") == [b"close"]
        assert await client.rest() == b""
