"""Letters on their way: asked for in the caller's transaction, drained by any worker.

Law: what is asked for commits or rolls back with the fact that it tells of, and is then sent
at least once: a worker that dies, or a mail server that is away, delays a letter and loses
none.  Whether there is an account behind an address is looked up when the letter is written,
never when it is asked for, so that asking costs a stranger the same for every address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum
from typing import Protocol

import structlog

from gateway.identity.email_address import address_key
from gateway.identity.mail import registrations
from gateway.identity.mail.links import Purpose, purge, token_text
from gateway.identity.mail.messages import bare, message_of, one_address, shown_time
from gateway.identity.mail.recipients import Links, addressed
from gateway.identity.mail.templates import BadLetter, Letter, Letters, Template
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction

log = structlog.get_logger()

_BATCH = 20
_AT_ONCE = 4
_CLAIM_S = 120
_POLL_S = 2.0
_GIVE_UP_S = 3 * 86_400
_KEPT_S = 86_400
_LONGEST_WAIT_S = 3600
_PURGE_EVERY_S = 600


@dataclass(frozen=True, slots=True)
class MailOptions:
    sender: str
    """`name@host`, or `Name <name@host>`."""
    public_url: str
    token_key: bytes
    """`derived_key(secret, KeyPurpose.MAIL_TOKEN)`."""
    verify_ttl_s: int = 86_400
    reset_ttl_s: int = 600
    verify_path: str = "/verify-email"
    """Where the application takes a link to; the token follows as `#token=…`, which no server
    log and no `Referer` ever holds."""
    reset_path: str = "/reset-password"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of who asks for a letter with a link."""

    requester: str
    """As `requester_of` gives it; letters are counted by it."""
    email: str | None = None
    """The address as it was typed: of a registration, or the one to move to."""
    password_hash: str | None = field(default=None, repr=False)
    """Of a registration."""


class Delivery(StrEnum):
    DONE = "done"
    LATER = "later"
    REFUSED = "refused"
    """For good: trying again would be the same (a 5xx of RFC 5321 section 4.2.1)."""


@dataclass(frozen=True, slots=True)
class Delivered:
    outcome: Delivery
    why: str = ""
    """A code or a constant; never text of the mail server."""


class Carrier(Protocol):
    """Brings one message to a mail server."""

    async def carry(self, message: EmailMessage, sender: str, recipient: str) -> Delivered: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter of the outbox, as it will be sent."""

    id: str
    recipient: str
    letter: Letter
    created_at: int
    attempts: int


class Postman:
    """Takes letters in a transaction, and brings them away outside of it."""

    def __init__(
        self, database: Database, letters: Letters, options: MailOptions, carrier: Carrier | None
    ) -> None:
        self._database = database
        self._letters = letters
        self._options = options
        self._carrier = carrier
        self._links = Links(options.token_key, options.verify_ttl_s, options.reset_ttl_s)
        self._woken = asyncio.Event()
        self._purge_due = 0.0
        self._seen: set[str] = set()

    # What callers ask, in their own transaction.

    async def enqueue(
        self, tx: Transaction, template: Template, to: str, values: Mapping[str, str]
    ) -> str:
        """A letter without a link; its id.  Raises BadLetter at once, not when it is sent."""
        one_address(to)
        self._letters.write(template, values)
        return await self._insert(
            tx,
            template=template.value,
            recipient=to,
            recipient_key=address_key(to) or "",
            fields=json.dumps(dict(values)),
        )

    async def ask(self, tx: Transaction, purpose: Purpose, email_key: str, asked: Asked) -> str:
        """A letter with a link, for whoever has the address then; nothing where nobody has it
        (`addressing.addressed`)."""
        template = {
            Purpose.VERIFY: Template.VERIFY,
            Purpose.RESET: Template.RESET,
            Purpose.ADDRESS: Template.ADDRESS_CONFIRM,
        }[purpose]
        if asked.email is not None:
            one_address(asked.email)
        to_key = email_key if purpose is not Purpose.ADDRESS else address_key(asked.email or "")
        return await self._insert(
            tx,
            template=template.value,
            purpose=purpose.value,
            email_key=email_key,
            recipient=asked.email,
            recipient_key=to_key,
            requester=asked.requester,
            password_hash=asked.password_hash,
        )

    def wake(self) -> None:
        """The transaction has committed: look now rather than within 2 s."""
        self._woken.set()

    # What the worker's task does.

    async def run(self) -> None:
        """Drains until it is cancelled."""
        away = False
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            drained = 0
            try:
                # First, and remembered: what keeps letters from being sent erases old ones.
                if loop.time() >= self._purge_due:
                    await self.purge()
                    self._purge_due = loop.time() + _PURGE_EVERY_S
                drained = await self.drain()
                away = False
            except StoreUnavailable as error:
                if not away:  # told once, and not every two seconds until it is back
                    log.warning("outbox-unreachable", store=error.store, why=error.detail)
                away = True
            if drained < _BATCH:
                # Not wait_for: Python 3.11's loses a cancellation that comes with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._woken.wait()

    async def drain(self) -> int:
        """Brings away what is due, at most 20 letters; how many were looked at."""
        claimed = await self._claim()
        turns = asyncio.Semaphore(_AT_ONCE)

        async def turn(mail_id: str) -> None:
            async with turns:
                await self._bring(mail_id)

        ended = await asyncio.gather(*map(turn, claimed), return_exceptions=True)
        for failure in ended:
            if isinstance(failure, BaseException):
                raise failure
        return len(claimed)

    async def purge(self) -> None:
        """Erases letters that ended a day ago, and tokens that have expired."""
        async with self._database.transaction() as tx:
            now = int(await tx.now())
            await tx.run(
                "DELETE FROM outbox WHERE state <> 'waiting' AND finished_at < :before",
                before=now - _KEPT_S,
            )
            await tx.run(
                "UPDATE outbox SET state = 'failed', failure = 'too old', finished_at = :now,"
                " fields = '{}', password_hash = NULL"
                " WHERE state = 'waiting' AND created_at < :before",
                now=now,
                before=now - _GIVE_UP_S,
            )
            await purge(tx)
            await registrations.purge(tx)

    async def outbox(self, limit: int = 50) -> list[Waiting]:
        """The newest letters that wait and have been written, links included: for the admin
        page of `gateway dev`."""
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT o.*, COALESCE(t.expires_at, r.expires_at, 0) AS expires_at FROM outbox o"
                " LEFT JOIN mail_tokens t ON t.mail_id = o.id"
                " LEFT JOIN registrations r ON r.mail_id = o.id"
                " WHERE o.state = 'waiting' AND o.prepared_at IS NOT NULL"
                " ORDER BY o.created_at DESC, o.id LIMIT :limit",
                limit=limit,
            )
        return [
            Waiting(
                id=str(row["id"]),
                recipient=str(row["recipient"]),
                letter=self._written(row, int(row["expires_at"])),
                created_at=int(row["created_at"]),
                attempts=int(row["attempts"]),
            )
            for row in rows
        ]

    async def _insert(self, tx: Transaction, **values: str | None) -> str:
        mail_id, now = secrets.token_urlsafe(32), await tx.now()
        row = {
            "purpose": None,
            "email_key": "",
            "fields": "{}",
            "requester": "",
            "password_hash": None,
            **values,
        }
        await tx.run(
            "INSERT INTO outbox (id, template, purpose, email_key, recipient, recipient_key,"
            " requester, fields, password_hash, due_at, created_at, asked_ms) VALUES (:id,"
            " :template, :purpose, :email_key, :recipient, :recipient_key, :requester, :fields,"
            " :password_hash, :now, :now, :asked_ms)",
            id=mail_id,
            now=int(now),
            asked_ms=int(now * 1000),
            **row,
        )
        return mail_id

    async def _claim(self) -> list[str]:
        """Ids that no other worker will touch for two minutes."""
        # Without a mail server a letter is written once and then rests.
        due = (
            "state = 'waiting' AND due_at <= :now AND claimed_until <= :now"
            + ("" if self._carrier else " AND prepared_at IS NULL")
        )  # fmt: skip
        async with self._database.read_transaction() as tx:
            now = int(await tx.now())
            if await tx.one(f"SELECT id FROM outbox WHERE {due} LIMIT 1", now=now) is None:  # noqa: S608
                return []
        async with self._database.transaction() as tx:
            # The condition stands twice: a worker that waited for another's claim must judge
            # the row anew, and the inner list is not made again.
            rows = await tx.all(
                "UPDATE outbox SET claimed_until = :until, attempts = attempts + 1"  # noqa: S608
                f" WHERE {due} AND id IN"
                f" (SELECT id FROM outbox WHERE {due} ORDER BY due_at, id LIMIT {_BATCH})"
                " RETURNING id",
                now=now,
                until=now + _CLAIM_S,
            )
        return [str(row["id"]) for row in rows]

    async def _bring(self, mail_id: str) -> None:
        """One letter.  What is wrong with it is its own: the others go on, and it is tried
        again as if the mail server had been away."""
        try:
            delivered = await self._carried(mail_id)
        except StoreUnavailable:
            raise
        except BadLetter:
            delivered = Delivered(Delivery.REFUSED, "not a letter")
        except Exception as error:
            kind = type(error).__name__
            # A defect is told whole once: a thousand letters may have it.
            log.error("mail-failed", mail=mail_id[:8], why=kind, exc_info=kind not in self._seen)
            self._seen.add(kind)
            delivered = Delivered(Delivery.LATER, kind)
        if delivered is not None:
            await self._finish(mail_id, delivered)

    async def _carried(self, mail_id: str) -> Delivered | None:
        """None where there is nothing to send, or nobody to carry it."""
        async with self._database.transaction() as tx:
            written = await self._prepare(tx, mail_id)
        if written is None or self._carrier is None:
            return None
        sender = self._options.sender
        message = message_of(written.letter, written.id, sender, written.recipient)
        return await self._carrier.carry(message, bare(sender), one_address(written.recipient))

    async def _prepare(self, tx: Transaction, mail_id: str) -> Waiting | None:
        """The letter, its link made good; None where there is nothing to send.

        In a transaction of its own: what is sent must be good before it can be read.
        """
        asked = await tx.one("SELECT email_key, purpose FROM outbox WHERE id = :id", id=mail_id)
        if asked is None:
            return None
        account = None
        if asked["purpose"] is not None:
            # The account before its letters, as whoever ends its links does: what was ended
            # while this waited is not made good again.
            account = await tx.one(
                "UPDATE accounts SET id = id WHERE email_key = :key RETURNING id, email,"
                " email_verified, disabled, password_hash",
                key=asked["email_key"],
            )
        row = await tx.one(
            "UPDATE outbox SET id = id WHERE id = :id AND state = 'waiting' RETURNING *",
            id=mail_id,
        )
        if row is None:
            return None
        expires_at = 0
        if row["purpose"] is not None:
            found = await addressed(tx, row, account, self._links)
            if found is None:
                # Nothing of a stranger's address is kept.
                await tx.run("DELETE FROM outbox WHERE id = :id", id=mail_id)
                return None
            expires_at = found.expires_at
            row = {
                **row,
                "recipient": found.recipient,
                "template": found.template.value,
                "purpose": found.purpose,
            }
        await tx.run(
            "UPDATE outbox SET prepared_at = :now, recipient = :recipient, template = :template,"
            " purpose = :purpose WHERE id = :id",
            now=int(await tx.now()),
            recipient=row["recipient"],
            template=row["template"],
            purpose=row["purpose"],
            id=mail_id,
        )
        return Waiting(
            id=mail_id,
            recipient=str(row["recipient"]),
            letter=self._written(row, expires_at),
            created_at=int(row["created_at"]),
            attempts=int(row["attempts"]),
        )

    def _written(self, row: Row, expires_at: int) -> Letter:
        values: dict[str, str] = json.loads(str(row["fields"]))
        if row["purpose"] is not None:
            token = token_text(self._options.token_key, str(row["id"]))
            reset = row["purpose"] == Purpose.RESET
            path = self._options.reset_path if reset else self._options.verify_path
            values["token"] = token
            values["link"] = f"{self._options.public_url}{path}#token={token}"
            values["expires"] = shown_time(expires_at)
        return self._letters.write(Template(str(row["template"])), values)

    async def _finish(self, mail_id: str, delivered: Delivered) -> None:
        async with self._database.transaction() as tx:
            now = int(await tx.now())
            row = await tx.one(
                "SELECT created_at, attempts FROM outbox WHERE id = :id AND state = 'waiting'",
                id=mail_id,
            )
            if row is None:
                return
            state = {Delivery.DONE: "sent", Delivery.REFUSED: "failed"}.get(delivered.outcome)
            if state is None and now - int(row["created_at"]) > _GIVE_UP_S:
                state = "failed"
            if state is None:
                wait_s = min(_LONGEST_WAIT_S, 15 * 4 ** min(int(row["attempts"]) - 1, 5))
                await tx.run(
                    "UPDATE outbox SET due_at = :due, claimed_until = 0, failure = :why"
                    " WHERE id = :id AND state = 'waiting'",
                    due=now + wait_s,
                    why=delivered.why,
                    id=mail_id,
                )
            else:
                await tx.run(
                    "UPDATE outbox SET state = :state, finished_at = :now, failure = :why,"
                    " fields = '{}', password_hash = NULL WHERE id = :id AND state = 'waiting'",
                    state=state,
                    now=now,
                    why=delivered.why or None,
                    id=mail_id,
                )
        if state == "failed":
            log.warning("mail-refused", mail=mail_id[:8], why=delivered.why)
        elif state is None:
            log.info("mail-delayed", mail=mail_id[:8], why=delivered.why, wait_s=wait_s)
