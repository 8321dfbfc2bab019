"""What the endpoints tell the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.server.endpoint_calls import REQUEST_ID
from gateway.model import Call, Clock


class AuditSink(Protocol):
    """Takes events; `audit.log.AuditLog` implements it.  Nothing here waits or fails."""

    def record(self, event: AuditEvent) -> None: ...

    def denied(self, reason: str, route: str | None, subject: str | None) -> None:
        """Count a refusal, a minute at a time: a stranger can bring them about without limit."""

    def pseudonym(self, normalized_email: str) -> str:
        """A pseudonym of an e-mail address that no account may have."""


_OF_STRANGERS = frozenset(
    {
        AuditKind.SIGN_IN_FAILED,
        AuditKind.PASSWORD_RESET_REQUESTED,
        AuditKind.REGISTERED,
        AuditKind.CONSOLE_OPENED,
    }
)
_WRITTEN_WHEN_DONE = frozenset({AuditKind.CONSOLE_OPENED})
"""Of those, what succeeds for nobody but who has the local token or an account, whose sign-ins are
counted; who asks for a reset, or registers, is told `ok` whoever they are."""
EVENTS_AT_ONCE = 1_000
EVENTS_A_SECOND = 1.0


class BoundedAuditSink:
    """Bounds the rows that strangers can cause: of each kind a thousand at once and one a second
    from then on; the rest is counted, a minute at a time.  No stranger's row hides one of somebody
    who proved who they are."""

    def __init__(self, sink: AuditSink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._full_at: dict[AuditKind, float] = {}
        self.denied = sink.denied
        self.pseudonym = sink.pseudonym

    def record(self, event: AuditEvent) -> None:
        is_done = event.result == "ok" and event.kind in _WRITTEN_WHEN_DONE
        if event.kind in _OF_STRANGERS and not is_done and not self._has_capacity(event.kind):
            self._sink.denied(event.kind, None, None)
        else:
            self._sink.record(event)

    def _has_capacity(self, kind: AuditKind) -> bool:
        now = self._clock.steady()
        full_at = max(self._full_at.get(kind, 0.0), now)
        if full_at - now > (EVENTS_AT_ONCE - 1) / EVENTS_A_SECOND:
            return False
        self._full_at[kind] = full_at + 1 / EVENTS_A_SECOND
        return True


class AccountEvents:
    """Records what an account can bring about as often as it likes: beyond what such events
    may be in a day, it is counted as the rest of a stranger's is."""

    def __init__(self, sink: AuditSink, wait_s: Callable[[str], Awaitable[float]]) -> None:
        """`wait_s` is as `EndpointLimits.told_event_wait_s`."""
        self._sink = sink
        self._wait_s = wait_s

    async def record(self, account_id: str, event: AuditEvent) -> None:
        if await self._wait_s(account_id) > 0:
            self._sink.denied(event.kind, None, account_id)
        else:
            self._sink.record(event)


def event_of(
    kind: AuditKind,
    call: Call,
    request: web.BaseRequest | None = None,
    *,
    subject: str | None = None,
    actor: str | None = None,
    result: str = "ok",
    **detail: Any,
) -> AuditEvent:
    """An event of this call; details that are None are left out."""
    return AuditEvent(
        kind,
        result=result,
        subject=subject,
        actor=actor,
        address=call.client_ip,
        request_id=request.get(REQUEST_ID) if request is not None else None,
        detail={name: value for name, value in detail.items() if value is not None},
    )
