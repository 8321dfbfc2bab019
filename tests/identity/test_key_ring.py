from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg
from gateway.identity.keys.key_ring import (
    LOOK_EVERY_S,
    MOST_WAITING,
    SIGNING_LEASE_S,
    KeyRing,
    KeyState,
)
from gateway.stores.protocols import Database, StoreBusy, StoreUnavailable, Transaction
from tests.identity.keyring import Gate, HandClock, opened

UNKNOWN = "A" * 43


class Counted:
    """A database that counts readings, and can be away."""

    dialect = "sqlite"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.readings = 0
        self.away = False

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._database.transaction()

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        if self.away:
            raise StoreUnavailable("sql", "away")
        self.readings += 1
        return self._database.read_transaction()

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    async def close(self) -> None:
        await self._database.close()


@pytest.fixture
async def database(tmp_path: Path, clock: HandClock) -> AsyncIterator[Counted]:
    async with opened(tmp_path, clock) as real:
        yield Counted(real)


@pytest.fixture
async def gate(database: Counted, clock: HandClock) -> Gate:
    return await Gate(database, clock).start()


def published(gate: Gate) -> list[str]:
    return [key["kid"] for key in json.loads(gate.ring.jwks.body)["keys"]]


async def test_the_jwks_names_the_active_and_the_next_key(gate: Gate) -> None:
    assert set(published(gate)) == gate.ring.kids()
    assert len(published(gate)) == 2


async def test_the_signing_key_is_the_active_one(gate: Gate) -> None:
    active = next(row for row in await gate.rotation.listing() if row.state is KeyState.ACTIVE)
    assert gate.ring.signing_key().kid == active.kid


async def test_an_unread_ring_signs_nothing_and_publishes_an_empty_jwks(
    database: Counted, clock: HandClock
) -> None:
    gate = Gate(database, clock)
    assert published(gate) == []
    with pytest.raises(StoreUnavailable):
        gate.ring.signing_key()


async def test_a_ring_that_was_not_read_for_too_long_does_not_sign(
    gate: Gate, clock: HandClock
) -> None:
    clock.advance(SIGNING_LEASE_S)
    assert gate.ring.signing_key()
    clock.advance(1)
    with pytest.raises(StoreUnavailable):
        gate.ring.signing_key()
    await gate.ring.refresh()
    assert gate.ring.signing_key()


async def test_the_lease_is_counted_on_the_clock_that_never_jumps(
    gate: Gate, clock: HandClock
) -> None:
    clock.at -= 3600
    clock.steadily += SIGNING_LEASE_S + 1
    with pytest.raises(StoreUnavailable):
        gate.ring.signing_key()


async def test_a_store_that_is_away_leaves_the_ring_as_it_was(
    gate: Gate, database: Counted
) -> None:
    kids_before = gate.ring.kids()
    database.away = True
    with pytest.raises(StoreUnavailable):
        await gate.ring.refresh()
    assert gate.ring.kids() == kids_before
    assert gate.ring.signing_key()


async def test_under_another_secret_a_process_verifies_but_does_not_sign(
    gate: Gate, database: Counted, clock: HandClock
) -> None:
    other = Gate(database, clock, sealer=Sealer(bytes(range(1, 33))))
    await other.ring.refresh()
    assert other.ring.kids() == gate.ring.kids()
    with pytest.raises(StoreUnavailable):
        other.ring.signing_key()


async def test_a_key_another_node_made_is_found_by_its_kid(
    gate: Gate, database: Counted, clock: HandClock
) -> None:
    other = await Gate(database, clock).start()
    revoked = await other.rotation.revoke(other.ring.signing_key().kid)
    assert revoked is not None
    await other.ring.refresh()
    fresh = next(iter(other.ring.kids() - gate.ring.kids()))
    key = await gate.ring.find(fresh)
    assert key is not None
    assert key.kid == fresh


async def test_ten_thousand_unknown_kids_at_once_cost_one_reading(
    gate: Gate, database: Counted
) -> None:
    before = database.readings
    kids = [f"{number:043d}" for number in range(10_000)]
    keys = await asyncio.gather(*map(gate.ring.find, kids), return_exceptions=True)
    assert keys[:MOST_WAITING] == [None] * MOST_WAITING
    # Who makes them up does not hold a connection for each.
    assert {type(one) for one in keys[MOST_WAITING:]} == {StoreBusy}
    assert database.readings - before == 1
    assert await gate.ring.find(UNKNOWN) is None


async def test_unknown_kids_one_after_the_other_wait_for_the_next_second(
    gate: Gate, database: Counted, clock: HandClock
) -> None:
    before, began = database.readings, clock.steady()
    for number in range(5):
        assert await gate.ring.find(f"{number:043d}") is None
    assert database.readings - before == 5
    assert clock.steady() - began == pytest.approx(4 * LOOK_EVERY_S)


@pytest.mark.parametrize(
    "kid", ["", "../../etc/passwd", "x' OR 1=1 --", "a\x00b", "A" * 42, "A" * 1_000_000, "é" * 43]
)
async def test_a_kid_that_is_no_thumbprint_is_never_looked_up(
    gate: Gate, database: Counted, kid: str
) -> None:
    before = database.readings
    assert await gate.ring.find(kid) is None
    assert database.readings == before


async def test_a_kid_that_is_known_to_be_gone_is_never_looked_up(
    gate: Gate, database: Counted
) -> None:
    kid = gate.ring.signing_key().kid
    await gate.rotation.revoke(kid)
    before = database.readings
    assert await gate.ring.find(kid) is None
    assert database.readings == before


async def test_nobody_is_told_that_a_key_is_unknown_when_nobody_could_look(
    gate: Gate, database: Counted
) -> None:
    database.away = True
    with pytest.raises(StoreUnavailable):
        await gate.ring.find(UNKNOWN)


async def test_one_who_gives_up_does_not_take_the_reading_from_the_others(gate: Gate) -> None:
    leaves = asyncio.create_task(gate.ring.find(UNKNOWN))
    stays = asyncio.create_task(gate.ring.find(UNKNOWN))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await stays is None


async def test_whoever_remembers_tokens_is_told_when_a_key_ceases_to_verify(gate: Gate) -> None:
    calls: list[bool] = []
    gate.ring.on_retirement(lambda: calls.append(True))
    await gate.ring.refresh()
    assert not calls
    await gate.rotation.revoke(gate.ring.signing_key().kid)
    assert calls


async def test_an_unchanged_ring_keeps_its_etag_and_a_changed_one_does_not(gate: Gate) -> None:
    before = gate.ring.jwks.etag
    await gate.ring.refresh()
    assert gate.ring.jwks.etag == before
    await gate.rotation.revoke(gate.ring.signing_key().kid)
    assert gate.ring.jwks.etag != before


@pytest.mark.parametrize("alg", list(Alg))
async def test_the_jwks_never_holds_a_private_member(
    database: Counted, clock: HandClock, alg: Alg
) -> None:
    gate = await Gate(database, clock, alg=alg).start()
    for key in json.loads(gate.ring.jwks.body)["keys"]:
        assert key["use"] == "sig"
        assert key["alg"] == alg
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys()


async def test_a_ring_signs_with_no_key_that_its_process_refuses(
    database: Counted, clock: HandClock
) -> None:
    """Nobody would believe it, and sign-ins would answer tokens that are worth nothing."""
    gate = await Gate(database, clock).start()
    refused: set[str] = set()
    ring = KeyRing(database, gate.sealer, clock, refused=refused.__contains__)
    await ring.refresh()
    assert ring.can_sign()
    refused.add(ring.signing_key().kid)
    assert not ring.can_sign()
    with pytest.raises(StoreUnavailable, match="revoked"):
        ring.signing_key()
