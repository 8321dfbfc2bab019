"""A mail that is requested: a row of the outbox, written in the caller's transaction."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from gateway.email_address import normalize_email
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.messages import single_email
from gateway.identity.mail.templates import MailTemplate
from gateway.stores.protocols import Transaction

_TEMPLATES = {
    Purpose.VERIFY: MailTemplate.VERIFY,
    Purpose.RESET: MailTemplate.RESET,
    Purpose.EMAIL_CHANGE: MailTemplate.EMAIL_CHANGE_CONFIRM,
    Purpose.INVITATION: MailTemplate.INVITATION,
}


@dataclass(frozen=True, slots=True)
class MailRequest:
    """Who requests a mail with a link, and for what."""

    requester: str
    """As `requester_of` gives it; mail is counted by it."""
    email: str | None = None
    """The e-mail address as it was typed: of a registration, or the new one of an account."""
    password_hash: str | None = field(default=None, repr=False)
    """Of a registration."""


async def queue_link(
    tx: Transaction, purpose: Purpose, normalized_email: str, request: MailRequest
) -> str:
    """Queue a mail with a link, for whoever has the e-mail address when it is written; none
    is sent where nobody has it (`recipients.choose_recipient`)."""
    if request.email is not None:
        single_email(request.email)
    recipient_key: str | None = normalized_email
    if purpose is Purpose.EMAIL_CHANGE:
        recipient_key = normalize_email(request.email or "")
    return await insert_mail(
        tx,
        template=_TEMPLATES[purpose].value,
        purpose=purpose.value,
        normalized_email=normalized_email,
        recipient=request.email,
        recipient_key=recipient_key,
        requester=request.requester,
        password_hash=request.password_hash,
    )


async def insert_mail(tx: Transaction, **values: str | None) -> str:
    mail_id, now = secrets.token_urlsafe(32), await tx.now()
    row = {
        "purpose": None,
        "normalized_email": "",
        "fields": "{}",
        "requester": "",
        "password_hash": None,
        **values,
    }
    await tx.run(
        "INSERT INTO outbox (id, template, purpose, email_key, recipient, recipient_key,"
        " requester, fields, password_hash, due_at, created_at, asked_ms) VALUES (:id,"
        " :template, :purpose, :normalized_email, :recipient, :recipient_key, :requester,"
        " :fields, :password_hash, :now, :now, :asked_ms)",
        id=mail_id,
        now=int(now),
        asked_ms=int(now * 1000),
        **row,
    )
    return mail_id
