"""None"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.identity.mail.links import Purpose, find_link, redeem_link
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, add_account, fresh_database
from tests.identity.letters import LINK, TIME, Refusing, ask, count, outbox, to
from tests.mailbox import Mailbox, body_of, mail_server


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
    await ask(database, purpose, "ann@x.example", **more)
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
    await ask(database, Purpose.RESET, "nobody@x.example")
    assert await post.drain() == 1
    assert mailbox.mails == []
    assert await count(database, where="1 = 1") == 0


async def test_a_disabled_account_gets_no_reset_link(database: Database, mailbox: Mailbox) -> None:
    await add_account(database, "ann@x.example", disabled=True)
    post = outbox(database, to(mailbox))
    await ask(database, Purpose.RESET, "ann@x.example")
    await post.drain()
    assert mailbox.mails == []


async def test_who_registers_again_is_told_by_mail_and_gets_no_link(
    database: Database, mailbox: Mailbox
) -> None:
    await add_account(database, "ann@x.example", verified=True)
    post = outbox(database, to(mailbox))
    registered = {"email": "ANN@x.example", "password_hash": "h"}
    await ask(database, Purpose.VERIFY, "ann@x.example", **registered)
    await ask(database, Purpose.VERIFY, "ann@x.example")
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
    await ask(database, Purpose.RESET, "ann@x.example")
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
    await ask(database, Purpose.RESET, "ann@x.example")
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
    await ask(database, Purpose.RESET, "ann@x.example")
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
    await ask(database, Purpose.RESET, "ann@x.example")
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
    await ask(database, Purpose.RESET, "ann@x.example")
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

        async def rehearse(self, message: EmailMessage) -> None:
            raise NotImplementedError

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
    await ask(database, Purpose.RESET, "ann@x.example")
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
        await ask(database, Purpose.RESET, "ann@x.example")
        await post.drain()
    assert len(mailbox.mails) == 5
    clock.move(3601)
    await ask(database, Purpose.RESET, "ann@x.example")
    await post.drain()
    assert len(mailbox.mails) == 6


async def test_letters_asked_for_while_the_server_was_away_do_not_crowd_each_other_out(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example")
    transport = Refusing(*[DeliveryResult(DeliveryOutcome.LATER)] * 5)
    post = outbox(database, transport)
    for _ in range(7):
        await ask(database, Purpose.RESET, "ann@x.example")
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
        await ask(database, Purpose.RESET, "ann@x.example")
    for wait_s in (15, 60, 240, 960, 2400):  # the fifth try is followed by an hour
        assert await post.drain() == 5
        clock.move(wait_s)
    for _ in range(5):
        await ask(database, Purpose.RESET, "ann@x.example")
    assert await post.drain() == 5
    clock.move(1200)
    assert await post.drain() == 5
    assert await count(database, where="state = 'sent'") == 10


async def test_without_a_mail_server_letters_rest_in_the_outbox_with_their_links(
    database: Database,
) -> None:
    await add_account(database, "ann@x.example")
    post = outbox(database, None)
    await ask(database, Purpose.VERIFY, "ann@x.example")
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


async def test_a_woken_outbox_sends_its_mail(database: Database, mailbox: Mailbox) -> None:
    post = outbox(database, to(mailbox))
    running = asyncio.create_task(post.run())
    try:
        async with database.transaction() as tx:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
        post.wake()
        async with asyncio.timeout(60):
            while not mailbox.mails:
                await asyncio.sleep(0)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_the_clock_of_these_tests_stands_still() -> None:
    assert Hands().now() == NOON
