"""Who presents an API key: looked up in SQL, remembered for a minute.

Law: what a worker remembers of a key never decides: the replica is asked on every call, and a
change of the client, or of the account, since it was read has it read again.  While SQL is away a
key that is remembered goes on, as a token would, for as long as one lives.  Anybody can make
well-formed keys up, and each costs SQL a look: they keep no key that was good waiting, and no more
of one address wait than its share.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.clients.api_keys import client_principal
from gateway.identity.clients.key_form import is_personal, well_formed
from gateway.identity.clients.key_terms import KeyTerms
from gateway.identity.clients.personal_keys import personal_principal
from gateway.identity.made_up import AddressShares, GoodOnes
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.tokens.authenticator import Revocations
from gateway.model import Call, Clock, Credential, Principal, Reason
from gateway.stores.protocols import Database, StoreUnavailable

CACHED_S = 60.0
WITHOUT_SQL_S = 900.0
"""From when a key was read: how long it goes on while SQL is away."""
_KNOWN_WAITS_S = 0.3
"""So long a call waits for SQL to say something of a key that is remembered."""
_ASKED_AGAIN_S = 5.0
"""While it is away, about one key."""
_CACHE_MAX = 10_000
_LOOKS_AT_ONCE = 4
"""Of keys that were good here, and as many of all others."""
_LOOK_WITHIN_S = 2.0
UNKNOWN_OF_ADDRESS = 16
"""Keys of one address of which nothing is known, that are looked up or wait for it."""
_GOOD_MAX = 10_000
_SAYS_NOTHING = (None, Reason.REPLICA_STALE)
"""A replica that is stale says nothing of a key, and what comes after refuses the call."""
_USED_BY_CLIENT = "UPDATE api_keys SET last_used_at = :now WHERE id = :id"
_USED_BY_PERSON = "UPDATE personal_keys SET last_used_at = :now WHERE id = :id"
_PAST_HELD = {
    _USED_BY_CLIENT: " AND id IN (SELECT id FROM api_keys WHERE id = :id FOR UPDATE SKIP LOCKED)",
    _USED_BY_PERSON: (
        " AND id IN (SELECT id FROM personal_keys WHERE id = :id FOR UPDATE SKIP LOCKED)"
    ),
}
"""In PostgreSQL.  Who holds one key (`held_callers`) may wait for another that is written here:
neither may wait for the other."""


@dataclass(slots=True)
class _CachedPrincipal:
    principal: Principal
    read_at: float
    """By the steady clock, as `until`."""
    until: float
    """Then SQL is asked again."""


class ApiKeyAuthenticator:
    """Authenticates API keys, with a cache of one worker."""

    def __init__(
        self,
        database: Database,
        revocations: Revocations,
        clock: Clock,
        claims: AccountClaims | None = None,
        terms: KeyTerms | None = None,
    ) -> None:
        self._terms = terms
        self._database = database
        self._claims = claims or AccountClaims()
        self._revocations = revocations
        self._clock = clock
        self._cache: OrderedDict[str, _CachedPrincipal] = OrderedDict()
        self._used: set[str] = set()
        self._looks: dict[str, asyncio.Task[Principal | Reason]] = {}
        """By the key: all who ask for it meanwhile share one."""
        self._good: GoodOnes[str] = GoodOnes(_GOOD_MAX)
        self._places_of_good = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._places_of_others = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._unknown = AddressShares(UNKNOWN_OF_ADDRESS)

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
        """TOKEN_MALFORMED for a slip of the hand; TOKEN_REVOKED for a key that ended and for
        one that never was, which are not told apart; INSUFFICIENT_USER_AUTHENTICATION for a
        person's whose account has to enrol a second factor first."""
        text = credential.text
        if not well_formed(text):
            return Reason.TOKEN_MALFORMED
        principal: Principal | Reason | None = self._cached(text)
        if principal is None:
            principal = await self._look_again(text, call.client_ip)
        if isinstance(principal, Principal):
            self._used.add(principal.token_id)
        return principal

    async def write_uses(self) -> None:
        """Writes which keys were used since the last time, and whose term that has begun; for a
        task, each minute.  Of a key that somebody holds it is not written until it is used again.
        Raises StoreUnavailable."""
        used, self._used = self._used, set()
        if used:
            is_shared = self._database.dialect == "postgresql"
            try:
                async with self._database.transaction() as tx:
                    now = int(await tx.now())
                    rows = [{"id": key_id, "now": now} for key_id in sorted(used)]
                    for statement, past_held in _PAST_HELD.items():
                        await tx.many(statement + past_held if is_shared else statement, rows)
            except StoreUnavailable:
                self._used |= used
                raise
        if self._terms is not None:
            await self._terms.write(self._database)

    def _cached(self, text: str) -> Principal | None:
        cached = self._cache.get(text)
        if cached is None:
            return None
        # A change of the client or the account since then: SQL has what is true now.
        if self._revocations.refusal(cached.principal) not in _SAYS_NOTHING:
            del self._cache[text]
            return None
        if cached.until <= self._clock.steady():
            return None
        self._cache.move_to_end(text)
        return cached.principal

    def _known_without_sql(self, text: str) -> Principal | None:
        """What was read of the key last, where SQL cannot say whether it is so still."""
        cached = self._cache.get(text)
        if cached is None:
            return None
        steady = self._clock.steady()
        unchanged = self._revocations.refusal(cached.principal) in _SAYS_NOTHING
        if not unchanged or steady >= cached.read_at + WITHOUT_SQL_S:
            del self._cache[text]
            return None
        cached.until = steady + _ASKED_AGAIN_S
        return cached.principal

    async def _look_again(self, text: str, client_ip: str) -> Principal | Reason:
        """What SQL says; where it does not say it now, what was read of the key last."""
        if text not in self._cache:
            return await self._look_up(text, client_ip)
        try:
            async with asyncio.timeout(_KNOWN_WAITS_S):
                found = await self._look_up(text, client_ip)
        except TimeoutError:
            found = Reason.STORE_UNAVAILABLE
        if found in (Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY):
            return self._known_without_sql(text) or found
        return found

    async def _look_up(self, text: str, client_ip: str) -> Principal | Reason:
        look = self._looks.get(text)
        if look is None:
            digest = hash_token(text)
            places, stranger = self._places_of_good, None
            if digest not in self._good:
                places, stranger = self._places_of_others, client_ip
                if not self._unknown.has_room(stranger):
                    return Reason.STORE_BUSY
                self._unknown.take(stranger)
            look = asyncio.create_task(self._look(text, digest, places))
            self._looks[text] = look
            look.add_done_callback(lambda _: self._looked(text, stranger))
        return await asyncio.shield(look)

    def _looked(self, text: str, stranger: str | None) -> None:
        del self._looks[text]
        if stranger is not None:
            self._unknown.give_back(stranger)

    async def _look(self, text: str, digest: str, places: asyncio.Semaphore) -> Principal | Reason:
        """Bounded: who makes up well-formed keys must not fill the store's queue."""
        try:
            async with asyncio.timeout(_LOOK_WITHIN_S):
                await places.acquire()
        except TimeoutError:
            return Reason.STORE_BUSY
        try:
            principal = await self._read(text, digest)
        except StoreUnavailable as error:
            return error.reason
        finally:
            places.release()
        self._good.note(digest, is_good=isinstance(principal, Principal))
        return principal

    async def _read(self, text: str, digest: str) -> Principal | Reason:
        for _ in range(2):
            async with self._database.read_transaction() as tx:
                if is_personal(text):
                    principal = await personal_principal(tx, digest, self._claims, self._terms)
                else:
                    principal = await client_principal(tx, digest)
            if not isinstance(principal, Principal):
                self._cache.pop(text, None)
                return principal
            if self._revocations.refusal(principal) in _SAYS_NOTHING:
                steady = self._clock.steady()
                self._cache[text] = _CachedPrincipal(principal, steady, steady + CACHED_S)
                self._cache.move_to_end(text)
                while len(self._cache) > _CACHE_MAX:
                    self._cache.popitem(last=False)
                return principal
            # What was read is older than a change that came while it was: SQL knows better now.
        return principal
