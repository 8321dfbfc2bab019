"""A mail that nobody gets looks like any other to whoever holds a clock to the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.identity.mail.links import Purpose
from gateway.identity.mail.outbox import drawn_delay_s
from gateway.identity.mail.smtp import SmtpServer, SmtpTransport
from gateway.identity.mail.templates import MailTemplate
from gateway.stores.protocols import Database, Row, Transaction
from tests.databases import Hands, add_account, fresh_database
from tests.identity.letters import TIME, Refusing, ask, count, outbox, to
from tests.mailbox import Mailbox, mail_server


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, Hands()) as opened:
        yield opened


@pytest.fixture
def mailbox(free_port: Callable[[], int]) -> object:
    with mail_server(free_port()) as box:
        yield box


class Asked:
    """What a database is asked: the kind of each statement, and where a transaction begins."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.of: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self.of.append("BEGIN")
        async with self._database.transaction() as tx:
            yield cast("Transaction", AskedWithin(tx, self.of))


class AskedWithin:
    def __init__(self, tx: Transaction, of: list[str]) -> None:
        self._tx = tx
        self._of = of

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]:
        self._of.append("read")
        return await self._tx.all(sql, **parameters)

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        self._of.append("read")
        return await self._tx.one(sql, **parameters)

    async def run(self, sql: str, /, **parameters: Any) -> int:
        self._of.append("write")
        return await self._tx.run(sql, **parameters)

    async def now(self) -> float:
        return await self._tx.now()


@pytest.mark.parametrize(
    ("purpose", "key", "more"),
    [
        (Purpose.RESET, "nobody@x.example", {}),
        (Purpose.VERIFY, "nobody@x.example", {}),
        (Purpose.VERIFY, "ann@x.example", {}),
        (Purpose.EMAIL_CHANGE, "ann@x.example", {"email": "bob@x.example"}),
    ],
    ids=["reset-unknown", "resend-unknown", "resend-verified", "move-to-taken"],
)
async def test_what_nobody_gets_is_written_and_not_sent(
    database: Database, purpose: Purpose, key: str, more: dict[str, str]
) -> None:
    await add_account(database, "ann@x.example")
    await add_account(database, "bob@x.example")
    async with database.transaction() as tx:
        await tx.run("UPDATE accounts SET email_verified = 1")
    transport = Refusing()
    await ask(database, purpose, key, **more)
    assert await outbox(database, transport).drain() == 1
    assert transport.messages == []
    assert len(transport.rehearsed) == 1
    assert await count(database, where="1 = 1") == 0
    assert await count(database, "mail_tokens", "1 = 1") == 0


async def test_sql_is_asked_as_much_for_an_unknown_address_as_for_a_known_one(
    database: Database,
) -> None:
    await add_account(database, "ann@x.example")
    asked: dict[str, list[str]] = {}
    for key in ("ann@x.example", "nobody@x.example"):
        await ask(database, Purpose.RESET, key)
        recorded = Asked(database)
        await outbox(cast("Database", recorded), Refusing()).drain()
        asked[key] = recorded.of
    assert asked["ann@x.example"] == asked["nobody@x.example"]


async def test_a_mail_that_nobody_gets_waits_for_no_server_and_holds_up_no_other(
    database: Database, mailbox: Mailbox
) -> None:
    """A hundred requests for unknown addresses would else delay the mail of somebody else."""
    mailbox.answers_after_s = 0.3
    transport = to(mailbox)
    post = outbox(database, transport)
    async with database.transaction() as tx:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
    await post.drain()
    sending = asyncio.create_task(transport.send(EmailMessage(), "a@x.example", "b@x.example"))
    for _ in range(20):
        await transport.rehearse(EmailMessage())
    assert not sending.done()
    await sending
    assert len(mailbox.mails) == 2


async def test_an_outbox_that_is_woken_waits_for_a_drawn_time(
    database: Database, mailbox: Mailbox
) -> None:
    drawn = asyncio.Event()

    def until_tomorrow() -> float:
        drawn.set()
        return 86_400.0

    post = outbox(database, to(mailbox), until_tomorrow)
    running = asyncio.create_task(post.run())
    try:
        await asyncio.sleep(0)  # it has begun
        post.wake()
        await drawn.wait()
        async with database.transaction() as tx:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
        post.wake()
        assert await count(database, where="claimed_until = 0") == 1
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_no_two_delays_are_alike_and_none_is_long() -> None:
    delays = [drawn_delay_s() for _ in range(1000)]
    assert len(set(delays)) > 300
    assert 0 <= min(delays) < 0.1
    assert 0.4 < max(delays) < 0.5


async def test_a_mail_that_is_cancelled_ends_its_conversation(free_port: Callable[[], int]) -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        left.set()
        writer.close()

    came = asyncio.Event()
    port = free_port()
    async with await asyncio.start_server(silent, "127.0.0.1", port):
        transport = SmtpTransport(SmtpServer.parse(f"smtp://127.0.0.1:{port}"))
        sending = asyncio.create_task(transport.send(EmailMessage(), "a@x.example", "b@x.example"))
        await came.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await left.wait()
