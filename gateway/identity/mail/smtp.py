"""A mail server, as GATEWAY_SMTP_URL names it, reached through aiosmtplib.

`smtps://`            TLS from the first byte (465)
`smtp+starttls://`    STARTTLS, without which nothing is sent (587)
`smtp://`             the same on port 25; plain text to this machine only

Law: a link is as good as a password for a while, so it crosses no network unencrypted unless
the operator wrote `?tls=never`, for a relay on a network of their own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.loopback import is_loopback

_TIMEOUT_S = 30.0
_Result = TypeVar("_Result")
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class SmtpServer:
    host: str
    port: int
    tls: str
    """`implicit`, `starttls` or `never`."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """Raises ValueError, without the URL in its text: it may hold a password."""
        split = urlsplit(url)
        if split.scheme not in _PORTS or not split.hostname:
            raise ValueError("must be smtp://, smtp+starttls:// or smtps:// with a host")
        query = parse_qs(split.query, keep_blank_values=True)
        if split.path not in ("", "/") or query not in ({}, {"tls": ["never"]}):
            raise ValueError("takes no path, and no query but ?tls=never")
        if query and split.scheme != "smtp":
            raise ValueError(f"?tls=never contradicts {split.scheme}://")
        tls = "implicit" if split.scheme == "smtps" else "starttls"
        if query or (split.scheme == "smtp" and is_loopback(split.hostname)):
            tls = "never"
        return cls(
            host=split.hostname,
            port=split.port or _PORTS[split.scheme],
            tls=tls,
            username=unquote(split.username) if split.username else None,
            password=unquote(split.password) if split.password else None,
        )


class SmtpTransport:
    """One connection for each mail: they are few, and a broken connection harms one of them.

    In a thread of its own, which lasts: what TLS computes would hold up every other call.
    """

    def __init__(self, server: SmtpServer, *, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._tls = tls or ssl.create_default_context()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
        return await self._in_thread(self._send(message, sender, recipient))

    async def rehearse(self, message: EmailMessage) -> None:
        await self._in_thread(_rehearse(message))

    async def _in_thread(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            Thread(target=self._loop.run_forever, name="smtp", daemon=True).start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=None if server.tls == "never" else self._tls,
            timeout=_TIMEOUT_S,
            # The name of this machine is nobody's business (and looking it up may hang).
            local_hostname="authgate.invalid",
        )
        connected = False
        try:
            # Longer than each step may take: a server that answers a byte at a time ends too.
            async with asyncio.timeout(2 * _TIMEOUT_S), client:
                connected = True
                await client.send_message(message, sender=sender, recipients=[recipient])
        except aiosmtplib.SMTPRecipientsRefused as refused:
            return replace(_result_of(refused.recipients[0].code), of_recipient=True)
        except aiosmtplib.SMTPNotSupported:
            if connected and not recipient.isascii():  # nor will it take the name next time
                return DeliveryResult(DeliveryOutcome.REFUSED, "no SMTPUTF8", of_recipient=True)
            # No STARTTLS.
            return DeliveryResult(DeliveryOutcome.LATER, "not supported")
        except aiosmtplib.SMTPSenderRefused as refused:
            # Our own sender is for the operator to correct; the mail waits for it.
            return DeliveryResult(DeliveryOutcome.LATER, f"sender refused: {refused.code}")
        except aiosmtplib.SMTPAuthenticationError as refused:
            return DeliveryResult(DeliveryOutcome.LATER, f"not signed in: {refused.code}")
        except aiosmtplib.SMTPDataError as refused:
            # What a full mailbox, or its filter, may be told behind the mail (RFC 5321 section
            # 4.2.5); 421 is the server's own.
            return replace(_result_of(refused.code), of_recipient=refused.code != 421)
        except aiosmtplib.SMTPResponseException as refused:
            # By its greeting, or before anything was said of the mail: it refuses this client now.
            return DeliveryResult(DeliveryOutcome.LATER, f"refused: {refused.code}")
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return DeliveryResult(DeliveryOutcome.LATER, type(error).__name__)
        return DeliveryResult(DeliveryOutcome.DONE)


async def _rehearse(message: EmailMessage) -> None:
    bytes(message)


def _result_of(code: int) -> DeliveryResult:
    permanent = 500 <= code <= 599
    return DeliveryResult(
        DeliveryOutcome.REFUSED if permanent else DeliveryOutcome.LATER, str(code)
    )
