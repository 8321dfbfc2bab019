"""Calls that last: sockets and long answers, ended when what let them in no longer holds.

Law: a call is judged when it begins, again where it waited before its first byte went out
(`refusal`), and a short one is over before that could change.  One that lasts is entered here,
and from then on a revocation that names its session, token, subject, client or key ends it in
the same turn of the loop in which this worker learns of it; so it has ended before the
revocation is acknowledged, or a moment after.  Its expiry, and a worker that can no longer know
what is revoked, end it at the next sweep; and because a worker that stood still hears its sockets
before it sweeps, whatever lasts is asked for (`ends`) before any more of it passes.  What
`rejudging` says of those that may go on is done here, within the same second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.edge.streams.socket_quota import Seats
from gateway.identity.sign_in.session_cookies import is_of_cookie
from gateway.model import Change, ChangeKind, Principal, Reason

if TYPE_CHECKING:
    from gateway.edge.streams.reevaluation import Rejudged, Renewal, Renewals

RENEWAL_S = 0.6
"""For an account to be read again after a change of roles: what the old ones let in is closed
within the second, whatever the store does."""
EXPIRED_RENEWAL_S = 5.0
"""For the same where nothing has changed and what was read has merely become old."""
GOODBYE_S = 0.5
"""From a Close frame of ours to the cut, for whoever does not leave."""
READ_AT_ONCE = 16
JUDGED_AT_ONCE = 100


class OpenCall(Protocol):
    """`relay.Relay` and `tunnel.Tunnel` meet it."""

    principal: Principal | None
    rejudged: Rejudged | None
    """Set where its route wants it judged again rather than ended."""

    @property
    def over(self) -> bool: ...

    def end_for(self, reason: Reason, said: str = "") -> None:
        """Close it, at once or as soon as its framing allows; `said` where the policy gave a
        reason of its own."""


class OpenTunnel(OpenCall, Protocol):
    """`tunnel.Tunnel` meets it."""

    due_at: float
    """When it is to be looked at again, by the loop's clock."""
    ended: asyncio.Future[None]

    def sweep(self, now: float) -> None: ...

    def go_away(self) -> None:
        """The listener ends: both ends are told (RFC 6455 section 7.4.1, 1001)."""

    def abort(self) -> None: ...


class OpenCalls:
    """`refusal` is the replica's; `now` gives the seconds by which tokens expire."""

    def __init__(
        self,
        refusal: Callable[[Principal], Reason | None] = lambda principal: None,
        now: Callable[[], float] = time.time,
        renewals: Renewals | None = None,
    ) -> None:
        self._refusal = refusal
        self._now = now
        self._renewals = renewals
        self._calls: dict[OpenCall, Principal | None] = {}
        self._named: dict[ChangeKind, dict[str, set[OpenCall]]] = {
            ChangeKind.SESSION: {},
            ChangeKind.TOKEN: {},
            ChangeKind.SUBJECT: {},
        }
        self.tunnels: set[OpenTunnel] = set()
        """Every one, anonymous ones too: their silence is counted."""
        self.seats = Seats()
        self._renewing: dict[_Session, set[OpenCall]] = {}
        """By session, whose account is being read."""
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: OpenCall) -> None:
        """From now on it is ended when its principal is refused; at once if that is so now."""
        principal = call.principal
        if call in self._calls or (principal is None and call.rejudged is None):
            return
        self._calls[call] = principal
        if principal is not None:
            for kind, name in _names(principal):
                self._named[kind].setdefault(name, set()).add(call)
        self._check((call,))
        if call.rejudged is not None and call.rejudged.is_due:
            self._judge(call)

    def refusal(self, principal: Principal | None) -> Reason | None:
        """Why a call that waited may not be sent any more.

        What was read for a session cookie is no older for having waited: its session is asked.
        """
        if principal is None:
            return None
        reason = self._refusal(principal)
        if reason is None and principal.expires_at <= self._now() and not is_of_cookie(principal):
            return Reason.TOKEN_EXPIRED
        return reason

    def ends(self, call: OpenCall) -> Reason | None:
        """Why no more bytes of a call may pass; None too where it is looked at again instead."""
        principal = call.principal
        reason = self.refusal(principal)
        if reason is None or principal is None:
            return None
        if self._renewals is not None and _goes_on(call, principal, reason):
            return None
        return reason

    def discard(self, call: OpenCall) -> None:
        """It is over."""
        principal = self._calls.pop(call, None)
        if principal is None:
            return
        for kind, name in _names(principal):
            calls = self._named[kind].get(name)
            if calls is not None:
                calls.discard(call)
                if not calls:
                    del self._named[kind][name]

    async def close(self) -> None:
        """The worker goes: sockets have no end of their own to wait for."""
        for task in tuple(self._tasks):
            task.cancel()
        for tunnel in tuple(self.tunnels):
            tunnel.go_away()
        if self.tunnels:
            await asyncio.wait([tunnel.ended for tunnel in self.tunnels], timeout=GOODBYE_S)
        for tunnel in tuple(self.tunnels):
            tunnel.abort()

    # --- what is told to it ---

    def changed(self, change: Change) -> None:
        """The replica has taken `change` in; most changes name nobody who is here."""
        if not self._calls:
            return
        named = self._named.get(change.kind)
        if named is not None:
            self._check(tuple(named.get(change.target, ())))
        elif change.kind is not ChangeKind.KEYS:
            self._check(tuple(self._calls))

    def reloaded(self) -> None:
        """Another configuration runs: whoever asked for it is judged by that."""
        calls = [call for call in self._calls if call.rejudged is not None]
        if calls:
            self._begin(self._judge_all(calls))

    def abort(self) -> None:
        """Cut every tunnel: nobody looks after them any more."""
        for tunnel in tuple(self.tunnels):
            tunnel.abort()

    def sweep(self, now: float) -> None:
        """`now` is by the loop's clock."""
        for tunnel in [tunnel for tunnel in self.tunnels if tunnel.due_at <= now]:
            tunnel.sweep(now)
        if not self._calls:
            return
        for call in [call for call in self._calls if call.over]:
            self.discard(call)
        wall = self._now()
        for call in [c for c, who in self._calls.items() if who and who.expires_at <= wall]:
            self._no_longer(call, Reason.TOKEN_EXPIRED)
        some = next((who for who in self._calls.values() if who is not None), None)
        if some is not None and self._refusal(some) is not None:
            # A fenced worker refuses everyone alike: this is the one that it is asked by.
            self._check(tuple(self._calls))

    # --- private ---

    def _check(self, calls: Iterable[OpenCall]) -> None:
        for call in calls:
            principal = self._calls.get(call)
            reason = None if principal is None else self._refusal(principal)
            if reason is not None:
                self._no_longer(call, reason)

    def _no_longer(self, call: OpenCall, reason: Reason) -> None:
        """What let it in has ended, or (where it may go on) has only become old."""
        principal = self._calls[call]
        if self._renewals is None or principal is None or not _goes_on(call, principal, reason):
            call.end_for(reason)
            return
        session = _session(principal)
        waiting = self._renewing.get(session)
        if waiting is None:
            self._renewing[session] = {call}
            within_s = RENEWAL_S if reason is Reason.TOKEN_OUTDATED else EXPIRED_RENEWAL_S
            self._begin(self._renew(self._renewals, principal, within_s))
        else:
            waiting.add(call)

    async def _renew(self, renewals: Renewals, principal: Principal, within_s: float) -> None:
        """One look at the account for all calls of its session."""
        found: Renewal | Reason = Reason.STORE_UNAVAILABLE
        try:
            async with asyncio.timeout(within_s), self._reading:
                found = await renewals.renewed(principal)
        except TimeoutError:
            pass
        finally:
            calls = self._renewing.pop(_session(principal))
        if isinstance(found, Reason):
            for call in calls:
                call.end_for(found)
            return
        for call in calls:
            old = self._calls.get(call)
            if old is not None:
                # Its names stay: only what they stand for was read again.
                call.principal = self._calls[call] = found(old)
        self._check(calls)
        await self._judge_all([call for call in calls if call.rejudged is not None])

    async def _judge_all(self, calls: Sequence[OpenCall]) -> None:
        for number, call in enumerate(calls, 1):
            self._judge(call)
            if not number % JUDGED_AT_ONCE:
                await asyncio.sleep(0)

    def _judge(self, call: OpenCall) -> None:
        if call in self._calls and call.rejudged is not None:
            refused = call.rejudged.refusal(self._calls[call])
            if refused is not None:
                call.end_for(*refused)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_Session = tuple[str | None, str, bool]


def _session(principal: Principal) -> _Session:
    """A token of an imported key may name a session that is another's: who answers for the one
    does not answer for the other."""
    return principal.session_id, principal.subject, is_of_cookie(principal)


def _goes_on(call: OpenCall, principal: Principal, reason: Reason) -> bool:
    """Whether to look at the session again before it is ended."""
    if principal.session_id is None:
        return False
    if call.rejudged is not None:
        return reason in (Reason.TOKEN_EXPIRED, Reason.TOKEN_OUTDATED)
    return reason is Reason.TOKEN_EXPIRED and is_of_cookie(principal)


def _names(principal: Principal) -> list[tuple[ChangeKind, str]]:
    found = [
        (ChangeKind.SUBJECT, principal.subject),
        (ChangeKind.TOKEN, principal.token_id),
    ]
    if principal.session_id is not None:
        found.append((ChangeKind.SESSION, principal.session_id))
    return found
