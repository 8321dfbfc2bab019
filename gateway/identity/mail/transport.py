"""How one message is handed to a mail server, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage
from enum import StrEnum
from typing import Protocol


class DeliveryOutcome(StrEnum):
    DONE = "done"
    LATER = "later"
    REFUSED = "refused"
    """For good: trying again would be the same (a 5xx of RFC 5321 section 4.2.1)."""
    UNWANTED = "unwanted"
    """Nobody was to get it, and no mail server was asked."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    outcome: DeliveryOutcome
    cause: str = ""
    """A code or a constant; never text of the mail server."""


class MailTransport(Protocol):
    """Sends one message to a mail server."""

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult: ...

    async def rehearse(self, message: EmailMessage) -> None:
        """What `send` computes, without asking a mail server or waiting for one: whatever waits
        meanwhile must see no difference, and no mail that somebody gets is held up by it."""
