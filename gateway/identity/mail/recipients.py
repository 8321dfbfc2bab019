"""Who gets a letter with a link, and whether anybody does: settled when it is written.

Law: what a stranger asks for fills no mailbox and shuts nobody out.  Letters are counted by
the mailbox that they go to and by what they are for, and each requester has a part of that:
who asks in somebody else's name uses up their own part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.client_networks import holder
from gateway.identity.mail import registrations
from gateway.identity.mail.links import MailToken, Purpose, keep, token_text
from gateway.identity.mail.registrations import Registration
from gateway.identity.mail.templates import Template
from gateway.stores.protocols import Row, Transaction

HOUR_S = 3600
PER_REQUESTER = 5
"""Letters with a link for one purpose that one requester has sent to one mailbox in an hour."""


@dataclass(frozen=True, slots=True)
class _Budget:
    templates: Sequence[Template]
    per_mailbox: int
    """In an hour, whoever asks."""


_BUDGETS = {
    Purpose.VERIFY: _Budget((Template.VERIFY, Template.REGISTERED_ALREADY), 15),
    Purpose.RESET: _Budget((Template.RESET,), 15),
    # Who asks is signed in, and the mailbox is not known to be theirs.
    Purpose.ADDRESS: _Budget((Template.ADDRESS_CONFIRM,), 5),
}


@dataclass(frozen=True, slots=True)
class Links:
    """How links are made, and for how long they are good."""

    token_key: bytes
    verify_ttl_s: int
    reset_ttl_s: int


@dataclass(frozen=True, slots=True)
class Addressed:
    recipient: str
    template: Template
    purpose: Purpose | None
    """None: the letter has no link."""
    expires_at: int = 0


def requester_of(client_ip: str) -> str:
    """Who asks, as letters are counted by: an address (IPv6: its /64), as a pseudonym."""
    return hashlib.sha256(holder(client_ip).encode()).hexdigest()[:32]


async def addressed(
    tx: Transaction, row: Row, account: Row | None, links: Links
) -> Addressed | None:
    """What becomes of a letter that was asked for, its link made good; None where nobody gets
    one.

    `row` is of the outbox; `account`, which has the address, is held by the transaction.
    """
    if account is not None and account["disabled"]:
        return None
    purpose = Purpose(row["purpose"])
    if await _replaced(tx, row, purpose):
        return None
    if row["prepared_at"] is None and await _flooded(tx, row, purpose, account):
        return None
    if account is None:
        return await _registering(tx, row, links) if purpose is Purpose.VERIFY else None
    if purpose is Purpose.ADDRESS and await _taken(tx, row):
        return None
    email = str(account["email"])
    if purpose is Purpose.VERIFY:
        # A registration has no say in an account, but in the one that it has made itself
        # (where sign-in does not wait for the address): it has the very same hash.
        other = row["password_hash"] not in (None, account["password_hash"])
        if other or (account["email_verified"] and row["password_hash"] is not None):
            return Addressed(email, Template.REGISTERED_ALREADY, None)
        if account["email_verified"] or account["password_hash"] is None:
            return None
    ttl_s = links.reset_ttl_s if purpose is Purpose.RESET else links.verify_ttl_s
    moves = purpose is Purpose.ADDRESS
    token = MailToken(
        account_id=str(account["id"]),
        purpose=purpose,
        email_key=str(row["email_key"]),
        new_email=str(row["recipient"]) if moves else None,
        expires_at=int(await tx.now()) + ttl_s,
    )
    await keep(tx, token_text(links.token_key, str(row["id"])), str(row["id"]), token)
    recipient = str(row["recipient"]) if moves else email
    return Addressed(recipient, Template(str(row["template"])), purpose, token.expires_at)


async def _registering(tx: Transaction, row: Row, links: Links) -> Addressed | None:
    """The letter of a registration, or of one that is asked for again."""
    key = str(row["email_key"])
    expires_at = int(await tx.now()) + links.verify_ttl_s
    if row["password_hash"] is None:
        found = await registrations.newest(tx, key, str(row["requester"]))
        if found is None:
            return None
        email, password_hash = found.email, found.password_hash
    else:
        email, password_hash = str(row["recipient"]), str(row["password_hash"])
    registration = Registration(
        email=email,
        email_key=key,
        # Who asks for the letter of somebody else's registration ends no link of theirs.
        requester=str(row["requester"]),
        asked_ms=int(row["asked_ms"]),
        expires_at=expires_at,
        password_hash=password_hash,
    )
    token = token_text(links.token_key, str(row["id"]))
    await registrations.keep(tx, token, str(row["id"]), registration)
    return Addressed(email, Template.VERIFY, Purpose.VERIFY, expires_at)


async def _replaced(tx: Transaction, row: Row, purpose: Purpose) -> bool:
    """Whether the same requester has asked anew since: only the newest letter is sent."""
    if purpose is not Purpose.VERIFY:
        return False
    newer = await tx.one(
        "SELECT id FROM outbox WHERE email_key = :key AND purpose = :purpose"
        " AND requester = :requester AND asked_ms > :asked_ms AND state <> 'dropped' LIMIT 1",
        key=row["email_key"],
        purpose=purpose.value,
        requester=row["requester"],
        asked_ms=row["asked_ms"],
    )
    return newer is not None


async def _flooded(tx: Transaction, row: Row, purpose: Purpose, account: Row | None) -> bool:
    budget = _BUDGETS[purpose]
    names = {f"t{number}": template.value for number, template in enumerate(budget.templates)}
    spread = ", ".join(f":{name}" for name in names)
    sent = await tx.all(
        f"SELECT requester, COUNT(*) AS letters FROM outbox WHERE recipient_key = :key"  # noqa: S608
        f" AND template IN ({spread}) AND id <> :id AND prepared_at > :since"
        " AND created_at > :since GROUP BY requester",
        key=row["recipient_key"],
        id=row["id"],
        since=int(await tx.now()) - HOUR_S,
        **names,
    )
    by_requester = {str(found["requester"]): int(found["letters"]) for found in sent}
    if by_requester.get(str(row["requester"]), 0) >= PER_REQUESTER:
        return True
    if sum(by_requester.values()) < budget.per_mailbox:
        return False
    # A reset is how an owner gets in whom others have locked out: those who ask in the owner's
    # name use up no more than what the mailbox already holds a good link for.
    return purpose is not Purpose.RESET or account is None or await _holds_link(tx, account)


async def _holds_link(tx: Transaction, account: Row) -> bool:
    """Whether a letter that resets the password was sent, and its link is still good."""
    found = await tx.one(
        "SELECT 1 AS found FROM mail_tokens WHERE account_id = :id AND purpose = :purpose"
        " AND expires_at > :now LIMIT 1",
        id=account["id"],
        purpose=Purpose.RESET.value,
        now=int(await tx.now()),
    )
    return found is not None


async def _taken(tx: Transaction, row: Row) -> bool:
    """Whether the address has an account: then it gets no letter that somebody else wished."""
    found = await tx.one("SELECT id FROM accounts WHERE email_key = :key", key=row["recipient_key"])
    return found is not None
