"""Whatever a client sends, and however it was cut: the same requests come out."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.request import CallReader
from gateway.edge.server.listener import Connections, Door
from gateway.edge.server.request_parser import BUFFER_BYTES, MAX_QUEUED, Inbound, Refused

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"GET /b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SIZED = POST + b"Content-Length: 5\r\n\r\nGET /"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nGET \r\n0\r\nHost: y\r\n\r\n"


class Reader(Inbound):
    """The reading half alone.  `answers` says whether each request is answered at once; else
    all wait until `catch_up`."""

    def __init__(self, manager: Connections, *, answers: bool) -> None:
        super().__init__(manager, manager.door, loop=asyncio.get_running_loop())
        self.answers = answers
        self.served: list[tuple[RequestHead | Refused, StreamReader]] = []

    def _serve(self, head: RequestHead | Refused, body: StreamReader) -> None:
        self.served.append((head, body))
        self._busy = not self.answers
        if self._held and self.answers:
            self._held = False
            self._go_on()

    def _serve_next(self) -> None:
        while self._queue and not self._busy:
            self._serve(*self._queue.popleft())

    def _watch(self) -> None:
        """No clock runs here."""

    def _weigh(self) -> None:
        """Nor is there anybody else whose bytes count."""

    def catch_up(self) -> None:
        self.answers, self._busy = True, False
        self._serve_next()
        self._held = False
        self._go_on()

    async def turns_taken(self) -> None:
        """Until it has read all that it was sent, or waits for an answer."""
        while self._put_off:
            await asyncio.sleep(0)

    def told(self) -> list[Any]:
        """What came out: each request with its body, and how the last of it ended."""
        found: list[Any] = []
        for head, body in self.served:
            if isinstance(head, Refused):
                # Of two things that are wrong, the one that came to light first is named.
                found.append("refused")
                continue
            fields = (head.host, head.length, head.chunked, head.keeps_open, head.upgrade)
            said = (head.method, head.target, head.minor, *fields, tuple(head.lines))
            content = b"" if body is EMPTY_PAYLOAD else b"".join(body._buffer)
            if body.exception():
                # How far it was read before it broke is no part of what it means.
                found.append((said, "broken"))
            else:
                found.append((said, content, body.is_eof()))
        return found


def reading(*, answers: bool) -> Reader:
    door = Door(None, CallReader())  # type: ignore[arg-type]
    return Reader(Connections(door), answers=answers)


async def outcome(data: bytes, cuts: list[int], *, answers: bool) -> list[Any]:
    reader = reading(answers=answers)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if end > start:
            reader.data_received(data[start:end])
            assert len(reader._queue) <= MAX_QUEUED
    await reader.turns_taken()
    reader.catch_up()
    await reader.turns_taken()
    return reader.told()


message = st.sampled_from(
    [
        GET,
        GET,
        b"\r\n" + GET,
        b"GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        UPGRADE,
        b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: X-B, close\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: x\r\nX-Auth-User-Id: root\r\nX: y\r\nX: y\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 99 + b"\r\n",
        b"GET /b HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        POST + b"Content-Length: 0\r\n\r\n",
        SIZED,
        CHUNKED,
        GET * 33,
        b"\r\n\r\n",
        b"X",
    ]
)
junk = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"a", b"\r\n\r\n", b"\r\n x"]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some requests, one of which may be spoilt at any place."""
    data = b"".join(draw(st.lists(message, min_size=1, max_size=5)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(junk) + data[at:]
    return data


@given(streams(), st.lists(st.integers(0, 1 << 16), max_size=12), st.booleans())
@example(GET * 31, [], False)
@example(GET * 32, [], False)
@example(GET * 33, [], False)
@example(GET * 200, [], False)
@example(GET * 200, [1_000, 2_000], True)
@example(SIZED * 40 + CHUNKED, [], False)
@example(b"\r\n\r\n" + GET, [2], True)
@example(b"GET /a HTTP/1.1\r\n\r\nHost: x\r\n\r\n", [], True)
async def test_the_same_requests_come_out_however_the_bytes_are_cut(
    data: bytes, cuts: list[int], answers: bool
) -> None:
    assert await outcome(data, cuts, answers=answers) == await outcome(data, [], answers=True)


def head_of(line_bytes: int, head_bytes: int) -> bytes:
    line = b"GET /" + b"a" * (line_bytes - 14) + b" HTTP/1.1\r\nHost: x\r\nX: "
    return line + b"y" * (head_bytes - len(line) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("line_bytes", "head_bytes", "passes"),
    [
        (8_192, 8_300, True),
        (8_193, 8_300, False),
        (20, 8_192 + 4, True),
        (20, 8_193 + 4, True),
        (20, 16_384, True),
        (20, 16_385, False),
        (8_192, 16_384, True),
        (8_192, 16_385, False),
        (8_193, 16_384, False),
    ],
)
async def test_a_head_at_its_limits_is_judged_alike_wherever_it_is_cut(
    line_bytes: int, head_bytes: int, passes: bool
) -> None:
    data = head_of(line_bytes, head_bytes)
    whole = await outcome(data, [], answers=True)
    assert isinstance(whole[0], tuple) is passes
    borders = {line_bytes, 8_192, 16_384, head_bytes - 4, head_bytes}
    for cut in sorted({border + step for border in borders for step in range(-3, 4)}):
        if 0 < cut < len(data):
            assert await outcome(data, [cut], answers=True) == whole


async def test_a_head_may_be_cut_after_every_byte() -> None:
    data = SIZED + CHUNKED + GET
    for cut in range(len(data)):
        cuts = [cut, cut + 1, cut + 2]
        assert len(await outcome(data, cuts, answers=True)) == 3


async def test_what_follows_an_upgrade_is_not_read_before_the_upgrade_is_answered() -> None:
    reader = reading(answers=False)
    reader.data_received(UPGRADE)
    reader.data_received(GET)
    assert len(reader.served) == 1
    assert not reader._queue
    reader.catch_up()
    assert len(reader.served) == 2


@pytest.mark.parametrize(
    ("request_bytes", "most"),
    [
        (POST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000, 60_000),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\nea60\r\n" + b"x" * 60_000 + b"\r\n0\r\n\r\n",
            60_000,
        ),
        (head_of(30, 16_000), BUFFER_BYTES + 16_000),
    ],
)
async def test_what_waits_behind_a_request_is_little(request_bytes: bytes, most: int) -> None:
    """Nobody is known yet who sent it: 32 bodies of 128 KB a connection would be a flood."""
    reader = reading(answers=False)
    reader.data_received(GET)
    for _ in range(100):
        reader.data_received(request_bytes)
    waiting = sum(
        sum(map(len, head.fields)) + (0 if body is EMPTY_PAYLOAD else sum(map(len, body._buffer)))
        for head, body in reader._queue
        if isinstance(head, RequestHead)
    )
    assert 0 < waiting <= most + 100
