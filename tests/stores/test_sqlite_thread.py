"""A connection of SQLite in its own thread: in order, whatever becomes of the callers."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading

import pytest

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.sqlite_thread import SqliteThread


def in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


async def test_the_work_of_a_cancelled_caller_is_finished_before_the_next_begins() -> None:
    thread, may_go_on, order = SqliteThread(in_memory), threading.Event(), list[str]()

    def slow(_: sqlite3.Connection) -> None:
        may_go_on.wait(5)
        order.append("cancelled")

    cancelled = asyncio.create_task(thread.run(slow))
    await asyncio.sleep(0)
    cancelled.cancel()
    following = asyncio.create_task(thread.run(lambda _: order.append("following")))
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    may_go_on.set()
    await following
    assert order == ["cancelled", "following"]
    await thread.close()


async def test_an_error_reaches_its_caller_and_the_next_work_goes_on() -> None:
    thread = SqliteThread(in_memory)
    with pytest.raises(sqlite3.OperationalError):
        await thread.run(lambda c: c.execute("SELECT nothing"))
    assert await thread.run(lambda c: c.execute("SELECT 1").fetchone()) == (1,)
    await thread.close()


async def test_a_file_that_cannot_be_opened_is_tried_again_with_the_next_work() -> None:
    tries: list[int] = []

    def connect() -> sqlite3.Connection:
        tries.append(1)
        if len(tries) == 1:
            raise sqlite3.OperationalError("unable to open database file")
        return in_memory()

    thread = SqliteThread(connect)
    with pytest.raises(sqlite3.OperationalError):
        await thread.run(lambda c: c.execute("SELECT 1"))
    assert await thread.run(lambda c: c.execute("SELECT 1").fetchone()) == (1,)
    await thread.close()


async def test_what_comes_after_the_end_is_an_outage() -> None:
    thread = SqliteThread(in_memory)
    waiting = asyncio.create_task(thread.run(lambda c: c.execute("SELECT 1").fetchone()))
    await asyncio.sleep(0)
    await thread.close()
    await thread.close()
    assert await waiting == (1,)
    with pytest.raises(StoreUnavailable):
        await thread.run(lambda c: c.execute("SELECT 1"))


def test_a_process_that_ends_waits_for_no_connection() -> None:
    program = (
        "import asyncio, sqlite3, threading\n"
        "from gateway.stores.sqlite_thread import SqliteThread\n"
        "async def go():\n"
        "    thread = SqliteThread(lambda: sqlite3.connect(':memory:'))\n"
        "    begun = threading.Event()\n"
        "    asyncio.ensure_future(\n"
        "        thread.run(lambda c: (begun.set(), threading.Event().wait()))\n"
        "    )\n"
        "    await asyncio.to_thread(begun.wait)\n"
        "asyncio.run(go())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
