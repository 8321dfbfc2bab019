"""PostgreSQL away, in every way: an outage within two seconds, and healed without us."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database, StoreBusy, StoreUnavailable
from tests.cpu_cost import awaited_cost_ratio
from tests.faults import EVERY, Fault, FaultProxy, proxied
from tests.servers import PostgresServer
from tests.stores.failed_calls import is_let_go

pytestmark = pytest.mark.slow

TIMEOUT_S = 2.3


async def ask(database: Database) -> object:
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT 1 AS n")
    return row and row["n"]


async def fails_in_time(database: Database) -> None:
    before = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await ask(database)
    assert time.monotonic() - before < TIMEOUT_S


async def heals(database: Database, timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                assert await ask(database) == 1
                return
            except StoreUnavailable:
                await asyncio.sleep(0.02)


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[FaultProxy]:
    async with proxied(urlsplit(postgres_url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: FaultProxy, postgres_url: str) -> AsyncIterator[Database]:
    parts = urlsplit(postgres_url)
    login = parts.netloc.rpartition("@")[0]
    through = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))
    database = open_database(through, pool_size=3)
    yield database
    await database.close()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Database]:
    database = open_database(postgres_url, pool_size=3)
    yield database
    await database.close()


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET, Fault.HANG, Fault.CUT])
async def test_what_a_failed_call_held_is_let_go_with_it(
    proxy: FaultProxy, behind: Database, fault: Fault
) -> None:
    await heals(behind)
    await proxy.set(fault)
    for _ in range(2):  # the session that is there, and one that is to be opened
        assert await is_let_go(lambda: ask(behind))


@pytest.mark.parametrize("fault", [f for f in EVERY if f is not Fault.DELAY])
async def test_each_fault_is_an_outage_in_time_and_heals(
    proxy: FaultProxy, behind: Database, fault: Fault
) -> None:
    assert await ask(behind) == 1
    await proxy.set(fault)
    await fails_in_time(behind)
    await fails_in_time(behind)
    await proxy.set(Fault.NONE)
    await heals(behind)


async def test_many_callers_of_a_server_that_hangs_all_hear_in_time(
    proxy: FaultProxy, behind: Database
) -> None:
    await ask(behind)
    await proxy.set(Fault.HANG)
    before = time.monotonic()
    answers = await asyncio.gather(*(ask(behind) for _ in range(30)), return_exceptions=True)
    assert time.monotonic() - before < TIMEOUT_S
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    await proxy.set(Fault.NONE)
    await heals(behind)


async def test_connections_that_died_while_they_rested_are_not_noticed(
    proxy: FaultProxy, behind: Database
) -> None:
    await asyncio.gather(*(ask(behind) for _ in range(3)))
    await proxy.set(Fault.RESET)
    await proxy.set(Fault.NONE)
    assert await asyncio.gather(*(ask(behind) for _ in range(3))) == [1, 1, 1]


async def test_sessions_that_were_reset_while_they_rested_are_not_noticed(
    proxy: FaultProxy, behind: Database
) -> None:
    for pause_s in (0.0, 0.05):
        await asyncio.gather(*(ask(behind) for _ in range(3)))
        proxy.begin_reset()
        await asyncio.sleep(pause_s)  # the loop hears of it while we ask, or before
        assert await asyncio.gather(*(ask(behind) for _ in range(3))) == [1, 1, 1]


@pytest.mark.parametrize("fault", [f for f in EVERY if f is not Fault.DELAY])
async def test_a_fault_in_the_middle_of_a_transaction_is_an_outage_and_no_other_exception(
    proxy: FaultProxy, behind: Database, fault: Fault
) -> None:
    async def work(number: int) -> None:
        async with behind.transaction() as tx:
            await tx.run("INSERT INTO seen (n, text) VALUES (:n, :text)", n=number, text="né" * 99)
            await tx.many(
                "UPDATE seen SET text = :text WHERE n = :n", [{"n": number, "text": "b"}] * 3
            )
            if number >= 0 and fault is not Fault.NONE:
                await proxy.set(fault)
            for _ in range(3):
                await tx.now()
                rows = await tx.all("SELECT n, text, n = 1 AS truth FROM seen ORDER BY n")
                assert {"n", "text", "truth"} == set(rows[0])

    async with behind.transaction() as tx:
        await tx.all("CREATE TABLE seen (n INTEGER, text TEXT)")
    await work(-1)
    for number in range(4):
        await proxy.set(Fault.NONE)
        with pytest.raises(StoreUnavailable):
            await work(number)


async def test_a_commit_that_the_server_answers_with_a_rollback_is_no_commit(
    postgres: Database,
) -> None:
    """As it does where a statement failed and somebody went on."""
    with pytest.raises(StoreUnavailable):  # noqa: PT012
        async with postgres.transaction() as tx:
            await tx.all("SELECT 1 AS n")
            with suppress(psycopg.Error):
                await tx.all("SELECT nothing")
    assert await ask(postgres) == 1


async def test_sessions_that_were_silently_dropped_while_they_rested_are_replaced(
    proxy: FaultProxy, behind: Database
) -> None:
    """As a firewall does: nothing comes back on the old ones, new ones are let through."""
    await asyncio.gather(*(ask(behind) for _ in range(3)))
    proxy.drop_silently()
    assert await ask(behind) == 1
    assert await asyncio.gather(*(ask(behind) for _ in range(3))) == [1, 1, 1]


async def test_refused_connections_leave_nothing_behind_in_the_loop(
    proxy: FaultProxy, behind: Database
) -> None:
    """libpq closes its socket itself: its number comes back for the next connection."""
    await proxy.set(Fault.REFUSE)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(40):
        await fails_in_time(behind)
    assert len(os.listdir("/proc/self/fd")) <= before
    await proxy.set(Fault.NONE)
    await heals(behind)


async def test_a_session_that_the_server_ended_while_it_rested_costs_no_cpu(
    postgres: Database, postgres_url: str
) -> None:
    async with postgres.read_transaction() as tx:
        row = await tx.one("SELECT pg_backend_pid() AS pid")
    assert row
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (row["pid"],))
    # Measured 0.4; a loop that turns without an end costs a thousand, or some hundreds of a busy core.
    assert await awaited_cost_ratio(lambda: asyncio.sleep(0.3), rounds=1) < 30
    assert await ask(postgres) == 1


async def test_the_second_host_of_the_url_is_tried_when_the_first_refuses(
    postgres_url: str,
) -> None:
    parts = urlsplit(postgres_url)
    login, _, host = parts.netloc.rpartition("@")
    both = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:1,{host}"))
    database = open_database(both)
    assert await ask(database) == 1
    await database.close()


async def test_an_exhausted_pool_is_busy_in_time(postgres: Database) -> None:
    async with (
        postgres.read_transaction(),
        postgres.read_transaction(),
        postgres.read_transaction(),
    ):
        with pytest.raises(StoreBusy):
            await ask(postgres)
    assert await ask(postgres) == 1


async def test_a_statement_that_takes_too_long_is_an_outage_and_no_traceback(
    postgres: Database, caplog: pytest.LogCaptureFixture
) -> None:
    before = time.monotonic()
    with caplog.at_level(logging.ERROR, "asyncio"), pytest.raises(StoreUnavailable):
        async with postgres.read_transaction() as tx:
            await tx.all("SELECT pg_sleep(30)")
    assert time.monotonic() - before < TIMEOUT_S
    assert caplog.records == []
    assert await ask(postgres) == 1


async def test_a_query_that_the_operator_cancelled_is_an_outage_and_cancels_nobody(
    postgres: Database, postgres_url: str
) -> None:
    async def slow() -> None:
        async with postgres.read_transaction() as tx:
            await tx.all("SELECT pg_sleep(1.1) AS sleeping_here")

    task = asyncio.create_task(slow())
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        while not connection.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%sleeping_here%' AND state = 'active' AND pid <> pg_backend_pid()"
        ).fetchall():
            await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailable):
        await task
    assert not task.cancelled()


async def test_a_session_that_the_server_ended_in_the_middle_is_an_outage(
    postgres: Database, postgres_url: str
) -> None:
    with pytest.raises(StoreUnavailable):  # noqa: PT012
        async with postgres.transaction() as tx:
            row = await tx.one("SELECT pg_backend_pid() AS pid")
            assert row
            with psycopg.connect(postgres_url) as connection:
                connection.cursor().execute("SELECT pg_terminate_backend(%s)", (row["pid"],))
            await tx.one("SELECT 1")
    assert await ask(postgres) == 1


async def test_settings_are_of_the_transaction_so_that_pgbouncer_may_pool(
    postgres: Database,
) -> None:
    """What is set for the session would follow another caller through a shared connection."""
    async with postgres.transaction() as tx:
        assert (await tx.one("SHOW statement_timeout")) == {"statement_timeout": "1200ms"}
    session = postgres._pool._idle[-1]  # type: ignore[attr-defined]
    for sql, answer in (
        ("SHOW statement_timeout", "0"),
        ("SELECT count(*) FROM pg_prepared_statements", 0),
    ):
        cursor = await session.execute(sql)
        assert await cursor.fetchone() == (answer,)


async def test_a_name_that_does_not_resolve_is_an_outage() -> None:
    database = open_database("postgresql://u@name.invalid/d")
    await fails_in_time(database)
    await database.close()


async def test_a_database_that_is_missing_is_told(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    missing = urlunsplit(parts._replace(path="/missing"))
    database = open_database(missing)
    with pytest.raises(StoreUnavailable) as raised:
        await ask(database)
    assert raised.value.detail.startswith('database "missing" does not exist (at 127.0.0.1:')
    await database.close()


async def test_a_server_that_became_a_standby_is_an_outage_and_its_session_is_left(
    postgres: Database,
) -> None:
    with pytest.raises(StoreUnavailable):  # noqa: PT012
        async with postgres.transaction() as tx:
            await tx.run("SET TRANSACTION READ ONLY")
            await tx.run("CREATE TABLE t (id TEXT)")
    assert postgres._pool._idle == []  # type: ignore[attr-defined]


async def test_kill_9_of_the_server_is_an_outage_and_its_return_heals(
    own_postgres: PostgresServer,
) -> None:
    database = open_database(own_postgres.url, pool_size=3)
    assert await ask(database) == 1
    own_postgres.kill()
    await fails_in_time(database)
    await asyncio.to_thread(own_postgres.start_again)
    await heals(database)
    await database.close()


async def test_a_frozen_server_is_an_outage_in_time_and_heals_when_it_goes_on(
    own_postgres: PostgresServer,
) -> None:
    database = open_database(own_postgres.url, pool_size=3)
    assert await ask(database) == 1
    own_postgres.freeze()
    await fails_in_time(database)
    own_postgres.thaw()
    await heals(database)
    await database.close()
