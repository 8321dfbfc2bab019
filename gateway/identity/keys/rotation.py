"""The life of signing keys: next → active → retiring → gone.

Law: no step makes a valid token fail.

- A `next` becomes active only NEXT_WAIT_S after every live worker has confirmed that it knows
  the key, so whoever keeps the JWKS for its max-age has it before the first token.  (The
  first one of all need not wait: it has been in every JWKS that was ever served.)
- A worker that missed the change signs with the retired key for at most SIGNING_LEASE_S; the
  key verifies until a token of the longest life, signed at that moment, has expired.
- Revoking is the exception that is meant to be one: it holds at once and promotes the next.

Every step is one transaction under the one lock of the keys, so two operators, or ten nodes
at their first start, leave exactly one active and one next key behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.identity.keys import signing_keys
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg, KeyRefused, PrivateKey, generate, read_pem
from gateway.identity.keys.key_ring import (
    JWKS_MAX_AGE_S,
    REFRESH_EVERY_S,
    SIGNING_LEASE_S,
    KeyState,
)
from gateway.identity.keys.signing_keys import KeyRow, NewSigningKey, in_state
from gateway.identity.revocations import record
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Database, RevocationPublisher, StoreUnavailable, Transaction

FIRST_KEYS = 2
"""Made at a first start: one that signs, and the next."""

NEXT_WAIT_S = JWKS_MAX_AGE_S + REFRESH_EVERY_S
"""From the confirmed announcement of a key to its first signature: a worker may serve the old
JWKS until its next reading, and a client may keep that for the max-age."""

RETIRING_EXTRA_S = SIGNING_LEASE_S + 60
"""Beyond the longest life of a token; the minute is for an `iat` that was moved forward."""


@dataclass(frozen=True, slots=True)
class RotatedKey:
    active: str
    retiring: str
    confirmed: bool = False
    """Whether every live worker is known to sign with the new key already."""


@dataclass(frozen=True, slots=True)
class ScheduledRotation:
    """The next key may sign in `wait_s` seconds; None: some worker has not confirmed it.
    `rotate_if_due` rotates as soon as it may."""

    wait_s: int | None


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """`confirmed`: every live worker refuses the key."""

    kid: str
    promoted: str | None
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """`confirmed`: every live worker knows the key."""

    kid: str
    state: KeyState
    warning: str | None
    confirmed: bool = False


class KeyRotation:
    """Moves keys through their life.  One for each process that serves, one for each command; every
    method may raise StoreUnavailable, and WrongSecret where it would make a key.

    What is called `on_…` is told what was done as soon as it is kept, before any worker is: who
    waits for those may be gone by then.  `confirmed` is False there.

    `max_token_life_s` is GATEWAY_MAX_TOKEN_LIFE_S, not the life that tokens get today: that
    may have been longer when the tokens were signed that a retiring key must still verify.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        publisher: RevocationPublisher,
        *,
        alg: Alg | str,
        max_token_life_s: int,
        make: Callable[[Alg], PrivateKey] = generate,
        confirmations: Database | None = None,
    ) -> None:
        """`confirmations` keeps what the workers have confirmed, where `database` may refuse to
        write: what has been done meanwhile is done."""
        self._database = database
        self._confirmations = confirmations or database
        self._sealer = sealer
        self._publisher = publisher
        self._alg = Alg(alg)
        self._max_token_life_s = max_token_life_s
        self._make = make

    async def ensure(self) -> None:
        """Makes what is missing: at the first start an active key and a next one; later a
        next key of the algorithm that the settings now ask for.  Announces nothing."""
        rows = await self.listing()
        following = in_state(rows, KeyState.NEXT)
        if in_state(rows, KeyState.ACTIVE) and following and self._suits(following):
            return
        # Side by side: a core is left idle by neither of two RSA keys.
        active, fresh = await asyncio.gather(self._fresh(), self._fresh())
        async with self._database.transaction() as tx:
            await signing_keys.lock(tx, self._sealer)
            rows, now = await signing_keys.all_keys(tx), int(await tx.now())
            following = in_state(rows, KeyState.NEXT)
            if not rows:
                await self._insert(tx, active, KeyState.ACTIVE, now)
                # Whoever will ever have read the first key has read this one with it.
                await self._insert(tx, fresh, KeyState.NEXT, now, usable_at=now)
                return
            if not in_state(rows, KeyState.ACTIVE):
                if following is None:
                    await self._insert(tx, active, KeyState.ACTIVE, now)
                else:
                    await signing_keys.promote(tx, following.kid, now)
                    following = None
            if following is not None and not self._suits(following):
                await signing_keys.drop(tx, following.kid, now)  # it has signed nothing
                following = None
            if following is None:
                await self._insert(tx, fresh, KeyState.NEXT, now)

    async def rotate_if_due(
        self,
        *,
        period_s: int | None = None,
        on_rotated: Callable[[RotatedKey], None] = lambda _: None,
    ) -> bool:
        """Do what is due: confirm the next key, expire retired ones, rotate when an operator
        requested it or after `period_s`.  Called every REFRESH_EVERY_S on every worker.

        True when a key changed its state, so that the ring should be read.  `on_rotated` is
        called on the one worker that rotated.
        """
        await self.ensure()
        async with self._database.read_transaction() as tx:
            rows, now = await signing_keys.all_keys(tx), int(await tx.now())
            retiring_kid = await signing_keys.retirement_requested(tx)
        changed = await self._expire_due(rows, now)
        await self._confirm(rows)
        active, following = in_state(rows, KeyState.ACTIVE), in_state(rows, KeyState.NEXT)
        if active is None or following is None or not _usable(following, now):
            return changed
        too_old = period_s is not None and (active.activated_at or 0) + period_s <= now
        if too_old or retiring_kid == active.kid:
            outcome = await self.rotate(only_if_active=active.kid, on_rotated=on_rotated)
            changed = changed or isinstance(outcome, RotatedKey)
        return changed

    async def rotate(
        self,
        *,
        only_if_active: str | None = None,
        on_rotated: Callable[[RotatedKey], None] = lambda _: None,
    ) -> RotatedKey | ScheduledRotation:
        """Let the next key sign from now on; the active one goes on verifying.  Where the next
        may not sign yet, the request is kept and `rotate_if_due` fulfils it."""
        await self.ensure()
        await self._confirm(await self.listing())
        fresh = await self._fresh()
        async with self._database.transaction() as tx:
            await signing_keys.lock(tx, self._sealer)
            rows, now = await signing_keys.all_keys(tx), int(await tx.now())
            active, following = in_state(rows, KeyState.ACTIVE), in_state(rows, KeyState.NEXT)
            assert active is not None
            assert following is not None
            if only_if_active not in (None, active.kid):
                return ScheduledRotation(0)  # another worker was first
            if not _usable(following, now):
                await signing_keys.request_retirement(tx, active.kid)
                return ScheduledRotation(following.usable_at and following.usable_at - now)
            gone_at = now + self._max_token_life_s + RETIRING_EXTRA_S
            await signing_keys.retire(tx, active.kid, now, gone_at)
            await signing_keys.promote(tx, following.kid, now)
            await self._insert(tx, fresh, KeyState.NEXT, now)
            changes = [
                await signing_keys.moved(tx, following.kid),
                await signing_keys.moved(tx, fresh.kid),
            ]
        rotated = RotatedKey(following.kid, active.kid)
        on_rotated(rotated)
        return replace(rotated, confirmed=await self._announced(changes, fresh.kid))

    async def revoke(
        self, kid: str, *, on_revoked: Callable[[RevokedKey], None] = lambda _: None
    ) -> RevokedKey | None:
        """Refuse every token of the key at once; if it is the active one, the next signs in its
        place.  May be repeated.  None for a kid that was never here."""
        fresh = await self._fresh()
        promoted = None
        async with self._database.transaction() as tx:
            await signing_keys.lock(tx, self._sealer)
            rows, now = await signing_keys.all_keys(tx), int(await tx.now())
            row = next((row for row in rows if row.kid == kid), None)
            if row is None:
                return None
            await signing_keys.drop(tx, kid, now)
            changes = [await record(tx, ChangeKind.KEY, kid, Reason.TOKEN_REVOKED)]
            following = in_state(rows, KeyState.NEXT)
            if row.state is KeyState.ACTIVE and following is not None:
                promoted = following.kid
                await signing_keys.promote(tx, promoted, now)
                changes.append(await signing_keys.moved(tx, promoted))
            replaced = row.state in (KeyState.ACTIVE, KeyState.NEXT)
            if replaced:
                await self._insert(tx, fresh, KeyState.NEXT, now)
                changes.append(await signing_keys.moved(tx, fresh.kid))
        revoked = RevokedKey(kid, promoted)
        on_revoked(revoked)
        confirmed = await self._announced(changes, fresh.kid if replaced else None)
        return replace(revoked, confirmed=confirmed)

    async def import_key(
        self,
        pem: bytes,
        *,
        verify_only: bool = False,
        on_imported: Callable[[ImportedKey], None] = lambda _: None,
    ) -> ImportedKey:
        """Import a key.  With its private half it takes the place of the next key; `verify_only`
        keeps the public half alone, which verifies until it is revoked.

        Raises KeyRefused besides.
        """
        imported = await asyncio.to_thread(read_pem, pem)
        if imported.private is None and not verify_only:
            raise KeyRefused("the file has no private key; a public one needs --verify-only")
        state = KeyState.VERIFYING if verify_only else KeyState.NEXT
        key = NewSigningKey(
            imported.public, None if verify_only else imported.private, imported=True
        )
        async with self._database.transaction() as tx:
            await signing_keys.lock(tx, self._sealer)
            rows, now = await signing_keys.all_keys(tx), int(await tx.now())
            existing = next((row for row in rows if row.kid == key.kid), None)
            if existing is None:
                replaced = in_state(rows, KeyState.NEXT)
                if state is KeyState.NEXT and replaced is not None:
                    await signing_keys.drop(tx, replaced.kid, now)  # it has signed nothing
                await self._insert(tx, key, state, now)
            else:
                state = _same(existing, state)
            changes = [await signing_keys.moved(tx, key.kid)]
        brought_in = ImportedKey(key.kid, state, imported.warning)
        on_imported(brought_in)
        return replace(brought_in, confirmed=await self._announced(changes, key.kid))

    async def listing(self) -> list[KeyRow]:
        """Every key that was ever here, oldest first."""
        async with self._database.read_transaction() as tx:
            return await signing_keys.all_keys(tx)

    def _suits(self, row: KeyRow) -> bool:
        """An imported next key is the operator's wish, whatever the settings say."""
        return row.alg is self._alg or row.imported

    async def _fresh(self) -> NewSigningKey:
        private = await asyncio.to_thread(self._make, self._alg)
        return NewSigningKey(private.public_key(), private)

    async def _insert(
        self,
        tx: Transaction,
        key: NewSigningKey,
        state: KeyState,
        now: int,
        *,
        usable_at: int | None = None,
    ) -> None:
        await signing_keys.insert(tx, self._sealer, key, state, now, usable_at=usable_at)

    async def _confirm(self, rows: Sequence[KeyRow]) -> None:
        """Announces a next key until every live worker has confirmed that it knows it."""
        following = in_state(rows, KeyState.NEXT)
        if following is None or following.usable_at is not None:
            return
        async with self._database.transaction() as tx:
            change = await signing_keys.moved(tx, following.kid)
        await self._announced([change], following.kid)

    async def _announced(self, changes: Sequence[Change], kid: str | None) -> bool:
        """Whether every live worker has the changes; `kid` is then a key they all know.  What was
        done before is done, so that a store that is away by now makes nothing of it fail: the key
        is announced again (`rotate_if_due`)."""
        confirmed = await self._publisher.publish(changes)
        if confirmed and kid is not None:
            try:
                async with self._confirmations.transaction() as tx:
                    await signing_keys.allow_use(tx, kid, int(await tx.now()) + NEXT_WAIT_S)
            except StoreUnavailable:
                return False
        return confirmed

    async def _expire_due(self, rows: Sequence[KeyRow], now: int) -> bool:
        expired = False
        for row in rows:
            if row.state is KeyState.RETIRING and (row.gone_at or 0) <= now:
                expired = True
                async with self._database.transaction() as tx:
                    # The first worker announces it; nobody needs to wait for that.
                    if await signing_keys.expire(tx, row.kid):
                        await signing_keys.moved(tx, row.kid)
        return expired


def _usable(row: KeyRow, now: int) -> bool:
    return row.usable_at is not None and row.usable_at <= now


_OTHERWISE = {
    KeyState.NEXT: "is here already and will sign: it cannot be imported to verify only",
    KeyState.ACTIVE: "is here already and signs: it cannot be imported to verify only",
    KeyState.RETIRING: "is here already and being retired: it does not sign again",
    KeyState.VERIFYING: "is here already to verify only, and cannot become a signing key: "
    "import another one to sign with",
}


def _same(existing: KeyRow, state: KeyState) -> KeyState:
    """The state of a key that is brought in again as what it is.  Raises KeyRefused."""
    if existing.state is KeyState.GONE:
        raise KeyRefused(f"the key {existing.kid} was here and is gone; it does not come back")
    signs = existing.state in (KeyState.NEXT, KeyState.ACTIVE)
    if signs is not (state is KeyState.NEXT):
        raise KeyRefused(f"the key {existing.kid} {_OTHERWISE[existing.state]}")
    return existing.state
