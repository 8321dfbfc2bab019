"""A module with `VIRTUAL_TIME = True` has time that passes where everybody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.databases import fresh_database
from tests.revocation.house import House
from tests.revocation.virtual_time import (
    VirtualClock,
    VirtualTimeDatabase,
    VirtualTimeLoop,
    virtual_clock,
)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if getattr(getattr(item, "module", None), "VIRTUAL_TIME", False):
        return {"virtual": VirtualTimeLoop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def virtual() -> VirtualClock:
    """For a module with VIRTUAL_TIME: the clock that its loop goes by."""
    return virtual_clock()


@pytest.fixture
async def timeless_database(tmp_path: Path) -> AsyncIterator[VirtualTimeDatabase]:
    """For a module with VIRTUAL_TIME: no time passes while SQL is asked."""
    clock = virtual_clock()
    stack = AsyncExitStack()
    with clock.waiting_for_a_thread():
        database = await stack.enter_async_context(fresh_database(tmp_path, clock))
    yield VirtualTimeDatabase(database, clock)
    with clock.waiting_for_a_thread():
        await stack.aclose()


@pytest.fixture
async def house(
    timeless_database: VirtualTimeDatabase, virtual: VirtualClock
) -> AsyncIterator[House]:
    house = House(timeless_database, virtual)
    yield house
    house.database.away = False
    house.database.answers.set()
    for worker in house.workers:
        await worker.stop()
