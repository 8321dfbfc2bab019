"""Where mailed links lead: to the application's pages, or to the gateway's own."""

from __future__ import annotations

import pytest

from gateway.identity.mail.links import Purpose
from gateway.identity.mail.options import MailOptions


@pytest.mark.parametrize(
    ("purpose", "application", "page"),
    [
        (Purpose.VERIFY, "/verify-email", "/auth/ui/verify"),
        (Purpose.EMAIL_CHANGE, "/verify-email", "/auth/ui/confirm-email"),
        (Purpose.RESET, "/reset-password", "/auth/ui/reset"),
        (Purpose.INVITATION, "/register", "/auth/ui/register"),
    ],
)
def test_a_link_leads_to_the_pages_as_long_as_they_are_used(
    purpose: Purpose, application: str, page: str
) -> None:
    pages: list[str | None] = [None]
    options = MailOptions("s@x.example", "https://x.example", b"k" * 32, pages=lambda: pages[0])
    assert options.link(purpose, "T") == f"https://x.example{application}#token=T"
    pages[0] = "/auth/ui"
    assert options.link(purpose, "T") == f"https://x.example{page}?token=T"
