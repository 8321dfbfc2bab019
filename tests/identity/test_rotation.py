from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import (
    Alg,
    KeyRefused,
    PrivateKey,
    generate,
    private_der,
    thumbprint,
)
from gateway.identity.keys.key_ring import SIGNING_LEASE_S, KeyState
from gateway.identity.keys.rotation import (
    NEXT_WAIT_S,
    RETIRING_EXTRA_S,
    ImportedKey,
    KeyRotation,
    RevokedKey,
    RotatedKey,
    ScheduledRotation,
)
from gateway.identity.keys.signing_keys import KeyRow, WrongSecret, reseal, retained_chain_keys
from gateway.model import ChangeKind, Principal, Reason
from gateway.stores.protocols import Database, Row
from gateway.stores.sqlite import SqliteDatabase
from tests.edge.house_parts import Fragile
from tests.identity.keyring import MAX_LIFE_S, SECRET, Announcements, Gate, HandClock, b64, opened
from tests.identity.test_jwk import private_pem, public_pem

NEW_SECRET = bytes(range(1, 33))


@pytest.fixture
async def database(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteDatabase]:
    async with opened(tmp_path, clock) as database:
        yield database


@pytest.fixture
async def gate(database: SqliteDatabase, clock: HandClock) -> Gate:
    return await Gate(database, clock).start()


async def states(gate: Gate) -> dict[str, KeyState]:
    return {row.kid: row.state for row in await gate.rotation.listing()}


async def row_in(gate: Gate, state: KeyState) -> KeyRow:
    (row,) = [row for row in await gate.rotation.listing() if row.state is state]
    return row


async def raw_rows(database: Database) -> list[Row]:
    async with database.read_transaction() as tx:
        return await tx.all("SELECT * FROM signing_keys")


async def count(gate: Gate, *wanted: KeyState) -> list[int]:
    all_states = list((await states(gate)).values())
    return [all_states.count(state) for state in wanted]


# The first start


async def test_the_first_start_makes_an_active_and_a_next_key(gate: Gate) -> None:
    assert sorted((await states(gate)).values()) == [KeyState.ACTIVE, KeyState.NEXT]


async def test_the_first_start_makes_both_keys_side_by_side(
    database: SqliteDatabase, clock: HandClock
) -> None:
    """An RSA key takes a core for a quarter of a second, and most machines have two."""
    both = threading.Barrier(2, timeout=10)

    def make(alg: Alg) -> PrivateKey:
        both.wait()
        return generate(alg)

    rotation = KeyRotation(
        database,
        Sealer(SECRET),
        Announcements(),
        alg=Alg.EDDSA,
        max_token_life_s=MAX_LIFE_S,
        make=make,
    )
    await rotation.ensure()
    assert len(await rotation.listing()) == 2


async def test_a_second_start_makes_none(gate: Gate, database: Database, clock: HandClock) -> None:
    before = await states(gate)
    await Gate(database, clock).start()
    assert await states(gate) == before


async def test_ten_nodes_that_start_at_once_make_exactly_one_of_each(
    tmp_path: Path, clock: HandClock
) -> None:
    async with opened(tmp_path, clock):
        own = [SqliteDatabase(tmp_path / "gateway.db", clock) for _ in range(10)]
        gates = [Gate(database, clock) for database in own]
        await asyncio.gather(*(gate.start() for gate in gates))
        assert await count(gates[0], KeyState.ACTIVE, KeyState.NEXT, KeyState.GONE) == [1, 1, 0]
        assert len({gate.ring.signing_key().kid for gate in gates}) == 1
        for database in own:
            await database.close()


async def test_another_algorithm_in_the_settings_replaces_the_next_key(
    gate: Gate, database: Database, clock: HandClock
) -> None:
    other = await Gate(database, clock, alg=Alg.ES256).start()
    assert (await row_in(other, KeyState.NEXT)).alg is Alg.ES256
    assert (await row_in(other, KeyState.ACTIVE)).alg is Alg.EDDSA


async def test_private_keys_rest_sealed(gate: Gate, database: Database) -> None:
    for row in await raw_rows(database):
        assert Sealer(SECRET).unseal(row["kid"], row["sealed_private"])


# Rotation


async def test_a_rotation_lets_the_next_sign_and_the_old_verify(gate: Gate) -> None:
    token, old = gate.token(), gate.ring.signing_key().kid
    following = (await row_in(gate, KeyState.NEXT)).kid
    assert isinstance(await gate.rotation.rotate(), RotatedKey)
    assert gate.ring.signing_key().kid == following
    assert isinstance(gate.verifier.verify(token), Principal)
    assert (await states(gate))[old] is KeyState.RETIRING
    assert await count(gate, KeyState.ACTIVE, KeyState.NEXT) == [1, 1]


async def test_a_second_rotation_waits_until_nobody_can_hold_an_older_jwks(
    gate: Gate, clock: HandClock
) -> None:
    await gate.rotation.rotate()
    signing = gate.ring.signing_key().kid
    assert await gate.rotation.rotate() == ScheduledRotation(NEXT_WAIT_S)
    clock.advance(NEXT_WAIT_S - 1)
    await gate.rotation.rotate_if_due()
    assert (await row_in(gate, KeyState.ACTIVE)).kid == signing
    clock.advance(1)
    assert await gate.rotation.rotate_if_due()
    assert (await row_in(gate, KeyState.ACTIVE)).kid != signing


async def test_a_wish_to_rotate_is_fulfilled_once(gate: Gate, clock: HandClock) -> None:
    await gate.rotation.rotate()
    await gate.rotation.rotate()
    clock.advance(NEXT_WAIT_S)
    await gate.rotation.rotate_if_due()
    row = await row_in(gate, KeyState.ACTIVE)
    clock.advance(NEXT_WAIT_S)
    await gate.rotation.rotate_if_due()
    assert await row_in(gate, KeyState.ACTIVE) == row


async def test_a_key_signs_only_after_every_worker_confirmed_that_it_knows_it(
    gate: Gate, clock: HandClock
) -> None:
    gate.announcements.confirms = False
    rotated = await gate.rotation.rotate()
    assert isinstance(rotated, RotatedKey)
    assert not rotated.confirmed
    clock.advance(10 * NEXT_WAIT_S)
    assert await gate.rotation.rotate() == ScheduledRotation(None)
    gate.announcements.confirms = True
    await gate.rotation.rotate_if_due()
    assert (await row_in(gate, KeyState.ACTIVE)).kid == rotated.active
    clock.advance(NEXT_WAIT_S)
    await gate.rotation.rotate_if_due()
    assert (await row_in(gate, KeyState.ACTIVE)).kid != rotated.active


async def test_the_period_rotates_by_itself(gate: Gate, clock: HandClock) -> None:
    row = await row_in(gate, KeyState.ACTIVE)
    clock.advance(99)
    await gate.rotation.rotate_if_due(period_s=100)
    assert await row_in(gate, KeyState.ACTIVE) == row
    clock.advance(1)
    rotations: list[RotatedKey] = []
    await gate.rotation.rotate_if_due(period_s=100, on_rotated=rotations.append)
    assert await row_in(gate, KeyState.ACTIVE) != row
    assert [one.retiring for one in rotations] == [row.kid]


async def test_ten_workers_that_find_it_due_rotate_once(
    gate: Gate, database: Database, clock: HandClock
) -> None:
    gates = [gate, *[await Gate(database, clock).start() for _ in range(9)]]
    clock.advance(100)
    await asyncio.gather(*(one.rotation.rotate_if_due(period_s=100) for one in gates))
    assert await count(gate, KeyState.ACTIVE, KeyState.NEXT, KeyState.RETIRING) == [1, 1, 1]


async def test_a_retiring_key_holds_no_private_half(gate: Gate, database: Database) -> None:
    await gate.rotation.rotate()
    retiring = [row for row in await raw_rows(database) if row["state"] == "retiring"]
    assert [row["sealed_private"] for row in retiring] == [None]


async def test_a_retiring_key_goes_when_the_last_token_that_it_may_have_signed_is_over(
    gate: Gate, clock: HandClock
) -> None:
    old = gate.ring.signing_key().kid
    await gate.rotation.rotate()
    clock.advance(MAX_LIFE_S + RETIRING_EXTRA_S - 1)
    await gate.rotation.rotate_if_due()
    assert (await states(gate))[old] is KeyState.RETIRING
    clock.advance(1)
    assert await gate.rotation.rotate_if_due()
    assert (await states(gate))[old] is KeyState.GONE


async def test_what_a_worker_signs_that_missed_the_change_holds_until_it_expires(
    gate: Gate, database: Database, clock: HandClock
) -> None:
    lagging = await Gate(database, clock, ttl_s=MAX_LIFE_S).start()
    await gate.rotation.rotate()
    clock.advance(SIGNING_LEASE_S)
    token = lagging.token()
    clock.advance(MAX_LIFE_S - 1)
    await gate.rotation.rotate_if_due()
    await gate.ring.refresh()
    assert isinstance(gate.verifier.verify(token), Principal)


# Revocation


async def test_a_revoked_key_verifies_nothing_and_the_next_signs_at_once(gate: Gate) -> None:
    token, old = gate.token(), gate.ring.signing_key().kid
    following = (await row_in(gate, KeyState.NEXT)).kid
    revoked = await gate.rotation.revoke(old)
    assert revoked is not None
    assert (revoked.promoted, revoked.confirmed) == (following, True)
    assert gate.verifier.verify(token) is Reason.KEY_UNKNOWN
    assert gate.ring.signing_key().kid == following


async def test_a_revocation_is_told_to_every_worker_as_one_of_the_kid(gate: Gate) -> None:
    old = gate.ring.signing_key().kid
    await gate.rotation.revoke(old)
    heard = [change for change in gate.announcements.heard if change.kind is ChangeKind.KEY]
    assert [(change.target, change.cause) for change in heard] == [(old, Reason.TOKEN_REVOKED)]


async def test_a_revocation_that_nobody_confirmed_is_kept_and_may_be_repeated(gate: Gate) -> None:
    old = gate.ring.signing_key().kid
    gate.announcements.confirms = False
    first = await gate.rotation.revoke(old)
    assert first is not None
    assert not first.confirmed
    assert (await states(gate))[old] is KeyState.GONE
    gate.announcements.confirms = True
    again = await gate.rotation.revoke(old)
    assert again is not None
    assert again.confirmed
    assert again.promoted is None


async def test_what_was_done_is_told_before_any_worker_is_asked(gate: Gate) -> None:
    done: list[str] = []

    def told(what: RotatedKey | RevokedKey | ImportedKey) -> None:
        assert not what.confirmed
        assert gate.announcements.heard == []
        done.append(type(what).__name__)

    pem = private_pem(generate(Alg.ES256))
    gate.announcements.heard.clear()
    await gate.rotation.rotate(on_rotated=told)
    gate.announcements.heard.clear()
    await gate.rotation.revoke(gate.ring.signing_key().kid, on_revoked=told)
    gate.announcements.heard.clear()
    await gate.rotation.import_key(pem, on_imported=told)
    assert done == ["RotatedKey", "RevokedKey", "ImportedKey"]


async def test_a_store_that_goes_away_behind_the_announcement_makes_no_revocation_fail(
    gate: Gate, database: SqliteDatabase
) -> None:
    away = Fragile(database)
    away.away = True
    rotation = KeyRotation(
        database,
        Sealer(SECRET),
        gate.announcements,
        alg="ES256",
        max_token_life_s=MAX_LIFE_S,
        confirmations=away,
    )
    revoked = await rotation.revoke(gate.ring.signing_key().kid)
    assert revoked is not None
    assert not revoked.confirmed


async def test_every_key_may_be_revoked_in_a_row_and_one_still_signs(gate: Gate) -> None:
    for _ in range(5):
        await gate.rotation.revoke((await row_in(gate, KeyState.ACTIVE)).kid)
        await gate.rotation.revoke((await row_in(gate, KeyState.NEXT)).kid)
    assert await count(gate, KeyState.ACTIVE, KeyState.NEXT) == [1, 1]
    assert isinstance(gate.verifier.verify(gate.token()), Principal)


async def test_a_kid_that_was_never_here_cannot_be_revoked(gate: Gate) -> None:
    before = await states(gate)
    assert await gate.rotation.revoke("nobody") is None
    assert await states(gate) == before


async def test_two_operators_who_revoke_the_same_key_promote_one(gate: Gate) -> None:
    old = gate.ring.signing_key().kid
    outcomes = await asyncio.gather(gate.rotation.revoke(old), gate.rotation.revoke(old))
    assert [o.promoted is not None for o in outcomes if o].count(True) == 1
    assert await count(gate, KeyState.ACTIVE, KeyState.NEXT, KeyState.GONE) == [1, 1, 1]


# Import


async def test_an_imported_private_key_takes_the_place_of_the_next(gate: Gate) -> None:
    replaced = (await row_in(gate, KeyState.NEXT)).kid
    key = generate(Alg.ES256)
    imported = await gate.rotation.import_key(private_pem(key))
    assert imported.kid == thumbprint(key.public_key())
    assert (await row_in(gate, KeyState.NEXT)).kid == imported.kid
    assert (await states(gate))[replaced] is KeyState.GONE


async def test_an_imported_key_waits_like_any_other_before_it_signs(
    gate: Gate, clock: HandClock
) -> None:
    imported = await gate.rotation.import_key(private_pem(generate(Alg.ES256)))
    assert await gate.rotation.rotate() == ScheduledRotation(NEXT_WAIT_S)
    clock.advance(NEXT_WAIT_S)
    await gate.rotation.rotate_if_due()
    await gate.ring.refresh()
    assert gate.ring.signing_key().kid == imported.kid
    assert isinstance(gate.verifier.verify(gate.token()), Principal)


async def test_a_verify_only_key_verifies_and_never_signs(
    gate: Gate, database: Database, clock: HandClock
) -> None:
    imported = await gate.rotation.import_key(private_pem(generate(Alg.ES256)), verify_only=True)
    assert imported.kid in gate.ring.kids()
    (row,) = [row for row in await raw_rows(database) if row["kid"] == imported.kid]
    assert row["sealed_private"] is None
    for _ in range(3):
        clock.advance(NEXT_WAIT_S)
        await gate.rotation.rotate()
    assert (await states(gate))[imported.kid] is KeyState.VERIFYING


async def test_a_public_key_needs_the_word_that_it_is_to_verify_only(gate: Gate) -> None:
    pem = public_pem(generate(Alg.ES256))
    with pytest.raises(KeyRefused, match="--verify-only"):
        await gate.rotation.import_key(pem)
    assert (await gate.rotation.import_key(pem, verify_only=True)).state is KeyState.VERIFYING


async def test_the_same_key_may_be_imported_twice(gate: Gate) -> None:
    pem = private_pem(generate(Alg.ES256))
    first = await gate.rotation.import_key(pem)
    before = await states(gate)
    assert (await gate.rotation.import_key(pem)).kid == first.kid
    assert await states(gate) == before


async def test_a_revoked_key_cannot_be_imported_back(gate: Gate) -> None:
    pem = private_pem(generate(Alg.ES256))
    await gate.rotation.revoke((await gate.rotation.import_key(pem)).kid)
    for verify_only in (False, True):
        with pytest.raises(KeyRefused, match="does not come back"):
            await gate.rotation.import_key(pem, verify_only=verify_only)


async def test_a_key_that_verifies_only_does_not_become_a_signing_one(gate: Gate) -> None:
    pem = private_pem(generate(Alg.ES256))
    await gate.rotation.import_key(pem, verify_only=True)
    with pytest.raises(KeyRefused, match="to verify only, and cannot become a signing key"):
        await gate.rotation.import_key(pem)


# The secret


async def test_resealing_lets_the_new_secret_open_every_key_and_the_old_none(
    gate: Gate, database: Database
) -> None:
    assert await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"c" * 32) == 2
    for row in await raw_rows(database):
        assert Sealer(NEW_SECRET).unseal(row["kid"], row["sealed_private"])


async def test_a_running_gate_goes_on_signing_after_a_reseal(
    gate: Gate, database: Database
) -> None:
    await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"c" * 32)
    await gate.ring.refresh()
    assert isinstance(gate.verifier.verify(gate.token()), Principal)


async def test_after_a_reseal_the_old_secret_makes_no_more_keys(
    gate: Gate, database: Database
) -> None:
    await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"c" * 32)
    before = await raw_rows(database)
    with pytest.raises(WrongSecret):
        await gate.rotation.rotate()
    assert await raw_rows(database) == before


async def test_a_reseal_with_the_wrong_old_secret_changes_nothing(
    gate: Gate, database: Database
) -> None:
    before = await raw_rows(database)
    with pytest.raises(WrongSecret):
        await reseal(database, Sealer(bytes(range(2, 34))), Sealer(NEW_SECRET), b"c" * 32)
    assert await raw_rows(database) == before


async def test_a_reseal_that_fails_half_way_changes_nothing(gate: Gate, database: Database) -> None:
    broken = (await row_in(gate, KeyState.NEXT)).kid
    async with database.transaction() as tx:
        await tx.run("UPDATE signing_keys SET sealed_private = 'AAAA' WHERE kid = :k", k=broken)
    before = await raw_rows(database)
    with pytest.raises(WrongSecret):
        await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"c" * 32)
    assert await raw_rows(database) == before


async def test_a_reseal_may_be_repeated(gate: Gate, database: Database) -> None:
    await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"c" * 32)
    assert await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"c" * 32) == 0


async def test_a_dump_of_the_table_holds_no_private_key(gate: Gate, database: Database) -> None:
    dump = repr(await raw_rows(database))
    der = private_der(gate.ring.signing_key().private)
    assert b64(der) not in dump
    assert b64(der[-32:]) not in dump  # PKCS #8 ends with the 32 secret bytes


async def test_announcements_reach_every_ring(database: Database, clock: HandClock) -> None:
    announcements = Announcements()
    one = await Gate(database, clock, announcements=announcements).start()
    two = await Gate(database, clock, announcements=announcements).start()
    await one.rotation.rotate()
    assert two.ring.signing_key().kid == one.ring.signing_key().kid


async def test_the_chain_key_of_each_secret_outlives_it(database: Database) -> None:
    """So that the audit log of before a reseal can still be verified."""
    third = bytes(range(2, 34))
    async with database.transaction() as tx:
        assert await retained_chain_keys(tx, Sealer(SECRET)) == []
    await reseal(database, Sealer(SECRET), Sealer(NEW_SECRET), b"1" * 32)
    await reseal(database, Sealer(NEW_SECRET), Sealer(third), b"2" * 32)
    async with database.transaction() as tx:
        assert await retained_chain_keys(tx, Sealer(third)) == [b"1" * 32, b"2" * 32]
