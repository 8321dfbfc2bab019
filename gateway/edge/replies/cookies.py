"""Cookie sessions in Redis: `aiohttp_session.Session` kept by a storage of our own.

The library's storage (2.12) deletes the cookie without `Secure`, so that a browser keeps a
`__Host-` cookie, and leaves the key in Redis; an old id still works after `new_session()`; the
id itself is the key; every change makes the session young again; and its middleware forgets
what a streamed response changed.  Here:

- the key is the cookie's hash, and a session that ends or is replaced is deleted;
- what is written under it is sealed, and opens with that cookie alone;
- `ends_at` is written once, and no session outlives it, whatever Redis or the browser keeps;
- an id that this installation did not give out is never taken up;
- a session is sealed before its response is prepared: there is no middleware.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from aiohttp_session import Session

from gateway.edge.http1.cookie_pairs import pairs_with
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sign_in.session_cookies import (
    EXPIRED,
    CookieMint,
    hash_cookie,
)
from gateway.model import Call, Clock, Credential, CredentialKind, Reason

ENDS_AT = "ends_at"
"""In every session: seconds since the epoch, from when on it is none."""

_DEAD = frozenset({Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED})


class RedisCalls(Protocol):
    """As `stores.redis.RedisStore`: every call is bounded, or StoreUnavailable."""

    prefix: str

    async def call(self, *words: str | int | float) -> Any: ...


class SessionStorage:
    """Reads and writes sessions.  Every method that asks Redis may raise StoreUnavailable."""

    def __init__(
        self, store: RedisCalls, clock: Clock, sealer: SessionSealer, mint: CookieMint
    ) -> None:
        self._store = store
        self._sealer = sealer
        self.mint = mint
        self._now = clock.now

    async def load(self, cookie: str) -> Session:
        """The session that the cookie names; a new one, without its id, where there is none."""
        if not self.mint.gave(cookie):
            return new_session()
        raw = await self._store.call("GET", self._key(cookie))
        data = self._read(cookie, raw)
        if data is None:
            return new_session()
        return Session(cookie, data=data, new=False)

    async def seal(self, session: Session) -> str:
        """Write the session and return its cookie.  One that has ended meanwhile stays so."""
        cookie = str(session.identity or self.mint.new())
        data = {"created": session.created, "session": dict(session)}
        text = self._sealer.seal(cookie, json.dumps(data))
        if session.new:
            await self._store.call("SET", self._key(cookie), text, "EX", self._left_s(session))
        else:
            await self._store.call("SET", self._key(cookie), text, "XX", "KEEPTTL")
        return cookie

    async def erase(self, hashes: Sequence[str]) -> None:
        """Ends the sessions of these cookies' hashes, for who has no cookie to show."""
        await erase_sessions(self._store, hashes)

    async def end(self, cookie: str) -> None:
        if self.mint.gave(cookie):
            await self._store.call("DEL", self._key(cookie))

    def _key(self, cookie: str) -> str:
        return _key_of(self._store, hash_cookie(cookie))

    def _left_s(self, session: Session) -> int:
        return max(int(session.get(ENDS_AT, 0) - self._now()), 1)

    def _read(self, cookie: str, raw: object) -> Any:
        """What was written, unless it has ended or was not written here."""
        text = self._sealer.unseal(cookie, raw) if isinstance(raw, str) else None
        if text is None:
            return None
        try:
            data = json.loads(text)
            ends_at = data["session"][ENDS_AT]
            return data if isinstance(ends_at, int) and ends_at > self._now() else None
        except (ValueError, TypeError, KeyError):
            return None


def new_session() -> Session:
    """A session without an id and without content."""
    return Session(None, data=None, new=True)


async def erase_sessions(store: RedisCalls, hashes: Sequence[str]) -> None:
    """Deletes the sessions of these cookies' hashes, for who has no cookie to show.  Raises
    StoreUnavailable."""
    for start in range(0, len(hashes), 500):
        keys = [_key_of(store, cookie_hash) for cookie_hash in hashes[start : start + 500]]
        await store.call("DEL", *keys)


def cookies_named(call: Call, name: str) -> list[str]:
    """The value of every cookie of this name; what is not ASCII is none of ours."""
    wanted = name.encode("ascii")
    values: list[bytes] = []
    for field, line in call.headers:
        if field.lower() == b"cookie":
            for begin, end in pairs_with(wanted, line):
                word, _, value = line[begin:end].partition(b"=")
                if word.strip() == wanted:
                    values.append(value.strip())
    return [value.decode("ascii") for value in values if value.isascii()]


def single_cookie(call: Call, name: str) -> str | None:
    """The value of the cookie; None where there is none, or more than one."""
    values = cookies_named(call, name)
    return values[0] if len(values) == 1 else None


def cookie_of(call: Call) -> str | None:
    """The session cookie that the call is to be judged by; None where there is none."""
    credential = call.credential
    if isinstance(credential, Credential) and credential.kind is CredentialKind.COOKIE:
        return credential.text
    return None


def expired_cookie(call: Call, reason: str) -> tuple[str, ...]:
    """The `Set-Cookie` line of a refusal that deletes the cookie of a session that has ended."""
    return (EXPIRED,) if reason in _DEAD and cookie_of(call) is not None else ()


def _key_of(store: RedisCalls, cookie_hash: str) -> str:
    return f"{store.prefix}session:{cookie_hash}"
