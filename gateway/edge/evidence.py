"""What the endpoints tell the audit log."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web

from gateway.audit import AuditEvent, AuditKind
from gateway.edge.endpoints import REQUEST_ID
from gateway.model import Call


class Recorder(Protocol):
    """As `audit.AuditLog`: nothing here waits or fails."""

    def record(self, event: AuditEvent) -> None: ...

    def denied(self, reason: str, route: str | None, subject: str | None) -> None:
        """Counted a minute: what a stranger can do as often as they like."""

    def pseudonym(self, email_key: str) -> str:
        """Stands for an address that no account has."""


def event_of(
    kind: AuditKind,
    call: Call,
    request: web.BaseRequest | None = None,
    *,
    subject: str | None = None,
    result: str = "ok",
    **detail: Any,
) -> AuditEvent:
    """An event of this call; details that are None are left out."""
    return AuditEvent(
        kind,
        result=result,
        subject=subject,
        address=call.client_ip,
        request_id=request.get(REQUEST_ID) if request is not None else None,
        detail={name: value for name, value in detail.items() if value is not None},
    )
