"""The rows of `changes`: kept as long as a token may last, whatever the wall clock does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.replica import ReplicaOptions
from gateway.stores.protocols import Database, Row, Transaction
from tests.databases import Hands

LIFE_S = 900.0
KEEP_S = ReplicaOptions(max_token_life_s=LIFE_S).keep_s
HOUR_S = 3600.0


async def revoked(store: Database) -> Change:
    async with store.transaction() as tx:
        return await revocations.record(tx, ChangeKind.SESSION, "s1", Reason.TOKEN_REVOKED)


async def kept(store: Database) -> list[float]:
    return [keep_s async for _, keep_s in revocations.every(store, KEEP_S)]


async def test_a_change_is_recorded_at_the_stores_now(store: Database, hands: Hands) -> None:
    change = await revoked(store)
    assert (change.not_before, change.created_at) == (int(hands.at), int(hands.at))
    assert await revocations.unpublished(store, 0) == [change]


@pytest.mark.parametrize("jump_s", [-HOUR_S, 0.0, HOUR_S])
async def test_a_jump_of_the_clock_forgets_no_change_that_a_token_may_outlive(
    store: Database, hands: Hands, jump_s: float
) -> None:
    await revoked(store)
    await revocations.mark_published(store, {(await revoked(store)).id: revocations.PUBLISHED})
    hands.move(jump_s + LIFE_S)
    assert await revocations.prune(store, KEEP_S) == 0
    # A token given just before lives as much longer as the clock was set back.
    assert all(keep_s >= -min(jump_s, 0.0) for keep_s in await kept(store))
    assert len(await kept(store)) == 2


async def test_a_change_from_the_future_is_kept_no_longer_than_others(
    store: Database, hands: Hands
) -> None:
    await revoked(store)
    hands.move(-HOUR_S)
    assert await kept(store) == [KEEP_S]


async def test_what_no_token_can_be_touched_by_goes_once_it_is_published(
    store: Database, hands: Hands
) -> None:
    change = await revoked(store)
    hands.move(KEEP_S + 1)
    assert await revocations.prune(store, KEEP_S) == 0
    await revocations.mark_published(store, {change.id: revocations.PUBLISHED})
    assert await revocations.prune(store, KEEP_S) == 1
    assert await kept(store) == []


SESSION = revocations.Refusal(ChangeKind.SESSION, "company:s-1", 500)
SUBJECT = revocations.Refusal(ChangeKind.SUBJECT, "company:ann", 500)


async def refused(store: Database, *refusals: revocations.Refusal) -> list[Change]:
    async with store.transaction() as tx:
        return await revocations.refuse_all(tx, refusals)


async def test_what_is_refused_already_gets_no_second_row(database: Database) -> None:
    first = await refused(database, SESSION, SUBJECT, SESSION)
    assert first[0] is first[2]
    assert [(one.kind, one.target, one.not_before) for one in first[:2]] == [
        (ChangeKind.SESSION, "company:s-1", 500),
        (ChangeKind.SUBJECT, "company:ann", 500),
    ]
    assert await refused(database, SUBJECT, SESSION) == [first[1], first[0]]
    earlier = revocations.Refusal(ChangeKind.SUBJECT, "company:ann", 499)
    assert await refused(database, earlier) == [first[1]]
    assert len(await revocations.unpublished(database, -60)) == 2
    assert await refused(database) == []


async def test_a_later_date_of_a_subject_is_a_row_of_its_own(database: Database) -> None:
    (first,) = await refused(database, SUBJECT)
    later = revocations.Refusal(ChangeKind.SUBJECT, "company:ann", 501)
    (second,) = await refused(database, later)
    assert (second.id != first.id, second.not_before) == (True, 501)


class Reading:
    """A transaction that counts the rows that were read in it."""

    def __init__(self, tx: Transaction) -> None:
        self.tx, self.rows = tx, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tx, name)

    async def all(self, sql: str, **values: Any) -> list[Row]:
        rows = await self.tx.all(sql, **values)
        self.rows += len(rows)
        return rows


async def test_of_a_subject_that_was_refused_again_and_again_one_row_is_read(
    database: Database,
) -> None:
    for at in range(500, 540):
        await refused(database, replace(SUBJECT, not_before=at))
    for at, found in ((500, 1), (540, 0)):
        async with database.transaction() as tx:
            reading = Reading(tx)
            asked = [replace(SUBJECT, not_before=at)]
            await revocations.refuse_all(cast("Transaction", reading), asked)
        assert reading.rows == found


async def test_a_change_of_roles_or_of_another_kind_refuses_not_enough(database: Database) -> None:
    async with database.transaction() as tx:
        for kind, cause in (
            (ChangeKind.SUBJECT, Reason.TOKEN_OUTDATED),
            (ChangeKind.CLIENT, Reason.TOKEN_REVOKED),
        ):
            await revocations.record(tx, kind, "company:ann", cause, not_before=900)
    (change,) = await refused(database, SUBJECT)
    assert (change.cause, change.not_before) == (Reason.TOKEN_REVOKED, 500)


async def test_what_every_worker_had_is_told_to_be_confirmed(database: Database) -> None:
    (change,) = await refused(database, SESSION)
    await revocations.mark_published(database, {change.id: revocations.CONFIRMED})
    (again,) = await refused(database, SESSION)
    assert (again.id, again.confirmed) == (change.id, True)
