"""An outbox of test letters, and mail servers that answer as they are told."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from email.message import EmailMessage

from gateway.identity.mail.links import Purpose
from gateway.identity.mail.mail_requests import MailRequest, queue_link
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.smtp import SmtpServer, SmtpTransport
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult, MailTransport
from gateway.stores.protocols import Database
from tests.mailbox import Mailbox

TIME = {"time": "2026-11-25 12:00 UTC"}
LINK = re.compile(r"https://x\.example(/[a-z-]+)#token=([A-Za-z0-9_-]{43})\b")


class Refusing:
    """A mail server that answers as it is told."""

    def __init__(self, *answers: DeliveryResult) -> None:
        self.answers = list(answers)
        self.messages: list[EmailMessage] = []
        self.rehearsed: list[EmailMessage] = []

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
        self.messages.append(message)
        return self.answers.pop(0) if self.answers else DeliveryResult(DeliveryOutcome.DONE)

    async def rehearse(self, message: EmailMessage) -> None:
        self.rehearsed.append(message)


class SettledOutbox(MailOutbox):
    """Whoever asks it to send what is due finds it sent."""

    async def drain(self) -> int:
        drained = await super().drain()
        await self.settle()
        return drained


async def no_rest(_seconds: float) -> None:
    """A mail that nobody gets takes no time."""


def outbox(
    database: Database,
    transport: MailTransport | None,
    delay_s: Callable[[], float] = lambda: 0.0,
    rest: Callable[[float], Awaitable[None]] = no_rest,
    keep_place: Callable[[float], Awaitable[None]] = no_rest,
    *,
    settled: bool = True,
) -> MailOutbox:
    """`settled`: a drain waits until what it began has ended."""
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    options = MailOptions(
        sender="Authgate <no-reply@x.example>", public_url="https://x.example", token_key=b"k" * 32
    )
    kind = SettledOutbox if settled else MailOutbox
    return kind(database, letters, options, transport, delay_s, rest=rest, keep_place=keep_place)


def to(box: Mailbox) -> SmtpTransport:
    return SmtpTransport(SmtpServer.parse(f"smtp://127.0.0.1:{box.port}"))


async def ask(
    database: Database,
    purpose: Purpose,
    key: str,
    requester: str = "somebody",
    **more: str,
) -> None:
    async with database.transaction() as tx:
        await queue_link(tx, purpose, key, MailRequest(requester, **more))


async def count(database: Database, table: str = "outbox", where: str = "state = 'waiting'") -> int:
    async with database.read_transaction() as tx:
        row = await tx.one(f"SELECT COUNT(*) AS n FROM {table} WHERE {where}")
    assert row is not None
    return int(row["n"])
