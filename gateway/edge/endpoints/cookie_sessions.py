"""Sessions that a browser holds by its cookie (docs/browsers.md).

Law: the cookie stands for a session like any other, and holds no token.  Redis is asked whether the
session is there on every call, the revocation replica on every call after it, and SQL when
what Redis has of the account is outdated, or nearly over (15 minutes).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp_session import Session

from gateway.edge.endpoints.endpoint import JsonReply, ProblemReply, Reply
from gateway.edge.replies.cookies import ENDS_AT, SessionStorage, new_session
from gateway.identity.sessions.session_room import Displaced
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.refresh_tokens import RefreshTokens, SessionGrant, SessionWait
from gateway.identity.sign_in.session_cookies import EXPIRED, Csrf, hash_cookie, set_cookie
from gateway.identity.tokens.access_tokens import FIRST_PARTY_CLIENT, acr_of
from gateway.identity.tokens.authenticator import Revocations
from gateway.model import Call, Change, Clock, Credential, Principal, Reason
from gateway.stores.protocols import RevocationPublisher, StoreUnavailable

REMEMBERED_MAX = 10_000
"""Sessions that go on while Redis is away; those that were used last."""

_REREAD_FROM = 0.8
"""Of the time for which an account is not read again: a session in use is read from then on, beside
its calls, so that it goes on where SQL is away when that time is over."""

# Not "cookies": that would take those of every host of the domain, and `__Host-device`, which
# keeps strangers from locking this browser's owner out.
_CLEARED = {"Clear-Site-Data": '"cache", "storage"'}


@dataclass(frozen=True, slots=True)
class CookieDependencies:
    storage: SessionStorage
    refresh_tokens: RefreshTokens
    sessions: Sessions
    revocations: Revocations
    publisher: RevocationPublisher
    csrf: Csrf
    clock: Clock
    ttl_s: int
    """Seconds for which the account is not read again: the life of an access token."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    account_id: str
    cookie: str = field(repr=False)
    life_s: int


class CookieSessions:
    """Authenticates calls by their session cookie, and does what the endpoints do with cookies."""

    def __init__(self, dependencies: CookieDependencies) -> None:
        self._deps = dependencies
        self._remembered: OrderedDict[str, Principal] = OrderedDict()
        self._renewals: dict[str, asyncio.Task[Principal | Reason]] = {}

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
        """SESSION_UNKNOWN for what has ended, what never was, and what is of another host."""
        cookie = credential.text
        if not self._deps.storage.mint.counts_at(cookie, call.host):
            return Reason.SESSION_UNKNOWN
        try:
            session = await self._deps.storage.load(cookie)
        except StoreUnavailable as error:
            return await self._without_redis(cookie, error)
        principal = None if session.new else principal_of(session)
        if principal is None:
            self._remembered.pop(cookie, None)
            return Reason.SESSION_UNKNOWN
        if self._must_reread(principal):
            return await self._shared_renewal(cookie, principal, session)
        if self._deps.clock.now() >= principal.issued_at + self._deps.ttl_s * _REREAD_FROM:
            self._renewal(cookie, principal, session)
        return self._remember(cookie, principal)

    async def admit(self, grant: SessionGrant, cookie: str, replaced: str | None) -> Reply:
        """Seals the session of a sign-in; the one that this browser had before ends.

        Raises StoreUnavailable, and the family that nobody holds has ended.
        """
        try:
            await self._seal_new(grant, cookie)
        except StoreUnavailable:
            await self.give_up(grant.session_id)
            raise
        if replaced is not None:
            with suppress(StoreUnavailable):
                await self._end(replaced, everywhere=False)
        return JsonReply(
            200, self._reply_body(grant, cookie), cookies=(set_cookie(cookie, grant.expires_in_s),)
        )

    async def give_up(self, session_id: str) -> None:
        """End a session that has begun, and that nobody was given."""
        with suppress(StoreUnavailable):
            await self._deps.sessions.end(session_id, "unfinished")

    async def hand_over(
        self, session_id: str, host: str, replaced: str | None
    ) -> HandedOver | None:
        """Gives one more cookie for a cookie session, which counts at `host` alone; None once the
        session has ended.

        `replaced` is the cookie that the browser had at this host: its session ends, where it is
        another.  Raises StoreUnavailable.
        """
        deps, cookie = self._deps, self.new_cookie(host)
        grant = await deps.refresh_tokens.renew(session_id, cookie_hash=hash_cookie(cookie))
        if grant is None:
            return None
        await self._seal_new(grant, cookie)
        with suppress(StoreUnavailable):  # it ends with its session
            await deps.storage.erase(grant.dropped_cookies)
        if replaced is not None:
            with suppress(StoreUnavailable):
                await self._end_other(replaced, session_id)
        return HandedOver(grant.account.id, cookie, grant.expires_in_s)

    async def refresh(self, cookie: str, host: str, wait_s: SessionWait) -> Reply:
        """Reads the account again, whether or not that was due.  The cookie stays."""
        if not self._deps.storage.mint.counts_at(cookie, host):
            return ProblemReply(Reason.SESSION_UNKNOWN)
        session = await self._deps.storage.load(cookie)
        principal = None if session.new else principal_of(session)
        if principal is None or principal.session_id is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        if (seconds := await wait_s(principal.session_id, principal.subject)) > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=seconds)
        grant = await self._reread(cookie, principal.session_id, session)
        if grant is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        return JsonReply(200, self._reply_body(grant, cookie))

    async def reseal(self, cookie: str, grant: SessionGrant) -> JsonReply | ProblemReply:
        """Writes anew what the cookie stands for, after a change of its session."""
        session = await self._deps.storage.load(cookie)
        if session.new:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        _write_anew(session, _session_data(grant, self._deps.ttl_s))
        await self._deps.storage.seal(session)
        self._remembered.pop(cookie, None)
        return JsonReply(200, self._reply_body(grant, cookie))

    async def sign_out(
        self,
        cookie: str,
        host: str,
        *,
        everywhere: bool,
        on_ended: Callable[[Sequence[Change]], None],
    ) -> Reply:
        """204 when every live worker refuses the session.  Until then the cookie stays, so
        that the call can be repeated; a dead session is signed out like a live one."""
        if not self._deps.storage.mint.counts_at(cookie, host):
            return ProblemReply(Reason.SESSION_UNKNOWN)
        changes = await self._end(cookie, everywhere=everywhere)
        if changes is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        on_ended(changes)
        if not await self._deps.publisher.publish(changes):
            return ProblemReply(Reason.REVOCATION_PENDING)
        return JsonReply(204, headers=_CLEARED, cookies=(EXPIRED,))

    async def end_displaced(self, displaced: Sequence[Displaced]) -> None:
        """Publish the end of sessions that made room for another, without a promise, and erase
        what Redis holds of them."""
        await self.erase([one for session in displaced for one in session.cookie_hashes])
        await self._deps.publisher.publish(
            [change for session in displaced for change in session.changes]
        )

    async def erase(self, hashes: Sequence[str]) -> None:
        """Erase what Redis holds of sessions that SQL has ended."""
        with suppress(StoreUnavailable):  # nobody renews what is left
            await self._deps.storage.erase(hashes)

    def new_cookie(self, host: str | None = None) -> str:
        """With `host` it counts there alone."""
        return self._deps.storage.mint.new(host)

    async def _end(self, cookie: str, *, everywhere: bool) -> Sequence[Change] | None:
        """Ends the family that the cookie holds; SQL knows it although Redis may not."""
        deps = self._deps
        if not deps.storage.mint.gave(cookie):
            return None
        session = await deps.refresh_tokens.session_of_cookie(hash_cookie(cookie))
        if session is None:
            return None
        changes = await deps.sessions.sign_out_session(session, everywhere=everywhere)
        self._remembered.pop(cookie, None)
        with suppress(StoreUnavailable):  # the family has ended: nobody renews what is left
            await deps.storage.end(cookie)
        return changes

    async def _seal_new(self, grant: SessionGrant, cookie: str) -> None:
        session = new_session()
        session.set_new_identity(cookie)
        session.update(_session_data(grant, self._deps.ttl_s))
        await self._deps.storage.seal(session)

    async def _end_other(self, cookie: str, session_id: str) -> None:
        """Ends the session of the cookie, unless it is `session_id`."""
        session = await self._deps.refresh_tokens.session_of_cookie(hash_cookie(cookie))
        if session is not None and session.id != session_id:
            await self._end(cookie, everywhere=False)

    async def _without_redis(self, cookie: str, error: StoreUnavailable) -> Principal | Reason:
        """A session that was seen here goes on, until the replica is stale."""
        principal = self._remembered.get(cookie)
        if principal is None:
            return error.reason
        return (
            await self._shared_renewal(cookie, principal)
            if self._must_reread(principal)
            else principal
        )

    def _must_reread(self, principal: Principal) -> bool:
        """Whether the account must be read again: a change of roles takes effect at once.

        Nothing that was read is believed for longer than it may be, whatever is written of it.
        """
        ends_at = min(principal.expires_at, principal.issued_at + self._deps.ttl_s)
        if ends_at <= self._deps.clock.now():
            return True
        return self._deps.revocations.refusal(principal) is Reason.TOKEN_OUTDATED

    async def _shared_renewal(
        self, cookie: str, principal: Principal, session: Session | None = None
    ) -> Principal | Reason:
        """One look at SQL for all calls that wait for it, and it survives the first of them."""
        return await asyncio.shield(self._renewal(cookie, principal, session))

    def _renewal(
        self, cookie: str, principal: Principal, session: Session | None
    ) -> asyncio.Task[Principal | Reason]:
        task = self._renewals.get(cookie)
        if task is None:
            task = asyncio.create_task(self._renew(cookie, principal, session))
            self._renewals[cookie] = task
            task.add_done_callback(lambda _: self._renewals.pop(cookie, None))
        return task

    async def _renew(
        self, cookie: str, principal: Principal, session: Session | None
    ) -> Principal | Reason:
        try:
            grant = await self._reread(cookie, principal.session_id or "", session)
        except StoreUnavailable as error:
            return error.reason
        if grant is None:
            self._remembered.pop(cookie, None)
            return Reason.SESSION_UNKNOWN
        return self._remember(cookie, _principal(_session_data(grant, self._deps.ttl_s)))

    async def _reread(
        self, cookie: str, session_id: str, session: Session | None
    ) -> SessionGrant | None:
        """The account and the family as SQL has them now, written into the session too."""
        deps = self._deps
        grant = await deps.refresh_tokens.renew(session_id)
        with suppress(StoreUnavailable):  # Redis: the next call reads SQL once more
            if grant is None:
                await deps.storage.end(cookie)
            elif session is not None:
                _write_anew(session, _session_data(grant, deps.ttl_s))
                await deps.storage.seal(session)
        return grant

    def sweep(self) -> None:
        """Forget the sessions that are over; called once a minute."""
        now, refusal = self._deps.clock.now(), self._deps.revocations.refusal
        over = [
            cookie
            for cookie, principal in self._remembered.items()
            if principal.expires_at <= now or refusal(principal) is Reason.TOKEN_REVOKED
        ]
        for cookie in over:
            del self._remembered[cookie]

    def __len__(self) -> int:
        """Sessions that are remembered."""
        return len(self._remembered)

    def _remember(self, cookie: str, principal: Principal) -> Principal:
        self._remembered[cookie] = principal
        self._remembered.move_to_end(cookie)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return principal

    def _reply_body(self, grant: SessionGrant, cookie: str) -> dict[str, Any]:
        account = grant.account
        return {
            "expires_in": min(self._deps.ttl_s, grant.expires_in_s),
            "csrf_token": self._deps.csrf.token(cookie),
            "user": {
                "user_id": account.id,
                "email": account.email,
                "roles": list(account.roles),
            },
        }


def reread_interval_s(access_ttl_s: int, idle_s: int) -> int:
    """Seconds after which the account of a session is read again: the life of an access token, or
    a tenth of the time after which an unused session ends, as use is stored only then."""
    return min(access_ttl_s, max(idle_s // 10, 1)) if idle_s else access_ttl_s


def principal_of(session: Session) -> Principal | None:
    """Who the session says is calling; None where it is not of our making."""
    try:
        return _principal(dict(session))
    except (KeyError, TypeError, ValueError):
        return None


def _principal(data: dict[str, Any]) -> Principal:
    """Policies see the claims that an access token of the same sign-in would have."""
    del data[ENDS_AT]
    return Principal(
        subject=data["sub"],
        roles=tuple(data["roles"]),
        session_id=data["sid"],
        token_id=data["sid"],
        client_id=FIRST_PARTY_CLIENT,
        kid="",
        issued_at=int(data["iat"]),
        expires_at=int(data["exp"]),
        email=data["email"],
        email_verified=data["email_verified"],
        auth_time=data["auth_time"],
        amr=tuple(data["amr"]),
        claims=data,
    )


def _write_anew(session: Session, data: Mapping[str, Any]) -> None:
    """What the account had and has lost must not stay in the session."""
    session.clear()
    session.update(data)


def _session_data(grant: SessionGrant, ttl_s: int) -> dict[str, Any]:
    """What Redis keeps: nothing by which anybody could call."""
    account, ends_at = grant.account, grant.issued_at + grant.expires_in_s
    acr = acr_of(grant.amr)
    return {
        **grant.claims,
        **({} if acr is None else {"acr": acr}),
        "sub": account.id,
        "user_id": account.id,
        "email": account.email,
        "email_verified": account.email_verified,
        "roles": list(account.roles),
        "sid": grant.session_id,
        "client_id": FIRST_PARTY_CLIENT,
        "amr": list(grant.amr),
        "auth_time": grant.auth_time,
        "iat": grant.issued_at,
        "exp": min(grant.issued_at + ttl_s, ends_at),
        ENDS_AT: ends_at,
    }
