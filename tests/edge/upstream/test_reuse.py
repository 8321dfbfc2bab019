"""When a connection to an upstream is used: never swept before it is, nor used again in doubt."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest

from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.target_pool import UNPROVEN_MOST
from tests.edge.rig import HUNG_S, OK, Exchange, Rig, answer_ok, answering, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


async def answers_and_closes(exchange: Exchange) -> None:
    await exchange.body()
    exchange.send(CLOSING)
    exchange.close()


async def sweep_on(rig: Rig) -> None:
    """Time is looked at in every turn of the loop: a sweep that may come at any moment does."""
    loop = asyncio.get_running_loop()
    while True:
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        for target in cluster.targets:
            target.sweep(loop.time())
        await asyncio.sleep(0)


@pytest.mark.parametrize("pool_idle_s", [4.0, 0.001])
async def test_a_fresh_connection_is_not_swept_before_its_first_use(pool_idle_s: float) -> None:
    async with running(answers_and_closes) as rig:
        rig.spec(pool_idle_s=pool_idle_s)
        sweeping = asyncio.create_task(sweep_on(rig))
        client = await rig.client()
        for _ in range(100):
            await client.send(POST)
            assert (await client.answer()).status == 200
        assert rig.upstream.connections == 100
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping


async def test_two_thousand_posts_to_an_upstream_that_closes_each_time_are_all_answered() -> None:
    """`python -m bench.retries` sends 100,000."""

    async def one() -> list[int]:
        client, statuses = await rig.client(), []
        for _ in range(100):
            await client.send(POST)
            statuses.append((await client.answer()).status)
        return statuses

    async with running(answers_and_closes) as rig:
        rig.spec(timeout_connect_s=30.0)
        found = await asyncio.gather(*(one() for _ in range(20)))
        assert {status for each in found for status in each} == {200}


async def test_a_connection_whose_other_end_has_left_is_not_ready_to_be_sent_a_call() -> None:
    """Nothing was sent to it: its call counts as one that could not connect."""
    async with running() as rig:
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        connection = await cluster.targets[0].connect()
        assert connection.ready
        assert connection.transport is not None
        connection.transport.abort()
        assert not connection.ready


WITHOUT_MEANING = ["GET", "DELETE", "OPTIONS", "HEAD"]


@pytest.mark.parametrize("method", WITHOUT_MEANING)
async def test_a_body_without_meaning_cannot_become_the_next_callers_request(method: str) -> None:
    """The backend ignores the body of a GET, and would read it as a request of its own."""
    hidden = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"

    async def ignores_bodies(exchange: Exchange) -> None:
        exchange.send(OK[:-2] if exchange.received.line.startswith(b"HEAD") else OK)
        if exchange.received.values("connection") == [b"close"]:
            # As every backend does that was told so.
            await exchange.writer.drain()
            exchange.close()

    async with running(ignores_bodies) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        head = f"{method} /a HTTP/1.1\r\nHost: x\r\nContent-Length: {len(hidden)}\r\n\r\n"
        await client.send(head.encode() + hidden)
        assert (await client.answer(to_head=method == "HEAD")).status == 200
        after = await rig.ask(GET)
        assert (after.status, after.body) == (200, b"ok")
        assert b"/admin" not in b"".join(received.line for received in rig.upstream.requests)
        assert rig.upstream.requests[-1].connection == 2


@pytest.mark.parametrize("method", WITHOUT_MEANING)
async def test_a_connection_is_not_used_again_after_a_body_without_meaning(method: str) -> None:
    """Whatever the backend makes of `Connection: close`."""

    async def keeps_on(exchange: Exchange) -> None:
        await exchange.body()
        exchange.send(OK[:-2] if exchange.received.line.startswith(b"HEAD") else OK)

    async with running(keeps_on) as rig:
        client = await rig.client()
        await client.send(
            f"{method} /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode()
        )
        assert (await client.answer(to_head=method == "HEAD")).status == 200
        await client.send(GET)
        assert (await client.answer()).status == 200
        assert [received.connection for received in rig.upstream.requests] == [1, 2]
        assert rig.upstream.requests[0].values("connection") == [b"close"]
        assert rig.upstream.requests[1].values("connection") == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "PROPFIND"])
async def test_a_connection_is_used_again_after_a_body_that_was_asked_for(method: str) -> None:
    async with running(answer_ok) as rig:
        client = await rig.client()
        for _ in range(2):  # two GETs show that connections are kept
            await client.send(GET)
            assert (await client.answer()).status == 200
        for _ in range(2):
            await client.send(
                f"{method} /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode()
            )
            assert (await client.answer()).status == 200
        assert [received.connection for received in rig.upstream.requests] == [1, 1, 1, 1]


# --- an upstream that closes, and does not say so ---


async def closes_unsaid(exchange: Exchange) -> None:
    await exchange.body()
    exchange.send(OK)
    exchange.close()


async def test_two_thousand_posts_to_an_upstream_that_closes_unsaid_are_all_answered() -> None:
    """None is sent into a connection that is about to end: each has one of its own."""

    async def one() -> list[int]:
        client, statuses = await rig.client(), []
        for _ in range(100):
            await client.send(POST)
            statuses.append((await client.answer()).status)
        return statuses

    async with running(closes_unsaid) as rig:
        rig.spec(timeout_connect_s=30.0)
        found = await asyncio.gather(*(one() for _ in range(20)))
        assert {status for each in found for status in each} == {200}
        assert rig.upstream.connections == 2_000


async def test_a_target_is_trusted_with_a_post_once_it_left_a_connection_open() -> None:
    async with running(answer_ok) as rig:
        client = await rig.client()
        target = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        await client.send(POST)
        assert (await client.answer()).status == 200
        async with asyncio.timeout(HUNG_S):
            while not target.keeps_idle:
                await asyncio.sleep(0.01)
        for _ in range(2):
            await client.send(POST)
            assert (await client.answer()).status == 200
        assert [received.connection for received in rig.upstream.requests] == [1, 1, 1]


async def test_a_loop_that_stood_still_is_no_proof_that_a_target_left_a_connection_open() -> None:
    """Where timers come before what sockets bring, its end may not have been read yet."""
    async with running(answer_ok) as rig:
        client = await rig.client()
        target = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        await client.send(GET)
        assert (await client.answer()).status == 200
        later = asyncio.get_running_loop().time() + 1.0
        target.sweep(later)
        assert not target.keeps_idle
        target.sweep(later)
        assert target.keeps_idle


async def test_what_proved_it_is_forgotten_once_it_has_ended() -> None:
    def held() -> int:
        gc.collect()
        return sum(isinstance(one, UpstreamConnection) for one in gc.get_objects())

    before = held()
    async with running(answer_ok) as rig:
        client = await rig.client()
        target = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        await client.send(GET)
        assert (await client.answer()).status == 200
        later = asyncio.get_running_loop().time() + 1.0
        target.sweep(later)
        target.sweep(later)
        next(iter(target.connections)).abort()
        async with asyncio.timeout(HUNG_S):
            while target.connections:
                await asyncio.sleep(0.001)
        target.sweep(later)
    assert target.keeps_idle
    assert held() <= before


async def test_a_target_that_begins_to_close_is_trusted_no_longer() -> None:
    async with running(answer_ok) as rig:
        client = await rig.client()
        target = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        for _ in range(2):
            await client.send(GET)
            await client.answer()
        before = target.keeps_idle
        rig.upstream.script = closes_unsaid
        await client.send(GET)
        await client.answer()
        async with asyncio.timeout(HUNG_S):
            while target.keeps_idle:
                await asyncio.sleep(0.001)
        assert (before, target.keeps_idle) == (True, False)


async def test_what_an_unproven_target_leaves_open_is_bounded() -> None:
    async with running(answer_ok) as rig:
        rig.spec(timeout_connect_s=30.0)
        target = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        gate = asyncio.Event()

        async def held(exchange: Exchange) -> None:
            await exchange.body()
            await gate.wait()
            exchange.send(OK)

        rig.upstream.script = held
        clients = [await rig.client() for _ in range(100)]
        for client in clients:
            await client.send(POST)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 100)
        gate.set()
        for client in clients:
            assert (await client.answer()).status == 200
        await rig.upstream.until(lambda: rig.upstream.open <= UNPROVEN_MOST)
        assert len(target.connections) <= UNPROVEN_MOST


HEAD = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH, CHUNKED = b"Content-Length: 38\r\n", b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "framing"),
    [
        (GET, b"204 No Content", LENGTH),
        (GET, b"204 No Content", CHUNKED),
        (GET, b"304 Not Modified", LENGTH),
        (GET, b"304 Not Modified", CHUNKED),
        (HEAD, b"200 OK", LENGTH),
        (HEAD, b"200 OK", CHUNKED),
        (HEAD, b"200 OK", b""),
    ],
)
async def test_no_body_that_may_not_be_becomes_the_answer_to_the_next_call(
    request_bytes: bytes, status: bytes, framing: bytes
) -> None:
    """Its backend writes the head and the body apart, as many do."""

    async def script(exchange: Exchange) -> None:
        if exchange.received.connection > 1:
            await answer_ok(exchange)
            return
        exchange.send(b"HTTP/1.1 " + status + b"\r\n" + framing + b"\r\n")
        if await exchange.reader.read(1):
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with running(script) as rig:
        first = await rig.ask(request_bytes, to_head=request_bytes is HEAD)
        assert first.status == int(status[:3])
        assert (await rig.ask(GET)).body == b"ok"


async def test_an_upstream_is_told_that_a_head_is_the_last_of_its_connection() -> None:
    async with running(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")) as rig:
        assert (await rig.ask(HEAD, to_head=True)).status == 200
        assert rig.upstream.requests[0].values("connection") == [b"close"]


@pytest.mark.parametrize(
    ("challenge", "connections"),
    [
        (b"NTLM", 2),
        (b"Negotiate", 2),
        (b"negotiate oRQw", 2),
        (b"Basic realm=a, NTLM TlRM", 2),
        (b"Bearer", 1),
        (b'Basic realm="ntlm"', 1),
        (b"NTLMx", 1),
    ],
)
async def test_nobody_comes_after_another_on_a_connection_that_was_signed_in(
    challenge: bytes, connections: int
) -> None:
    """With NTLM a backend takes all that comes on a connection for the caller who signed in."""
    asked = b"HTTP/1.1 401 No\r\nWWW-Authenticate: " + challenge + b"\r\nContent-Length: 0\r\n\r\n"
    async with running(answering(asked)) as rig:
        for _ in range(2):
            answer = await rig.ask(GET)
            assert (answer.status, answer.values("www-authenticate")) == (401, [challenge])
        assert rig.upstream.connections == connections


@pytest.mark.parametrize(
    ("status", "framing"),
    [(204, b"Content-Length: 0\r\n"), (204, b""), (304, b""), (304, b"Content-Length: 0\r\n")],
)
async def test_a_connection_is_used_again_after_an_answer_that_announces_no_body(
    status: int, framing: bytes
) -> None:
    async with running(answering(b"HTTP/1.1 %d A\r\n%b\r\n" % (status, framing))) as rig:
        for _ in range(2):
            assert (await rig.ask(GET)).status == status
        assert rig.upstream.connections == 1
