"""The framing rules: broken bytes get a clear refusal and nothing else."""

from __future__ import annotations

import socket

import pytest

from tests.contract.running import Running

HOST = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /public/x HTTP/1.1\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X Y: z\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X-Y : z\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b": z\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X-Y: a\r\n b\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X-Y: a\x00b\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X-Y: a\rb\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /public/x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        (b"GET /public/x HTTP/2.0\r\n" + HOST + b"\r\n", 400),
        (b"GET /public/x HTTP/0.9\r\n" + HOST + b"\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\nhello", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\nhellohello", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunKed\r\n\r\n0\r\n\r\n".replace("K", "\u212a").encode(), 400),
        (b"POST /public/x HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5x\r\nhello\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", 400),
        (b"POST /public/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 17_000 + b"\r\n\r\n", 431),
        (b"GET /public/x HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 110 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_broken_bytes_are_refused_and_the_connection_is_closed(
    gateway: Running, data: bytes, status: int
) -> None:
    before = len(gateway.echo.seen)
    answer = gateway.raw(data)
    assert answer.status == status, answer
    assert answer.get("content-type") == "application/problem+json"
    assert answer.closed
    text = (str(answer.fields) + answer.body.decode()).lower()
    assert "python" not in text
    assert "aiohttp" not in text
    assert "traceback" not in text
    assert len(gateway.echo.seen) == before or b"chunked\r\n\r\n" in data


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_connect_and_trace_are_refused(gateway: Running, method: str) -> None:
    target = "a:443" if method == "CONNECT" else "/public/x"
    answer = gateway.raw(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert answer.status in (400, 405, 501)


def test_pipelined_requests_are_answered_in_order(gateway: Running) -> None:
    one = b"GET /public/1 HTTP/1.1\r\nHost: a\r\n\r\n"
    two = b"POST /public/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: y\r\n\r\n"
    three = b"GET /public/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as sock:
        sock.sendall(one + two + three)
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1 200") == 3
    assert data.index(b"/public/1") < data.index(b"/public/2") < data.index(b"/public/3")


def test_an_old_client_is_served_and_closed(gateway: Running) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as sock:
        sock.sendall(b"GET /public/old HTTP/1.0\r\nHost: a\r\n\r\n")
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert b" 200 " in data.split(b"\r\n")[0]
    assert b"chunked" not in data.split(b"\r\n\r\n")[0].lower()
