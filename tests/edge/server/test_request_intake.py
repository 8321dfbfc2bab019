"""Whatever a client sends, and however it was cut: the same requests come out."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.edge.http1.request_head import RequestHead, RequestHeadReader
from gateway.edge.http1.turns import Turns
from gateway.edge.server.client_transport import ClientTransport
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_body import BUFFER_BYTES, RequestBody
from gateway.edge.server.request_intake import MAX_QUEUED, RequestIntake
from gateway.model import Reason

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"GET /b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SIZED = POST + b"Content-Length: 5\r\n\r\nGET /"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nGET \r\n0\r\nHost: y\r\n\r\n"


class Owner:
    """A connection without a client.  `answers` says whether each request is answered at once; else
    all wait until `catch_up`."""

    def __init__(self, *, answers: bool) -> None:
        link = ClientTransport(asyncio.get_running_loop(), ListenerLimits())
        self.intake = RequestIntake(self, link, RequestHeadReader(), Turns())
        self.answers = answers
        self.busy = False
        self.served: list[tuple[RequestHead | Reason, RequestBody]] = []

    def serve_next(self) -> None:
        while self.intake.queue and not self.busy:
            self.served.append(self.intake.next_request())
            self.busy = not self.answers
            if self.answers:
                self.intake.answered()

    def watch(self) -> None:
        """No clock runs here."""

    def weigh(self) -> None:
        """Nor is there anybody else whose bytes count."""

    def catch_up(self) -> None:
        self.answers, self.busy = True, False
        self.serve_next()
        self.intake.answered()

    async def turns_taken(self) -> None:
        """Until it has read all that it was sent, or waits for an answer."""
        while self.intake.put_off:
            await asyncio.sleep(0)

    def outcome(self) -> list[Any]:
        """What came out: each request with its body, and how the last of it ended."""
        came: list[Any] = []
        for head, body in self.served:
            if isinstance(head, Reason):
                came.append(head)
                continue
            fields = (head.host, head.length, head.chunked, head.keeps_open, head.upgrade)
            request = (head.method, head.target, head.minor, *fields, tuple(head.lines))
            broken = body.exception()
            if broken is not None:
                # How far it was read before it broke is no part of what it means, nor whether it
                # was begun by then.
                came.append(broken.reason)
            else:
                came.append((request, body.read_nowait(), body.is_eof()))
        return came


async def outcome(data: bytes, cuts: list[int], *, answers: bool) -> list[Any]:
    owner = Owner(answers=answers)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if end > start:
            owner.intake.feed(data[start:end])
            assert len(owner.intake.queue) <= MAX_QUEUED
    await owner.turns_taken()
    owner.catch_up()
    await owner.turns_taken()
    return owner.outcome()


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
        b"GET /" + b"q" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 17_000 + b"\r\n\r\n",
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
@example(b"get /" + b"q" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [100], True)
@example(b"GET /b#c HTTP/1.1\r\na\r\r\nX: " + b"y" * 17_000 + b"\r\n\r\n", [100], True)
@example(GET + CHUNKED.replace(b"GET \r", b"GET x"), [], False)
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
    owner = Owner(answers=False)
    owner.intake.feed(UPGRADE)
    owner.intake.feed(GET)
    assert len(owner.served) == 1
    assert not owner.intake.queue
    owner.catch_up()
    assert len(owner.served) == 2


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
    owner = Owner(answers=False)
    owner.intake.feed(GET)
    for _ in range(100):
        owner.intake.feed(request_bytes)
    waiting = sum(
        sum(map(len, head.fields)) + len(body.read_nowait())
        for head, body, _ in owner.intake.queue
        if isinstance(head, RequestHead)
    )
    assert 0 < waiting <= most + 100
