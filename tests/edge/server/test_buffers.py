"""However many are slow: what waits for them in memory stays within the budget of the worker."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from gateway.edge.server.buffers import Buffers
from gateway.edge.server.listener import ListenerLimits
from gateway.telemetry.metrics import Tally
from tests.certificates import Authority
from tests.edge.rig import HUNG_S, Exchange, Rig, endless, listen, running
from tests.edge.server.test_request_intake import head_of
from tests.edge.streams.handshakes import GRANTED, handshake

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
MOST = 2_000_000
ONE_READ = 262_144
TIGHT = ListenerLimits(buffered_bytes=MOST, slow_after_s=0.0, sweep_s=0.05)


@dataclass(eq=False)
class Slow:
    """A holder, and whether it was cut."""

    bytes: int
    cut: bool = False

    def buffered(self) -> int:
        return self.bytes

    def cut_off(self) -> None:
        self.cut = True


@dataclass
class Told:
    """Buffers of 100 bytes, and what they told."""

    patience_s: float = 0.0
    said: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def buffers(self) -> Buffers:
        stop, go_on = (lambda: self.said.append("stop")), (lambda: self.said.append("go on"))
        return Buffers(100, self.patience_s, self.tally, stop, go_on)


def test_past_the_budget_whoever_was_slow_for_longest_is_cut() -> None:
    told = Told()
    buffers = told.buffers()
    first, second, third = Slow(60), Slow(30), Slow(40)
    for one in (first, second, third):
        buffers.hold(one)
    assert [one.cut for one in (first, second, third)] == [True, False, False]
    assert (buffers.total_bytes, told.tally.n, told.said) == (70, 1, [])


def test_who_was_slow_for_a_moment_only_stops_the_reading_of_upstreams() -> None:
    told = Told(patience_s=60.0)
    buffers = told.buffers()
    first, second = Slow(60), Slow(60)
    buffers.hold(first)
    buffers.hold(second)
    assert (buffers.full, told.said, first.cut) == (True, ["stop"], False)
    first.bytes = 20
    buffers.sweep()
    assert (buffers.full, told.said) == (True, ["stop"])  # 80 of 100: not yet
    second.bytes = 40
    buffers.sweep()
    assert (buffers.full, told.said) == (True, ["stop"])
    buffers.release(first)
    assert (buffers.full, told.said, buffers.total_bytes) == (False, ["stop", "go on"], 40)


def test_who_takes_nothing_does_not_keep_the_upstreams_unread() -> None:
    told = Told(patience_s=60.0)
    buffers = told.buffers()
    first, second = Slow(40), Slow(65)
    buffers.hold(first)
    buffers.hold(second)
    buffers._patience_s = 0.0  # they are as they were, a while later
    second.bytes = 45
    buffers.sweep()
    assert (first.cut, second.cut, buffers.full) == (True, False, False)
    assert told.said == ["stop", "go on"]


def test_who_catches_up_holds_nothing() -> None:
    buffers = Told().buffers()
    one = Slow(60)
    buffers.hold(one)
    one.bytes = 50
    buffers.hold(one)
    assert buffers.total_bytes == 50
    buffers.release(one)
    buffers.release(one)
    assert buffers.total_bytes == 0


async def by_target(exchange: Exchange) -> None:
    if b" /short " in exchange.received.line:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
    else:
        await endless(exchange)


def slow_reader(stack: ExitStack, rig: Rig, data: bytes) -> socket.socket:
    """It asks, and reads nothing."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", rig.port))
    sock.sendall(data)
    return sock


def waiting(rig: Rig) -> int:
    """Bytes that wait for clients, as the transports tell them."""
    found = [one.transport for one in rig.listener.connections]
    return sum(one.get_write_buffer_size() for one in found if one is not None)


def cut(rig: Rig) -> int:
    return rig.listener.slow_cut.n


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_slow_readers_hold_no_more_than_the_budget() -> None:
    async with running(endless, limits=TIGHT) as rig:
        with ExitStack() as stack:
            for number in range(1, 31):
                slow_reader(stack, rig, GET)
                await until(lambda: len(rig.upstream.requests) >= number)  # noqa: B023
                assert waiting(rig) <= MOST + ONE_READ
            await until(lambda: cut(rig) >= 10)
            assert waiting(rig) <= MOST + ONE_READ
            # Who is cut leaves no request upstream.
            await rig.upstream.until(lambda: rig.upstream.open <= 30 - cut(rig))
        await until(lambda: rig.listener.buffers.total_bytes == 0)


async def test_who_reads_is_served_beside_many_who_do_not() -> None:
    async with running(by_target, limits=TIGHT) as rig:
        with ExitStack() as stack:
            for _ in range(20):
                slow_reader(stack, rig, GET)
            answer = await rig.ask(GET.replace(b"/a", b"/short"))
            assert len(answer.body) == 5_000_000


async def test_over_tls_a_slow_reader_holds_no_more_than_without(tmp_path: Path) -> None:
    async with running(endless) as rig:
        authority = Authority(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("localhost"))
        port = await listen(rig.listener, context)
        trusting = ssl.create_default_context(cafile=authority.file)
        _, writer = await asyncio.open_connection("localhost", port, ssl=trusting, limit=1_024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: rig.listener.buffers.total_bytes > 0)
        assert waiting(rig) <= 65_536 + 2 * ONE_READ
        writer.transport.abort()


async def test_bodies_that_an_upstream_does_not_take_count_too() -> None:
    over = asyncio.Event()

    async def deaf(exchange: Exchange) -> None:
        exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()
        exchange.abort()

    async with running(deaf, limits=TIGHT) as rig:
        rig.spec(timeout_connect_s=30.0)
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
        for _ in range(8):
            client = await rig.client()
            client.writer.write(head + b"x" * 8_999_999)
        await until(lambda: cut(rig) >= 1)
        assert rig.listener.buffers.total_bytes <= MOST
        over.set()
        await until(lambda: rig.upstream.open == 0)


async def test_sockets_whose_client_does_not_read_are_cut_too() -> None:
    async def flooding(exchange: Exchange) -> None:
        exchange.send(GRANTED)
        frame = b"\x82\x7f" + (1_000_000).to_bytes(8, "big") + b"x" * 1_000_000
        try:
            while True:
                exchange.send(frame)
                await exchange.writer.drain()
        finally:
            exchange.abort()

    async with running(flooding, limits=TIGHT) as rig:
        with ExitStack() as stack:
            for _ in range(20):
                slow_reader(stack, rig, handshake())
            await until(lambda: cut(rig) >= 5)
            assert rig.listener.buffers.total_bytes <= MOST


async def test_what_was_sent_behind_a_request_that_is_not_answered_counts_too() -> None:
    over = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        await over.wait()
        exchange.abort()

    head = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 130000\r\n\r\n"
    async with running(silent, limits=TIGHT) as rig:
        for _ in range(30):
            client = await rig.client()
            client.writer.write(GET + (head + b"x" * 130_000) * 4)
        await until(lambda: cut(rig) >= 5)
        assert rig.listener.buffers.total_bytes <= MOST
        over.set()
        await until(lambda: rig.listener.buffers.total_bytes == 0)


async def test_heads_that_wait_behind_a_request_count_too() -> None:
    over = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        await over.wait()
        exchange.abort()

    async with running(silent, limits=TIGHT) as rig:
        ahead = b"".join(head_of(60, 2_000) for _ in range(31))
        with ExitStack() as stack:
            for number in range(1, 61):
                slow_reader(stack, rig, GET + ahead)
                await until(lambda: len(rig.upstream.requests) >= number)  # noqa: B023
            await until(lambda: cut(rig) >= 10)
            assert rig.listener.buffers.total_bytes <= MOST
        over.set()
        await until(lambda: rig.upstream.open == 0)
        await until(lambda: rig.listener.buffers.total_bytes == 0)


async def test_who_is_answered_what_it_sent_ahead_holds_nothing() -> None:
    over = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await over.wait()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with running(slow, limits=TIGHT) as rig:
        client = await rig.client()
        await client.send(GET + b"".join(head_of(60, 2_000) for _ in range(30)))
        await until(lambda: rig.listener.buffers.total_bytes > 0)
        over.set()
        for _ in range(31):
            assert (await client.head()).status == 200
        assert rig.listener.buffers.total_bytes == 0
