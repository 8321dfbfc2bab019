"""Background tasks go on after whatever happens to them, and end when told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.background_tasks import Tasks
from gateway.client_networks import OWN_TASKS, asking_for
from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.metrics import Tally


async def test_a_task_that_fails_is_begun_again_and_told_once() -> None:
    runs: list[int] = []
    done = asyncio.Event()

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise LookupError("no")
        done.set()

    tasks = Tasks()
    with capture_logs() as logs:
        tasks.start("work", work)
        async with asyncio.timeout(60):
            await done.wait()
    await tasks.stop()
    assert [entry["event"] for entry in logs] == ["task-failed"]


async def test_what_a_task_asks_of_a_store_is_asked_for_the_worker_itself() -> None:
    """Callers from many neighbourhoods must not keep it waiting."""
    asked_for = asyncio.get_running_loop().create_future()

    async def work() -> None:
        asked_for.set_result(asking_for.get())

    tasks = Tasks()
    tasks.start("work", work)
    assert await asked_for == OWN_TASKS
    assert asking_for.get() != OWN_TASKS
    await tasks.stop()


async def test_a_store_that_is_away_is_told_without_a_traceback() -> None:
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise StoreUnavailable("redis", "away")

    tasks = Tasks()
    logs: list[Any]
    with capture_logs() as logs:
        tasks.start("work", work)
        await failed.wait()
        await asyncio.sleep(0)
    await tasks.stop()
    assert [(e["event"], e["store"], "exc_info" in e) for e in logs] == [
        ("task-waits-for-store", "redis", False)
    ]


async def test_a_repeated_task_runs_again_and_again() -> None:
    enough = asyncio.Event()
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) == 3:
            enough.set()

    tasks = Tasks()
    tasks.every("work", 0.001, work)
    async with asyncio.timeout(60):
        await enough.wait()
    await tasks.stop()


async def test_stopping_ends_even_a_task_that_misses_a_cancellation() -> None:
    """As `asyncio.wait_for` does before Python 3.12 when its answer comes at that moment."""
    missed: list[int] = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if missed:
                    raise
                missed.append(1)

    tasks = Tasks()
    tasks.start("work", work)
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await tasks.stop()
    assert missed


async def test_two_tasks_of_one_name_are_a_mistake() -> None:
    async def work() -> None:
        await asyncio.sleep(3600)

    tasks = Tasks()
    tasks.start("work", work)
    with pytest.raises(ValueError, match="runs already"):
        tasks.start("work", work)
    await tasks.stop()


async def test_a_failure_that_no_store_is_to_blame_for_is_counted() -> None:
    failed = Tally()
    tries: list[int] = []
    done = asyncio.Event()

    async def work() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise StoreUnavailable("redis", "away")
        if len(tries) == 2:
            raise LookupError("a defect")
        done.set()

    tasks = Tasks(failed)
    tasks.start("work", work)
    async with asyncio.timeout(60):
        await done.wait()
    await tasks.stop()
    assert failed.n == 1
