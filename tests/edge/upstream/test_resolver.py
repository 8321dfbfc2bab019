"""An upstream whose name leads elsewhere is followed, and what was begun is finished."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.access.definitions import UpstreamTarget
from gateway.edge.upstream.outcome import may_be_of_callers
from gateway.edge.upstream.resolver import LOOKUPS_AT_ONCE, Endpoints, SystemResolver, has_name
from tests.edge.rig import (
    HUNG_S,
    OK,
    Answer,
    Client,
    Exchange,
    RawUpstream,
    Rig,
    answering,
    running,
    target,
)

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Names:
    """What a name leads to, until it is told otherwise.  Meets `addresses.Resolver`."""

    known: list[str] | None
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def addresses(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        if self.known is None:
            raise OSError("no such name")
        return list(self.known)


@dataclass
class Moving:
    """One port, listened to on two addresses of this machine."""

    rig: Rig
    names: Names
    old: RawUpstream
    new: RawUpstream
    go_on: asyncio.Event

    async def one(self, client: Client, data: bytes = GET) -> Answer:
        await client.send(data)
        return await client.answer()


@asynccontextmanager
async def moving(known: list[str] | None = None) -> AsyncIterator[Moving]:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if b"/slow" in exchange.received.line:
            await go_on.wait()
        exchange.send(OK)

    names = Names(known or ["127.0.0.2"])
    old, new = RawUpstream(script), RawUpstream(script)
    await old.start("127.0.0.2")
    await new.start("127.0.0.3", old.port)
    async with running(resolver=names) as rig:
        where = UpstreamTarget(
            f"http://orders.internal:{old.port}", "http", "orders.internal", old.port
        )
        rig.spec(targets=(where,))
        yield Moving(rig, names, old, new, go_on)
    await old.stop()
    await new.stop()


async def test_a_name_that_leads_elsewhere_is_followed_though_the_upstream_is_never_idle() -> None:
    async with moving() as m:
        client = await m.rig.client()
        assert (await m.one(client)).status == 200
        assert len(m.old.requests) == 1
        m.names.known = ["127.0.0.3"]
        async with asyncio.timeout(HUNG_S):
            while not m.new.requests:  # the old address still answers: nothing fails on the way
                assert (await m.one(client)).status == 200
        await m.old.until(lambda: m.old.open == 0)
        assert (await m.one(client)).status == 200


async def test_what_was_begun_is_finished_and_its_connection_ends_with_it() -> None:
    async with moving() as m:
        slow = asyncio.create_task(m.one(await m.rig.client(), SLOW))
        await m.old.until(lambda: len(m.old.requests) == 1)
        m.names.known = ["127.0.0.3"]
        client = await m.rig.client()
        async with asyncio.timeout(HUNG_S):
            while not m.new.requests:
                await m.one(client)
        assert m.old.open == 1
        m.go_on.set()
        assert (await slow).status == 200
        await m.old.until(lambda: m.old.open == 0)


async def test_a_name_that_cannot_be_resolved_for_a_while_changes_nothing() -> None:
    async with moving() as m:
        client = await m.rig.client()
        await m.one(client)
        m.names.known = None
        before = len(m.names.asked)
        async with asyncio.timeout(HUNG_S):
            while len(m.names.asked) < before + 2:
                assert (await m.one(client)).status == 200
        assert m.old.connections == 1


async def test_an_address_that_stays_among_others_is_not_left() -> None:
    async with moving() as m:
        client = await m.rig.client()
        await m.one(client)
        m.names.known = ["127.0.0.3", "127.0.0.2"]
        before = len(m.names.asked)
        async with asyncio.timeout(HUNG_S):
            while len(m.names.asked) < before + 2:
                await m.one(client)
        assert (m.old.connections, m.new.connections) == (1, 0)


async def test_the_next_address_is_dialled_where_the_first_does_not_answer() -> None:
    async with moving(["127.0.0.4", "127.0.0.3"]) as m:
        assert (await m.one(await m.rig.client())).status == 200
        assert len(m.new.requests) == 1


async def test_a_name_that_nobody_knows_is_502() -> None:
    async with moving() as m:
        m.names.known = None
        answer = await m.one(await m.rig.client())
        assert (answer.status, json.loads(answer.body)["reason"]) == (502, "upstream_unreachable")


@dataclass
class Slow(Names):
    """A name server that has an answer for some names only.  Meets `addresses.Resolver`."""

    silent: set[str] = field(default_factory=set)

    async def addresses(self, host: str, port: int) -> list[str]:
        found = await super().addresses(host, port)
        if host in self.silent:
            await asyncio.Event().wait()
        return found


async def test_calls_to_a_name_that_does_not_resolve_ask_once_and_hold_up_no_other() -> None:
    names = Slow(["127.0.0.1"], silent={"slow"})
    endpoints = Endpoints(names)
    waiting = [asyncio.create_task(endpoints.addresses("slow", 1)) for _ in range(100)]
    async with asyncio.timeout(HUNG_S):
        assert await endpoints.addresses("quick", 2) == ["127.0.0.1"]
    assert sorted(names.asked) == [("quick", 2), ("slow", 1)]
    assert not any(task.done() for task in waiting)
    endpoints.close()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_caller_that_gives_up_takes_the_answer_from_nobody() -> None:
    names = Slow(["127.0.0.1"])
    endpoints = Endpoints(names)
    first = asyncio.create_task(endpoints.addresses("a", 1))
    second = asyncio.create_task(endpoints.addresses("a", 1))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ["127.0.0.1"]


async def test_new_connections_go_to_the_last_good_address_while_the_name_server_is_silent() -> (
    None
):
    names = Slow(["127.0.0.1"])
    endpoints = Endpoints(names, fresh_s=0.0, patience_s=0.01)
    assert await endpoints.addresses("a", 1) == ["127.0.0.1"]
    names.silent = {"a"}
    async with asyncio.timeout(HUNG_S):
        assert await endpoints.addresses("a", 1) == ["127.0.0.1"]
    names.silent, names.known = set(), None
    endpoints.close()
    assert await endpoints.addresses("a", 1) == ["127.0.0.1"]


async def test_a_last_good_address_that_nobody_answers_at_is_looked_up_at_once() -> None:
    async with moving() as m:
        m.old.script = answering(OK, close=True)
        await m.one(await m.rig.client())
        await m.old.stop()
        m.names.known = ["127.0.0.3"]
        assert (await m.one(await m.rig.client())).status == 200
        assert len(m.new.requests) == 1


async def test_more_lookups_than_the_machine_has_threads_are_refused_and_not_queued() -> None:
    resolver = SystemResolver()
    held = threading.Lock()
    held.acquire()

    def silent(*_: object, **__: object) -> list[object]:
        with held:
            return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", silent)
        waiting = [
            asyncio.create_task(resolver.addresses(f"name{n}", 1)) for n in range(LOOKUPS_AT_ONCE)
        ]
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="too many"):
            await resolver.addresses("one-more", 1)
        held.release()
        assert await asyncio.gather(*waiting) == [[]] * LOOKUPS_AT_ONCE
    assert "127.0.0.1" in await resolver.addresses("localhost", 80)


async def test_an_address_is_no_name() -> None:
    assert not has_name(target(80))
    assert not has_name(UpstreamTarget("http://[::1]", "http", "::1", 80))
    assert not has_name(UpstreamTarget("unix:/a", "http", "localhost", 80, "/a"))
    assert has_name(UpstreamTarget("http://localhost", "http", "localhost", 80))
    assert "127.0.0.1" in await SystemResolver().addresses("localhost", 80)


async def test_what_callers_may_have_brought_about_at_one_address_is_not_hidden_by_the_next() -> (
    None
):
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", 0)
    port = server.sockets[0].getsockname()[1]
    where = UpstreamTarget(f"https://orders.internal:{port}", "https", "orders.internal", port)
    async with server, running(resolver=Names(["127.0.0.2", "127.0.0.3"])) as rig:
        rig.spec(targets=(where,))
        pool = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        with pytest.raises(OSError) as failed:  # noqa: PT011 (whatever it is)
            await pool.obtain(repeatable=True)
    assert may_be_of_callers(failed.value)


async def test_that_too_many_names_are_asked_for_may_be_of_callers() -> None:
    system = SystemResolver()
    system._under_way = LOOKUPS_AT_ONCE
    with pytest.raises(OSError, match="too many names") as failed:
        await system.addresses("localhost", 80)
    assert may_be_of_callers(failed.value)
