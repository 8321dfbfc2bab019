"""The rows of `changes`: kept as long as a token may last, whatever the wall clock does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.replica import ReplicaOptions
from gateway.stores.protocols import Database
from tests.databases import Hands, fresh_database

LIFE_S = 900.0
KEEP_S = ReplicaOptions(max_token_life_s=LIFE_S).keep_s
HOUR_S = 3600.0


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def store(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as database:
        yield database


async def revoked(store: Database) -> Change:
    async with store.transaction() as tx:
        return await revocations.record(tx, ChangeKind.SESSION, "s1", Reason.TOKEN_REVOKED)


async def kept(store: Database) -> list[float]:
    return [keep_s async for _, keep_s in revocations.every(store, KEEP_S)]


async def test_a_change_is_recorded_at_the_stores_now(store: Database, clock: Hands) -> None:
    change = await revoked(store)
    assert (change.not_before, change.created_at) == (int(clock.at), int(clock.at))
    assert await revocations.unpublished(store, 0) == [change]


@pytest.mark.parametrize("jump_s", [-HOUR_S, 0.0, HOUR_S])
async def test_a_jump_of_the_clock_forgets_no_change_that_a_token_may_outlive(
    store: Database, clock: Hands, jump_s: float
) -> None:
    await revoked(store)
    await revocations.mark_published(store, {(await revoked(store)).id: revocations.PUBLISHED})
    clock.move(jump_s + LIFE_S)
    assert await revocations.prune(store, KEEP_S) == 0
    # A token given just before lives as much longer as the clock was set back.
    assert all(keep_s >= -min(jump_s, 0.0) for keep_s in await kept(store))
    assert len(await kept(store)) == 2


async def test_a_change_from_the_future_is_kept_no_longer_than_others(
    store: Database, clock: Hands
) -> None:
    await revoked(store)
    clock.move(-HOUR_S)
    assert await kept(store) == [KEEP_S]


async def test_what_no_token_can_be_touched_by_goes_once_it_is_published(
    store: Database, clock: Hands
) -> None:
    change = await revoked(store)
    clock.move(KEEP_S + 1)
    assert await revocations.prune(store, KEEP_S) == 0
    await revocations.mark_published(store, {change.id: revocations.PUBLISHED})
    assert await revocations.prune(store, KEEP_S) == 1
    assert await kept(store) == []
