"""API keys: for scripts and CI, sent as `Authorization: Bearer ag_…`.

A key is `ag_`, 43 letters and digits of 256 random bits, and 6 that are their checksum: a
secret scanner finds it in a text, and a slip of the hand is refused without asking SQL.

Law: a key acts as its client, with no role that the client lacks and for no action beyond its
scopes.  It rests as a hash.  What a worker remembers of one is kept for a minute at most, and
judged by the replica on every call like every other credential.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.accounts.role_names import check_roles
from gateway.identity.clients.clients import find_client, locked
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sessions.sessions import refuse_once
from gateway.identity.tokens.authenticator import Revocations
from gateway.model import (
    Call,
    Change,
    ChangeKind,
    Clock,
    Credential,
    Principal,
    Reason,
)
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction

PREFIX = "ag_"
AMR = ("api_key",)
CACHED_S = 60.0
_CACHE_MAX = 10_000
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_DIGITS = 43
_CHECK_DIGITS = 6
_FORM = re.compile(r"ag_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
_SCOPE = re.compile(r"[A-Za-z0-9._:*@-]{1,128}", re.ASCII)
_LOOKS_AT_ONCE = 8
_LOOK_WITHIN_S = 2.0
NEVER = 2**53 - 1
"""The `expires_at` of a key that has none."""


def looks_like_key(text: str) -> bool:
    """Whether a bearer credential is to be read as an API key at all."""
    return text.startswith(PREFIX)


def new_key() -> str:
    """256 random bits with their checksum."""
    secret = _digits(int.from_bytes(secrets.token_bytes(32), "big"), _SECRET_DIGITS)
    return f"{PREFIX}{secret}{_checksum(secret)}"


def well_formed(text: str) -> bool:
    match = _FORM.fullmatch(text)
    return match is not None and _checksum(match[1]) == match[2]


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
            if not _SCOPE.fullmatch(scope):
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
                roles=None if roles is None else json.dumps(sorted(set(roles))),
                scopes=None if scopes is None else json.dumps(sorted(set(scopes))),
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


@dataclass(slots=True)
class _CachedPrincipal:
    principal: Principal
    until: float
    """By the steady clock."""


class ApiKeyAuthenticator:
    """Authenticates API keys, with a cache of one worker."""

    def __init__(self, database: Database, revocations: Revocations, clock: Clock) -> None:
        self._database = database
        self._revocations = revocations
        self._clock = clock
        self._cache: OrderedDict[str, _CachedPrincipal] = OrderedDict()
        self._used: set[str] = set()
        self._look_ups = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
        """TOKEN_MALFORMED for a slip of the hand; TOKEN_REVOKED for a key that ended and for
        one that never was, which are not told apart."""
        del call
        text = credential.text
        if not well_formed(text):
            return Reason.TOKEN_MALFORMED
        principal: Principal | Reason | None = self._cached(text)
        if principal is None:
            principal = await self._look_up(text)
        if isinstance(principal, Principal):
            self._used.add(principal.token_id)
        return principal

    async def write_uses(self) -> None:
        """Writes which keys were used since the last time; for a task, each minute.  Raises
        StoreUnavailable."""
        used, self._used = self._used, set()
        if not used:
            return
        try:
            async with self._database.transaction() as tx:
                now = int(await tx.now())
                await tx.many(
                    "UPDATE api_keys SET last_used_at = :now WHERE id = :id",
                    [{"id": key_id, "now": now} for key_id in sorted(used)],
                )
        except StoreUnavailable:
            self._used |= used
            raise

    def _cached(self, text: str) -> Principal | None:
        cached = self._cache.get(text)
        if cached is None:
            return None
        # A change of the client since then: SQL has what is true now.  A replica that is
        # stale says nothing of the key, and what comes after refuses the call.
        refusal = self._revocations.refusal(cached.principal)
        if cached.until <= self._clock.steady() or refusal not in (None, Reason.REPLICA_STALE):
            del self._cache[text]
            return None
        self._cache.move_to_end(text)
        return cached.principal

    async def _look_up(self, text: str) -> Principal | Reason:
        """Bounded: who makes up well-formed keys must not fill the store's queue."""
        try:
            async with asyncio.timeout(_LOOK_WITHIN_S):
                await self._look_ups.acquire()
        except TimeoutError:
            return Reason.STORE_BUSY
        try:
            async with self._database.read_transaction() as tx:
                principal = await _principal(tx, hash_token(text))
        except StoreUnavailable as error:
            return error.reason
        finally:
            self._look_ups.release()
        if isinstance(principal, Principal):
            self._cache[text] = _CachedPrincipal(principal, self._clock.steady() + CACHED_S)
            while len(self._cache) > _CACHE_MAX:
                self._cache.popitem(last=False)
        return principal


async def _principal(tx: Transaction, digest: str) -> Principal | Reason:
    row = await tx.one("SELECT * FROM api_keys WHERE hash = :hash", hash=digest)
    if row is None or row["ended_at"] is not None:
        return Reason.TOKEN_REVOKED
    client = await find_client(tx, str(row["client_id"]))
    if client is None:
        return Reason.TOKEN_REVOKED
    key, now = _api_key(row), int(await tx.now())
    if key.expires_at is not None and key.expires_at <= now:
        return Reason.TOKEN_EXPIRED
    roles = client.roles
    if key.roles is not None:
        roles = tuple(role for role in key.roles if role in client.roles)
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
        roles=_texts(row["roles"]),
        scopes=_texts(row["scopes"]),
        created_at=int(row["created_at"]),
        expires_at=_number(row["expires_at"]),
        ended_at=_number(row["ended_at"]),
        last_used_at=_number(row["last_used_at"]),
    )


def _texts(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(json.loads(value))


def _number(value: int | None) -> int | None:
    return None if value is None else int(value)


def _checksum(secret: str) -> str:
    """CRC-32 in base 62: it finds slips, and guards against nobody."""
    return _digits(zlib.crc32(secret.encode("ascii")), _CHECK_DIGITS)


def _digits(number: int, width: int) -> str:
    digits = ""
    while len(digits) < width:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
