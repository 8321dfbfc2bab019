"""Who is let in at a listener that is full, or has had enough of one address."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.access.decision import Decision
from gateway.client_networks import OWN_TASKS, asking_for
from gateway.edge.proxy.request import CallReader
from gateway.edge.server.admission import Admission, network
from gateway.edge.server.descriptors import RESERVED, room_for_clients
from gateway.edge.server.listener import ListenerLimits
from gateway.model import Call
from tests.certificates import Authority
from tests.edge.rig import HUNG_S, OK, Client, Exchange, FakeGate, Rig, listen, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
EAGER = ListenerLimits(connections=2, evict_after_s=0.0, sweep_s=0.05)


async def asked(rig: Rig) -> Client:
    """A client that was answered once, and is idle since."""
    client = await rig.client()
    await client.send(GET)
    assert (await client.answer()).status == 200
    return client


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_past_the_connection_limit_nobody_is_accepted_until_one_has_gone() -> None:
    async with running(limits=ListenerLimits(connections=2)) as rig:
        clients = [await rig.client() for _ in range(2)]
        for client in clients:
            await client.send(GET)
            assert (await client.answer()).status == 200
        third = await rig.client()
        await third.send(GET)
        waiting = asyncio.create_task(third.answer())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert rig.listener.open == 2
        clients[0].close()
        assert (await waiting).status == 200


async def test_a_call_asks_stores_for_itself_whoever_began_to_listen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls that stood where a worker's own tasks do would keep these waiting."""
    asked_for: list[str] = []

    async def decide(gate: FakeGate, call: Call, snapshot: object) -> Decision:
        asked_for.append(asking_for.get())
        return await decided(gate, call, snapshot)

    decided = FakeGate.decide
    monkeypatch.setattr(FakeGate, "decide", decide)
    began = asking_for.set(OWN_TASKS)
    try:
        async with running() as rig:
            await asked(rig)
    finally:
        asking_for.reset(began)
    assert asked_for == [""]


async def test_at_the_limit_the_longest_idle_makes_room() -> None:
    async with running(limits=EAGER) as rig:
        first, second = await asked(rig), await asked(rig)
        await first.send(GET)
        assert (await first.answer()).status == 200
        await asked(rig)
        assert await second.rest() == b""
        await first.send(GET)
        assert (await first.answer()).status == 200
        assert rig.listener.open == 2


async def test_who_never_asked_makes_room_too() -> None:
    async with running(limits=EAGER) as rig:
        silent = [await rig.client() for _ in range(2)]
        await until(lambda: rig.listener.open == 2)
        await asked(rig)
        await asked(rig)
        for client in silent:
            with suppress(ConnectionResetError):
                assert await client.rest() == b""


async def test_who_is_being_answered_makes_no_room() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        exchange.send(OK)

    async with running(script, limits=EAGER) as rig:
        busy = [await rig.client() for _ in range(2)]
        for client in busy:
            await client.send(GET)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 2)
        third = await rig.client()
        await third.send(GET)
        waiting = asyncio.create_task(third.answer())
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        go.set()
        for client in busy:
            assert (await client.answer()).status == 200
        assert (await waiting).status == 200


async def test_an_address_has_its_share_of_connections_and_no_more() -> None:
    async with running(limits=ListenerLimits(connections_of_one=2)) as rig:
        first, second = await asked(rig), await asked(rig)
        third = await rig.client()
        with suppress(ConnectionResetError):
            assert await third.rest() == b""
        assert rig.listener.admission.refused.n == 1
        first.close()
        await until(lambda: rig.listener.open == 1)
        await asked(rig)
        await second.send(GET)
        assert (await second.answer()).status == 200


async def test_whoever_has_a_neighbourhood_leaves_half_of_the_room_to_others() -> None:
    async with running(limits=ListenerLimits(connections=8, connections_of_one=2)) as rig:

        async def comes_from(address: str) -> bool:
            """Whether it is answered."""
            pair = await asyncio.open_connection("127.0.0.1", rig.port, local_addr=(address, 0))
            client = Client(*pair)
            rig.clients.append(client)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await client.send(GET)
                return (await client.answer()).status == 200
            return False

        nearby = [f"127.0.0.{host}" for host in (2, 2, 3, 3)]
        assert all([await comes_from(address) for address in nearby])
        assert not await comes_from("127.0.0.4")
        assert await comes_from("127.0.1.4")
        assert rig.listener.admission.refused.n == 1
        rig.clients[0].close()
        await until(lambda: rig.listener.open == 4)
        assert await comes_from("127.0.0.4")


@pytest.mark.parametrize("neighbour", ["2001:db8:0:{}::/64", "192.0.2.{}"])
def test_no_number_of_addresses_of_one_neighbourhood_takes_all(neighbour: str) -> None:
    admission = Admission(100, 10)
    came = [admission.enter(neighbour.format(number // 8)) for number in range(200)]
    assert came.count(True) == 50
    assert admission.enter("2001:db8:1::/64")
    for number in range(50):
        admission.leave(neighbour.format(number // 8))
    admission.leave("2001:db8:1::/64")
    assert (admission.open, len(admission._of), len(admission._in_neighbourhood)) == (0, 0, 0)


async def test_a_trusted_proxy_brings_as_many_as_come() -> None:
    loopback = ipaddress.ip_network("127.0.0.0/8")
    async with running(limits=ListenerLimits(connections_of_one=1), trusted=[loopback]) as rig:
        for _ in range(4):
            await asked(rig)
        assert rig.listener.open == 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_ipv6_host_has_one_share_for_its_whole_network(one: str, other: str, same: bool) -> None:
    reader = CallReader()
    first, second = (network(reader.peer(name, https=False)) for name in (one, other))
    assert (first == second) is same


def test_who_has_left_is_not_remembered() -> None:
    admission = Admission(100, 10)
    for number in range(50):
        assert admission.enter(str(number))
        admission.leave(str(number))
    assert (admission.open, len(admission._of), len(admission._in_neighbourhood)) == (0, 0, 0)


# --- TLS ---


async def secured(rig: Rig, folder: Path) -> tuple[int, ssl.SSLContext]:
    """The port at which the listener speaks TLS too, and what a client trusts."""
    authority = Authority(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    trusting = ssl.create_default_context(cafile=authority.file)
    return await listen(rig.listener, context), trusting


async def test_a_handshake_counts_and_has_the_time_of_a_head(tmp_path: Path) -> None:
    async with running(limits=ListenerLimits(connections=2, head_s=0.3, sweep_s=0.05)) as rig:
        port, trusting = await secured(rig, tmp_path)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: rig.listener.open == 2)
        client = Client(*await asyncio.open_connection("localhost", port, ssl=trusting))
        rig.clients.append(client)
        await client.send(GET)
        assert (await client.answer()).status == 200
        for reader, writer in silent:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert rig.listener.open == 1


@pytest.mark.parametrize("data", [GET, b"\x16\x03\x01\x00\x02\x01\x00", b""])
async def test_a_handshake_that_fails_counts_no_more(tmp_path: Path, data: bytes) -> None:
    async with running() as rig:
        port, _ = await secured(rig, tmp_path)
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.write_eof()
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
        await until(lambda: rig.listener.open == 0)


def heard_out(port: int, trusting: ssl.SSLContext) -> ssl.SSLSocket:
    """A client that has its answer and ends nothing: it looks at its socket no more."""
    sock = trusting.wrap_socket(
        socket.create_connection(("localhost", port), timeout=10), server_hostname="localhost"
    )
    sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert sock.recv(1)
    return sock


async def test_who_does_not_end_tls_is_waited_for_no_longer_than_another(tmp_path: Path) -> None:
    """An end of TLS that nobody answers kept its place, and a worker that was to end, for 30 s."""
    async with running(limits=ListenerLimits(linger_s=0.2)) as rig:
        port, trusting = await secured(rig, tmp_path)
        with await asyncio.to_thread(heard_out, port, trusting):
            await until(lambda: rig.listener.open == 0)


async def test_who_reads_a_last_answer_slowly_over_tls_has_all_of_it(tmp_path: Path) -> None:
    size = 4 << 20

    async def large(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    def slowly(sock: ssl.SSLSocket) -> int:
        # Nothing may happen for a while: what stands in buffers meanwhile is lost to nobody.
        threading.Event().wait(1.5)
        taken = 1
        while data := sock.recv(65_536):
            taken += len(data)
        return taken

    async with running(large, limits=ListenerLimits(linger_s=0.1)) as rig:
        port, trusting = await secured(rig, tmp_path)
        with await asyncio.to_thread(heard_out, port, trusting) as sock:
            assert await asyncio.to_thread(slowly, sock) > size


# --- descriptors ---


@pytest.mark.parametrize(("limit", "room"), [(20_000, 10_000), (1_024, 512), (256, 128), (64, 32)])
def test_clients_leave_descriptors_to_upstreams_and_stores(limit: int, room: int) -> None:
    """In a process of its own: a limit that was lowered cannot be raised again by everybody."""
    code = (
        "import resource; from gateway.edge.server.descriptors import room_for_clients\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "print(room_for_clients(10_000))"
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < limit:
        pytest.skip(f"the hard limit of this machine is below {limit}")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) == room
    assert room * 3 // 2 + min(RESERVED, limit // 4) <= limit


def test_who_wants_few_connections_gets_as_many() -> None:
    assert room_for_clients(10) == 10


async def test_a_door_without_a_descriptor_takes_up_the_next_when_there_is_one() -> None:
    """What the kernel refuses to `accept` waits; nobody who is there is cut for it."""
    async with running(limits=ListenerLimits(sweep_s=0.05)) as rig:
        kept = await asked(rig)
        waiting = socket.create_connection(("127.0.0.1", rig.port))
        waiting.close()
        rig.listener.stop_accepting(24)
        assert (await asked(rig)) is not None
        await kept.send(GET)
        assert (await kept.answer()).status == 200
