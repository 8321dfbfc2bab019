"""What `gateway doctor` finds in real stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.model import SystemClock
from gateway.stores.health import Finding, State, redis_findings, sql_findings, worst
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from gateway.stores.redis import open_redis
from tests.servers import SentinelServer, ValkeyServer, wait_until


class Ahead:
    def now(self) -> float:
        return SystemClock().now() + 7

    def steady(self) -> float:
        return SystemClock().steady()


def states(findings: list[Finding]) -> dict[str, State]:
    return {finding.check: finding.state for finding in findings}


async def found_in(url: str) -> dict[str, State]:
    redis = open_redis(url)
    try:
        return states(await redis_findings(redis))
    finally:
        await redis.close()


async def test_a_sound_database_has_nothing_bad(database: Database) -> None:
    found = states(await sql_findings(database, SystemClock()))
    # The suite's own PostgreSQL is not durable, so as to be quick.
    bad = {check for check, state in found.items() if state is State.BAD} - {"durability"}
    assert bad == set()
    assert found["schema"] is State.GOOD


async def test_a_database_without_its_schema_is_bad(empty_database: Database) -> None:
    assert states(await sql_findings(empty_database, SystemClock()))["schema"] is State.BAD


async def test_a_postgresql_that_may_lose_what_it_answered_is_bad(postgres_url: str) -> None:
    database = open_database(postgres_url)
    found = states(await sql_findings(database, SystemClock()))
    await database.close()
    assert found["durability"] is State.BAD


async def test_a_clock_that_is_off_is_bad(postgres_url: str) -> None:
    database = open_database(postgres_url)
    found = states(await sql_findings(database, Ahead()))
    await database.close()
    assert found["clock"] is State.BAD


async def test_stores_that_cannot_be_reached_are_away() -> None:
    database = open_database("postgresql://u@127.0.0.1:1/d")
    assert states(await sql_findings(database, SystemClock())) == {"sql": State.AWAY}
    assert await found_in("redis://127.0.0.1:1") == {"redis": State.AWAY}
    assert worst([Finding("a", State.GOOD, ""), Finding("b", State.AWAY, "")]) is State.AWAY


async def test_a_server_that_evicts_is_bad_and_one_without_a_file_a_warning(
    own_valkey: Callable[..., ValkeyServer],
) -> None:
    server = own_valkey(maxmemory_policy="allkeys-lru", appendonly="no")
    found = await found_in(server.url)
    assert found["eviction"] is State.BAD
    assert found["persistence"] is State.WARNING
    server.ask(b"CONFIG SET maxmemory-policy noeviction")
    assert (await found_in(server.url))["eviction"] is State.GOOD


async def test_sentinel_without_its_replica_or_its_guard_is_bad(
    own_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    master = own_valkey()
    sentinel = SentinelServer(tmp_path / "sentinel", master.port)
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
    try:
        sentinel.start()
        found = await found_in(url)
        assert (found["replicas"], found["min-replicas-to-write"]) == (State.BAD, State.BAD)
        own_valkey(replicaof=f"127.0.0.1 {master.port}")
        master.ask(b"CONFIG SET min-replicas-to-write 1")
        wait_until(lambda: sentinel.knows(replicas=1), 15, "Sentinel to see the replica")
        found = await found_in(url)
        assert (found["replicas"], found["min-replicas-to-write"]) == (State.GOOD, State.GOOD)
    finally:
        sentinel.kill()
