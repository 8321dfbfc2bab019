"""Cookie sessions in Redis: aiohttp-session's storage, with what it leaves open mended.

As shipped (2.12) its logout deletes the cookie without `Secure`, so that a browser keeps a
`__Host-` cookie, and leaves the key in Redis; the id of before still works after
`new_session()`; the id itself is the key; every change makes the session young again; and its
middleware forgets what a streamed answer changed.  Here:

- the key is the cookie's hash, and a session that ends or is replaced is deleted;
- what is written under it is sealed, and opens with that cookie alone;
- `ends_at` is written once, and no session outlives it, whatever Redis or the browser keeps;
- an id that nobody gave out is never taken up;
- a session is sealed before its answer is prepared: no middleware, nothing to forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import redis.asyncio as aioredis
from aiohttp import web
from aiohttp_session import Session
from aiohttp_session.redis_storage import RedisStorage

from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sign_in.session_cookies import (
    COOKIE,
    EXPIRED,
    CookieMint,
    hash_of,
    set_cookie,
)
from gateway.model import Call, Clock, Credential, CredentialKind, Reason

ENDS_AT = "ends_at"
"""In every session: seconds since the epoch, from when on it is none."""

_DEAD = frozenset({Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED})


class RedisCalls(Protocol):
    """As `stores.redis.RedisStore`: every call is bounded, or StoreUnavailable."""

    prefix: str

    @property
    def client(self) -> aioredis.Redis: ...

    async def call(self, *words: str | int | float) -> Any: ...


class SessionStorage(RedisStorage):
    """Every method that asks Redis may raise StoreUnavailable."""

    def __init__(
        self, store: RedisCalls, clock: Clock, sealer: SessionSealer, mint: CookieMint
    ) -> None:
        super().__init__(store.client, cookie_name=COOKIE, secure=True, samesite="Lax")
        self._store = store
        self._sealer = sealer
        self.mint = mint
        self._now = clock.now

    async def load_session(self, request: web.BaseRequest) -> Session:
        return await self.load(request.cookies.get(COOKIE, ""))

    async def load(self, cookie: str) -> Session:
        """The session that the cookie names; a new one, without its id, where there is none."""
        if not self.mint.gave(cookie):
            return await self.new_session()
        raw = await self._store.call("GET", self._key(cookie))
        data = self._read(cookie, raw)
        if data is None:
            return await self.new_session()
        return Session(cookie, data=data, new=False)

    async def save_session(
        self, request: web.BaseRequest, response: web.StreamResponse, session: Session
    ) -> None:
        """Seals the session and tells the browser.  What it replaces ends with this."""
        if response.prepared:
            raise RuntimeError("a session is sealed before its answer is prepared")
        before = request.cookies.get(COOKIE)
        cookie = None if session.empty else await self.seal(session)
        if before is not None and before != cookie:
            await self.end(before)
        self.save_cookie(response, cookie or "", max_age=self._left_s(session))

    async def seal(self, session: Session) -> str:
        """Writes the session, and gives its cookie.  One that has ended meanwhile stays so."""
        cookie = str(session.identity or self.mint.new())
        text = self._sealer.seal(cookie, self._encoder(self._get_session_data(session)))
        if session.new:
            await self._store.call("SET", self._key(cookie), text, "EX", self._left_s(session))
        else:
            await self._store.call("SET", self._key(cookie), text, "XX", "KEEPTTL")
        return cookie

    async def end(self, cookie: str) -> None:
        if self.mint.gave(cookie):
            await self._store.call("DEL", self._key(cookie))

    def save_cookie(
        self, response: web.StreamResponse, cookie_data: str, *, max_age: int | None = None
    ) -> None:
        line = set_cookie(cookie_data, max_age or 0) if cookie_data else EXPIRED
        response.headers.add("Set-Cookie", line)

    def _key(self, cookie: str) -> str:
        return _key_of(self._store, hash_of(cookie))

    def _left_s(self, session: Session) -> int:
        return max(int(session.get(ENDS_AT, 0) - self._now()), 1)

    def _read(self, cookie: str, raw: object) -> Any:
        """What was written, unless it has ended or is not of ours."""
        text = self._sealer.unseal(cookie, raw) if isinstance(raw, str) else None
        if text is None:
            return None
        try:
            data = self._decoder(text)
            ends_at = data["session"][ENDS_AT]
            return data if isinstance(ends_at, int) and ends_at > self._now() else None
        except (ValueError, TypeError, KeyError):
            return None


async def erase_sessions(store: RedisCalls, hashes: Sequence[str]) -> None:
    """Deletes the sessions of these cookies' hashes, for who has no cookie to show.  Raises
    StoreUnavailable."""
    for start in range(0, len(hashes), 500):
        keys = [_key_of(store, found) for found in hashes[start : start + 500]]
        await store.call("DEL", *keys)


def cookie_of(call: Call) -> str | None:
    """The session cookie that the call is to be judged by; None where there is none."""
    credential = call.credential
    if isinstance(credential, Credential) and credential.kind is CredentialKind.COOKIE:
        return credential.text
    return None


def parting(call: Call, reason: str) -> tuple[str, ...]:
    """The `Set-Cookie` of a refusal: takes the cookie of a dead session away."""
    return (EXPIRED,) if reason in _DEAD and cookie_of(call) is not None else ()


def _key_of(store: RedisCalls, cookie_hash: str) -> str:
    return f"{store.prefix}session:{cookie_hash}"
