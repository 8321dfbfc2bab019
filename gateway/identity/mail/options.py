"""How mail is written and where its links lead, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.identity.mail.links import Purpose

_APPLICATION = {
    Purpose.VERIFY: "/verify-email",
    Purpose.EMAIL_CHANGE: "/verify-email",
    Purpose.RESET: "/reset-password",
    Purpose.INVITATION: "/register",
}
"""Where an application takes a link to; the token follows as `#token=…`, which no server log and no
`Referer` ever holds."""
_PAGES = {
    Purpose.VERIFY: "verify",
    Purpose.EMAIL_CHANGE: "confirm-email",
    Purpose.RESET: "reset",
    Purpose.INVITATION: "register",
}
"""The gateway's own pages; the token follows as `?token=…`, as they work without JavaScript."""


def link(public_url: str, pages: str | None, purpose: Purpose, token: str) -> str:
    """`pages` is the path below which the gateway's own pages are; None where links lead to the
    application's."""
    if pages is None:
        return f"{public_url}{_APPLICATION[purpose]}#token={token}"
    return f"{public_url}{pages}/{_PAGES[purpose]}?token={token}"


@dataclass(frozen=True, slots=True)
class MailOptions:
    sender: str
    """`name@host`, or `Name <name@host>`."""
    public_url: str
    token_key: bytes
    """`derived_key(secret, KeyPurpose.MAIL_TOKEN)`."""
    verify_ttl_s: int = 86_400
    reset_ttl_s: int = 600
    pages: Callable[[], str | None] = lambda: None
    """Where links lead, as the configuration is now: see `link`."""

    def link(self, purpose: Purpose, token: str) -> str:
        return link(self.public_url, self.pages(), purpose, token)
