"""Calls that last: sockets and long answers, ended when what let them in no longer holds.

Law: a call is judged when it begins, and a short one is over before that could change.  One
that lasts is entered here, and from then on a revocation that names its session, token,
subject, client or key ends it in the same turn of the loop in which this worker learns of it;
so it has ended before the revocation is acknowledged, or a moment after.  Its expiry, and a
worker that can no longer know what is revoked, end it at the next sweep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.edge.websocket import GOING_AWAY, GOODBYE_S, Tunnel
from gateway.model import Change, ChangeKind, Principal, Reason

LASTING_S = 0.5
"""An exchange that goes on for longer is entered.  With the sweep that enters it, this leaves
room within the second that is promised."""


class OpenCall(Protocol):
    """`relay.Relay` and `websocket.Tunnel` meet it."""

    principal: Principal | None

    @property
    def over(self) -> bool: ...

    def end_for(self, reason: Reason) -> None:
        """Close it, at once or as soon as its framing allows."""


class OpenCalls:
    """`refusal` is the replica's; `now` gives the seconds by which tokens expire."""

    def __init__(
        self,
        refusal: Callable[[Principal], Reason | None] = lambda principal: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._refusal = refusal
        self._now = now
        self._calls: dict[OpenCall, Principal] = {}
        self._named: dict[ChangeKind, dict[str, set[OpenCall]]] = {
            ChangeKind.SESSION: {},
            ChangeKind.TOKEN: {},
            ChangeKind.SUBJECT: {},
        }
        self.tunnels: set[Tunnel] = set()
        """Every one, anonymous ones too: their silence is counted."""

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: OpenCall) -> None:
        """From now on it is ended when its principal is refused; at once if that is so now."""
        principal = call.principal
        if principal is None or call in self._calls:
            return
        self._calls[call] = principal
        for kind, name in _names(principal):
            self._named[kind].setdefault(name, set()).add(call)
        self._judge((call,))

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
        for tunnel in tuple(self.tunnels):
            tunnel.end(GOING_AWAY, "shutdown")
        if self.tunnels:
            await asyncio.wait([tunnel.ended for tunnel in self.tunnels], timeout=GOODBYE_S)
        for tunnel in tuple(self.tunnels):
            tunnel.abort()

    def changed(self, change: Change) -> None:
        """The replica has taken `change` in; most changes name nobody who is here."""
        if not self._calls:
            return
        named = self._named.get(change.kind)
        if named is not None:
            self._judge(tuple(named.get(change.target, ())))
        elif change.kind is not ChangeKind.KEYS:
            self._judge(tuple(self._calls))

    def sweep(self, now: float) -> None:
        """`now` is by the loop's clock."""
        for tunnel in tuple(self.tunnels):
            tunnel.sweep(now)
        if not self._calls:
            return
        for call in [call for call in self._calls if call.over]:
            self.discard(call)
        wall = self._now()
        for call in [c for c, who in self._calls.items() if who.expires_at <= wall]:
            call.end_for(Reason.TOKEN_EXPIRED)
        some = next(iter(self._calls.values()), None)
        if some is not None and self._refusal(some) is not None:
            # A fenced worker refuses everyone alike: this is the one that it is asked by.
            self._judge(tuple(self._calls))

    def _judge(self, calls: Iterable[OpenCall]) -> None:
        for call in calls:
            principal = self._calls.get(call)
            reason = None if principal is None else self._refusal(principal)
            if reason is not None:
                call.end_for(reason)


def _names(principal: Principal) -> list[tuple[ChangeKind, str]]:
    found = [
        (ChangeKind.SUBJECT, principal.subject),
        (ChangeKind.TOKEN, principal.token_id),
    ]
    if principal.session_id is not None:
        found.append((ChangeKind.SESSION, principal.session_id))
    return found
