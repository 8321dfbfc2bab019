"""What the audit log says of an operator's act, by a command or in the console: the same of both.

Who did it is filled in by whoever knows.
"""

from __future__ import annotations

from gateway.audit.log import AuditEvent, AuditKind
from gateway.identity.mail.invitations import Invitation


def operator_event(
    kind: AuditKind, subject: str | None, change: str, /, **detail: str
) -> AuditEvent:
    return AuditEvent(kind, subject=subject, detail={"change": change, **detail})


def invitation_event(pseudonym: str, change: str, invitation: Invitation | None) -> AuditEvent:
    """`pseudonym` of the address (`AuditLog.pseudonym`): there is no account that it could stand
    for."""
    detail = {"asked_for": pseudonym}
    if invitation is not None:
        detail |= {"invitation": invitation.id, "roles": ",".join(invitation.roles)}
    return operator_event(AuditKind.ACCOUNT_CHANGED, None, change, **detail)
