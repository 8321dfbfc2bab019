"""Long-lived requests: sockets and long responses, ended when what let them in no longer holds.

Law: a call is judged when it begins, again where it waited before its first byte went out
(`refusal`), and a short one is over before that could change.  A long-lived one is registered
here, and from then on a revocation that names its session, token, subject, client or key ends it
in the same turn of the loop in which this worker learns of it; so it has ended before the
revocation is acknowledged, or a moment after.  Its expiry, and a worker that can no longer know
what is revoked, end it at the next sweep; and because a worker that stood still hears its sockets
before it sweeps, `refusal_of` is asked before any more of it passes.  What `reevaluation.py` says
of those that may go on is done here: within the same second they are judged again or wait for it,
and nothing of them passes while they wait (`reevaluation_queue.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from gateway.edge.streams.asked_tokens import AskedTokens, IssuerQuestions, NoQuestions
from gateway.edge.streams.reevaluation_queue import ReevaluatedRequest, ReevaluationQueue
from gateway.edge.streams.socket_quota import SocketQuota
from gateway.identity.sign_in.session_cookies import is_of_cookie
from gateway.model import OWN_ISSUER, Change, ChangeKind, Principal, Reason, without_session

if TYPE_CHECKING:
    from gateway.edge.streams.reevaluation import PrincipalRefresher, PrincipalUpdate

REFRESH_TIMEOUT_S = 0.6
"""For an account to be read again after a change of roles: what the old ones let in is closed
within the second, whatever the store does."""
EXPIRED_REFRESH_TIMEOUT_S = 5.0
"""For the same where nothing has changed and what was read has merely become old."""
CLOSE_TIMEOUT_S = 0.5
"""From a Close frame of ours to the cut, for whoever does not leave."""
REFRESHES_AT_ONCE = 16


class LongLivedRequest(ReevaluatedRequest, Protocol):
    """`response_relay.ResponseRelay` and `tunnel.Tunnel` meet it."""

    @property
    def credential_text(self) -> str:
        """What the caller presented; empty where nothing is remembered of it."""

    @property
    def client_ip(self) -> str: ...


class OpenTunnel(LongLivedRequest, Protocol):
    """`tunnel.Tunnel` meets it."""

    due_at: float
    """When it is to be looked at again, by the loop's clock."""
    ended: asyncio.Future[None]

    def sweep(self, now: float) -> None: ...

    def go_away(self) -> None:
        """The listener ends: both ends are told (RFC 6455 section 7.4.1, 1001)."""

    def abort(self) -> None: ...


class LongLivedRequests:
    """`refusal` is the replica's; `now` gives the seconds by which tokens expire."""

    def __init__(
        self,
        refusal: Callable[[Principal], Reason | None] = lambda principal: None,
        now: Callable[[], float] = time.time,
        refresher: PrincipalRefresher | None = None,
        questions: IssuerQuestions | None = None,
    ) -> None:
        self._refusal = refusal
        self._now = now
        self._refresher = refresher
        self._asked_tokens = AskedTokens(questions or NoQuestions())
        self._requests: dict[LongLivedRequest, Principal | None] = {}
        self._by_name: dict[ChangeKind, dict[str, set[LongLivedRequest]]] = {
            ChangeKind.SESSION: {},
            ChangeKind.TOKEN: {},
            ChangeKind.SUBJECT: {},
        }
        self.tunnels: set[OpenTunnel] = set()
        """Every one, anonymous ones too: their silence is counted."""
        self.socket_quota = SocketQuota()
        self._refreshing: dict[_Session, set[LongLivedRequest]] = {}
        """By session, whose account is being read."""
        self._reevaluations = ReevaluationQueue()
        self._refreshes = asyncio.Semaphore(REFRESHES_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: LongLivedRequest) -> None:
        """From now on it is ended when its principal is refused; at once if that is so now."""
        principal = request.principal
        if request in self._requests or (principal is None and request.reevaluation is None):
            return
        self._requests[request] = principal
        if principal is not None:
            for kind, name in _names(principal):
                self._by_name[kind].setdefault(name, set()).add(request)
            self._asked_tokens.add(request)
        self._check((request,))
        if request.reevaluation is not None and request.reevaluation.is_due:
            self._reevaluations.add(request)

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

    def refusal_of(self, request: LongLivedRequest) -> Reason | None:
        """Why no more of its bytes may pass; None too where its session is asked first."""
        principal = request.principal
        reason = self.refusal(principal)
        if reason is None or principal is None:
            return None
        if self._refresher is not None and _may_refresh(request, principal, reason):
            return None
        return reason

    def discard(self, request: LongLivedRequest) -> None:
        """It has ended."""
        self._reevaluations.discard(request)
        principal = self._requests.pop(request, None)
        if principal is None:
            return
        self._asked_tokens.discard(request)
        for kind, name in _names(principal):
            requests = self._by_name[kind].get(name)
            if requests is not None:
                requests.discard(request)
                if not requests:
                    del self._by_name[kind][name]

    async def end_sockets(self) -> None:
        """The listener ends, and they have no end of their own to wait for; whatever goes on until
        its own is watched as before."""
        for tunnel in tuple(self.tunnels):
            tunnel.go_away()
        if self.tunnels:
            await asyncio.wait([tunnel.ended for tunnel in self.tunnels], timeout=CLOSE_TIMEOUT_S)
        self._cut_sockets()

    def close(self) -> None:
        """The worker ends: nobody looks after what is left."""
        for task in tuple(self._tasks):
            task.cancel()
        self._reevaluations.close()
        self._asked_tokens.close()
        self._cut_sockets()

    # --- what is told to it ---

    def changed(self, change: Change) -> None:
        """The replica has taken `change` in; most changes name nobody who is here."""
        if not self._requests:
            return
        by_name = self._by_name.get(change.kind)
        if by_name is not None:
            self._check(tuple(by_name.get(change.target, ())))
        elif change.kind is not ChangeKind.KEYS:
            self._check(tuple(self._requests))

    def reloaded(self) -> None:
        """Another configuration runs: the routes that ask for it are judged by that."""
        for request in self._requests:
            self._reevaluations.add(request)

    def sweep(self, now: float) -> None:
        """`now` is by the loop's clock."""
        for tunnel in [tunnel for tunnel in self.tunnels if tunnel.due_at <= now]:
            tunnel.sweep(now)
        if not self._requests:
            return
        for request in [request for request in self._requests if request.closed]:
            self.discard(request)
        self._asked_tokens.sweep(now)
        wall_clock = self._now()
        expired = [
            request
            for request, principal in self._requests.items()
            if principal is not None and principal.expires_at <= wall_clock
        ]
        for request in expired:
            self._on_invalidated(request, Reason.TOKEN_EXPIRED)
        principals = (principal for principal in self._requests.values() if principal is not None)
        anyone = next(principals, None)
        if anyone is not None and self._refusal(anyone) is not None:
            # A fenced worker refuses everyone alike: one of them is enough to notice.
            self._check(tuple(self._requests))

    # --- private ---

    def _cut_sockets(self) -> None:
        for tunnel in tuple(self.tunnels):
            tunnel.abort()

    def _check(self, requests: Iterable[LongLivedRequest]) -> None:
        for request in requests:
            principal = self._requests.get(request)
            reason = None if principal is None else self._refusal(principal)
            if reason is not None:
                self._on_invalidated(request, reason)

    def _on_invalidated(self, request: LongLivedRequest, reason: Reason) -> None:
        """What let it in has ended, or (where it may go on) has only become old."""
        principal = self._requests[request]
        refresher = self._refresher
        if refresher is None or principal is None or not _may_refresh(request, principal, reason):
            request.terminate(reason)
            return
        session = _session(principal)
        refreshing = self._refreshing.get(session)
        if refreshing is not None:
            refreshing.add(request)
            return
        self._refreshing[session] = {request}
        outdated = reason is Reason.TOKEN_OUTDATED
        timeout_s = REFRESH_TIMEOUT_S if outdated else EXPIRED_REFRESH_TIMEOUT_S
        self._start(self._refresh(refresher, principal, timeout_s))

    async def _refresh(
        self, refresher: PrincipalRefresher, principal: Principal, timeout_s: float
    ) -> None:
        """Read the account once for all requests of its session."""
        update: PrincipalUpdate | Reason = Reason.STORE_UNAVAILABLE
        try:
            async with asyncio.timeout(timeout_s), self._refreshes:
                update = await refresher.refresh(principal)
        except TimeoutError:
            pass
        finally:
            requests = self._refreshing.pop(_session(principal))
        if isinstance(update, Reason):
            for request in requests:
                request.terminate(update)
            return
        for request in requests:
            before = self._requests.get(request)
            if before is not None:
                # Its names stay: only what they stand for was read again.
                request.principal = self._requests[request] = update(before)
        self._check(requests)
        for request in requests:
            if request in self._requests:
                self._reevaluations.add(request)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_Session = tuple[str | None, str, bool]


def _session(principal: Principal) -> _Session:
    """A token of an imported key may name a session that is another's: who answers for the one
    does not answer for the other."""
    return principal.session_id, principal.subject, is_of_cookie(principal)


def _may_refresh(request: LongLivedRequest, principal: Principal, reason: Reason) -> bool:
    """Whether to read the account of its session again before it is ended."""
    if principal.session_id is None or principal.issuer != OWN_ISSUER:
        return False  # there is no account to read
    if request.reevaluation is not None:
        return reason in (Reason.TOKEN_EXPIRED, Reason.TOKEN_OUTDATED)
    return reason is Reason.TOKEN_EXPIRED and is_of_cookie(principal)


def _names(principal: Principal) -> list[tuple[ChangeKind, str]]:
    """By which a revocation may name it."""
    names = [
        (ChangeKind.SUBJECT, principal.subject),
        (ChangeKind.TOKEN, principal.token_id),
    ]
    if principal.session_id is not None:
        names.append((ChangeKind.SESSION, principal.session_id))
    elif principal.issuer != OWN_ISSUER:
        names.append((ChangeKind.SUBJECT, without_session(principal.subject)))
    return names
