"""How mail is written and where its links lead, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.identity.mail.links import Purpose

INVITATION_PATH = "/register"


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
    invitation_path: str = INVITATION_PATH

    def link(self, purpose: Purpose, token: str) -> str:
        paths = {Purpose.RESET: self.reset_path, Purpose.INVITATION: self.invitation_path}
        return f"{self.public_url}{paths.get(purpose, self.verify_path)}#token={token}"
