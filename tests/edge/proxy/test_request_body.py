"""A body is sent whole again, or the call is not tried again; and no try waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.access.definitions import Retry
from gateway.edge.proxy.request_body import BodyPump, BodyTooLarge
from gateway.edge.server.request_body import RequestBody, whole_body
from tests.edge.rig import HUNG_S, OK, Client, Exchange, Rig, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SIZES = [0, 1, 65_536, 300_000]

FirstTry = Callable[[Exchange], Awaitable[None]]


async def busy(exchange: Exchange) -> None:
    exchange.send(BUSY)


async def ends(exchange: Exchange) -> None:
    exchange.abort()


def failing_once(first_try: FirstTry, bodies: list[bytes]) -> Callable[[Exchange], Awaitable[None]]:
    """Fails the first call that has a body, before it has read any of that, and takes the next."""
    tries = 0

    async def script(exchange: Exchange) -> None:
        nonlocal tries
        if exchange.received.line.startswith(b"GET"):
            exchange.send(OK)
            return
        tries += 1
        if tries == 1:
            await first_try(exchange)
            return
        if exchange.received.values("expect"):
            exchange.send(CONTINUE)
        bodies.append(await exchange.body())
        exchange.send(OK)

    return script


def head(method: str, size: int, *, chunked: bool, expect: bool) -> bytes:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    waits = "Expect: 100-continue\r\n" if expect else ""
    return f"{method} /a HTTP/1.1\r\nHost: x\r\n{framing}\r\n{waits}\r\n".encode()


def framed(body: bytes, *, chunked: bool) -> bytes:
    if not chunked:
        return body
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


async def call(rig: Rig, client: Client, tries: int, before: bytes, body: bytes) -> int:
    """The body is sent once the last try has begun; the status of the final answer."""
    await client.send(before)
    await rig.upstream.until(lambda: len(rig.upstream.requests) >= tries)
    await client.send(body)
    answer = await client.answer()
    while answer.status == 100:
        answer = await client.answer()
    return answer.status


@pytest.mark.parametrize("expect", [False, True], ids=["at once", "after 100"])
@pytest.mark.parametrize("chunked", [False, True], ids=["a length", "chunks"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_body_is_sent_whole_after_a_status_that_is_tried_again(
    method: str, size: int, chunked: bool, expect: bool
) -> None:
    bodies: list[bytes] = []
    async with running(failing_once(busy, bodies)) as rig:
        rig.spec(retry=Retry(attempts=2, statuses=frozenset((503,))))
        body = bytes(range(256)) * (size // 256 + 1)
        body = body[:size]
        client = await rig.client()
        before = head(method, size, chunked=chunked, expect=expect)
        tries = 2 if size or chunked else 1
        assert await call(rig, client, tries, before, framed(body, chunked=chunked)) == 200
        assert bodies == [body]


@pytest.mark.parametrize("expect", [False, True], ids=["at once", "after 100"])
async def test_a_body_is_sent_whole_after_a_kept_connection_that_had_ended(expect: bool) -> None:
    bodies: list[bytes] = []
    async with running(failing_once(ends, bodies)) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        before = head("PUT", 300_000, chunked=False, expect=expect)
        assert await call(rig, client, 3, before, b"x" * 300_000) == 200
        assert bodies == [b"x" * 300_000]


async def test_a_client_is_told_to_go_on_once_whatever_is_tried_again() -> None:
    async def says_go_on_and_ends(exchange: Exchange) -> None:
        exchange.send(CONTINUE + BUSY)

    bodies: list[bytes] = []
    async with running(failing_once(says_go_on_and_ends, bodies)) as rig:
        rig.spec(retry=Retry(attempts=2, statuses=frozenset((503,))))
        client = await rig.client()
        await client.send(head("PUT", 3, chunked=False, expect=True))
        assert (await client.answer()).status == 100
        await rig.upstream.until(lambda: len(rig.upstream.requests) >= 2)
        await client.send(b"abc")
        assert (await client.answer()).status == 200
        assert bodies == [b"abc"]


async def test_an_upstream_that_takes_the_second_body_and_is_silent_is_504() -> None:
    async def silent(exchange: Exchange) -> None:
        if len(rig.upstream.requests) == 1:
            exchange.send(BUSY)
        else:
            await exchange.reader.read()

    async with running(silent) as rig:
        rig.spec(retry=Retry(attempts=2, statuses=frozenset((503,))), timeout_response_s=0.2)
        client = await rig.client()
        before = head("PUT", 3, chunked=False, expect=False)
        assert await call(rig, client, 2, before, b"abc") == 504


async def test_a_body_of_which_a_byte_was_read_is_not_sent_again() -> None:
    async def reads_and_ends(exchange: Exchange) -> None:
        await exchange.reader.readexactly(1)
        exchange.abort()

    bodies: list[bytes] = []
    async with running(failing_once(reads_and_ends, bodies)) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        await client.send(head("PUT", 3, chunked=False, expect=False) + b"abc")
        assert (await client.answer()).status == 502
        assert bodies == []


async def test_the_rest_of_a_body_that_nobody_needs_is_still_a_clean_end() -> None:
    """The upstream has answered: what the client sends on is discarded, and no error."""
    async with running(failing_once(busy, [])) as rig:
        client = await rig.client()
        await client.send(head("POST", 3, chunked=False, expect=False) + b"a")
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (503, [b"close"])
        await client.send(b"bc")
        assert await client.rest() == b""
        async with asyncio.timeout(HUNG_S):
            await rig.upstream.until(lambda: rig.upstream.open == 0)


class Beginning:
    """A relay of which nothing was sent yet, as far as a pump asks it."""

    request_sent = False
    body_read = False
    continue_sent = None


def first_of(body: RequestBody, relay: Beginning, *, chunked: bool, most: int = 100) -> bytes:
    nobody: Any = None
    given: Any = relay
    return BodyPump(body, nobody, given, chunked=chunked, max_bytes=most).first()


@pytest.mark.parametrize(
    ("chunked", "sent"), [(False, b"hello"), (True, b"5\r\nhello\r\n0\r\n\r\n")]
)
def test_a_body_that_has_come_goes_with_its_head(chunked: bool, sent: bytes) -> None:
    relay = Beginning()
    assert first_of(whole_body(b"hello"), relay, chunked=chunked) == sent
    assert relay.body_read
    assert relay.request_sent


def test_of_a_body_that_is_coming_what_is_here_goes_with_the_head() -> None:
    body, relay = RequestBody(), Beginning()
    assert first_of(body, relay, chunked=False) == b""
    assert not relay.body_read
    body.feed_data(b"he")
    assert first_of(body, relay, chunked=False) == b"he"
    assert not relay.request_sent


def test_what_is_too_much_at_once_is_told_before_a_byte_is_sent() -> None:
    with pytest.raises(BodyTooLarge):
        first_of(whole_body(b"hello"), Beginning(), chunked=False, most=4)
