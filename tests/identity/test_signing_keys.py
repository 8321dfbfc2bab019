"""The steps of a key's life hold on both SQL stores, and under races between their clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.identity.keys import signing_keys
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg, generate
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.keys.rotation import RotatedKey, ScheduledRotation
from gateway.identity.keys.signing_keys import WrongSecret, reseal
from gateway.model import Principal
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Conflict, Database
from tests.identity.keyring import SECRET, Gate, HandClock, made
from tests.identity.test_jwk import private_pem

NODES = 10


@pytest.fixture
async def gates(database_url: str, database: Database) -> AsyncIterator[list[Gate]]:
    """Nodes that have not started yet, each with connections of its own."""
    async with AsyncExitStack() as closing:
        found = []
        for _ in range(NODES):
            own = open_database(database_url, pool_size=2)
            closing.push_async_callback(own.close)
            found.append(Gate(own, HandClock()))
        yield found


async def states(database: Database) -> list[KeyState]:
    async with database.read_transaction() as tx:
        return sorted(row.state for row in await signing_keys.all_keys(tx))


async def test_nodes_that_start_at_once_make_one_of_each_key(
    gates: list[Gate], database: Database
) -> None:
    await asyncio.gather(*(gate.start() for gate in gates))
    assert await states(database) == [KeyState.ACTIVE, KeyState.NEXT]
    texts = {gate.ring.signing_key().kid for gate in gates}
    assert len(texts) == 1


async def test_of_operators_who_rotate_at_once_one_does(
    gates: list[Gate], database: Database
) -> None:
    await gates[0].start()
    outcomes = await asyncio.gather(*(gate.rotation.rotate() for gate in gates))
    assert sum(isinstance(outcome, RotatedKey) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ScheduledRotation) for outcome in outcomes) == NODES - 1
    assert await states(database) == [KeyState.ACTIVE, KeyState.NEXT, KeyState.RETIRING]


async def test_of_operators_who_revoke_at_once_one_promotes(
    gates: list[Gate], database: Database
) -> None:
    kid = (await gates[0].start()).ring.signing_key().kid
    outcomes = await asyncio.gather(*(gate.rotation.revoke(kid) for gate in gates))
    assert sum(outcome.promoted is not None for outcome in outcomes if outcome) == 1
    assert await states(database) == [KeyState.ACTIVE, KeyState.GONE, KeyState.NEXT]


async def test_every_step_in_a_row_leaves_tokens_that_hold(gates: list[Gate]) -> None:
    gate = await gates[0].start()
    tokens = [gate.token()]
    assert isinstance(await gate.rotation.rotate(), RotatedKey)
    tokens.append(gate.token())
    await gate.rotation.import_key(private_pem(generate(Alg.ES256)))
    await gate.rotation.rotate_if_due()
    assert await reseal(gate.database, Sealer(SECRET), Sealer(bytes(range(1, 33))), b"c" * 32) == 2
    tokens.append(gate.token())
    assert all(isinstance(gate.verifier.verify(token), Principal) for token in tokens)


async def test_the_store_itself_refuses_a_second_active_or_next_key(
    gates: list[Gate], database: Database
) -> None:
    await gates[0].start()
    for state in (KeyState.ACTIVE, KeyState.NEXT):
        private = made(Alg.EDDSA)
        key = signing_keys.NewSigningKey(private.public_key(), private)
        with pytest.raises(Conflict):
            async with database.transaction() as tx:
                await signing_keys.insert(tx, Sealer(SECRET), key, state, 1)


async def test_a_node_with_another_secret_makes_no_key(
    gates: list[Gate], database: Database
) -> None:
    await gates[0].start()
    stranger = Gate(database, HandClock(), sealer=Sealer(bytes(range(1, 33))))
    for work in (stranger.rotation.rotate(), stranger.rotation.revoke("x")):
        with pytest.raises(WrongSecret):
            await work
    assert await states(database) == [KeyState.ACTIVE, KeyState.NEXT]
