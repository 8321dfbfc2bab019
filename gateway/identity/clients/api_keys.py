"""API keys of machine clients: for scripts and CI, sent as `Authorization: Bearer ag_…`.

Law: a key acts as its client, with no role that the client lacks and for no action beyond its
scopes; a role of the client that it was not given takes away from it all the same.  It rests as a
hash.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.accounts.role_names import check_roles
from gateway.identity.clients.clients import find_client, locked
from gateway.identity.clients.key_form import (
    SCOPE,
    limit_of,
    limit_text,
    limited_roles,
    new_key,
    well_formed,
)
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.revocations import refuse_once
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database, Row, Transaction

AMR = ("api_key",)
NEVER = 2**53 - 1
"""The `expires_at` of a key that has none."""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """Shown once; only its hash is kept."""

    id: str
    text: str = field(repr=False)
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    client_id: str
    roles: tuple[str, ...] | None
    """None: those of the client."""
    scopes: tuple[str, ...] | None
    """Actions, such as `orders:read` or `orders:*`; None where nothing limits it."""
    created_at: int
    expires_at: int | None
    ended_at: int | None
    last_used_at: int | None


class ApiKeys:
    """Creates, lists and ends API keys, for operators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        client_id: str,
        *,
        roles: Sequence[str] | None = None,
        scopes: Sequence[str] | None = None,
        life_s: int | None = None,
    ) -> NewApiKey | None:
        """None where there is no such client.  Raises ValueError for a role that the client
        does not have and for what is no action."""
        for scope in scopes or ():
            if not SCOPE.fullmatch(scope):
                raise ValueError("a scope is an action, such as orders:read or orders:*")
        key_id, text = "key-" + secrets.token_hex(10), new_key()
        async with self._database.transaction() as tx:
            client = await locked(tx, client_id)
            if client is None:
                return None
            if missing := set(roles or ()) - set(client.roles):
                raise ValueError(f"the client does not have the role {min(missing)}")
            check_roles(roles or ())
            now = int(await tx.now())
            expires_at = None if life_s is None else now + life_s
            await tx.run(
                "INSERT INTO api_keys (id, hash, client_id, roles, scopes, created_at, expires_at)"
                " VALUES (:id, :hash, :client, :roles, :scopes, :now, :expires)",
                id=key_id,
                hash=hash_token(text),
                client=client_id,
                roles=limit_text(roles),
                scopes=limit_text(scopes),
                now=now,
                expires=expires_at,
            )
        return NewApiKey(key_id, text, expires_at)

    async def of_client(self, client_id: str) -> list[ApiKey]:
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT * FROM api_keys WHERE client_id = :id ORDER BY created_at, id",
                id=client_id,
            )
        return [_api_key(row) for row in rows]

    async def id_of(self, text: str) -> str | None:
        """Of whoever holds the key itself; None where there is none of this text."""
        async with self._database.read_transaction() as tx:
            row = await tx.one("SELECT id FROM api_keys WHERE hash = :hash", hash=hash_token(text))
        return None if row is None else str(row["id"])

    async def end(self, key_id: str) -> Sequence[Change] | None:
        """None where there is no such key.  May be repeated."""
        async with self._database.transaction() as tx:
            row = await tx.one("SELECT id FROM api_keys WHERE id = :id", id=key_id)
            return None if row is None else await _end(tx, key_id)

    async def end_text(self, text: str, client_id: str) -> Sequence[Change] | None:
        """The same for who holds the key itself, if it is of that client."""
        if not well_formed(text):
            return None
        async with self._database.transaction() as tx:
            row = await tx.one(
                "SELECT id FROM api_keys WHERE hash = :hash AND client_id = :client",
                hash=hash_token(text),
                client=client_id,
            )
            return None if row is None else await _end(tx, str(row["id"]))


async def client_principal(tx: Transaction, digest: str) -> Principal | Reason:
    row = await tx.one("SELECT * FROM api_keys WHERE hash = :hash", hash=digest)
    if row is None or row["ended_at"] is not None:
        return Reason.TOKEN_REVOKED
    client = await find_client(tx, str(row["client_id"]))
    if client is None:
        return Reason.TOKEN_REVOKED
    key, now = _api_key(row), int(await tx.now())
    if key.expires_at is not None and key.expires_at <= now:
        return Reason.TOKEN_EXPIRED
    roles, held_roles = limited_roles(client.roles, key.roles)
    return Principal(
        subject=client.id,
        roles=roles,
        session_id=None,
        token_id=key.id,
        client_id=client.id,
        kid="",
        # Read now, so after every change of the client: what was revoked before is no matter.
        issued_at=max(now, client.not_before + 1),
        expires_at=key.expires_at or NEVER,
        amr=AMR,
        scopes=key.scopes,
        held_roles=held_roles,
    )


async def _end(tx: Transaction, key_id: str) -> Sequence[Change]:
    await tx.run(
        "UPDATE api_keys SET ended_at = :now WHERE id = :id AND ended_at IS NULL",
        id=key_id,
        now=int(await tx.now()),
    )
    return await refuse_once(tx, ChangeKind.TOKEN, key_id)


def _api_key(row: Row) -> ApiKey:
    return ApiKey(
        id=str(row["id"]),
        client_id=str(row["client_id"]),
        roles=limit_of(row["roles"]),
        scopes=limit_of(row["scopes"]),
        created_at=int(row["created_at"]),
        expires_at=_number(row["expires_at"]),
        ended_at=_number(row["ended_at"]),
        last_used_at=_number(row["last_used_at"]),
    )


def _number(value: int | None) -> int | None:
    return None if value is None else int(value)
