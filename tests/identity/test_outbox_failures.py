"""Every letter's failure is its own: none holds up another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.identity.mail.templates import MailTemplate
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.stores.protocols import Database
from tests.databases import Hands, fresh_database
from tests.identity.letters import TIME, Refusing, count, outbox, to
from tests.mailbox import Mailbox, mail_server


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def mailbox(free_port: Callable[[], int]) -> object:
    with mail_server(free_port()) as box:
        yield box


class Failing:
    """A carrier with a defect for one recipient."""

    def __init__(self, recipient: str) -> None:
        self.recipient = recipient
        self.carried: list[str] = []

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
        self.carried.append(recipient)
        if recipient == self.recipient:
            raise RuntimeError("a defect")
        return DeliveryResult(DeliveryOutcome.DONE)

    async def rehearse(self, message: EmailMessage) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("name", ["müller", "δοκιμή", "用户", "o'brien+tag"])
async def test_a_name_in_any_script_gets_its_letter(
    database: Database, mailbox: Mailbox, name: str
) -> None:
    post = outbox(database, to(mailbox))
    async with database.transaction() as tx:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, f"{name}@bücher.example", TIME)
    assert await post.drain() == 1
    assert mailbox.recipients == [[f"{name}@xn--bcher-kva.example"]]
    (address,) = mailbox.mails[0]["To"].addresses
    # The parser of this test leaves bytes beyond ASCII as they came (RFC 6532 allows them).
    seen = address.addr_spec.encode("utf-8", "surrogateescape").decode()
    assert seen == f"{name}@xn--bcher-kva.example"


async def test_a_mail_server_that_takes_no_such_name_is_not_asked_again(
    database: Database, free_port: Callable[[], int]
) -> None:
    with mail_server(free_port(), enable_SMTPUTF8=False) as box:
        post = outbox(database, to(box))
        async with database.transaction() as tx:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "müller@x.example", TIME)
        await post.drain()
    assert await count(database, where="state = 'failed' AND failure = 'no SMTPUTF8'") == 1


async def test_a_letter_that_cannot_be_sent_holds_up_no_other(
    database: Database, clock: Hands
) -> None:
    transport = Failing("bad@x.example")
    post = outbox(database, transport)
    async with database.transaction() as tx:
        for name in ("bad", "ann", "bob"):
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, f"{name}@x.example", TIME)
    assert await post.drain() == 3
    assert await count(database, where="state = 'sent'") == 2
    assert await post.drain() == 0
    clock.move(15)
    assert await post.drain() == 1
    assert await count(database, where="failure = 'RuntimeError' AND attempts = 2") == 1


async def test_a_row_that_cannot_be_written_out_holds_up_no_other(
    database: Database, clock: Hands
) -> None:
    transport = Refusing()
    post = outbox(database, transport)
    async with database.transaction() as tx:
        for number in range(30):
            broken = await post.enqueue(
                tx, MailTemplate.PASSWORD_CHANGED, f"n{number}@x.example", TIME
            )
            await tx.run("UPDATE outbox SET fields = '{' WHERE id = :id", id=broken)
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
    while await post.drain():
        pass
    assert [m["To"] for m in transport.messages] == ["ann@x.example"]
    assert await count(database, where="failure = 'JSONDecodeError' AND attempts = 1") == 30
    clock.move(3 * 86_400 + 1)
    while await post.drain():
        pass
    assert await count(database, where="state = 'failed'") == 30


async def test_purging_goes_on_while_nothing_can_be_claimed(
    database: Database, clock: Hands
) -> None:
    post = outbox(database, Refusing())
    async with database.transaction() as tx:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
    await post.drain()
    clock.move(86_401)

    async def broken() -> int:
        raise RuntimeError("a defect")

    post.drain = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a defect"):
        await post.run()
    assert await count(database, where="1 = 1") == 0
