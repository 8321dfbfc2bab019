"""The table `signing_keys`: one step of a key's life each, for `rotation.py` to put in order.

Every transaction that moves keys begins with `lock`.  PostgreSQL then makes it wait for
whoever moved keys before; SQLite's writers wait anyway.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.identity.keys.encryption import SealBroken, Sealer
from gateway.identity.keys.jwk import (
    Alg,
    PrivateKey,
    PublicKey,
    algorithm,
    generate,
    private_der,
    public_jwk,
    thumbprint,
)
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.revocations import record
from gateway.identity.tombstones import Ended, add_tombstone
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Database, Row, Transaction

_FINGERPRINT = "signing_keys_fingerprint"
_RETIREMENT = "signing_key_to_retire"
_CHAIN_KEYS = "audit_chain_keys"
_CHAIN_KEY = "audit chain"


class WrongSecret(Exception):
    """The keys in SQL are sealed under another GATEWAY_KEY_SECRET."""

    def __init__(self) -> None:
        super().__init__("the signing keys are sealed under another GATEWAY_KEY_SECRET")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A signing key as it stands in SQL, without its private half.

    `usable_at`: from when a next key may sign; None until every live worker has confirmed
    it.  `gone_at`: when it went, or a retiring one will go.
    """

    kid: str
    alg: Alg
    state: KeyState
    imported: bool
    created_at: int
    usable_at: int | None
    activated_at: int | None
    retired_at: int | None
    gone_at: int | None


@dataclass(frozen=True, slots=True)
class NewSigningKey:
    """A signing key to be written; without `private` it can only verify."""

    public: PublicKey
    private: PrivateKey | None
    imported: bool = False

    @property
    def kid(self) -> str:
        return thumbprint(self.public)


def made_key(alg: Alg) -> NewSigningKey:
    """A fresh key; an RSA one takes a moment of a core: not on the loop."""
    private = generate(alg)
    return NewSigningKey(private.public_key(), private)


async def lock(tx: Transaction, sealer: Sealer) -> None:
    """Whoever moves keys, moves them alone.  Raises WrongSecret: a key sealed under a second
    secret could be opened by some of the workers only."""
    if not sealer.made(await _locked_fingerprint(tx, sealer)):
        raise WrongSecret


async def all_keys(tx: Transaction) -> list[KeyRow]:
    """Every key that was ever here, oldest first."""
    rows = await tx.all(
        "SELECT kid, alg, state, imported, created_at, usable_at, activated_at, retired_at,"
        " gone_at FROM signing_keys ORDER BY created_at, kid"
    )
    return [_key_row(row) for row in rows]


def in_state(rows: Sequence[KeyRow], state: KeyState) -> KeyRow | None:
    return next((row for row in rows if row.state is state), None)


async def insert(
    tx: Transaction,
    sealer: Sealer,
    key: NewSigningKey,
    state: KeyState,
    now: int,
    *,
    usable_at: int | None = None,
) -> str:
    """The kid of the key that was written."""
    kid = key.kid
    await tx.run(
        "INSERT INTO signing_keys (kid, alg, state, public_jwk, sealed_private, imported,"
        " created_at, usable_at, activated_at) VALUES (:kid, :alg, :state, :public_jwk,"
        " :sealed, :imported, :now, :usable_at, :activated_at)",
        kid=kid,
        alg=algorithm(key.public).value,
        state=state.value,
        public_jwk=json.dumps(public_jwk(key.public)),
        sealed=sealer.seal(kid, private_der(key.private)) if key.private else None,
        imported=int(key.imported),
        now=now,
        usable_at=usable_at,
        activated_at=now if state is KeyState.ACTIVE else None,
    )
    return kid


async def allow_use(tx: Transaction, kid: str, usable_at: int) -> None:
    """Every live worker knows the key.  What was said first holds."""
    await tx.run(
        "UPDATE signing_keys SET usable_at = :usable_at WHERE kid = :kid AND usable_at IS NULL",
        kid=kid,
        usable_at=usable_at,
    )


async def promote(tx: Transaction, kid: str, now: int) -> None:
    await tx.run(
        "UPDATE signing_keys SET state = 'active', activated_at = :now WHERE kid = :kid",
        kid=kid,
        now=now,
    )


async def retire(tx: Transaction, kid: str, now: int, gone_at: int) -> None:
    """The private half is erased: a worker that still signs with it has it in memory."""
    await tx.run(
        "UPDATE signing_keys SET state = 'retiring', sealed_private = NULL, retired_at = :now,"
        " gone_at = :gone_at WHERE kid = :kid",
        kid=kid,
        now=now,
        gone_at=gone_at,
    )


async def expire(tx: Transaction, kid: str) -> bool:
    """End a retiring key; whether it is this call that ended it."""
    sql = "UPDATE signing_keys SET state = 'gone' WHERE kid = :kid AND state = 'retiring'"
    ended = await tx.run(sql, kid=kid) == 1
    if ended:
        await add_tombstone(tx, Ended.SIGNING_KEY, kid)
    return ended


async def drop(tx: Transaction, kid: str, now: int) -> None:
    """The end of any key, at once; also of one that a restore took away."""
    await add_tombstone(tx, Ended.SIGNING_KEY, kid)
    await tx.run(
        "UPDATE signing_keys SET state = 'gone', sealed_private = NULL, gone_at = :now"
        " WHERE kid = :kid AND state <> 'gone'",
        kid=kid,
        now=now,
    )


async def moved(tx: Transaction, kid: str) -> Change:
    """Tells every worker to read the keys.  It refuses nobody; a change has a cause."""
    return await record(tx, ChangeKind.KEYS, kid, Reason.TOKEN_REVOKED)


async def request_retirement(tx: Transaction, kid: str) -> None:
    """Keep the request until the next key may sign.  It names the key, so that it is void once
    that key was revoked."""
    await _put(tx, _RETIREMENT, kid)


async def retirement_requested(tx: Transaction) -> str | None:
    row = await tx.one("SELECT value FROM installation WHERE name = :name", name=_RETIREMENT)
    return None if row is None else str(row["value"])


async def reseal(
    database: Database,
    old: Sealer,
    new: Sealer,
    chain_key: bytes,
    *,
    beside: Callable[[Transaction], Awaitable[object]] | None = None,
) -> int:
    """Every private key sealed anew, in one transaction; how many there were.  `chain_key`,
    which the old secret gave the audit log's chains, is kept to verify them.  `beside` seals in
    the same transaction what others keep under the secret.

    Running processes keep the keys they have opened, and cannot make or open others until
    they are started with the new secret.  Raises WrongSecret when `old` is not the secret
    they are sealed under; a run after one that succeeded changes nothing.
    """
    async with database.transaction() as tx:
        fingerprint = await _locked_fingerprint(tx, old)
        if not old.made(fingerprint):
            if new.made(fingerprint):
                return 0
            raise WrongSecret
        try:
            chain_keys = [*await retained_chain_keys(tx, old), chain_key]
        except SealBroken as error:
            raise WrongSecret from error
        await retain_chain_keys(tx, new, chain_keys)
        rows = await tx.all(
            "SELECT kid, sealed_private FROM signing_keys WHERE sealed_private IS NOT NULL"
        )
        for row in rows:
            kid = row["kid"]
            try:
                private = old.unseal(kid, row["sealed_private"])
            except SealBroken as error:
                raise WrongSecret from error
            await tx.run(
                "UPDATE signing_keys SET sealed_private = :sealed WHERE kid = :kid",
                kid=kid,
                sealed=new.seal(kid, private),
            )
        if beside is not None:
            await beside(tx)
        await _put(tx, _FINGERPRINT, new.fingerprint)
        # What nodes have in common is compared under the secret: the next start writes it anew.
        await tx.run("DELETE FROM installation WHERE name = 'shared_settings'")
        return len(rows)


async def retained_chain_keys(tx: Transaction, sealer: Sealer) -> list[bytes]:
    """What the secrets of before gave the chains of the audit log.  Raises SealBroken."""
    row = await tx.one("SELECT value FROM installation WHERE name = :name", name=_CHAIN_KEYS)
    return [
        sealer.unseal(_CHAIN_KEY, sealed) for sealed in json.loads(row["value"] if row else "[]")
    ]


async def readable_chain_keys(tx: Transaction, sealer: Sealer) -> tuple[bytes, ...]:
    """None where they are sealed under yet another secret, or somebody changed them: their
    chains cannot be verified then, and that is for `audit verify` to say."""
    try:
        return tuple(await retained_chain_keys(tx, sealer))
    except (SealBroken, ValueError, TypeError):
        return ()


async def retain_chain_keys(tx: Transaction, sealer: Sealer, keys: Sequence[bytes]) -> None:
    """In the place of those that were retained before."""
    await _put(tx, _CHAIN_KEYS, json.dumps([sealer.seal(_CHAIN_KEY, key) for key in keys]))


async def seal_under(tx: Transaction, sealer: Sealer) -> None:
    """After a restore, where no key of before is kept: the secret of now seals the next ones."""
    await _put(tx, _FINGERPRINT, sealer.fingerprint)


async def _put(tx: Transaction, name: str, value: str) -> None:
    await tx.run(
        "INSERT INTO installation (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = :value",
        name=name,
        value=value,
    )


async def _locked_fingerprint(tx: Transaction, sealer: Sealer) -> str:
    """Of the secret that seals the keys; the first one that ever asks gives its own.  The
    row stays locked until the transaction ends."""
    row = await tx.one(
        "INSERT INTO installation (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = installation.value RETURNING value",
        name=_FINGERPRINT,
        value=sealer.fingerprint,
    )
    return "" if row is None else str(row["value"])


def _key_row(row: Row) -> KeyRow:
    state = KeyState(row["state"])
    return KeyRow(
        kid=row["kid"],
        alg=Alg(row["alg"]),
        state=state,
        imported=bool(row["imported"]),
        created_at=row["created_at"],
        usable_at=row["usable_at"] if state is KeyState.NEXT else None,
        activated_at=row["activated_at"],
        retired_at=row["retired_at"],
        gone_at=row["gone_at"],
    )
