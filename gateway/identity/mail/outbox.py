"""The outbox: mail is queued in the caller's transaction, and sent by any worker.

Law: a mail commits or rolls back with the fact that it tells of, and is then sent at least
once: a worker that dies, or a mail server that is away, delays a mail and loses none.

Law: whether an e-mail address has an account is looked up when the mail is written, never when
it is requested, and a mail that nobody gets is written all the same and takes its time: neither
the answer, nor what other calls wait meanwhile, nor when other mails arrive tells a stranger which
addresses have one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage

import structlog

from gateway.email_address import normalize_email
from gateway.identity.mail.links import Purpose, token_text
from gateway.identity.mail.mail_requests import insert_mail
from gateway.identity.mail.messages import format_time, message_of, sender_email, single_email
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox_claim import MailClaims
from gateway.identity.mail.outbox_purge import purge_outbox
from gateway.identity.mail.recipients import choose_nobody, choose_recipient
from gateway.identity.mail.templates import InvalidMail, MailTemplate, MailTemplates, RenderedMail
from gateway.identity.mail.transport import (
    DeliveryOutcome,
    DeliveryResult,
    MailTransport,
    retry_wait_s,
)
from gateway.identity.mail.under_way import UnderWay
from gateway.identity.mail.unwanted import UnwantedMails
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction

log = structlog.get_logger()

_PLACE_S = 1.0
"""At most; whatever lasts longer goes on without its place."""
_POLL_S = 2.0
_LONGEST_DELAY_MS = 500
_PURGE_EVERY_S = 600


@dataclass(frozen=True, slots=True)
class OutboxMail:
    """A mail of the outbox, as it will be sent."""

    id: str
    recipient: str
    content: RenderedMail
    created_at: int
    attempts: int
    wanted: bool = True
    """Whether anybody gets it; one that nobody gets is written, and then deleted."""


def drawn_delay_s() -> float:
    """How long the outbox waits before it looks at what is due: nobody can foresee it, so that
    nobody sees what is done for the mail of a single request."""
    return secrets.randbelow(_LONGEST_DELAY_MS) / 1000


class MailOutbox:
    """Queues mail within a transaction, and sends it outside of it."""

    def __init__(
        self,
        database: Database,
        templates: MailTemplates,
        options: MailOptions,
        transport: MailTransport | None,
        delay_s: Callable[[], float] = drawn_delay_s,
        *,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
        keep_place: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Without `transport` (no mail server is configured) mail is written and not sent."""
        self._database = database
        self._templates = templates
        self._options = options
        self._transport = transport
        self._delay_s = delay_s
        self._unwanted = UnwantedMails(rest)
        self._keep_place = keep_place
        self._under_way = UnderWay(self._deliver, self._kept_place, self.wake)
        self._claims = MailClaims(database)
        self._wake_event = asyncio.Event()
        self._more_may_be_due = False
        """Whether the last claim took all that it could."""
        self._purge_due = 0.0
        self._logged_kinds: set[str] = set()

    async def enqueue(
        self, tx: Transaction, template: MailTemplate, to: str, values: Mapping[str, str]
    ) -> str:
        """Queue a mail without a link, and return its id.  Raises InvalidMail at once, not when
        it is sent."""
        single_email(to)
        self._templates.render(template, values)
        recipient_key = normalize_email(to) or ""
        return await insert_mail(
            tx,
            template=template.value,
            recipient=to,
            recipient_key=recipient_key,
            # Mail servers are slow for whole domains: those of one take turns.
            requester=f"@{recipient_key.rpartition('@')[2]}",
            fields=json.dumps(dict(values)),
        )

    def wake(self) -> None:
        """Send what the caller's transaction has committed, within 0.5 s rather than 2.5 s."""
        self._wake_event.set()

    async def run(self) -> None:
        """Send what comes due, until cancelled.  Whatever it ends for, it ends those under way."""
        try:
            await self._run()
        finally:
            await self._under_way.end()

    async def _run(self) -> None:
        unavailable = False
        loop = asyncio.get_running_loop()
        while True:
            self._wake_event.clear()
            goes_on = False
            try:
                # First: old mail is erased even where none can be sent.
                if loop.time() >= self._purge_due:
                    await self.purge()
                    self._purge_due = loop.time() + _PURGE_EVERY_S
                await self.drain()
                goes_on, unavailable = self._more_may_be_due, False
            except StoreUnavailable as error:
                if not unavailable:  # logged once, not every two seconds until it is back
                    log.warning("outbox-unreachable", store=error.store, why=error.detail)
                unavailable = True
            if not goes_on:
                # Not wait_for: Python 3.11's loses a cancellation that comes with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._wake_event.wait()
                await asyncio.sleep(self._delay_s())

    async def drain(self) -> int:
        """Begin at most 20 mails that are due, and return how many were claimed, once each has had
        its place: what goes on is told of by the next call.  Cancelled, it ends them all."""
        try:
            await self._under_way.has_room()
            most, most_limited = self._under_way.room, self._under_way.room_of_limited
            # Without a mail server a mail is written once and then stays.
            claimed = await self._claims.claim(
                most, most_limited, unwritten=self._transport is None
            )
            limited = sum(mail.limited for mail in claimed)
            # Limited mail that finds no place is no reason to look again at once: those under way
            # wake this when it may begin.
            self._more_may_be_due = len(claimed) == most or 0 < limited == most_limited
            # Whose turn it is says nothing of who gets which.
            secrets.SystemRandom().shuffle(claimed)
            await self._under_way.begin(claimed)
        except asyncio.CancelledError:
            await self._under_way.end()
            raise
        return len(claimed)

    async def settle(self) -> None:
        """Wait until what has begun has ended.  Raises what one of them failed for."""
        await self._under_way.settle()

    async def purge(self) -> None:
        """Erase mail that was sent or dropped a day ago, and links that have expired."""
        await purge_outbox(self._database)

    async def waiting_mail(self, limit: int = 50) -> list[OutboxMail]:
        """The newest mail that was written and not sent yet, links included: for the admin page
        of `gateway dev`."""
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT o.*, COALESCE(t.expires_at, r.expires_at, i.expires_at, 0) AS expires_at"
                " FROM outbox o"
                " LEFT JOIN mail_tokens t ON t.mail_id = o.id"
                " LEFT JOIN registrations r ON r.mail_id = o.id"
                " LEFT JOIN invitations i ON i.mail_id = o.id"
                " WHERE o.state = 'waiting' AND o.prepared_at IS NOT NULL"
                " ORDER BY o.created_at DESC, o.id LIMIT :limit",
                limit=limit,
            )
        return [
            OutboxMail(
                id=str(row["id"]),
                recipient=str(row["recipient"]),
                content=self._render(row, int(row["expires_at"])),
                created_at=int(row["created_at"]),
                attempts=int(row["attempts"]),
            )
            for row in rows
        ]

    async def _kept_place(self) -> None:
        if self._transport is not None:
            await self._keep_place(self._unwanted.place_s(_PLACE_S))

    async def _deliver(self, mail_id: str, written: asyncio.Event) -> None:
        """Send one mail.  A failure concerns it alone: it is tried again, as if the mail server
        had been away."""
        try:
            result = await self._send(mail_id, written)
        except StoreUnavailable:
            raise
        except InvalidMail:
            result = DeliveryResult(DeliveryOutcome.REFUSED, "invalid mail")
        except Exception as error:
            kind = type(error).__name__
            # The traceback of a defect is logged once: a thousand mails may have it.
            first_time = kind not in self._logged_kinds
            log.error("mail-failed", mail=mail_id[:8], why=kind, exc_info=first_time)
            self._logged_kinds.add(kind)
            result = DeliveryResult(DeliveryOutcome.LATER, kind)
        if result is not None:
            await self._finish(mail_id, result)

    async def _send(self, mail_id: str, written: asyncio.Event) -> DeliveryResult | None:
        """Write the mail and send it; None where there is nothing to send, or no mail server."""
        async with self._database.transaction() as tx:
            mail = await self._prepare(tx, mail_id)
        written.set()
        if mail is None:
            return None
        if not mail.wanted:
            return await self._rehearse(mail)
        if self._transport is None:
            return None
        message, sender, recipient = self._message(mail)
        return await self._unwanted.heard(self._transport.send(message, sender, recipient))

    async def _rehearse(self, mail: OutboxMail) -> DeliveryResult:
        """All that `_send` does, for as long, but for the mail server."""
        with contextlib.suppress(InvalidMail):
            if self._transport is not None:
                message, _sender, _recipient = self._message(mail)
                await self._unwanted.last_as_long(self._transport.rehearse(message))
        return DeliveryResult(DeliveryOutcome.UNWANTED)

    def _message(self, mail: OutboxMail) -> tuple[EmailMessage, str, str]:
        """With its sender and its recipient.  Raises InvalidMail."""
        sender = self._options.sender
        message = message_of(mail.content, mail.id, sender, mail.recipient)
        return message, sender_email(sender), single_email(mail.recipient)

    async def _prepare(self, tx: Transaction, mail_id: str) -> OutboxMail | None:
        """Write the mail and make its link valid; None where it does not wait any more.

        In a transaction of its own: a link must be valid before it can be read.
        """
        queued = await tx.one("SELECT email_key, purpose FROM outbox WHERE id = :id", id=mail_id)
        if queued is None:
            return None
        account = None
        if queued["purpose"] is not None:
            # The account is locked before its mail, as in `links.forget`: what was revoked while
            # this waited does not become valid again.
            account = await tx.one(
                "UPDATE accounts SET id = id WHERE email_key = :key RETURNING id, email,"
                " email_verified, disabled, password_hash, created_at",
                key=queued["email_key"],
            )
        row = await tx.one(
            "UPDATE outbox SET id = id WHERE id = :id AND state = 'waiting' RETURNING *",
            id=mail_id,
        )
        if row is None:
            return None
        expires_at, wanted = 0, True
        if row["purpose"] is not None:
            chosen = await choose_recipient(tx, row, account, self._options)
            if chosen is None:
                wanted = False
                chosen = await choose_nobody(tx, row, self._options)
            expires_at = chosen.expires_at
            row = {
                **row,
                "recipient": chosen.recipient,
                "template": chosen.template.value,
                "purpose": chosen.purpose,
            }
        now = int(await tx.now())
        # One that nobody gets neither counts nor stands in another's way from now on, and nothing
        # of a stranger's address is kept.
        await tx.run(
            "UPDATE outbox SET state = :state, prepared_at = :prepared_at,"
            " finished_at = :finished_at, email_key = :email_key, recipient = :recipient,"
            " recipient_key = :recipient_key, fields = :fields, template = :template,"
            " purpose = :purpose, password_hash = :password_hash WHERE id = :id",
            state="waiting" if wanted else "dropped",
            prepared_at=now if wanted else None,
            finished_at=None if wanted else now,
            email_key=row["email_key"] if wanted else "",
            recipient=row["recipient"] if wanted else None,
            recipient_key=row["recipient_key"] if wanted else "",
            fields=row["fields"] if wanted else "{}",
            template=row["template"],
            purpose=row["purpose"],
            password_hash=row["password_hash"] if wanted else None,
            id=mail_id,
        )
        return OutboxMail(
            id=mail_id,
            recipient=str(row["recipient"]),
            content=self._render(row, expires_at),
            created_at=int(row["created_at"]),
            attempts=int(row["attempts"]),
            wanted=wanted,
        )

    def _render(self, row: Row, expires_at: int) -> RenderedMail:
        values: dict[str, str] = json.loads(str(row["fields"]))
        if row["purpose"] is not None:
            token = token_text(self._options.token_key, str(row["id"]))
            values["token"] = token
            values["link"] = self._options.link(Purpose(row["purpose"]), token)
            values["expires"] = format_time(expires_at)
        return self._templates.render(MailTemplate(str(row["template"])), values)

    async def _finish(self, mail_id: str, result: DeliveryResult) -> None:
        async with self._database.transaction() as tx:
            now = int(await tx.now())
            unwanted = result.outcome is DeliveryOutcome.UNWANTED
            row = await tx.one(
                "SELECT created_at, attempts FROM outbox WHERE id = :id AND state = :state",
                id=mail_id,
                state="dropped" if unwanted else "waiting",
            )
            if row is None:
                return
            if unwanted:
                await tx.run("DELETE FROM outbox WHERE id = :id", id=mail_id)
                return
            state = {DeliveryOutcome.DONE: "sent", DeliveryOutcome.REFUSED: "failed"}.get(
                result.outcome
            )
            age_s = now - int(row["created_at"])
            wait_s = None if state else retry_wait_s(int(row["attempts"]), age_s)
            if wait_s is not None:
                await tx.run(
                    "UPDATE outbox SET due_at = :due, claimed_until = 0, failure = :why"
                    " WHERE id = :id AND state = 'waiting'",
                    due=now + wait_s,
                    why=result.cause,
                    id=mail_id,
                )
            else:
                state = state or "failed"
                await tx.run(
                    "UPDATE outbox SET state = :state, finished_at = :now, failure = :why,"
                    " fields = '{}', password_hash = NULL WHERE id = :id AND state = 'waiting'",
                    state=state,
                    now=now,
                    why=result.cause or None,
                    id=mail_id,
                )
        if state == "failed":
            log.warning("mail-refused", mail=mail_id[:8], why=result.cause)
        elif state is None:
            log.info("mail-delayed", mail=mail_id[:8], why=result.cause, wait_s=wait_s)
