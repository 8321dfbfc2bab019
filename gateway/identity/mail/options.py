"""How mail is written and where its links lead, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass


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
