from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.clients.clients import Clients, locked, next_issued_at
from gateway.identity.keys.jwk import Alg, generate, verifying
from gateway.identity.opaque_tokens import hash_token
from gateway.model import ChangeKind, Reason
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, fresh_database


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def clients(database: Database) -> Clients:
    return Clients(database)


async def test_a_client_is_found_by_its_name_and_by_its_id(clients: Clients) -> None:
    key = verifying(generate(Alg.ES256).public_key())
    client = await clients.create("billing", ["writer", "reader", "reader"], [key])
    assert client is not None
    by_name = await clients.find("billing")
    assert by_name is not None
    assert by_name == await clients.find(client.client_id)
    assert by_name.roles == ("reader", "writer")
    assert [client.kid for client in by_name.public_keys] == [key.kid]
    assert await clients.find("other") is None


async def test_a_name_is_taken_once(clients: Clients) -> None:
    assert await clients.create("billing") is not None
    assert await clients.create("billing") is None
    assert len(await clients.list()) == 1


@pytest.mark.parametrize(
    ("name", "role"), [("", "r"), ("a b", "r"), ("a\n", "r"), ("x" * 129, "r"), ("a", "r,s")]
)
async def test_a_name_or_role_that_no_token_could_carry_is_refused(
    clients: Clients, name: str, role: str
) -> None:
    with pytest.raises(ValueError, match="is 1 to 128"):
        await clients.create(name, [role])


async def test_secrets_have_256_bits_and_rest_as_hashes(
    clients: Clients, database: Database, tmp_path: Path
) -> None:
    client = await clients.create("billing")
    assert client is not None
    assert len(client.client_secret) == 43
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert client.client_id.encode() in files
    assert client.client_secret.encode() not in files
    assert client.client_secret not in repr(client)


async def test_two_secrets_live_while_one_replaces_the_other(clients: Clients) -> None:
    client = await clients.create("billing")
    assert client is not None
    secrets = [client.client_secret]
    for _ in range(2):
        rotated = await clients.rotate(client.client_id)
        assert rotated is not None
        assert rotated[1] == []
        secrets.append(rotated[0].client_secret)
    stored = await clients.find("billing")
    assert stored is not None
    assert set(stored.secret_hashes) == {hash_token(text) for text in secrets[1:]}


async def test_a_leaked_secret_is_replaced_at_once_and_its_tokens_end(clients: Clients) -> None:
    client = await clients.create("billing")
    assert client is not None
    rotated = await clients.rotate(client.client_id, at_once=True)
    assert rotated is not None
    stored = await clients.find("billing")
    assert stored is not None
    assert stored.secret_hashes == (hash_token(rotated[0].client_secret),)
    (change,) = rotated[1]
    assert (change.kind, change.target, change.cause) == (
        ChangeKind.CLIENT,
        client.client_id,
        Reason.TOKEN_REVOKED,
    )


async def test_a_token_minted_right_after_a_change_is_younger_than_it(
    clients: Clients, database: Database, clock: Hands
) -> None:
    machine = await clients.create("billing")
    assert machine is not None
    for _ in range(3):
        changes = await clients.revoke(machine.client_id)
        assert changes is not None
        async with database.transaction() as tx:
            client = await locked(tx, machine.client_id)
            assert client is not None
            issued_at = await next_issued_at(tx, client)
        assert issued_at > changes[0].not_before
    assert issued_at == NOON + 3
    clock.move(100)
    async with database.transaction() as tx:
        client = await locked(tx, machine.client_id)
        assert client is not None
        assert await next_issued_at(tx, client) == NOON + 100


async def test_a_deleted_client_leaves_nothing_but_the_change_that_ends_its_tokens(
    clients: Clients, database: Database
) -> None:
    client = await clients.create("billing", ["r"])
    assert client is not None
    changes = await clients.delete(client.client_id)
    assert changes is not None
    assert [change.kind for change in changes] == [ChangeKind.CLIENT]
    async with database.read_transaction() as tx:
        for table in ("clients", "client_roles", "client_secrets"):
            assert await tx.all(f"SELECT * FROM {table}") == []


async def test_what_is_not_there_is_neither_rotated_nor_deleted(clients: Clients) -> None:
    assert await clients.rotate("client-0") is None
    assert await clients.delete("client-0") is None
    assert await clients.revoke("client-0") is None
