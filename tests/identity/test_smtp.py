from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.identity.mail.messages import message_of
from gateway.identity.mail.smtp import SmtpServer, SmtpTransport
from gateway.identity.mail.templates import RenderedMail
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from tests.mailbox import mail_server, own_certificate


async def sent(url: str, tls: ssl.SSLContext | None = None) -> DeliveryResult:
    letter = RenderedMail("Hello", "text", "<p>text</p>")
    message = message_of(letter, "id", "no-reply@x.example", "ann@x.example")
    transport = SmtpTransport(SmtpServer.parse(url), tls=tls)
    return await transport.send(message, "no-reply@x.example", "ann@x.example")


async def test_starttls_is_used_and_the_password_given_inside_it(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    server, client = own_certificate(tmp_path)
    with mail_server(free_port(), tls_context=server, require_starttls=True) as box:
        url = f"smtp+starttls://ann:p%3Aw%20d@localhost:{box.port}"
        assert await sent(url, client) == DeliveryResult(DeliveryOutcome.DONE)
        assert (box.encrypted, box.logins) == ([True], ["ann"])


async def test_tls_from_the_first_byte(tmp_path: Path, free_port: Callable[[], int]) -> None:
    server, client = own_certificate(tmp_path)
    with mail_server(free_port(), ssl_context=server) as box:
        assert await sent(f"smtps://localhost:{box.port}", client) == DeliveryResult(
            DeliveryOutcome.DONE
        )
        assert len(box.mails) == 1


async def test_a_server_without_starttls_gets_nothing(free_port: Callable[[], int]) -> None:
    with mail_server(free_port()) as box:
        answer = await sent(f"smtp+starttls://127.0.0.1:{box.port}")
        assert answer.outcome is DeliveryOutcome.LATER
        assert box.mails == []


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    server, _ = own_certificate(tmp_path)
    with mail_server(free_port(), tls_context=server) as box:
        answer = await sent(f"smtp+starttls://localhost:{box.port}")
        assert answer.outcome is DeliveryOutcome.LATER
        assert box.mails == []


async def test_a_wrong_mail_password_delays_and_loses_nothing(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    server, client = own_certificate(tmp_path)
    with mail_server(free_port(), tls_context=server, require_starttls=True) as box:
        answer = await sent(f"smtp+starttls://ann:wrong@localhost:{box.port}", client)
        assert answer == DeliveryResult(DeliveryOutcome.LATER, "not signed in: 535")


async def test_a_port_that_nobody_listens_on_is_no_error(free_port: Callable[[], int]) -> None:
    assert (await sent(f"smtp://127.0.0.1:{free_port()}")).outcome is DeliveryOutcome.LATER


async def test_a_server_that_talks_nonsense_is_no_error(free_port: Callable[[], int]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\x00 what\r\n" * 100)
        writer.close()

    port = free_port()
    server = await asyncio.start_server(talk, "127.0.0.1", port)
    async with server:
        assert (await sent(f"smtp://127.0.0.1:{port}")).outcome is not DeliveryOutcome.DONE


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [
        ("smtp://127.0.0.1", 25, "never"),
        ("smtp://localhost:1025", 1025, "never"),
        ("smtp://[::1]", 25, "never"),
        ("smtp://mail.example", 25, "starttls"),
        ("smtp://relay.internal:25?tls=never", 25, "never"),
        ("smtp+starttls://127.0.0.1", 587, "starttls"),
        ("smtps://mail.example", 465, "implicit"),
    ],
)
def test_a_link_crosses_no_network_in_plain_text_unless_that_was_asked_for(
    url: str, port: int, tls: str
) -> None:
    server = SmtpServer.parse(url)
    assert (server.port, server.tls) == (port, tls)


@pytest.mark.parametrize(
    "url",
    [
        "http://secret@mail.example",
        "smtp://",
        "smtps://u:secret@mail.example?tls=never",
        "smtp://u:secret@mail.example?tls=maybe",
        "smtp://u:secret@mail.example/path",
    ],
)
def test_a_wrong_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be|takes no|contradicts") as problem:
        SmtpServer.parse(url)
    assert "secret" not in str(problem.value)


def test_the_password_is_not_in_the_repr() -> None:
    assert "secret" not in repr(SmtpServer.parse("smtps://u:secret@mail.example"))


@pytest.mark.parametrize("greeting", ["554 no service", "421 later"])
async def test_a_server_that_refuses_before_it_has_seen_the_mail_loses_none(
    free_port: Callable[[], int], greeting: str
) -> None:
    """It refuses this client, for as long as it is listed somewhere, or the server is mended."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(f"{greeting}\r\n".encode())
        await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(greet, "127.0.0.1", port)
    async with server:
        assert (await sent(f"smtp://127.0.0.1:{port}")).outcome is DeliveryOutcome.LATER
