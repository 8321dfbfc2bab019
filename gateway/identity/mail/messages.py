"""One mail as the message that a mail server takes (RFC 5322, RFC 2046, RFC 6531).

Law: a recipient is one e-mail address or none.  Its name and its host are set apart, so
that no spelling of either can come out as a second recipient or as another header.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING

from gateway.identity.mail.templates import InvalidMail, RenderedMail

if TYPE_CHECKING:
    from email_validator import ValidatedEmail


def single_email(text: str) -> str:
    """The e-mail address as mail servers take it: its host in ASCII, its name as it is (RFC 6531
    section 3.3).  Raises InvalidMail for anything but exactly one."""
    email = _validated(text)
    return f"{email.local_part}@{email.ascii_domain}"


def message_of(content: RenderedMail, mail_id: str, sender: str, recipient: str) -> EmailMessage:
    """The text, then the HTML.  Raises InvalidMail."""
    to = _validated(recipient)
    message = EmailMessage(policy=SMTP)
    host = sender_email(sender).rpartition("@")[2]
    message["From"] = sender
    # Not `addr_spec`: that is parsed, and refuses a name outside ASCII.
    message["To"] = (Address(username=to.local_part, domain=to.ascii_domain),)
    message["Subject"] = content.subject
    message["Date"] = datetime.now(UTC)
    # The same for each try, so that a second copy is known for one.
    message["Message-ID"] = f"<{mail_id}@{host}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday answers
    message.set_content(content.text)
    if content.html is not None:
        message.add_alternative(content.html, subtype="html")
    return message


def format_time(seconds: float) -> str:
    """A time for people in every country."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def sender_email(sender: str) -> str:
    """`name@host` of `Name <name@host>`."""
    return sender.rpartition("<")[2].rstrip(">").strip()


def _validated(text: str) -> ValidatedEmail:
    # Here: its tables take as long to make as a whole room of ours, and few mails are sent.
    from email_validator import EmailNotValidError, validate_email

    try:
        return validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise InvalidMail("not one e-mail address") from error
