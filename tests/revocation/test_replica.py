"""Acknowledged revocation on real stores: what a worker may believe, and what an announcement promises."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Reason, SystemClock
from gateway.revocation.publisher import StreamPublisher
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.stores.protocols import Database, StoreUnavailable, StreamView
from gateway.stores.redis import RedisStore
from gateway.stores.stream import RedisChangeStream
from tests.config.sites import Site, eventually, principal, sited


@pytest.fixture
async def site(database: Database, redis: RedisStore) -> AsyncIterator[Site]:
    async with sited(database, RedisChangeStream(redis)) as site:
        yield site


async def test_a_worker_refuses_everything_until_it_has_caught_up(site: Site) -> None:
    replica = Replica(site.database, site.stream, SystemClock(), site.options)
    assert replica.refusal(principal()) is Reason.REPLICA_STALE
    replica = await site.worker()
    assert replica.refusal(principal()) is None


async def test_an_announced_change_is_applied_by_every_worker_when_true_comes_back(
    site: Site,
) -> None:
    first, second = await site.worker(), await site.worker()
    for number in range(20):
        change = await site.commit(target=f"s{number}")
        assert await first.publish([change])
        assert second.refusal(principal(session_id=f"s{number}")) is Reason.TOKEN_REVOKED
        assert first.refusal(principal(session_id=f"s{number}")) is Reason.TOKEN_REVOKED
    assert second.refusal(principal(session_id="other")) is None


async def test_a_worker_that_starts_later_knows_what_was_announced_before(site: Site) -> None:
    first = await site.worker()
    assert await first.publish([await site.commit()])
    second = await site.worker()
    assert second.refusal(principal()) is Reason.TOKEN_REVOKED


async def test_what_nobody_announced_is_relayed(site: Site) -> None:
    replica = await site.worker()
    await site.commit()
    assert replica.refusal(principal()) is None
    await eventually(lambda: replica.refusal(principal()) is Reason.TOKEN_REVOKED)


async def test_a_row_is_marked_once_the_stream_has_it(site: Site) -> None:
    replica = await site.worker()
    assert await replica.publish([await site.commit()])
    async with asyncio.timeout(60):
        while await revocations.unpublished(site.database, -5):
            await asyncio.sleep(0.02)


async def test_what_every_worker_has_is_not_appended_again(site: Site) -> None:
    first, second = await site.worker(), await site.worker()
    change = await site.commit()
    assert await first.publish([change])
    for _ in range(50):
        assert await first.publish([change])
    assert (await site.stream.view()).end == 1
    async with asyncio.timeout(60):
        while not (known := await row_of(site, change)).confirmed:
            await asyncio.sleep(0.02)
    # Read from SQL, as who repeats a sign-out at another worker does.
    for _ in range(50):
        assert await second.publish([known])
    assert (await site.stream.view()).end == 1


async def test_what_could_not_be_confirmed_is_told_again_when_it_is_asked_for_again(
    site: Site,
) -> None:
    site.options = ReplicaOptions()
    replica = await site.worker()
    await site.stream.register("elsewhere.1.1.ff")
    await site.stream.renew("elsewhere.1.1.ff", 1, 0, 0)
    change = await site.commit()
    assert not await replica.publish([change])
    assert not (await row_of(site, change)).confirmed
    await site.stream.withdraw("elsewhere.1.1.ff")
    assert await replica.publish([await row_of(site, change)])


async def row_of(site: Site, change: Change) -> Change:
    async with site.database.read_transaction() as tx:
        row = await tx.one("SELECT * FROM changes WHERE id = :id", id=change.id)
    assert row is not None
    return revocations.change_of(row)


class Overtaken(RedisChangeStream):
    """Its renewals are answered late: news on another connection overtake them."""

    def __init__(self, redis: RedisStore) -> None:
        super().__init__(redis)
        self.registered = 0
        self.late = False
        self.under_way = asyncio.Event()
        self.go = asyncio.Event()

    async def register(self, worker: str) -> StreamView:
        self.registered += 1
        return await super().register(worker)

    async def renew(
        self, worker: str, heartbeat: int, position: int, keys_position: int
    ) -> StreamView | None:
        view = await super().renew(worker, heartbeat, position, keys_position)
        if self.late:
            self.under_way.set()
            await self.go.wait()
        return view


async def test_news_that_overtake_the_answer_to_a_renewal_do_not_cost_the_lease(
    site: Site, redis: RedisStore
) -> None:
    way = Overtaken(redis)
    replica = await site.worker(stream=way)
    way.late = True
    await way.under_way.wait()
    await site.stream.append([await site.commit()])
    await eventually(lambda: replica.refusal(principal()) is Reason.TOKEN_REVOKED)
    way.late = False
    way.go.set()
    assert await replica.publish([await site.commit(target="s2")])
    assert replica.is_live()
    assert way.registered == 1


async def test_a_worker_that_stops_is_waited_for_by_nobody(site: Site) -> None:
    first, second = await site.worker(), await site.worker()
    await second.stop()
    assert second.refusal(principal()) is Reason.REPLICA_STALE
    assert await first.publish([await site.commit()])


WORKER = """
import asyncio, sys
from gateway.model import SystemClock
from gateway.stores.open_database import open_database
from gateway.stores.redis import open_redis
from gateway.stores.stream import RedisChangeStream
from gateway.revocation.replica import Replica, ReplicaOptions

async def serve(database_url, redis_url, prefix):
    stream = RedisChangeStream(open_redis(redis_url, prefix=prefix))
    replica = Replica(open_database(database_url), stream, SystemClock(), ReplicaOptions())
    replica.start()
    while not replica.is_live():
        await asyncio.sleep(0.01)
    print("live", flush=True)
    await asyncio.Event().wait()

asyncio.run(serve(*sys.argv[1:]))
"""


async def test_a_worker_killed_with_9_holds_up_nobody_on_its_machine(
    site: Site, database_url: str, redis_url: str, key_prefix: str
) -> None:
    replica = await site.worker()
    words = [sys.executable, "-c", WORKER, database_url, redis_url, key_prefix]
    other = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert other.stdout
    async with asyncio.timeout(60):
        while await other.stdout.readline() != b"live\n":
            pass
    assert await replica.publish([await site.commit(target="before")])
    other.kill()
    await other.wait()
    assert await replica.publish([await site.commit(target="after")])


async def test_an_unanswered_lease_makes_the_announcement_unconfirmed(site: Site) -> None:
    site.options = ReplicaOptions()
    replica = await site.worker()
    await site.stream.register("elsewhere.1.1.ff")
    await site.stream.renew("elsewhere.1.1.ff", 1, 0, 0)
    assert not await replica.publish([await site.commit()])
    assert replica.refusal(principal()) is Reason.TOKEN_REVOKED


async def test_a_lease_that_is_still_loading_is_waited_for_by_nobody(site: Site) -> None:
    replica = await site.worker()
    await site.stream.register("elsewhere.1.1.ff")
    assert await replica.publish([await site.commit()])


async def test_a_command_of_the_shell_announces_to_the_workers_too(site: Site) -> None:
    replica = await site.worker()
    shell = StreamPublisher(
        site.database, site.stream, SystemClock(), max_staleness_s=5, confirm_timeout_s=20
    )
    assert await shell.publish([await site.commit()])
    assert replica.refusal(principal()) is Reason.TOKEN_REVOKED
    assert await revocations.unpublished(site.database, -5) == []


async def test_a_change_of_keys_is_confirmed_only_once_every_worker_has_read_them(
    site: Site,
) -> None:
    may_read = asyncio.Event()
    may_read.set()
    read: list[str] = []

    async def read_keys() -> None:
        await may_read.wait()
        read.append("keys")

    first = await site.worker()
    second = await site.worker(keys_changed=read_keys)
    await eventually(lambda: bool(read))
    may_read.clear()
    change = await site.commit(ChangeKind.KEYS, "k2")
    announcing = asyncio.create_task(first.publish([change]))
    session = await site.commit(target="s9")
    assert await first.publish([session])
    assert not announcing.done()
    before = len(read)
    may_read.set()
    assert await announcing
    assert len(read) > before
    assert second.is_live()


async def test_keys_that_cannot_be_read_leave_their_change_unconfirmed(site: Site) -> None:
    async def read_keys() -> None:
        raise StoreUnavailable("sql")

    site.options = ReplicaOptions()
    replica = await site.worker(keys_changed=read_keys)
    assert not await replica.publish([await site.commit(ChangeKind.KEYS, "k2")])
    assert replica.is_live()


async def test_nothing_to_announce_is_confirmed(site: Site) -> None:
    assert await (await site.worker()).publish([])


async def test_old_rows_are_pruned_and_live_ones_kept(site: Site) -> None:
    replica = await site.worker()
    assert await replica.publish([await site.commit()])
    await replica._publisher.mark()
    assert await revocations.prune(site.database, 3600) == 0
    assert await revocations.prune(site.database, -10) == 1


async def test_nothing_is_forgotten_while_nodes_differ(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.revocation.replica.HOUSEKEEPING_EVERY_S", 0.05)
    replica = await site.worker()
    differs, asked = [True], [0]

    def confirms_nothing() -> bool:
        asked[0] += 1
        return differs[0]

    replica.confirms_nothing = confirms_nothing
    await eventually(lambda: asked[0] >= 1)  # no round is under way that has asked before
    asked[0] = 0
    change = await site.commit()
    async with site.database.transaction() as tx:
        await tx.run(
            "UPDATE changes SET created_at = 0, published = 2 WHERE id = :id", id=change.id
        )

    async def held() -> bool:
        async with site.database.read_transaction() as tx:
            return await tx.one("SELECT 1 FROM changes WHERE id = :id", id=change.id) is not None

    await eventually(lambda: asked[0] >= 3)
    assert await held()
    differs[0] = False
    async with asyncio.timeout(60):
        while await held():
            await asyncio.sleep(0.02)


async def test_every_change_is_loaded_however_many_pages_they_fill(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "PAGE_ROWS", 7)
    async with site.database.transaction() as tx:
        for number in range(30):
            await revocations.record(
                tx, ChangeKind.SESSION, f"s{number}", Reason.TOKEN_REVOKED, not_before=0
            )
    found = [change.target async for change, _ in revocations.every(site.database, 3600)]
    assert sorted(found) == sorted(f"s{number}" for number in range(30))


async def test_whoever_follows_is_told_of_a_change_once_it_is_refused_and_before_it_counts(
    site: Site,
) -> None:
    first, second = await site.worker(), await site.worker()
    told: list[tuple[str, Reason | None]] = []
    for name, replica in (("first", first), ("second", second)):
        replica.on_change.append(
            lambda change, name=name, replica=replica: told.append(  # type: ignore[misc]
                (name, replica.refusal(principal(session_id=change.target)))
            )
        )
    assert await first.publish([await site.commit(target="s-told")])
    refused = Reason.TOKEN_REVOKED
    assert {("first", refused), ("second", refused)} <= set(told)
