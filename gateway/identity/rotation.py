"""The life of signing keys in SQL: next → active → retiring → gone.

Law: no step makes a valid token fail.

- A `next` becomes active only NEXT_WAIT_S after every live worker has confirmed that it knows
  the key, so whoever keeps the JWKS for its max-age has it before the first token.
- A worker that missed the change signs with the retired key for at most SIGNING_LEASE_S; the
  key verifies until a token of the longest life, signed at that moment, has expired.
- Revoking is the exception that is meant to be one: it holds at once and promotes the next.

Every step is one transaction that first takes the one lock of the keys; so two operators, or
ten nodes at their first start, leave exactly one active and one next key behind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from gateway.identity.jwk import (
    Alg,
    KeyRefused,
    Pem,
    PrivateKey,
    algorithm,
    generate,
    private_der,
    public_jwk,
    read_pem,
    thumbprint,
)
from gateway.identity.keys import (
    JWKS_MAX_AGE_S,
    REFRESH_EVERY_S,
    SIGNING_LEASE_S,
    KeyState,
)
from gateway.identity.revocations import record
from gateway.identity.sealing import SealBroken, Sealer
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Announcer, Database, Row, Transaction

NEXT_WAIT_S = JWKS_MAX_AGE_S + REFRESH_EVERY_S
"""From the confirmed announcement of a key to its first signature: a worker may serve the old
JWKS until its next reading, and a client may keep that for the max-age."""

RETIRING_EXTRA_S = SIGNING_LEASE_S + 60
"""Beyond the longest life of a token; the minute is for `iat` that was moved forward."""

_FINGERPRINT = "signing_keys_fingerprint"


class WrongSecret(Exception):
    """The keys in SQL are sealed under another GATEWAY_KEY_SECRET."""

    def __init__(self) -> None:
        super().__init__("the signing keys are sealed under another GATEWAY_KEY_SECRET")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A signing key as it stands in SQL, without its private half.

    `usable_at`: for a `next` key, from when it may sign; None until every live worker has
    confirmed it.  `gone_at`: when it went, or for a retiring key will go.
    """

    kid: str
    alg: Alg
    state: KeyState
    imported: bool
    created_at: int
    activated_at: int | None
    retired_at: int | None
    gone_at: int | None
    usable_at: int | None


@dataclass(frozen=True, slots=True)
class Rotated:
    active: str
    retiring: str
    confirmed: bool
    """Whether every live worker is known to sign with the new key already."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """The next key may sign in `wait_s` seconds; None: some worker has not confirmed it."""

    wait_s: int | None


@dataclass(frozen=True, slots=True)
class Revoked:
    kid: str
    promoted: str | None
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Imported:
    kid: str
    state: KeyState
    warning: str | None
    confirmed: bool


class KeyKeeper:
    """Moves the keys on.  One for each process that serves, one for each command.

    `max_token_life_s` is GATEWAY_MAX_TOKEN_LIFE_S, not the life that tokens get today: that
    setting may have been longer when the tokens were signed that a key must still verify.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        announcer: Announcer,
        *,
        alg: Alg | str,
        max_token_life_s: int,
        make: Callable[[Alg], PrivateKey] = generate,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._announcer = announcer
        self._alg = Alg(alg)
        self._max_token_life_s = max_token_life_s
        self._make = make

    async def ensure(self) -> None:
        """Makes what is missing: at the first start an active key and a next one; later a
        next key of the algorithm that the settings now ask for.

        Announces nothing: `tend` does.  Raises StoreUnavailable, WrongSecret.
        """
        async with self._database.reading() as tx:
            rows = await _all(tx)
        active = _one(rows, KeyState.ACTIVE)
        following = _one(rows, KeyState.NEXT)
        if active is not None and following is not None and self._suits(following):
            return
        spare = [await self._generated(self._alg) for _ in range(2)]
        async with self._database.transaction() as tx:
            await self._lock(tx)
            rows, now = await _all(tx), int(await tx.now())
            following = _one(rows, KeyState.NEXT)
            if _one(rows, KeyState.ACTIVE) is None:
                if following is not None:
                    await _promote(tx, following["kid"], now)
                    following = None
                else:
                    await self._insert(tx, spare.pop(), KeyState.ACTIVE, now)
            if following is not None and not self._suits(following):
                await _drop(tx, following["kid"], now)  # it has signed nothing
                following = None
            if following is None:
                await self._insert(tx, spare.pop(), KeyState.NEXT, now)

    async def tend(self, *, period_s: int | None = None) -> bool:
        """What has come due: confirm the next key, let retired ones go, rotate after
        `period_s` (None: never by itself).  Call it every REFRESH_EVERY_S on every worker.

        Whether anything moved, so that the ring should be read.  Raises StoreUnavailable,
        WrongSecret.
        """
        await self.ensure()
        async with self._database.reading() as tx:
            rows, now = await _all(tx), int(await tx.now())
        moved = await self._let_go(rows, now)
        await self._confirm(rows)
        active = _one(rows, KeyState.ACTIVE)
        if period_s is not None and active and (active["activated_at"] or 0) + period_s <= now:
            outcome = await self.rotate(only_if_active=active["kid"])
            moved = moved or isinstance(outcome, Rotated)
        return moved

    async def rotate(self, *, only_if_active: str | None = None) -> Rotated | NotYet:
        """Gently: the next key signs from now on, the active one goes on verifying.

        Raises StoreUnavailable, WrongSecret.
        """
        await self.ensure()
        async with self._database.reading() as tx:
            rows = await _all(tx)
        await self._confirm(rows)
        fresh = await self._generated(self._alg)
        async with self._database.transaction() as tx:
            await self._lock(tx)
            rows, now = await _all(tx), int(await tx.now())
            active, following = _one(rows, KeyState.ACTIVE), _one(rows, KeyState.NEXT)
            assert active is not None
            assert following is not None
            if following["announced_at"] is None:
                return NotYet(None)
            wait_s = following["announced_at"] + NEXT_WAIT_S - now
            if wait_s > 0 or only_if_active not in (None, active["kid"]):
                return NotYet(max(0, wait_s))
            await tx.run(
                "UPDATE signing_keys SET state = 'retiring', sealed_private = NULL,"
                " retired_at = :now, gone_at = :gone_at WHERE kid = :kid",
                kid=active["kid"],
                now=now,
                gone_at=now + self._max_token_life_s + RETIRING_EXTRA_S,
            )
            await _promote(tx, following["kid"], now)
            fresh_kid = await self._insert(tx, fresh, KeyState.NEXT, now)
            changes = [await _moved(tx, following["kid"]), await _moved(tx, fresh_kid)]
        confirmed = await self._announcer.announce(changes)
        if confirmed:
            await self._mark_confirmed(fresh_kid)
        return Rotated(following["kid"], active["kid"], confirmed)

    async def revoke(self, kid: str) -> Revoked | None:
        """At once: no token of the key is good any more, and were it the active one, the
        next signs in its place.  May be repeated.  None for a kid that was never here.

        Raises StoreUnavailable, WrongSecret.
        """
        fresh = await self._generated(self._alg)
        promoted = None
        async with self._database.transaction() as tx:
            await self._lock(tx)
            rows, now = await _all(tx), int(await tx.now())
            row = next((row for row in rows if row["kid"] == kid), None)
            if row is None:
                return None
            await _drop(tx, kid, now)
            changes = [await record(tx, ChangeKind.KEY, kid, Reason.TOKEN_REVOKED)]
            if row["state"] == KeyState.ACTIVE:
                following = _one(rows, KeyState.NEXT)
                promoted = following["kid"] if following else None
                if promoted is not None:
                    await _promote(tx, promoted, now)
                    changes.append(await _moved(tx, promoted))
            if row["state"] in (KeyState.ACTIVE, KeyState.NEXT):
                fresh_kid = await self._insert(tx, fresh, KeyState.NEXT, now)
                changes.append(await _moved(tx, fresh_kid))
        return Revoked(kid, promoted, await self._announcer.announce(changes))

    async def bring_in(self, pem: bytes, *, verify_only: bool = False) -> Imported:
        """A key made elsewhere.  With its private half it takes the place of the next key;
        `verify_only` keeps the public half alone, which verifies until it is revoked.

        Raises KeyRefused, StoreUnavailable, WrongSecret.
        """
        given = await asyncio.to_thread(read_pem, pem)
        if given.private is None and not verify_only:
            raise KeyRefused("the file has no private key; a public one needs --verify-only")
        kid = thumbprint(given.public)
        state = KeyState.VERIFYING if verify_only else KeyState.NEXT
        async with self._database.transaction() as tx:
            await self._lock(tx)
            rows, now = await _all(tx), int(await tx.now())
            known = next((row for row in rows if row["kid"] == kid), None)
            if known is not None and known["state"] == KeyState.GONE:
                raise KeyRefused(f"the key {kid} was here and is gone; it does not come back")
            if known is not None and (state is KeyState.NEXT) != (
                known["state"] in (KeyState.NEXT, KeyState.ACTIVE)
            ):
                raise KeyRefused(f"the key {kid} is here already: it is {known['state']}")
            if known is None:
                await self._store(tx, kid, given, state, now, rows)
            changes = [await _moved(tx, kid)]
        confirmed = await self._announcer.announce(changes)
        if confirmed:
            await self._mark_confirmed(kid)
        held = KeyState(known["state"]) if known is not None else state
        return Imported(kid, held, given.warning, confirmed)

    async def listing(self) -> list[KeyRow]:
        """Every key that was ever here, oldest first."""
        async with self._database.reading() as tx:
            rows = await _all(tx)
        return [_key_row(row) for row in rows]

    def _suits(self, row: Row) -> bool:
        """An imported next key is the operator's wish, whatever the settings say."""
        return row["alg"] == self._alg or bool(row["imported"])

    async def _generated(self, alg: Alg) -> PrivateKey:
        return await asyncio.to_thread(self._make, alg)

    async def _lock(self, tx: Transaction) -> None:
        """Held until the transaction ends, by whoever moves keys; raises WrongSecret.

        An insert or update of one and the same row makes PostgreSQL wait for whoever did it
        before, and tells whether the keys are sealed under the secret that we hold.
        """
        row = await tx.one(
            "INSERT INTO installation (name, value) VALUES (:name, :value)"
            " ON CONFLICT (name) DO UPDATE SET value = installation.value RETURNING value",
            name=_FINGERPRINT,
            value=self._sealer.fingerprint,
        )
        if row is None or not self._sealer.made(row["value"]):
            raise WrongSecret

    async def _insert(self, tx: Transaction, private: PrivateKey, state: KeyState, now: int) -> str:
        kid = thumbprint(private.public_key())
        await self._write(tx, kid, Pem(private.public_key(), private, None), state, now, 0)
        return kid

    async def _store(
        self, tx: Transaction, kid: str, given: Pem, state: KeyState, now: int, rows: list[Row]
    ) -> None:
        replaced = _one(rows, KeyState.NEXT)
        if state is KeyState.NEXT and replaced is not None:
            await _drop(tx, replaced["kid"], now)  # it has signed nothing
        if state is KeyState.VERIFYING:
            given = Pem(given.public, None, given.warning)
        await self._write(tx, kid, given, state, now, 1)

    async def _write(
        self, tx: Transaction, kid: str, given: Pem, state: KeyState, now: int, imported: int
    ) -> None:
        sealed = self._sealer.seal(kid, private_der(given.private)) if given.private else None
        await tx.run(
            "INSERT INTO signing_keys (kid, alg, state, public_jwk, sealed_private, imported,"
            " created_at, activated_at) VALUES (:kid, :alg, :state, :public_jwk, :sealed,"
            " :imported, :now, :activated_at)",
            kid=kid,
            alg=algorithm(given.public).value,
            state=state.value,
            public_jwk=json.dumps(public_jwk(given.public)),
            sealed=sealed,
            imported=imported,
            now=now,
            activated_at=now if state is KeyState.ACTIVE else None,
        )

    async def _confirm(self, rows: list[Row]) -> None:
        """Announces a next key until every live worker has confirmed that it knows it."""
        following = _one(rows, KeyState.NEXT)
        if following is None or following["announced_at"] is not None:
            return
        async with self._database.transaction() as tx:
            change = await _moved(tx, following["kid"])
        if await self._announcer.announce([change]):
            await self._mark_confirmed(following["kid"])

    async def _mark_confirmed(self, kid: str) -> None:
        async with self._database.transaction() as tx:
            await tx.run(
                "UPDATE signing_keys SET announced_at = :now"
                " WHERE kid = :kid AND announced_at IS NULL",
                kid=kid,
                now=int(await tx.now()),
            )

    async def _let_go(self, rows: list[Row], now: int) -> bool:
        due = [
            row["kid"]
            for row in rows
            if row["state"] == KeyState.RETIRING and (row["gone_at"] or 0) <= now
        ]
        for kid in due:
            async with self._database.transaction() as tx:
                changed = await tx.run(
                    "UPDATE signing_keys SET state = 'gone'"
                    " WHERE kid = :kid AND state = 'retiring'",
                    kid=kid,
                )
                # Whoever was first tells the others; nobody needs to wait for it.
                if changed:
                    await _moved(tx, kid)
        return bool(due)


async def reseal(database: Database, old: Sealer, new: Sealer) -> int:
    """Every private key sealed anew, in one transaction; how many there were.

    Running processes keep the keys they have opened, and cannot make or open others until
    they are started with the new secret.  Raises WrongSecret when `old` is not the secret
    they are sealed under; a run after one that succeeded changes nothing.
    """
    async with database.transaction() as tx:
        row = await tx.one(
            "INSERT INTO installation (name, value) VALUES (:name, :value)"
            " ON CONFLICT (name) DO UPDATE SET value = installation.value RETURNING value",
            name=_FINGERPRINT,
            value=old.fingerprint,
        )
        if row is None or not old.made(row["value"]):
            if row is not None and new.made(row["value"]):
                return 0
            raise WrongSecret
        rows = await tx.all(
            "SELECT kid, sealed_private FROM signing_keys WHERE sealed_private IS NOT NULL"
        )
        for held in rows:
            try:
                private = old.unseal(held["kid"], held["sealed_private"])
            except SealBroken as error:
                raise WrongSecret from error
            await tx.run(
                "UPDATE signing_keys SET sealed_private = :sealed WHERE kid = :kid",
                kid=held["kid"],
                sealed=new.seal(held["kid"], private),
            )
        await tx.run(
            "UPDATE installation SET value = :value WHERE name = :name",
            name=_FINGERPRINT,
            value=new.fingerprint,
        )
        return len(rows)


async def _all(tx: Transaction) -> list[Row]:
    return await tx.all(
        "SELECT kid, alg, state, imported, created_at, announced_at, activated_at, retired_at,"
        " gone_at FROM signing_keys ORDER BY created_at, kid"
    )


def _one(rows: list[Row], state: KeyState) -> Row | None:
    return next((row for row in rows if row["state"] == state), None)


async def _promote(tx: Transaction, kid: str, now: int) -> None:
    await tx.run(
        "UPDATE signing_keys SET state = 'active', activated_at = :now WHERE kid = :kid",
        kid=kid,
        now=now,
    )


async def _drop(tx: Transaction, kid: str, now: int) -> None:
    await tx.run(
        "UPDATE signing_keys SET state = 'gone', sealed_private = NULL, gone_at = :now"
        " WHERE kid = :kid AND state <> 'gone'",
        kid=kid,
        now=now,
    )


async def _moved(tx: Transaction, kid: str) -> Change:
    """KEYS refuses nobody; the cause is there because every change has one."""
    return await record(tx, ChangeKind.KEYS, kid, Reason.TOKEN_REVOKED)


def _key_row(row: Row) -> KeyRow:
    announced_at = row["announced_at"]
    waiting = row["state"] == KeyState.NEXT and announced_at is not None
    return KeyRow(
        kid=row["kid"],
        alg=Alg(row["alg"]),
        state=KeyState(row["state"]),
        imported=bool(row["imported"]),
        created_at=row["created_at"],
        activated_at=row["activated_at"],
        retired_at=row["retired_at"],
        gone_at=row["gone_at"],
        usable_at=announced_at + NEXT_WAIT_S if waiting else None,
    )
