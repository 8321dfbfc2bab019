"""How one message is handed to a mail server, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage
from enum import StrEnum
from typing import Protocol

GIVE_UP_S = 3 * 86_400
"""A mail that nobody has taken by then is sent no more."""
_LONGEST_WAIT_S = 3600


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
    of_recipient: bool = False
    """Whether it was the recipient whom the mail server did not take: it says nothing of others."""


class MailTransport(Protocol):
    """Sends one message to a mail server."""

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult: ...

    async def rehearse(self, message: EmailMessage) -> None:
        """What `send` computes, without asking a mail server or waiting for one: whatever waits
        meanwhile must see no difference."""


def retry_wait_s(attempts: int, age_s: int) -> int | None:
    """How long a mail waits after so many attempts; None where it is given up."""
    if age_s > GIVE_UP_S:
        return None
    grown_s: int = 15 * 4 ** min(attempts - 1, 5)
    return min(_LONGEST_WAIT_S, grown_s)
