"""The client's leg: what counts as a request, and in which order they are answered."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from tests.edge.rig import Exchange, answering, running

BOTH_LOOPS = True
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# Each is one request that two readers could understand in two ways, or in none.
UNREADABLE = {
    "a version of 0.9": b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n",
    "no version": b"GET /a\r\n\r\n",
    "a version of 2.0": b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
    "a version of 1.2": b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
    "a version in lower case": b"GET /a http/1.1\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "RTSP": b"GET /a RTSP/1.0\r\nHost: x\r\n\r\n",
    "ICE": b"SOURCE /a ICE/1.0\r\nHost: x\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "two spaces": b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab": b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space after the version": b"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space before the method": b" GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes above ASCII in the target": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "two empty lines first": b"\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bare LF first": b"\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare LF everywhere": b"GET /a HTTP/1.1\nHost: x\n\n",
    "a bare LF after the line": b"GET /a HTTP/1.1\nHost: x\r\n\r\n",
    "a bare LF between fields": b"GET /a HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "a bare CR in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "a bare CR between fields": b"GET /a HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "a NUL in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    "a control character in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n",
    "a DEL in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\x7fb\r\n\r\n",
    "an obs-fold": b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "an obs-fold of the coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "white space before the first field": b"GET /a HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n",
    "a space before the colon": b"GET /a HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n",
    "an empty name": b"GET /a HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    "no colon": b"GET /a HTTP/1.1\r\nHost: x\r\nXyz\r\n\r\n",
    "a parenthesis in a name": b"GET /a HTTP/1.1\r\nHost: x\r\nX(: y\r\n\r\n",
    "a name above ASCII": b"GET /a HTTP/1.1\r\nHost: x\r\nX\xe9: y\r\n\r\n",
    "no host": b"GET /a HTTP/1.1\r\n\r\n",
    "an empty host": b"GET /a HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two equal hosts": b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "a host with a path": b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a host with a user": b"GET /a HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "a port of letters": b"GET /a HTTP/1.1\r\nHost: x:y\r\n\r\n",
    "a length beside a coding": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding beside a length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "two equal lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\nabcde",
    "a negative length": POST + b"Content-Length: -5\r\n\r\nabcde",
    "a hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\nabcde",
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\nabcdeabcde",
    "an empty length": POST + b"Content-Length:\r\n\r\nabcde",
    "a length with a space": POST + b"Content-Length: 5 5\r\n\r\nabcde",
    "a length past 2^63": POST + b"Content-Length: 9223372036854775808\r\n\r\n",
    "a length of other digits": POST + "Content-Length: \u0665\r\n\r\nabcde".encode(),
    "a second coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nabcde",
    "two codings": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an empty coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "a coding with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "a Kelvin sign in the coding": POST
    + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n".encode(),
    "a vertical tab before the coding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding in 1.0": b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an upgrade to h2c": b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
    "an absolute target without a host": b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a relative target": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target of another scheme": b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "the asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_can_be_read_in_two_ways_is_refused_and_nothing_follows(data: bytes) -> None:
    async with running() as rig:
        everything = await rig.all(data + GET)
        head, _, body = everything.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close" in head
        assert json.loads(body)["reason"] == "request_malformed"
        assert not rig.upstream.requests


BROKEN_CHUNKS = {
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with an underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a size past 2^60": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "a bare CR in the size line": b"3\rabc\r\n0\r\n\r\n",
    "a line end in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "an extension without a name": b"3;\r\nabc\r\n0\r\n\r\n",
    "an extension of 2 KiB": b"3;" + b"a" * 2048 + b"\r\nabc\r\n0\r\n\r\n",
    "other bytes after the chunk": b"3\r\nabcXX0\r\n\r\n",
    "a bare LF after the chunk": b"3\r\nabc\n0\r\n\r\n",
    "a trailer without a colon": b"0\r\nabc\r\n\r\n",
    "a trailer with a bare LF": b"0\r\nX: y\n\r\n",
    "a trailer with a space in its name": b"0\r\nX : y\r\n\r\n",
    "trailers of 32 KiB": b"0\r\n" + b"X: yyyyyyyyyyyy\r\n" * 2048 + b"\r\n",
}


@pytest.mark.parametrize("data", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
async def test_a_broken_chunk_is_refused_and_no_whole_request_arrives(data: bytes) -> None:
    whole: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        whole.append(await exchange.body())

    async with running(script) as rig:
        everything = await rig.all(CHUNKED + data + GET)
        assert everything.startswith(b"HTTP/1.1 400 ")
        assert everything.count(b"HTTP/1.1 ") == 1
        assert not whole
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_trailers_of_a_request_never_become_fields_of_the_next() -> None:
    async with running() as rig:
        client = await rig.client()
        await client.send(CHUNKED + b"3;ext=1\r\nabc\r\n0\r\nX-Smuggled: y\r\n\r\n" + GET)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        first, second = rig.upstream.requests
        assert not first.values("x-smuggled")
        assert not second.values("x-smuggled")


async def test_one_empty_line_before_a_request_is_ignored() -> None:
    async with running() as rig:
        assert (await rig.ask(b"\r\n" + GET)).status == 200


async def test_two_authorizations_are_refused() -> None:
    async with running() as rig:
        head = b"GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer a"
        answer = await rig.ask(head + b"\r\n\r\n")
        assert answer.status == 400
        assert json.loads(answer.body)["reason"] == "ambiguous_header"


async def test_a_host_unlike_an_absolute_target_is_refused() -> None:
    async with running() as rig:
        answer = await rig.ask(b"GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert json.loads(answer.body)["reason"] == "host_mismatch"


@pytest.mark.parametrize("method", ["CONNECT x:443", "TRACE /a"])
async def test_connect_and_trace_are_refused_and_the_connection_ends(method: str) -> None:
    async with running() as rig:
        request = f"{method} HTTP/1.1\r\nHost: x:443\r\n\r\n".encode()
        everything = await rig.all(request + b"more\r\n\r\n")
        assert everything.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nAllow: DELETE, GET, HEAD" in everything
        assert everything.count(b"HTTP/1.1 ") == 1
        assert not rig.upstream.requests


async def test_pipelined_requests_are_answered_in_order_and_held_in_bounds() -> None:
    async with running() as rig:
        client = await rig.client()
        count = 1000
        requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count))
        sending = asyncio.create_task(client.send(requests))
        for _ in range(count):
            assert (await client.answer()).status == 200
        await sending
        lines = [received.line for received in rig.upstream.requests]
        assert lines == [b"GET /%d HTTP/1.1" % i for i in range(count)]


async def test_a_refusal_waits_for_the_answers_before_it() -> None:
    async with running() as rig:
        everything = await rig.all(GET + GET + b"BROKEN\r\n\r\n" + GET)
        statuses = [part[:3] for part in everything.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"200", b"400"]


@pytest.mark.parametrize("step", [1, 2, 3, 7])
async def test_requests_mean_the_same_however_they_are_cut(step: int) -> None:
    data = (
        GET
        + CHUNKED
        + b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: u\r\n\r\n"
        + POST
        + b"Content-Length: 5\r\n\r\nabcde"
        + GET
    )
    bodies: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        bodies.append(await exchange.body())
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with running(script) as rig:
        client = await rig.client()
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), step):
            await client.send(data[at : at + step])
            await asyncio.sleep(0)
        assert [(await client.answer()).status for _ in range(4)] == [200] * 4
        assert bodies == [b"", b"abcdefg", b"abcde", b""]


async def test_answers_leave_at_once() -> None:
    async with running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as rig:
        await rig.ask(GET)
        (connection,) = rig.listener.connections
        assert connection.transport is not None
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_defect_shows_nothing_of_itself() -> None:
    async with running() as rig:
        rig.gate.decide = None  # type: ignore[assignment,method-assign]
        everything = await rig.all(GET)
        assert everything.startswith(b"HTTP/1.1 500 ")
        lowered = everything.lower()
        for word in (b"traceback", b"nonetype", b"python", b"aiohttp", b"/a"):
            assert word not in lowered
