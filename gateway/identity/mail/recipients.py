"""Who gets a mail with a link, and whether anybody does: decided when it is written.

Law: a stranger's requests fill no mailbox and lock nobody out.  Mail is counted by the mailbox
that it goes to and by its purpose, and each requester has a share of that: who asks in
somebody else's name uses up their own share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.client_networks import holder
from gateway.identity.mail import invitations, registrations
from gateway.identity.mail.links import MailToken, Purpose, forget_link, store_link, token_text
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.registrations import Registration
from gateway.identity.mail.templates import MailTemplate
from gateway.stores.protocols import Row, Transaction

HOUR_S = 3600
PER_REQUESTER = 5
"""Mails with a link for one purpose that one requester may have sent to one mailbox an hour."""
PER_MAILBOX = 15
"""The same of all requesters together."""

_COUNTED: Mapping[Purpose, Sequence[MailTemplate]] = {
    Purpose.VERIFY: (MailTemplate.VERIFY, MailTemplate.REGISTERED_ALREADY),
    Purpose.RESET: (MailTemplate.RESET,),
    # The requester is an account, and the mailbox is not known to be theirs.
    Purpose.EMAIL_CHANGE: (MailTemplate.EMAIL_CHANGE_CONFIRM,),
}


@dataclass(frozen=True, slots=True)
class MailRecipient:
    recipient: str
    template: MailTemplate
    purpose: Purpose | None
    """None: the mail has no link."""
    expires_at: int = 0


def requester_of(client_ip: str) -> str:
    """The requester by which mail is counted: a pseudonym of an IP address (IPv6: its /64)."""
    return hashlib.sha256(holder(client_ip).encode()).hexdigest()[:32]


async def choose_recipient(
    tx: Transaction, row: Row, account: Row | None, options: MailOptions
) -> MailRecipient | None:
    """Who gets the requested mail, its link made valid; None where nobody does.

    `row` is of the outbox; `account`, which has the e-mail address, is locked by the
    transaction.
    """
    if account is not None and account["disabled"]:
        return None
    purpose = Purpose(row["purpose"])
    if purpose is Purpose.INVITATION:
        return await _invitation_mail(tx, row, account, options)
    if await _replaced(tx, row, purpose, account):
        return None
    if row["prepared_at"] is None and await _over_limit(tx, row, purpose, account):
        return None
    if account is None:
        return await _registration_mail(tx, row, options) if purpose is Purpose.VERIFY else None
    if purpose is Purpose.EMAIL_CHANGE and await _taken(tx, row):
        return None
    email = str(account["email"])
    if purpose is Purpose.VERIFY:
        # A registration has no say in an account, but in the one that it has made itself
        # (where sign-in does not wait for the address): it has the very same hash.
        other = row["password_hash"] not in (None, account["password_hash"])
        if other or (account["email_verified"] and row["password_hash"] is not None):
            return MailRecipient(email, MailTemplate.REGISTERED_ALREADY, None)
        if account["email_verified"] or account["password_hash"] is None:
            return None
    ttl_s = options.reset_ttl_s if purpose is Purpose.RESET else options.verify_ttl_s
    moves = purpose is Purpose.EMAIL_CHANGE
    token = MailToken(
        account_id=str(account["id"]),
        purpose=purpose,
        normalized_email=str(row["email_key"]),
        new_email=str(row["recipient"]) if moves else None,
        expires_at=int(await tx.now()) + ttl_s,
    )
    await store_link(tx, token_text(options.token_key, str(row["id"])), str(row["id"]), token)
    recipient = str(row["recipient"]) if moves else email
    return MailRecipient(recipient, MailTemplate(str(row["template"])), purpose, token.expires_at)


async def choose_nobody(tx: Transaction, row: Row, options: MailOptions) -> MailRecipient:
    """What stands in the place of a recipient where nobody gets the requested mail: it is written
    like any other, and takes a link where the other stores one."""
    await forget_link(tx, token_text(options.token_key, str(row["id"])))
    return MailRecipient(
        str(row["recipient"] or row["email_key"]),
        MailTemplate(str(row["template"])),
        Purpose(row["purpose"]),
    )


async def _registration_mail(
    tx: Transaction, row: Row, options: MailOptions
) -> MailRecipient | None:
    """The mail of a registration, or of one that is requested again."""
    key = str(row["email_key"])
    expires_at = int(await tx.now()) + options.verify_ttl_s
    if row["password_hash"] is None:
        newest = await registrations.newest(tx, key, str(row["requester"]))
        if newest is None:
            return None
        email, password_hash = newest.email, newest.password_hash
    else:
        email, password_hash = str(row["recipient"]), str(row["password_hash"])
    registration = Registration(
        email=email,
        normalized_email=key,
        # Who requests the mail of somebody else's registration revokes no link of theirs.
        requester=str(row["requester"]),
        asked_ms=int(row["asked_ms"]),
        expires_at=expires_at,
        password_hash=password_hash,
    )
    token = token_text(options.token_key, str(row["id"]))
    await registrations.store(tx, token, str(row["id"]), registration)
    return MailRecipient(email, MailTemplate.VERIFY, Purpose.VERIFY, expires_at)


async def _invitation_mail(
    tx: Transaction, row: Row, account: Row | None, options: MailOptions
) -> MailRecipient | None:
    """The mail of an operator's invitation: not counted, as no stranger can ask for it."""
    if account is not None:
        return None
    mail_id = str(row["id"])
    invitation = await invitations.mark_mailed(tx, mail_id, token_text(options.token_key, mail_id))
    if invitation is None:
        return None
    return MailRecipient(
        invitation.email, MailTemplate.INVITATION, Purpose.INVITATION, invitation.expires_at
    )


async def _replaced(tx: Transaction, row: Row, purpose: Purpose, account: Row | None) -> bool:
    """Whether the same requester has asked again since: only the newest mail is sent.

    A registration that no mail was written for is known to its own row alone: no mail but that
    of another one takes its place, and who asks for it again gets it.
    """
    if purpose is not Purpose.VERIFY:
        return False
    instead = "asked_ms > :asked_ms"
    if row["password_hash"] is None:
        if account is None:
            instead += (
                " OR (state = 'waiting' AND prepared_at IS NULL AND password_hash IS NOT NULL)"
            )
    elif row["prepared_at"] is None:
        instead += " AND password_hash IS NOT NULL"
    newer = await tx.one(
        "SELECT id FROM outbox WHERE email_key = :key AND purpose = :purpose"  # noqa: S608
        f" AND requester = :requester AND state <> 'dropped' AND ({instead}) LIMIT 1",
        key=row["email_key"],
        purpose=purpose.value,
        requester=row["requester"],
        asked_ms=row["asked_ms"],
    )
    return newer is not None


async def _over_limit(tx: Transaction, row: Row, purpose: Purpose, account: Row | None) -> bool:
    names = {f"t{number}": one.value for number, one in enumerate(_COUNTED[purpose])}
    spread = ", ".join(f":{name}" for name in names)
    since = int(await tx.now()) - HOUR_S
    rows = await tx.all(
        f"SELECT requester, COUNT(*) AS mails FROM outbox WHERE recipient_key = :key"  # noqa: S608
        f" AND template IN ({spread}) AND id <> :id AND prepared_at > :since"
        " AND created_at > :since"
        # A registration's mail that still waits does so in vain once this one is there.
        " AND NOT (state = 'waiting' AND COALESCE(purpose, '') = 'verify'"
        " AND requester = :requester AND asked_ms < :asked_ms)"
        " GROUP BY requester",
        key=row["recipient_key"],
        id=row["id"],
        requester=row["requester"],
        asked_ms=row["asked_ms"],
        since=since,
        **names,
    )
    by_requester = {str(count["requester"]): int(count["mails"]) for count in rows}
    own = by_requester.get(str(row["requester"]), 0)
    if own < PER_REQUESTER and sum(by_requester.values()) < PER_MAILBOX:
        return False
    if purpose is not Purpose.RESET or account is None:
        return True
    # Whoever makes an account in a stranger's name and deletes it again and again has each time
    # one that no link was sent for.
    if not account["email_verified"] and int(account["created_at"]) > since:
        return True
    # A reset is how an owner gets in whom others have locked out: those who ask in the owner's
    # name, from the owner's own network too, use up no more than what the mailbox already has a
    # valid link for.
    return await _has_reset_link(tx, account)


async def _has_reset_link(tx: Transaction, account: Row) -> bool:
    """Whether a mail that resets the password was sent, and its link is still valid."""
    link = await tx.one(
        "SELECT 1 AS found FROM mail_tokens WHERE account_id = :id AND purpose = :purpose"
        " AND expires_at > :now LIMIT 1",
        id=account["id"],
        purpose=Purpose.RESET.value,
        now=int(await tx.now()),
    )
    return link is not None


async def _taken(tx: Transaction, row: Row) -> bool:
    """Whether the new e-mail address has an account: then it gets no such mail."""
    account = await tx.one(
        "SELECT id FROM accounts WHERE email_key = :key", key=row["recipient_key"]
    )
    return account is not None
