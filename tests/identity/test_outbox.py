from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.identity.mail.links import Purpose, find_link, redeem_link
from gateway.identity.mail.messages import message_of, single_email
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox, MailRequest
from gateway.identity.mail.smtp import SmtpServer, SmtpTransport
from gateway.identity.mail.templates import InvalidMail, MailTemplate, MailTemplates
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult, MailTransport
from gateway.stores.protocols import Database, Transaction
from tests.databases import NOON, Hands, add_account, fresh_database
from tests.mailbox import Mailbox, body_of, mail_server

TIME = {"time": "2026-11-25 12:00 UTC"}
LINK = re.compile(r"https://x\.example(/[a-z-]+)#token=([A-Za-z0-9_-]{43})\b")


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


class Refusing:
    """A mail server that answers as it is told."""

    def __init__(self, *answers: DeliveryResult) -> None:
        self.answers = list(answers)
        self.messages: list[EmailMessage] = []

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
        self.messages.append(message)
        return self.answers.pop(0) if self.answers else DeliveryResult(DeliveryOutcome.DONE)


def outbox(database: Database, transport: MailTransport | None) -> MailOutbox:
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    options = MailOptions(
        sender="Authgate <no-reply@x.example>", public_url="https://x.example", token_key=b"k" * 32
    )
    return MailOutbox(database, letters, options, transport)


def to(box: Mailbox) -> SmtpTransport:
    return SmtpTransport(SmtpServer.parse(f"smtp://127.0.0.1:{box.port}"))


async def ask(
    post: MailOutbox,
    database: Database,
    purpose: Purpose,
    key: str,
    requester: str = "somebody",
    **more: str,
) -> None:
    async with database.transaction() as tx:
        await post.request_link(tx, purpose, key, MailRequest(requester, **more))


async def count(database: Database, table: str = "outbox", where: str = "state = 'waiting'") -> int:
    async with database.read_transaction() as tx:
        row = await tx.one(f"SELECT COUNT(*) AS n FROM {table} WHERE {where}")
    assert row is not None
    return int(row["n"])


async def test_a_letter_arrives_as_text_and_html(database: Database, mailbox: Mailbox) -> None:
    post = outbox(database, to(mailbox))
    async with database.transaction() as tx:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
    assert await post.drain() == 1
    (mail,) = mailbox.mails
    assert mailbox.recipients == [["ann@x.example"]]
    assert mail["To"] == "ann@x.example"
    assert mail["From"] == "Authgate <no-reply@x.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "was changed at 2026-11-25 12:00 UTC" in body_of(mail)
    assert "<p>" in body_of(mail, "html")
    assert await post.drain() == 0


async def test_a_letter_of_a_transaction_that_rolled_back_is_never_sent(
    database: Database, mailbox: Mailbox
) -> None:
    post = outbox(database, to(mailbox))

    async def fail() -> None:
        async with database.transaction() as tx:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await post.drain() == 0
    assert mailbox.mails == []


@pytest.mark.parametrize(
    ("purpose", "path", "more"),
    [
        (Purpose.VERIFY, "/verify-email", {}),
        (Purpose.RESET, "/reset-password", {}),
        (Purpose.EMAIL_CHANGE, "/verify-email", {"email": "new@x.example"}),
    ],
)
async def test_a_link_is_of_the_public_url_and_its_token_is_good(
    database: Database, mailbox: Mailbox, purpose: Purpose, path: str, more: dict[str, str]
) -> None:
    ann = await add_account(database, "ann@x.example")
    post = outbox(database, to(mailbox))
    await ask(post, database, purpose, "ann@x.example", **more)
    await post.drain()
    match = LINK.search(body_of(mailbox.mails[0]))
    assert match is not None
    assert match[1] == path
    assert mailbox.recipients == [[more.get("email", "ann@x.example")]]
    async with database.transaction() as tx:
        token = await redeem_link(tx, match[2], purpose)
    assert token is not None
    assert token.account_id == ann


async def test_nobody_is_written_to_and_nothing_kept_of_an_unknown_address(
    database: Database, mailbox: Mailbox
) -> None:
    post = outbox(database, to(mailbox))
    await ask(post, database, Purpose.RESET, "nobody@x.example")
    assert await post.drain() == 1
    assert mailbox.mails == []
    assert await count(database, where="1 = 1") == 0


async def test_a_disabled_account_gets_no_reset_link(database: Database, mailbox: Mailbox) -> None:
    await add_account(database, "ann@x.example", disabled=True)
    post = outbox(database, to(mailbox))
    await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    assert mailbox.mails == []


async def test_who_registers_again_is_told_by_mail_and_gets_no_link(
    database: Database, mailbox: Mailbox
) -> None:
    await add_account(database, "ann@x.example", verified=True)
    post = outbox(database, to(mailbox))
    registered = {"email": "ANN@x.example", "password_hash": "h"}
    await ask(post, database, Purpose.VERIFY, "ann@x.example", **registered)
    await ask(post, database, Purpose.VERIFY, "ann@x.example")
    await post.drain()
    (mail,) = mailbox.mails
    assert "already have an account" in mail["Subject"]
    assert "token=" not in body_of(mail)
    assert await count(database, "mail_tokens", "1 = 1") == 0


async def test_the_letter_goes_to_the_account_and_not_to_the_spelling_that_was_typed(
    database: Database, mailbox: Mailbox
) -> None:
    """`ask` takes no recipient at all: a look-alike that folds to the same key gets nothing."""
    await add_account(database, "ann@x.example")
    async with database.transaction() as tx:
        await tx.run("UPDATE accounts SET email = 'Ann@x.example'")
    post = outbox(database, to(mailbox))
    await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    assert mailbox.recipients == [["Ann@x.example"]]


async def test_a_mail_server_that_is_away_delays_a_letter_and_its_link_is_the_same(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    transport = Refusing(
        DeliveryResult(DeliveryOutcome.LATER, "away"), DeliveryResult(DeliveryOutcome.LATER, "away")
    )
    post = outbox(database, transport)
    await ask(post, database, Purpose.RESET, "ann@x.example")
    waits = []
    while len(transport.messages) < 3:
        if not await post.drain():
            clock.move(1)
            waits.append(1)
    assert len(waits) == 15 + 60
    assert len({LINK.findall(body_of(m))[0] for m in transport.messages}) == 1
    assert len({m["Message-ID"] for m in transport.messages}) == 1
    assert await count(database) == 0


async def test_a_link_is_good_for_its_whole_time_from_the_try_that_arrived(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    transport = Refusing(*[DeliveryResult(DeliveryOutcome.LATER)] * 4)
    post = outbox(database, transport)
    await ask(post, database, Purpose.RESET, "ann@x.example")
    while len(transport.messages) < 5:
        if not await post.drain():
            clock.move(60)
    clock.move(599)
    token = LINK.findall(body_of(transport.messages[-1]))[0][1]
    async with database.read_transaction() as tx:
        assert await find_link(tx, token, Purpose.RESET) is not None


async def test_a_letter_that_is_refused_for_good_is_not_tried_again(
    database: Database, mailbox: Mailbox, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    mailbox.refuse_recipient = "550 no such user"
    post = outbox(database, to(mailbox))
    await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    clock.move(86_000)
    assert await post.drain() == 0
    assert await count(database, where="state = 'failed' AND failure = '550'") == 1


async def test_a_recipient_who_must_wait_is_tried_again(
    database: Database, mailbox: Mailbox, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    mailbox.refuse_recipient = "451 greylisted"
    post = outbox(database, to(mailbox))
    await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    mailbox.refuse_recipient = None
    clock.move(15)
    await post.drain()
    assert len(mailbox.mails) == 1


async def test_a_letter_that_nobody_takes_for_three_days_is_given_up(
    database: Database, clock: Hands
) -> None:
    post = outbox(database, Refusing(*[DeliveryResult(DeliveryOutcome.LATER, "away")] * 999))
    async with database.transaction() as tx:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
    for _ in range(3 * 24 + 3):
        await post.drain()
        clock.move(3600)
    assert await count(database, where="state = 'failed'") == 1
    clock.move(86_400)
    await post.purge()
    assert await count(database, where="1 = 1") == 0


async def test_a_worker_that_dies_with_a_letter_leaves_it_to_another(
    database: Database, mailbox: Mailbox, clock: Hands
) -> None:
    class Dying:
        async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
            raise asyncio.CancelledError

    async with database.transaction() as tx:
        await outbox(database, None).enqueue(tx, MailTemplate.PASSWORD_CHANGED, "a@x.example", TIME)
    with pytest.raises(asyncio.CancelledError):
        await outbox(database, Dying()).drain()
    other = outbox(database, to(mailbox))
    assert await other.drain() == 0
    clock.move(120)
    assert await other.drain() == 1
    assert len(mailbox.mails) == 1


async def test_two_workers_never_claim_one_letter(database: Database) -> None:
    transport = Refusing()
    first, second = outbox(database, transport), outbox(database, transport)
    async with database.transaction() as tx:
        for number in range(30):
            await first.enqueue(tx, MailTemplate.PASSWORD_CHANGED, f"n{number}@x.example", TIME)
    drained = await asyncio.gather(first.drain(), second.drain())
    assert sorted(drained) == [10, 20]
    assert len({m["To"] for m in transport.messages}) == len(transport.messages) == 30


async def test_a_used_link_is_not_made_good_again_by_a_second_try(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    transport = Refusing(DeliveryResult(DeliveryOutcome.LATER, "it had arrived"))
    post = outbox(database, transport)
    await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    token = LINK.findall(body_of(transport.messages[0]))[0][1]
    async with database.transaction() as tx:
        assert await redeem_link(tx, token, Purpose.RESET) is not None
    clock.move(60)
    await post.drain()
    assert len(transport.messages) == 1
    async with database.read_transaction() as tx:
        assert await find_link(tx, token, Purpose.RESET) is None


async def test_one_address_gets_five_links_an_hour(
    database: Database, mailbox: Mailbox, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    post = outbox(database, to(mailbox))
    for _ in range(9):
        await ask(post, database, Purpose.RESET, "ann@x.example")
        await post.drain()
    assert len(mailbox.mails) == 5
    clock.move(3601)
    await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    assert len(mailbox.mails) == 6


async def test_letters_asked_for_while_the_server_was_away_do_not_crowd_each_other_out(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    transport = Refusing(*[DeliveryResult(DeliveryOutcome.LATER)] * 5)
    post = outbox(database, transport)
    for _ in range(7):
        await ask(post, database, Purpose.RESET, "ann@x.example")
    await post.drain()
    clock.move(60)
    await post.drain()
    assert len(transport.messages) == 10
    assert await count(database, where="state = 'sent'") == 5


async def test_a_letter_that_waits_for_long_is_not_crowded_out_by_newer_ones(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    transport = Refusing(*[DeliveryResult(DeliveryOutcome.LATER)] * 25)
    post = outbox(database, transport)
    for _ in range(5):
        await ask(post, database, Purpose.RESET, "ann@x.example")
    for wait_s in (15, 60, 240, 960, 2400):  # the fifth try is followed by an hour
        assert await post.drain() == 5
        clock.move(wait_s)
    for _ in range(5):
        await ask(post, database, Purpose.RESET, "ann@x.example")
    assert await post.drain() == 5
    clock.move(1200)
    assert await post.drain() == 5
    assert await count(database, where="state = 'sent'") == 10


async def test_without_a_mail_server_letters_rest_in_the_outbox_with_their_links(
    database: Database,
) -> None:
    await add_account(database, "ann@x.example")
    post = outbox(database, None)
    await ask(post, database, Purpose.VERIFY, "ann@x.example")
    assert await post.drain() == 1
    assert await post.drain() == 0
    (waiting,) = await post.waiting_mail()
    assert waiting.recipient == "ann@x.example"
    match = LINK.search(waiting.content.text)
    assert match is not None
    assert "2027-01-16" in waiting.content.text
    async with database.transaction() as tx:
        assert await redeem_link(tx, match[2], Purpose.VERIFY) is not None
    assert await post.waiting_mail() == []


async def test_a_woken_outbox_sends_its_mail_at_once(database: Database, mailbox: Mailbox) -> None:
    post = outbox(database, to(mailbox))
    running = asyncio.create_task(post.run())
    try:
        async with database.transaction() as tx:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
        post.wake()
        async with asyncio.timeout(5):
            while not mailbox.mails:
                await asyncio.sleep(0)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ann",
        "ann@x.example\r\nBcc: eve@x.example",
        "ann@x.example\nRCPT TO:<eve@x.example>",
        "ann@x.example, eve@x.example",
        "ann@x.example;eve@x.example",
        "a@evil@x.example",
        "<ann@x.example>",
        "Ann <ann@x.example>",
        "ann@x.example\x00",
    ],
)
async def test_anything_but_one_address_is_refused_before_it_is_kept(
    database: Database, recipient: str
) -> None:
    post = outbox(database, None)

    async def put(tx: Transaction) -> None:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, recipient, TIME)

    async with database.transaction() as tx:
        with pytest.raises(InvalidMail):
            await put(tx)


def test_a_host_in_another_script_is_written_in_ascii() -> None:
    assert single_email("ann@bücher.example") == "ann@xn--bcher-kva.example"


def test_a_message_never_has_two_recipients() -> None:
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    letter = letters.render(MailTemplate.PASSWORD_CHANGED, TIME)
    message = message_of(letter, "id", "no-reply@x.example", "ann@x.example")
    assert [a.addr_spec for a in message["To"].addresses] == ["ann@x.example"]
    with pytest.raises(InvalidMail):
        message_of(letter, "id", "no-reply@x.example", "ann@x.example, eve@x.example")


def test_the_clock_of_these_tests_stands_still() -> None:
    assert Hands().now() == NOON


# --- every letter's failure is its own ---


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
