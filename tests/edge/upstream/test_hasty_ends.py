"""An upstream that ends TLS right behind an answer in many chunks: over TLS the loops tell the end
although nothing is read, and it waits behind what came before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.edge.http1.turns import SHARE
from gateway.edge.server.connection import Connection
from gateway.edge.upstream.connection import UpstreamConnection
from tests.edge.hasty_peers import answered_hastily
from tests.edge.rig import HUNG_S, Client, Exchange, Rig, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK, END = b"1\r\na\r\n", b"0\r\n\r\n"
MANY = 4 * SHARE


@pytest.mark.parametrize("chunks", [MANY, 100_000])
async def test_an_answer_arrives_whole_though_its_upstream_ends_behind_it(
    tmp_path: Path, chunks: int
) -> None:
    async with (
        running() as rig,
        answered_hastily(rig, tmp_path, HEAD + CHUNK * chunks + END),
    ):
        assert (await rig.ask(GET)).body == b"a" * chunks


async def test_what_came_of_an_answer_that_was_cut_short_is_not_taken_for_all_of_it(
    tmp_path: Path,
) -> None:
    async with running() as rig, answered_hastily(rig, tmp_path, HEAD + CHUNK * MANY):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await rig.ask(GET)


# --- whose client does not read ---


async def begun(exchange: Exchange) -> None:
    exchange.send(HEAD)
    await exchange.reader.read()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not holds():
            await asyncio.sleep(0.005)


async def put_by(rig: Rig, last: bytes) -> tuple[Client, UpstreamConnection]:
    """An answer of which all but a share waits for its client, and its upstream, which is lost."""
    client = await rig.client()
    await client.send(GET)
    await client.head()
    upstream = connection_of(rig)
    upstream.pause_reading()  # as the relay does while its client takes nothing
    upstream.data_received(CHUNK * MANY + last)
    transport = upstream.transport
    assert transport is not None
    transport.abort()
    await until(lambda: upstream.transport is None)
    return client, upstream


def connection_of(rig: Rig) -> UpstreamConnection:
    assert rig.gate.route.upstream is not None
    (pool,) = rig.clusters.cluster_of(rig.gate.route.upstream).targets
    (connection,) = pool.connections
    return connection


async def test_what_waits_for_its_client_is_passed_on_once_the_upstream_has_gone() -> None:
    async with running(begun) as rig:
        client, upstream = await put_by(rig, END)
        upstream.resume_reading()
        body = await client.rest()
        assert body.count(b"a") == MANY
        assert body.endswith(END)


async def test_what_waits_for_its_client_counts_as_bytes_that_are_held_for_it() -> None:
    async with running(begun) as rig:
        _, upstream = await put_by(rig, END)
        receiver = upstream.receiver
        assert receiver is not None
        client: Connection = receiver.client  # type: ignore[attr-defined]
        assert client.buffered() >= (MANY - SHARE) * len(CHUNK)


async def test_what_waits_for_its_client_goes_with_it() -> None:
    async with running(begun) as rig:
        client, upstream = await put_by(rig, END)
        client.writer.transport.abort()
        await until(lambda: upstream.receiver is None)
        assert not upstream.rest


async def test_what_waits_for_its_client_does_so_no_longer_than_an_answer_may_last() -> None:
    async with running(begun) as rig:
        rig.spec(timeout_stream_s=0.3)
        client, upstream = await put_by(rig, END)
        with pytest.raises(ConnectionError):
            await client.rest()
        assert upstream.receiver is None
        assert not upstream.rest
