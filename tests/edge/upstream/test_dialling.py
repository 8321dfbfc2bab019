"""A name with several addresses is reached though some of them say nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.access.definitions import Health, Upstream, UpstreamTarget
from gateway.edge.upstream.clusters import Clusters
from gateway.edge.upstream.dialling import WITHIN_TIME, reach
from gateway.edge.upstream.outcome import may_be_of_callers
from gateway.edge.upstream.resolver import Endpoints, SystemResolver
from gateway.edge.upstream.target_health import probe
from tests.edge.rig import HUNG_S, OK, RawUpstream, Rig, answering, running
from tests.edge.upstream.test_resolver import Names

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
NAME = "orders.internal"
SILENT, ANSWERING = "127.0.0.2", "127.0.0.3"


@contextmanager
def silent_at(address: str, port: int) -> Iterator[None]:
    """A machine whose queue of new connections is full: it answers nothing at all."""
    with ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield


@contextmanager
def resolving_to(*addresses: str) -> Iterator[None]:
    """What the machine's own resolver says of NAME."""
    asked = socket.getaddrinfo

    def known(host: str, port: int, *args: object, **named: object) -> list[object]:
        if host != NAME:
            return list(asked(host, port, *args, **named))  # type: ignore[arg-type]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in addresses]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", known)
        yield


def named(port: int, scheme: str = "http") -> UpstreamTarget:
    return UpstreamTarget(f"{scheme}://{NAME}:{port}", scheme, NAME, port)


@asynccontextmanager
async def half_silent() -> AsyncIterator[tuple[Rig, RawUpstream]]:
    """The first address of the name says nothing, the next one answers."""
    upstream = RawUpstream(answering(OK, close=True))
    await upstream.start(ANSWERING)
    with silent_at(SILENT, upstream.port), resolving_to(SILENT, ANSWERING):
        async with running(resolver=SystemResolver()) as rig:
            rig.spec(targets=(named(upstream.port),))
            yield rig, upstream
    await upstream.stop()


async def test_a_call_is_answered_though_the_first_address_says_nothing() -> None:
    async with half_silent() as (rig, upstream):
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3
        assert upstream.connections == 3


async def test_a_probe_is_answered_though_the_first_address_says_nothing() -> None:
    async with half_silent() as (_, upstream):
        endpoints = Endpoints(SystemResolver())
        health = Health("/healthz", every_s=60.0)
        assert await probe(named(upstream.port), health, b"x", None, endpoints)


async def test_a_call_is_answered_though_the_first_address_shakes_no_hands() -> None:
    """It takes connections, as a process does that was stopped, and says nothing over them."""

    async def says_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    first = await asyncio.start_server(says_nothing, SILENT, 0)
    port = first.sockets[0].getsockname()[1]
    context = ssl.create_default_context()

    async def dial(address: str) -> str:
        if address == ANSWERING:
            return address
        await asyncio.open_connection(address, port, ssl=context, server_hostname=NAME)
        return address

    async with first:
        endpoints = Endpoints(Names([SILENT, ANSWERING]))
        assert await reach(named(port), endpoints, dial, lambda _: None, within_s=1.0) == ANSWERING
        assert len(held) == 1
        for writer in held:
            writer.close()


@dataclass
class Dialled:
    """Addresses of which some say nothing until they are let, and who was dialled."""

    addresses: list[str]
    silent: set[str]
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    under_way: int = 0
    dropped: list[str] = field(default_factory=list)
    refuses: dict[str, OSError] = field(default_factory=dict)
    within_s: float = 0.1
    endpoints: Endpoints = field(init=False)

    def __post_init__(self) -> None:
        self.endpoints = Endpoints(Names(self.addresses))

    async def dial(self, address: str) -> str:
        self.begun.append(address)
        self.under_way += 1
        try:
            if address in self.silent:
                await self.answers.wait()
            if address in self.refuses:
                raise self.refuses[address]
            return address
        finally:
            self.under_way -= 1

    async def reached(self, scarce: Callable[[], bool] = lambda: False) -> str:
        async with asyncio.timeout(HUNG_S):
            return await reach(
                named(1),
                self.endpoints,
                self.dial,
                self.dropped.append,
                within_s=self.within_s,
                scarce=scarce,
            )


async def test_the_next_call_begins_with_the_address_that_answered() -> None:
    dialled = Dialled(["a", "b"], {"a"})
    assert await dialled.reached() == "b"
    assert await dialled.reached() == "b"
    assert dialled.begun == ["a", "b", "b"]


async def test_an_address_that_said_nothing_is_tried_first_again_after_a_while() -> None:
    dialled = Dialled(["a", "b"], {"a"})
    dialled.endpoints = Endpoints(Names(["a", "b"]), silent_s=0.0)
    assert await dialled.reached() == "b"
    dialled.silent.clear()
    assert await dialled.reached() == "a"


async def test_a_name_that_is_forgotten_leaves_no_memory_of_its_silent_addresses() -> None:
    dialled = Dialled(["a", "b"], {"a"})
    assert await dialled.reached() == "b"
    dialled.endpoints.keep([])
    dialled.silent.clear()
    assert await dialled.reached() == "a"


async def test_what_was_begun_and_not_taken_ends_with_the_call() -> None:
    dialled = Dialled(["a", "b", "c"], {"a", "b"})
    assert await dialled.reached() == "c"
    await _until(lambda: not dialled.under_way)
    assert not dialled.dropped


async def test_what_connects_in_the_same_moment_as_another_is_closed() -> None:
    dialled = Dialled(["a", "b"], {"a", "b"})
    reaching = asyncio.create_task(dialled.reached())
    await _until(lambda: dialled.begun == ["a", "b"])
    dialled.answers.set()
    taken = await reaching
    await _until(lambda: bool(dialled.dropped))
    assert {taken, *dialled.dropped} == {"a", "b"}


async def test_who_gives_up_ends_what_was_begun_and_it_is_known_who_said_nothing() -> None:
    """With more addresses than there is time for, the next call goes on with the others."""
    addresses = [str(n) for n in range(WITHIN_TIME + 2)]
    dialled = Dialled(addresses, set(addresses[:-1]))
    for _ in range(2):
        try:
            async with asyncio.timeout(dialled.within_s):
                assert await dialled.reached() == addresses[-1]
        except TimeoutError:
            assert dialled.begun == addresses[: len(dialled.begun)]
        await _until(lambda: not dialled.under_way)
    assert dialled.begun[-1] == addresses[-1]


async def test_a_caller_that_leaves_early_says_nothing_of_who_was_slow() -> None:
    dialled = Dialled(["a", "b"], {"a", "b"}, within_s=HUNG_S)
    reaching = asyncio.create_task(dialled.reached())
    async with asyncio.timeout(HUNG_S):
        while dialled.begun != ["a", "b"]:
            await asyncio.sleep(0.01)
    reaching.cancel()
    await asyncio.wait([reaching])
    dialled.silent.clear()
    assert await dialled.reached() == "a"


@pytest.mark.parametrize("addresses", [[ANSWERING], [ANSWERING, SILENT]])
async def test_nothing_is_kept_of_calls_that_leave_while_they_are_connected(
    addresses: list[str],
) -> None:
    server = await asyncio.start_server(lambda *_: None, ANSWERING, 0)
    async with server:
        await _leave_in_each_turn(named(server.sockets[0].getsockname()[1]), addresses)


async def test_nothing_is_kept_of_calls_that_leave_while_their_socket_is_connected(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(lambda *_: None, path):
        await _leave_in_each_turn(UpstreamTarget("unix:s", "http", "", 0, path), [])


async def _leave_in_each_turn(target: UpstreamTarget, addresses: list[str]) -> None:
    """One leaves so many turns of the loop after it began, until one was connected before."""
    clusters = Clusters(resolver=Names(addresses))
    try:
        (pool,) = clusters.cluster_of(Upstream("u", (target,))).targets
        (await pool.connect()).abort()  # the name is known from here on
        turns, late = 0, False
        while not late:
            connecting = asyncio.create_task(pool.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            late = connecting.done()
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled():
                connecting.result().abort()
            turns += 1
        await _until(lambda: not pool.connections)
    finally:
        clusters.close()


async def test_what_failed_is_let_go_at_once() -> None:
    """A target that is down fails many calls: what is left of each would wait for the collector."""
    errors: list[weakref.ref[OSError]] = []

    class Refused(ConnectionRefusedError):
        def __init__(self) -> None:
            super().__init__(111, "refused")
            errors.append(weakref.ref(self))

    async def dial(_: str) -> str:
        raise Refused

    endpoints = Endpoints(Names(["a", "b"]))
    gc.disable()
    try:
        with suppress(OSError):
            await reach(named(1), endpoints, dial, lambda _: None, within_s=1.0)
        assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()


async def test_where_descriptors_are_few_one_address_is_tried_at_a_time() -> None:
    dialled = Dialled(["a", "b"], {"a"}, refuses={"a": ConnectionRefusedError()})
    scarce = True
    reaching = asyncio.create_task(dialled.reached(lambda: scarce))
    await asyncio.sleep(dialled.within_s)  # the time in which the next would have been begun
    assert dialled.begun == ["a"]
    dialled.answers.set()
    assert await reaching == "b"


async def test_one_address_is_dialled_by_the_call_itself() -> None:
    tasks: list[asyncio.Task[object] | None] = []

    async def dial(address: str) -> str:
        tasks.append(asyncio.current_task())
        return address

    endpoints = Endpoints(Names(["a"]))
    assert await reach(named(1), endpoints, dial, lambda _: None, within_s=1.0) == "a"
    assert tasks == [asyncio.current_task()]


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
async def test_of_those_that_all_fail_the_one_is_told_that_callers_may_have_brought_about(
    order: list[str],
) -> None:
    refuses: dict[str, OSError] = {
        "a": ConnectionResetError(104, "reset"),
        "b": ConnectionRefusedError(111, "refused"),
    }
    dialled = Dialled(order, set(), refuses=refuses)
    with pytest.raises(OSError, match="reset") as failed:
        await dialled.reached()
    assert may_be_of_callers(failed.value)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not condition():
            await asyncio.sleep(0)
