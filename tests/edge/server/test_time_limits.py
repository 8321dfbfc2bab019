"""Every state of an exchange has a time limit: the rows of `docs/edge.md`, Time limits.

A limit that is meant to be hours long is set to a moment here; that the moment has passed is
told by what then happens, never by a clock of the test's own.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from pathlib import Path

import pytest

from gateway.access.definitions import Upstream, UpstreamTarget
from gateway.edge.streams.tunnel import FLUSH_S, STALL_S, Tunnel
from tests.access.worlds import problems, snapshot
from tests.edge.rig import HUNG_S, OK, Client, Exchange, Rig, running
from tests.edge.streams.handshakes import echo, granting, opened
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True

PAGE = (Path(__file__).parents[3] / "docs" / "edge.md").read_text("utf-8")
TABLE = PAGE.partition("## Time limits\n")[2].partition("\n## ")[0]

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
MOST = 64 << 20
"""More than the sockets between hold."""
UPLOAD = f"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {MOST}\r\n\r\n".encode()
STARTED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


async def deaf(exchange: Exchange) -> None:
    """Reads the head and no more: its reader is full soon."""
    await asyncio.Event().wait()


async def failed(client: Client, status: int, reason: str) -> None:
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["reason"]) == (status, reason)


async def sent(rig: Rig, data: bytes) -> Client:
    client = await rig.client()
    await client.send(data)
    return client


async def upload(rig: Rig) -> Client:
    rig.route(max_body_bytes=MOST)
    client = await rig.client()
    client.writer.write(UPLOAD + b"x" * MOST)
    return client


async def test_an_upstream_that_takes_no_more_of_a_body_is_504_and_is_cut() -> None:
    async with running(deaf) as rig:
        rig.spec(timeout_idle_s=0.3)
        await failed(await upload(rig), 504, "upstream_timeout")
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert cluster.targets[0].in_flight == 0
        assert not cluster.targets[0].connections


async def test_an_upstream_that_takes_a_body_slowly_is_waited_for() -> None:
    """It takes some in each of several times that in which one that takes nothing is cut."""

    async def slow(exchange: Exchange) -> None:
        left = MOST
        while left:
            left -= len(await exchange.reader.read(min(left, MOST // 16)))
            await asyncio.sleep(0.01)
        exchange.send(OK)

    async with running(slow) as rig:
        rig.spec(timeout_idle_s=0.6)
        assert (await (await upload(rig)).answer()).status == 200


async def test_an_upstream_that_is_silent_once_it_has_the_whole_body_is_504() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.Event().wait()

    async with running(silent) as rig:
        rig.spec(timeout_response_s=0.2)
        client = await rig.client()
        await client.send(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        await failed(client, 504, "upstream_timeout")


async def test_a_head_that_does_not_end_is_504() -> None:
    async def drips(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(10_000):
            exchange.send(b"X: y")
            await asyncio.sleep(0.01)

    async with running(drips) as rig:
        rig.spec(timeout_response_s=0.3)
        await failed(await sent(rig, GET), 504, "upstream_timeout")


async def test_a_body_that_drips_for_longer_than_a_request_may_take_is_408() -> None:
    """Each byte comes in time, and the upstream waits for all of them."""
    async with running(deaf) as rig:
        rig.spec(timeout_request_s=0.5)
        client = await sent(rig, b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")

        async def drip() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        await failed(client, 408, "request_timeout")
        dripping.cancel()


async def test_a_call_that_is_answered_with_interim_heads_only_is_504() -> None:
    async def hints(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.Event().wait()

    async with running(hints) as rig:
        rig.spec(timeout_response_s=30.0, timeout_request_s=0.3)
        client = await sent(rig, GET)
        assert (await client.answer()).status == 103
        await failed(client, 504, "upstream_timeout")


async def test_a_stream_is_cut_when_its_longest_life_is_over() -> None:
    async def never_silent(exchange: Exchange) -> None:
        exchange.send(STARTED)
        while not exchange.writer.is_closing():
            exchange.send(b"1\r\na\r\n")
            await asyncio.sleep(0.01)

    async with running(never_silent) as rig:
        rig.spec(timeout_stream_s=0.5)
        client = await sent(rig, GET)
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_socket_ends_with_1001_when_its_longest_life_is_over() -> None:
    async with running(echo) as rig:
        rig.spec(timeout_stream_s=0.5)
        client = await opened(rig)

        async def talk() -> None:
            while True:
                await client.send(frame(b"on", masked=True))
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(talk())
        said = await client.rest()
        talking.cancel()
        assert said.endswith(
            b"\x88" + bytes((2 + len("stream_timeout"),)) + b"\x03\xe9stream_timeout"
        )


async def floods(exchange: Exchange) -> None:
    while True:
        exchange.send(frame(b"x" * 60_000))
        await exchange.writer.drain()


async def one_that_takes_nothing(rig: Rig) -> Tunnel:
    """A socket whose client reads no more, once its end of the tunnel has noticed."""
    client = await opened(rig)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(HUNG_S):
        while not rig.tunnel.client.paused_at:
            await asyncio.sleep(0.01)
    return rig.tunnel


async def test_a_side_of_a_socket_that_takes_nothing_is_cut() -> None:
    async with running(granting(then=floods)) as rig:
        tunnel = await one_that_takes_nothing(rig)
        tunnel.sweep(tunnel.client.paused_at + STALL_S - 1.0)
        assert not tunnel.closed
        tunnel.sweep(tunnel.client.paused_at + STALL_S + 1.0)
        tunnel.sweep(tunnel.client.paused_at + STALL_S + 2.0)
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_what_one_side_left_behind_is_given_to_the_other_for_a_moment_only() -> None:
    async with running(granting(then=floods)) as rig:
        tunnel = await one_that_takes_nothing(rig)
        tunnel.on_eof(tunnel.upstream)
        left_at = asyncio.get_running_loop().time()
        tunnel.sweep(left_at + FLUSH_S - 1.0)
        assert tunnel.client.transport is not None
        tunnel.sweep(left_at + FLUSH_S + 1.0)
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert tunnel.closed


async def test_a_name_that_is_not_resolved_in_time_is_504() -> None:
    class Silent:
        async def addresses(self, host: str, port: int) -> list[str]:
            await asyncio.Event().wait()
            raise OSError

    async with running(resolver=Silent()) as rig:
        named = UpstreamTarget("http://slow.test:1", "http", "slow.test", 1)
        rig.spec(targets=(named,), timeout_connect_s=0.2)
        await failed(await sent(rig, GET), 504, "upstream_timeout")


async def test_a_target_that_does_not_shake_hands_in_time_is_504() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        async with running() as rig:
            mute = UpstreamTarget(f"https://127.0.0.1:{port}", "https", "127.0.0.1", port)
            rig.spec(targets=(mute,), timeout_connect_s=0.2)
            await failed(await sent(rig, GET), 504, "upstream_timeout")


async def test_a_call_waits_for_a_place_no_longer_than_for_a_connection() -> None:
    async with running(deaf) as rig:
        rig.spec(max_connections=1, queue=1, timeout_connect_s=0.2)
        await sent(rig, GET)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        await failed(await sent(rig, GET), 503, "upstream_busy")


# --- as it is written ---

ROUTES = "version: 1\nupstreams: {{a: {{targets: [http://a], timeout: {}}}}}\nroutes: []\n"


def test_the_longest_lives_are_read() -> None:
    read = snapshot(ROUTES.format("{request: 2m, stream: 7d}")).upstreams["a"]
    assert (read.timeout_request_s, read.timeout_stream_s) == (120.0, 604_800.0)


@pytest.mark.parametrize("written", ["{request: 0s}", "{stream: off}", "{stream: 5}"])
def test_a_life_that_is_none_is_a_problem(written: str) -> None:
    assert len(problems(ROUTES.format(written))) == 1


def test_the_table_says_what_the_code_does() -> None:
    spec = Upstream("u", ())
    for key, seconds in {
        "connect": spec.timeout_connect_s,
        "response": spec.timeout_response_s,
        "idle": spec.timeout_idle_s,
        "request": spec.timeout_request_s,
        "stream": spec.timeout_stream_s,
    }.items():
        written = re.search(rf"`timeout: {{{key}: (\d+)([smh])}}`", TABLE)
        assert written is not None, key
        assert int(written[1]) * {"s": 1, "m": 60, "h": 3600}[written[2]] == seconds, key


def test_every_row_names_a_test() -> None:
    rows = [line for line in TABLE.splitlines() if re.match(r"\| (?!state \||-)", line)]
    assert len(rows) >= 10
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py::\w+`", row)] == []
