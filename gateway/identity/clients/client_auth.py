"""How a client proves who it is: client_secret_basic (RFC 6749 section 2.3.1) or
private_key_jwt (RFC 7523 section 2.2).

Law: an assertion is good once on all workers, whoever presents it and however often: its `jti`
is kept in SQL until it has expired, in a transaction that commits before the client is
believed (CVE-2020-15222).

Law: one that the client's own key has signed waits for nobody's failures and behind nobody's
look at SQL.  A signature is not guessed: what others make up is bounded in what it costs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import jwt

from gateway.bounded_memo import BoundedMemo
from gateway.identity.clients.client_keys import ClientKeys, KnownKeys
from gateway.identity.clients.clients import Client, find_client
from gateway.identity.keys.jwk import VerifyingKey
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.purging import run_in_parts
from gateway.identity.sessions.sessions import SESSION_ID
from gateway.model import Clock
from gateway.stores.protocols import Conflict, Database

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Stock clients write an hour; their clock may be a little ahead.
_LONGEST_LIFE_S = 3_660
_CLOCK_AHEAD_S = 5
_LONGEST_TEXT = 4096
_USED_MAX = 10_000
_CLIENT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_DUMMY = hash_token("nobody's secret")


@dataclass(frozen=True, slots=True)
class BasicSecret:
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Assertion:
    text: str = field(repr=False)
    client_id: str | None = None
    """The `client_id` parameter, which may come beside it and must then agree."""


@dataclass(frozen=True, slots=True)
class UnknownClient:
    """The proof is not valid; `client_id` is whom it named, where there is such a
    client."""

    client_id: str | None


def claimed_client(proof: BasicSecret | Assertion) -> str:
    """Whom it names, before anything of it is believed; empty where it names nobody."""
    named: object
    if isinstance(proof, BasicSecret):
        named = proof.client_id
    else:
        named = (_unverified(proof.text) or {}).get("sub")
    # Whatever else it holds (NUL, half of a surrogate pair) no store can be asked about.
    return named if isinstance(named, str) and SESSION_ID.fullmatch(named) else ""


class ClientAuthenticator:
    """Authenticates clients; a refusal does not say why."""

    def __init__(self, database: Database, clock: Clock, audiences: Sequence[str]) -> None:
        """`audiences`: the issuer and the URLs of the endpoints that take an assertion."""
        self._database = database
        self._clock = clock
        self._audiences = frozenset(audiences)
        self._keys = ClientKeys(clock)
        self._used: BoundedMemo[str, None] = BoundedMemo(_USED_MAX)
        """Assertions that this worker knows to be used up."""

    async def authenticate(
        self, proof: BasicSecret | Assertion, turn: AbstractAsyncContextManager[None]
    ) -> Client | UnknownClient:
        """`turn` is entered for a look at SQL that anybody can bring about.  Raises
        StoreUnavailable."""
        if isinstance(proof, Assertion):
            return await self._by_assertion(proof, turn)
        async with turn:
            client = await self._find(claimed_client(proof))
        return self._by_secret(proof, client) or UnknownClient(client.id if client else None)

    def holds(self, proof: BasicSecret | Assertion, client: Client) -> bool:
        """Whether a proof that was good is so for the client as it is now, locked: its secret may
        have ended meanwhile."""
        if isinstance(proof, BasicSecret):
            return self._by_secret(proof, client) is not None
        return _signed(proof.text, client.public_keys)

    def _by_secret(self, proof: BasicSecret, client: Client | None) -> Client | None:
        secret_hash = hash_token(proof.client_secret)
        hashes = client.secret_hashes if client else (_DUMMY,)
        # Each is compared: how many there are, and which one it was, takes the same time.
        same = [hmac.compare_digest(secret_hash, stored) for stored in hashes]
        return client if client is not None and any(same) else None

    async def _by_assertion(
        self, proof: Assertion, turn: AbstractAsyncContextManager[None]
    ) -> Client | UnknownClient:
        named = claimed_client(proof)
        claims = self._claims_for_here(proof, named)
        known = self._keys.find(named)
        is_own = known is not None and claims is not None and _signed(proof.text, known.public_keys)
        if not is_own and self._keys.find_current(named) is None:
            async with turn:
                # Another may have looked while this one waited.
                known = self._keys.find_current(named)
                known = known or self._keys.note(named, await self._find(named))
            keys = known.public_keys if known else ()
            is_own = claims is not None and _signed(proof.text, keys)
        refused = UnknownClient(named if known is not None else None)
        if known is None or claims is None or not is_own:
            return refused
        use = hashlib.sha256(f"{named}\x00{claims['jti']}".encode()).hexdigest()
        if use in self._used:
            return refused
        # Its keys may be others by now, and so may what it is.
        client = await self._find(named)
        self._keys.note(named, client)
        if client is None or not _still_signed(proof.text, client, known):
            return refused
        is_first = await self._first_use(use, claims["exp"])
        self._used.keep(use, None)
        return client if is_first else refused

    def _claims_for_here(self, proof: Assertion, named: str) -> dict[str, Any] | None:
        """What it says, where that would do if the client has signed it."""
        claims = _unverified(proof.text)
        if claims is None or not named or claims.get("iss") != named:
            return None
        if proof.client_id not in (None, named):
            return None
        if not self._in_time(claims) or not self._for_here(claims.get("aud")):
            return None
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= 256 or _SURROGATE.search(jti):
            return None  # half of a surrogate pair has no UTF-8
        return claims

    def _in_time(self, claims: Mapping[str, Any]) -> bool:
        now = self._clock.now()
        times = [claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)]
        if not all(type(at) in (int, float) for at in times):
            return False
        expires_at, not_before, issued_at = times
        latest = now + _CLOCK_AHEAD_S
        # A jti must be kept as long as its assertion lives: not for ever.
        return bool(
            now < expires_at <= now + _LONGEST_LIFE_S
            and not_before <= latest
            and issued_at <= latest
        )

    def _for_here(self, audience: object) -> bool:
        audiences = audience if isinstance(audience, list) else [audience]
        # RFC 7523 section 3 leaves a list open.  One audience: an assertion that another server
        # may take too could come from there.
        return (
            len(audiences) == 1
            and isinstance(audiences[0], str)
            and audiences[0] in self._audiences
        )

    async def _first_use(self, use: str, expires_at: float) -> bool:
        try:
            async with self._database.transaction() as tx:
                await tx.run(
                    "INSERT INTO client_assertions (hash, expires_at) VALUES (:hash, :expires_at)",
                    hash=use,
                    # The clock that judges `exp` may be behind the store's.
                    expires_at=int(expires_at) + _LONGEST_LIFE_S,
                )
        except Conflict:
            return False
        return True

    async def _find(self, client_id: str) -> Client | None:
        if not _CLIENT_ID.fullmatch(client_id):
            return None  # no name of ours, and perhaps no text that SQL can hold
        async with self._database.read_transaction() as tx:
            return await find_client(tx, client_id)


async def purge_assertions(database: Database) -> None:
    """Forgets assertions that have expired."""
    async with database.read_transaction() as tx:
        now = int(await tx.now())
    await run_in_parts(
        database,
        "DELETE FROM client_assertions",
        "client_assertions",
        "hash",
        "expires_at < :now",
        now=now,
    )


def _unverified(text: str) -> dict[str, Any] | None:
    """The claims, as far as they name whose key is to be tried; believed only afterwards."""
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        claims: dict[str, Any] = jwt.decode(
            text, options={"verify_signature": False, "verify_exp": False}
        )
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    return claims


def _signed(text: str, keys: Sequence[VerifyingKey]) -> bool:
    """Whether one of these keys signed it, by that key's own algorithm."""
    for key in keys:
        try:
            jwt.decode(
                text,
                key.public,
                algorithms=[key.alg.value],
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            continue
        return True
    return False


def _still_signed(text: str, client: Client, known: KnownKeys) -> bool:
    """Whether the client, as it is now, has signed what one of its `known` keys has."""
    return client.public_keys == known.public_keys or _signed(text, client.public_keys)
