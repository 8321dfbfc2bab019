"""No way in which Redis fails lets a token pass after its 204.

Each test keeps signing somebody out, and whatever was answered True is at once asked of every
worker, and again at the end.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from gateway.model import Reason, SystemClock
from gateway.revocation.lease import expires_after_s
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import ChangeStream, Database, StreamView, Transaction
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream
from tests.config.sites import Site, eventually, principal, sited
from tests.faults import EVERY, Fault, FaultProxy, proxied
from tests.servers import SentinelServer, ValkeyServer, wait_until

pytestmark = pytest.mark.slow

OPTIONS = ReplicaOptions(max_staleness_s=1.5, confirm_timeout_s=0.7)
OVER_S = expires_after_s(OPTIONS.max_staleness_s)


@dataclass
class Town:
    """Two workers, each with its own way to one Valkey."""

    site: Site
    server: ValkeyServer
    near: Replica
    far: Replica
    near_way: FaultProxy
    far_way: FaultProxy
    promised: list[str] = field(default_factory=list)
    asked: int = 0

    async def sign_out(self) -> bool:
        """Signs somebody out at the near worker; a promise is put to the test at once."""
        self.asked += 1
        session = f"s{self.asked}"
        confirmed = await self.near.publish([await self.site.commit(target=session)])
        if confirmed:
            self.promised.append(session)
            self.expect_promises_kept([session])
        assert self.near.refusal(principal(session_id=session)) is not None
        return confirmed

    def expect_promises_kept(self, sessions: list[str] | None = None) -> None:
        for session in self.promised if sessions is None else sessions:
            for worker in (self.near, self.far):
                refusal = worker.refusal(principal(session_id=session))
                assert refusal in (Reason.TOKEN_REVOKED, Reason.REPLICA_STALE), session

    async def sign_out_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await self.sign_out()
                await asyncio.sleep(0.01)

    async def heals(self, timeout_s: float = 5) -> None:
        """Both are live, and a sign-out is confirmed."""
        async with asyncio.timeout(timeout_s):
            while not (self.near.is_live() and self.far.is_live() and await self.sign_out()):
                await asyncio.sleep(0.01)
        self.expect_promises_kept()
        assert self.far.refusal(principal(session_id=self.promised[-1])) is Reason.TOKEN_REVOKED
        # What SQL has is known again, whatever was lost on the way.
        for number in range(1, self.asked + 1):
            await eventually(
                lambda number=number: (  # type: ignore[misc]
                    self.far.refusal(principal(session_id=f"s{number}")) is Reason.TOKEN_REVOKED
                )
            )


@pytest.fixture
async def town(
    sqlite_database: Database, own_valkey: Callable[..., ValkeyServer]
) -> AsyncIterator[Town]:
    server = own_valkey()
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(proxied(server.port)) for _ in range(2)]
        stores: list[RedisStore] = []
        for way in ways:
            store = open_redis(f"redis://127.0.0.1:{way.port}")
            stack.push_async_callback(store.close)
            stores.append(store)
        streams = [RedisChangeStream(store) for store in stores]
        site = await stack.enter_async_context(sited(sqlite_database, streams[0], OPTIONS))
        near, far = [await site.worker(stream=stream) for stream in streams]
        town = Town(site, server, near, far, ways[0], ways[1])
        assert await town.sign_out()
        yield town


@pytest.mark.parametrize("fault", EVERY)
async def test_a_fault_before_one_worker_fences_it_before_anything_is_promised(
    town: Town, fault: Fault
) -> None:
    await town.far_way.set(fault)
    if fault is Fault.DELAY:
        town.far_way.delay_s = 0.05
        await town.heals()
        return
    assert not await town.sign_out()
    await town.sign_out_until(lambda: not town.far.is_live(), OPTIONS.max_staleness_s + 2)
    assert town.far.refusal(principal()) is Reason.REPLICA_STALE
    # Once the silent one is surely fenced, the others go on without it.
    kept = len(town.promised)
    await town.sign_out_until(lambda: len(town.promised) > kept, OVER_S + 3)
    await town.far_way.set(Fault.NONE)
    await town.heals()


@pytest.mark.parametrize("fault", [f for f in EVERY if f is not Fault.DELAY])
async def test_a_fault_before_the_announcer_leaves_the_revocation_pending_and_relayed(
    town: Town, fault: Fault
) -> None:
    await town.near_way.set(fault)
    assert not await town.sign_out()
    await town.near_way.set(Fault.NONE)
    await town.heals()


async def test_emptied_while_one_worker_is_cut_off(town: Town) -> None:
    """The leases are forgotten with everything else: the cut-off worker is still waited for."""
    await town.far_way.set(Fault.HANG)
    town.server.ask(b"FLUSHALL")
    await town.sign_out_until(lambda: not town.far.is_live(), OPTIONS.max_staleness_s + 2)
    await town.far_way.set(Fault.NONE)
    await town.heals()


async def test_emptied_again_and_again_while_both_follow(town: Town) -> None:
    for _ in range(5):
        town.server.ask(b"FLUSHALL")
        await town.sign_out()
    await town.heals()


async def test_killed_and_started_again(town: Town) -> None:
    town.server.kill()
    for _ in range(3):
        assert not await town.sign_out()
    await asyncio.to_thread(town.server.start)
    await town.heals()


async def test_killed_and_started_empty(town: Town) -> None:
    town.server.kill()
    shutil.rmtree(town.server.folder / "appendonlydir")
    await asyncio.to_thread(town.server.start)
    await town.sign_out()
    await town.heals()


async def test_frozen_and_thawed(town: Town) -> None:
    town.server.freeze()
    await town.sign_out_until(lambda: not town.near.is_live(), OPTIONS.max_staleness_s + 2)
    assert not town.far.is_live()
    town.server.thaw()
    await town.heals()


async def test_rewound_to_an_older_file(town: Town, tmp_path: Path) -> None:
    """The stream goes on from a number that the workers have passed, with other entries."""
    kept = tmp_path / "kept"
    shutil.copytree(town.server.folder / "appendonlydir", kept)
    for _ in range(5):
        await town.sign_out()
    town.server.kill()
    shutil.rmtree(town.server.folder / "appendonlydir")
    shutil.copytree(kept, town.server.folder / "appendonlydir")
    await asyncio.to_thread(town.server.start)
    for _ in range(10):
        await town.sign_out()
    await town.heals()


async def test_the_stream_alone_was_deleted(town: Town) -> None:
    await town.far_way.set(Fault.HANG)
    await town.sign_out()
    town.server.ask(b"DEL {authgate}:changes")
    await town.far_way.set(Fault.NONE)
    await town.heals()


async def test_a_worker_that_was_stopped_wakes_up_fenced(town: Town) -> None:
    """As SIGSTOP, or a machine that slept: nothing of it ran meanwhile, not even a timer."""
    await town.far._tasks.stop()
    await town.sign_out_until(lambda: len(town.promised) > 3, OVER_S + 3)
    assert town.far.refusal(principal()) is Reason.REPLICA_STALE


class SlowDatabase:
    """A database whose next readings wait, as those of a large table do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.transaction = database.transaction
        self.migration_transaction = database.migration_transaction
        self.close = database.close
        self.may_read = asyncio.Event()
        self.may_read.set()

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        await self.may_read.wait()
        async with self._database.read_transaction() as tx:
            yield tx


async def test_a_worker_that_loads_for_long_keeps_its_lease_and_holds_up_nobody(
    town: Town,
) -> None:
    slow = SlowDatabase(town.site.database)
    stream = RecordingStream(town.site.stream, slow)
    late = Replica(slow, stream, SystemClock(), OPTIONS)
    late.start()
    try:
        await stream.registered.wait()
        await town.sign_out_until(lambda: len(town.promised) > 3, 5)
        await asyncio.sleep(OVER_S + 0.3)
        assert await town.sign_out()
        assert not late.is_live()
        slow.may_read.set()
        await eventually(late.is_live)
        assert stream.registrations == 1
        for session in town.promised:
            assert late.refusal(principal(session_id=session)) is Reason.TOKEN_REVOKED
    finally:
        await late.stop()


class RecordingStream:
    """Passes everything on; holds SQL as soon as a lease was given."""

    def __init__(self, stream: ChangeStream, slow: SlowDatabase) -> None:
        self._stream = stream
        self._slow = slow
        self.registered = asyncio.Event()
        self.registrations = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def register(self, worker: str) -> StreamView:
        view = await self._stream.register(worker)
        self.registrations += 1
        self._slow.may_read.clear()
        self.registered.set()
        return view


async def test_while_sql_is_away_workers_go_on_and_a_new_one_waits_for_it(
    postgres_url: str, redis_url: str, key_prefix: str
) -> None:
    parts = urlsplit(postgres_url)
    login = parts.netloc.rpartition("@")[0]
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(proxied(parts.port or 5432))
        through = parts._replace(netloc=f"{login}@127.0.0.1:{way.port}")
        database = open_database(urlunsplit(through))
        stack.push_async_callback(database.close)
        await upgrade(database)
        redis = open_redis(redis_url, prefix=key_prefix)
        stack.push_async_callback(redis.close)
        stream = RedisChangeStream(redis)
        site = await stack.enter_async_context(sited(database, stream, OPTIONS))
        old = await site.worker()
        await way.set(Fault.REFUSE)
        new = await site.worker(live=False)
        await asyncio.sleep(OPTIONS.max_staleness_s + 0.5)
        assert old.refusal(principal()) is None
        assert new.refusal(principal()) is Reason.REPLICA_STALE
        await way.set(Fault.NONE)
        await eventually(new.is_live)


async def test_sentinel_fails_over_to_a_replica_that_lacks_the_end(
    sqlite_database: Database, own_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    master = own_valkey()
    replica = own_valkey(replicaof=f"127.0.0.1 {master.port}")
    sentinel = SentinelServer(tmp_path / "sentinel", master.port)
    async with AsyncExitStack() as stack:
        stack.callback(sentinel.kill)
        sentinel.start()
        wait_until(lambda: sentinel.knows(replicas=1), 15, "Sentinel to see the replica")
        streams = []
        for _ in range(2):
            store = open_redis(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
            stack.push_async_callback(store.close)
            streams.append(RedisChangeStream(store))
        site = await stack.enter_async_context(sited(sqlite_database, streams[0], OPTIONS))
        near, far = [await site.worker(stream=stream) for stream in streams]
        way = FaultProxy(("127.0.0.1", 1))
        town = Town(site, master, near, far, way, way)
        assert await town.sign_out()
        # The replica is cut off: what the master takes from now on, it alone has.
        replica.freeze()
        assert not await town.sign_out()
        master.kill()
        replica.thaw()
        await town.sign_out_until(lambda: not far.is_live(), OPTIONS.max_staleness_s + 2)
        # A master without any replica confirms nothing.
        own_valkey(replicaof=f"127.0.0.1 {replica.port}")
        await town.heals(20)
