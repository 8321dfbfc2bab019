"""Machine clients: programs that sign in as themselves (OAuth 2.0 client credentials).

Law: whatever changes what a client may do writes, in the same transaction, the change that
refuses the tokens given before.  Only the hash of a secret is stored; two are valid while one
replaces the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.accounts.role_names import ROLE, check_roles
from gateway.identity.keys.jwk import VerifyingKey, public_from_jwk, public_jwk, verifying
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.revocations import record, refuse_once
from gateway.identity.tombstones import Ended, add_tombstone
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Conflict, Database, Row, Transaction

LIVE_SECRETS = 2
"""The newest, and the one before it while programs are told the new one."""


@dataclass(frozen=True, slots=True)
class Client:
    """`id` is the `client_id`, and the `sub` of its tokens."""

    id: str
    name: str
    roles: tuple[str, ...]
    public_keys: tuple[VerifyingKey, ...]
    """What its assertions may be signed with (private_key_jwt)."""
    not_before: int
    created_at: int
    last_used_at: int | None
    secret_hashes: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """Shown once; only its hash is kept."""

    client_id: str
    client_secret: str = field(repr=False)


class Clients:
    """Creates, changes and deletes clients, for operators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        name: str,
        roles: Sequence[str] = (),
        public_keys: Sequence[VerifyingKey] = (),
    ) -> NewSecret | None:
        """None where the name is taken.  Raises ValueError for a name or role that no token
        could carry."""
        try:
            async with self._database.transaction() as tx:
                client_id = await _insert(tx, name, roles, public_keys)
                return NewSecret(client_id, await _add_secret(tx, client_id))
        except Conflict:
            return None

    async def create_by_key(
        self, name: str, roles: Sequence[str], public_keys: Sequence[VerifyingKey]
    ) -> str | None:
        """As `create`, of a client that has no secret: it proves itself by its keys alone.
        Its id."""
        try:
            async with self._database.transaction() as tx:
                return await _insert(tx, name, roles, public_keys)
        except Conflict:
            return None

    async def list(self) -> list[Client]:
        async with self._database.read_transaction() as tx:
            rows = await tx.all("SELECT * FROM clients ORDER BY name")
            return [await _client(tx, row) for row in rows]

    async def find(self, name: str) -> Client | None:
        """By name or by id."""
        async with self._database.read_transaction() as tx:
            row = await tx.one("SELECT * FROM clients WHERE id = :name OR name = :name", name=name)
            return await _client(tx, row) if row else None

    async def rotate(
        self, client_id: str, *, at_once: bool = False
    ) -> tuple[NewSecret, Sequence[Change]] | None:
        """A new secret; None where there is no such client.

        The one before stays good until the next rotation.  `at_once` is for a secret that
        leaked: every older one ends, and every token of the client.
        """
        async with self._database.transaction() as tx:
            client = await locked(tx, client_id)
            if client is None:
                return None
            changes: list[Change] = []
            if at_once:
                for secret_hash in client.secret_hashes:
                    await add_tombstone(tx, Ended.CLIENT_SECRET, secret_hash)
                await tx.run("DELETE FROM client_secrets WHERE client_id = :id", id=client_id)
                changes.append(await outdate(tx, client_id))
            return NewSecret(client_id, await _add_secret(tx, client_id)), changes

    async def revoke(self, client_id: str) -> Sequence[Change] | None:
        """Refuses what the client has been given so far: its tokens and its API keys.  Its
        secrets stay good."""
        async with self._database.transaction() as tx:
            if await locked(tx, client_id) is None:
                return None
            return [*await _end_keys(tx, client_id), await outdate(tx, client_id)]

    async def delete(self, client_id: str) -> Sequence[Change] | None:
        """Its secrets, its keys and its tokens end; None where there is no such client."""
        async with self._database.transaction() as tx:
            if await locked(tx, client_id) is None:
                return None
            changes = [*await _end_keys(tx, client_id), await outdate(tx, client_id)]
            await add_tombstone(tx, Ended.CLIENT, client_id)
            await tx.run("DELETE FROM clients WHERE id = :id", id=client_id)
            return changes


async def locked(tx: Transaction, client_id: str) -> Client | None:
    """The client, its row held until the transaction ends: whoever changes what its tokens
    say, and whoever mints one, takes turns."""
    row = await tx.one("UPDATE clients SET id = id WHERE id = :id RETURNING *", id=client_id)
    return await _client(tx, row) if row else None


async def find_client(tx: Transaction, client_id: str) -> Client | None:
    row = await tx.one("SELECT * FROM clients WHERE id = :id", id=client_id)
    return await _client(tx, row) if row else None


async def _end_keys(tx: Transaction, client_id: str) -> list[Change]:
    """Ends the API keys of a locked client, each by its name: the moment at which one was read
    is no `iat` that the store knows of, so no date refuses it for sure."""
    rows = await tx.all(
        "UPDATE api_keys SET ended_at = :now WHERE client_id = :id AND ended_at IS NULL"
        " RETURNING id",
        now=int(await tx.now()),
        id=client_id,
    )
    return [
        change for row in rows for change in await refuse_once(tx, ChangeKind.TOKEN, str(row["id"]))
    ]


async def outdate(tx: Transaction, client_id: str) -> Change:
    """Refuses every token of the client, one that carries a second that is yet to come too."""
    now = int(await tx.now())
    row = await tx.one(
        "UPDATE clients SET not_before = CASE WHEN newest_iat > :now THEN newest_iat ELSE :now END"
        " WHERE id = :id RETURNING not_before",
        id=client_id,
        now=now,
    )
    not_before = int(row["not_before"]) if row else now
    return await record(
        tx, ChangeKind.CLIENT, client_id, Reason.TOKEN_REVOKED, not_before=not_before
    )


async def next_issued_at(tx: Transaction, client: Client) -> int:
    """The `iat` of a token minted now for a locked client: after every change of it, by the
    store's own clock."""
    now = int(await tx.now())
    issued_at = max(now, client.not_before + 1)
    await tx.run(
        "UPDATE clients SET last_used_at = :now, newest_iat = :iat WHERE id = :id",
        id=client.id,
        now=now,
        iat=issued_at,
    )
    return issued_at


async def _insert(
    tx: Transaction, name: str, roles: Sequence[str], public_keys: Sequence[VerifyingKey]
) -> str:
    if not ROLE.fullmatch(name):
        raise ValueError("a name is 1 to 128 of A-Z a-z 0-9 . _ : @ -")
    check_roles(roles)
    client_id = "client-" + secrets.token_hex(10)
    await tx.run(
        "INSERT INTO clients (id, name, public_jwks, created_at) VALUES (:id, :name, :jwks, :now)",
        id=client_id,
        name=name,
        jwks=_jwks_text(public_keys),
        now=int(await tx.now()),
    )
    await tx.many(
        "INSERT INTO client_roles (client_id, role) VALUES (:client, :role)",
        [{"client": client_id, "role": role} for role in sorted(set(roles))],
    )
    return client_id


async def _add_secret(tx: Transaction, client_id: str) -> str:
    secret = secrets.token_urlsafe(32)
    live = await tx.all(
        "SELECT hash FROM client_secrets WHERE client_id = :id ORDER BY created_at DESC, hash",
        id=client_id,
    )
    for row in live[LIVE_SECRETS - 1 :]:
        await add_tombstone(tx, Ended.CLIENT_SECRET, str(row["hash"]))
        await tx.run("DELETE FROM client_secrets WHERE hash = :hash", hash=row["hash"])
    newest = await tx.one(
        "SELECT MAX(created_at) AS at FROM client_secrets WHERE client_id = :id", id=client_id
    )
    # Two made within one second still have an order: the older is dropped first.
    last = int(newest["at"]) if newest and newest["at"] is not None else 0
    await tx.run(
        "INSERT INTO client_secrets (hash, client_id, created_at) VALUES (:hash, :id, :at)",
        hash=hash_token(secret),
        id=client_id,
        at=max(int(await tx.now()), last + 1),
    )
    return secret


async def _client(tx: Transaction, row: Row) -> Client:
    roles = await tx.all(
        "SELECT role FROM client_roles WHERE client_id = :id ORDER BY role", id=row["id"]
    )
    hashes = await tx.all("SELECT hash FROM client_secrets WHERE client_id = :id", id=row["id"])
    return Client(
        id=str(row["id"]),
        name=str(row["name"]),
        roles=tuple(str(role["role"]) for role in roles),
        public_keys=_keys_of(row["public_jwks"]),
        not_before=int(row["not_before"]),
        created_at=int(row["created_at"]),
        last_used_at=None if row["last_used_at"] is None else int(row["last_used_at"]),
        secret_hashes=tuple(str(secret["hash"]) for secret in hashes),
    )


def _jwks_text(keys: Sequence[VerifyingKey]) -> str | None:
    return json.dumps([public_jwk(key.public) for key in keys]) if keys else None


def _keys_of(text: str | None) -> tuple[VerifyingKey, ...]:
    members = json.loads(text) if text else []
    return tuple(verifying(public_from_jwk(json.dumps(member))) for member in members)
