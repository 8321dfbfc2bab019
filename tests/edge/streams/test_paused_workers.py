"""A worker that stood still hears its sockets before it sweeps: nothing it hears then passes.

`tests/e2e/test_paused_workers.py` stops a real one; here it is the first thing that it hears.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import ChangeKind
from tests.edge.rig import Client, Exchange, Rig
from tests.edge.streams.handshakes import echo, granting, opened
from tests.edge.streams.test_frames import frame
from tests.edge.streams.test_registry import Worker, entered, goodbye, signed_in, stream, streaming

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
EVENT = b"9\r\ndata: 2\n\n\r\n"


async def test_no_frame_of_a_client_passes_a_worker_that_cannot_know_what_is_revoked() -> None:
    came: list[bytes] = []

    async def then(exchange: Exchange) -> None:
        came.append(await exchange.reader.read())

    async with signed_in(granting(then=then)) as (rig, worker):
        client = await opened(rig)
        tunnel = rig.tunnel
        worker.stale = True
        tunnel.client.data_received(frame(b"after", masked=True))
        assert await client.rest() == goodbye(1013, "replica_stale")
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert b"after" not in came[0]
        assert came[0][:2] == bytes((0x88, 0x80 | 15))


async def test_no_frame_of_an_upstream_passes_such_a_worker() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        tunnel = rig.tunnel
        worker.stale = True
        tunnel.upstream.data_received(frame(b"after"))
        assert await client.rest() == goodbye(1013, "replica_stale")


async def test_not_even_the_rest_of_a_frame_passes_such_a_worker() -> None:
    whole = frame(b"x" * 1_000)
    async with signed_in(granting(whole[:500])) as (rig, worker):
        client = await opened(rig)
        assert await client.reader.readexactly(500) == whole[:500]
        tunnel = rig.tunnel
        worker.stale = True
        tunnel.upstream.data_received(whole[500:])
        assert await client.rest() == b""


async def test_no_frame_that_came_with_the_handshake_passes_once_the_session_has_ended() -> None:
    came: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        worker.learn(ChangeKind.SESSION, "s-1")
        await granting(then=then)(exchange)

    async def then(exchange: Exchange) -> None:
        came.append(await exchange.reader.read())

    async with signed_in(script) as (rig, worker):
        client = await opened(rig, behind=frame(b"early", masked=True))
        assert await client.rest() == goodbye(1008, "token_revoked")
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert b"early" not in came[0]


async def stale_stream(rig: Rig, worker: Worker) -> None:
    client = await stream(rig)
    await entered(worker)
    cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
    (connection,) = cluster.targets[0].connections
    worker.stale = True
    connection.data_received(EVENT)
    with pytest.raises(ConnectionResetError):
        await client.reader.read(100)
    await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_no_event_passes_a_worker_that_cannot_know_what_is_revoked() -> None:
    async with signed_in(streaming) as (rig, worker):
        await stale_stream(rig, worker)


async def test_no_event_passes_whoever_the_stream_belongs_to_cookies_included() -> None:
    async with signed_in(streaming, kid="") as (rig, worker):
        await stale_stream(rig, worker)


async def answered_late(rig: Rig, worker: Worker) -> tuple[Client, bytes]:
    """A call that lasts and was not answered; the answer to come is returned too."""
    client = await rig.client()
    await client.send(GET)
    await entered(worker)
    return client, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"


async def test_a_late_answer_does_not_pass_such_a_worker() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with signed_in(silent) as (rig, worker):
        client, late = await answered_late(rig, worker)
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        (connection,) = cluster.targets[0].connections
        worker.stale = True
        connection.data_received(late)
        answer = await client.answer()
        assert (answer.status, b"secret" in answer.body) == (503, False)


async def test_events_pass_as_ever_while_the_session_holds() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await streaming_until(exchange, go)

    async with signed_in(script) as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        go.set()
        assert await client.reader.readuntil(b"\n\n\r\n") == EVENT


async def streaming_until(exchange: Exchange, go: asyncio.Event) -> None:
    exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"9\r\ndata: 1\n\n\r\n"
    )
    await go.wait()
    exchange.send(EVENT)
    await exchange.reader.read()


async def test_what_an_anonymous_socket_says_passes_a_stale_worker_too() -> None:
    async with signed_in(echo) as (rig, worker):
        rig.gate.principal = None
        client = await opened(rig)
        worker.stale = True
        await client.send(frame(b"on", masked=True))
        assert await client.reader.readexactly(8) == frame(b"on", masked=True)
