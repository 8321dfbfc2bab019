"""Mail that a command asks for: it is queued here, and brought by the gateway that runs."""

from __future__ import annotations

from gateway.app.bootstrap import TEMPLATES
from gateway.cli.context import CommandContext
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplates


def notifications_of(context: CommandContext) -> SecurityNotifications:
    settings = context.settings
    site = settings.public_url.partition("://")[2]
    outbox = MailOutbox(
        context.database,
        MailTemplates.load([TEMPLATES], site=site, public_url=settings.public_url),
        MailOptions(
            sender=settings.mail_from or "authgate <no-reply@localhost>",
            public_url=settings.public_url,
            token_key=derived_key(context.key_secret, KeyPurpose.MAIL_TOKEN),
        ),
        None,
    )
    return SecurityNotifications(context.database, outbox)
