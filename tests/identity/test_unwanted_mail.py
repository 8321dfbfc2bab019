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
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.identity.mail.unwanted import Conversation, UnwantedMails
from gateway.stores.protocols import Database, Row, Transaction
from tests.databases import Hands, add_account, fresh_database
from tests.identity.letters import TIME, Refusing, ask, count, outbox, to
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


class Server:
    """A mail server, and what stands in for it, that go on when they are told."""

    def __init__(self, *answers: DeliveryOutcome) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []
        self.begun = self.under_way = self.most_at_once = 0
        self.four, self.eight = asyncio.Event(), asyncio.Event()
        self.goes_on = asyncio.Event()

    async def send(self, _message: EmailMessage, _sender: str, recipient: str) -> DeliveryResult:
        self.sent.append(recipient)
        await self.rest(0.0)
        return DeliveryResult(self.answers.pop(0) if self.answers else DeliveryOutcome.DONE)

    async def rehearse(self, _message: EmailMessage) -> None:
        pass

    async def rest(self, _seconds: float) -> None:
        self.begun += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        if self.under_way == 4:
            self.four.set()
        if self.under_way == 8:
            self.eight.set()
        await self.goes_on.wait()
        self.under_way -= 1


@pytest.mark.parametrize("key", ["ann@x.example", "nobody@x.example"])
@pytest.mark.parametrize("purpose", [Purpose.RESET, Purpose.EMAIL_CHANGE, Purpose.VERIFY])
async def test_ones_own_mails_wait_for_as_many_whether_or_not_anybody_gets_those(
    database: Database, purpose: Purpose, key: str
) -> None:
    """Whoever asks for somebody's mails beside their own saw by these whether they are sent."""
    for known in ("ann", "own0", "own1", "own2"):
        await add_account(database, f"{known}@x.example")
    for number in range(5):
        more = {}
        if purpose is Purpose.EMAIL_CHANGE:
            more["email"] = f"new{number}@x.example"
        requester = f"somebody {number}"
        await ask(database, purpose, key, requester, **more)
    for number in range(3):
        await ask(database, Purpose.RESET, f"own{number}@x.example")
    server = Server()

    async def keep_place(_seconds: float) -> None:
        await server.goes_on.wait()

    post = outbox(database, server, rest=server.rest, keep_place=keep_place)
    draining = asyncio.create_task(post.drain())
    await server.four.wait()
    server.goes_on.set()
    assert await draining == 8
    assert (server.begun, server.most_at_once) == (8, 4)
    assert len(server.sent) == (8 if key == "ann@x.example" else 3)


@pytest.mark.parametrize("key", ["ann@x.example", "nobody@x.example"])
async def test_no_mail_keeps_a_place_for_long_whether_or_not_anybody_gets_it(
    database: Database, key: str
) -> None:
    """Behind a mail server that hangs the last of a batch would begin when another worker does."""
    await add_account(database, "ann@x.example")
    for number in range(8):
        await ask(database, Purpose.RESET, key, f"somebody {number}")
    server = Server()
    draining = asyncio.create_task(outbox(database, server, rest=server.rest).drain())
    await server.eight.wait()
    server.goes_on.set()
    assert await draining == 8
    assert server.begun == 8


@pytest.mark.parametrize("key", ["ann@x.example", "nobody@x.example"])
async def test_how_long_a_mail_keeps_its_place_says_nothing_of_its_own_conversation(
    database: Database, key: str
) -> None:
    """A recipient whose server is slow would else be told by whose own mail comes next."""
    await add_account(database, "ann@x.example")
    server, kept = Server(), list[float]()
    has_place = asyncio.Event()

    async def keep_place(seconds: float) -> None:
        kept.append(seconds)
        has_place.set()

    post = outbox(database, server, rest=server.rest, keep_place=keep_place, settled=False)
    await ask(database, Purpose.RESET, key)
    assert await post.drain() == 1  # though its conversation goes on
    assert has_place.is_set()
    assert all(0.05 <= seconds < 0.25 for seconds in kept)
    server.goes_on.set()
    await post.settle()
    assert server.begun == 1


def test_a_place_is_kept_for_as_long_as_another_conversation_took_and_a_second_at_most() -> None:
    unwanted = UnwantedMails()
    unwanted.remember(Conversation(0.5, failed=False))
    assert unwanted.place_s(1.0) == 0.5
    for _ in range(32):
        unwanted.remember(Conversation(30.0, failed=False))
    assert unwanted.place_s(1.0) == 1.0


def test_a_place_is_kept_no_longer_than_a_conversation_takes_in_the_mean() -> None:
    unwanted = UnwantedMails()
    for seconds in (0.1, 0.9) * 4:
        unwanted.remember(Conversation(seconds, failed=False))
    drawn = [unwanted.place_s(1.0) for _ in range(2000)]
    assert 800 < drawn.count(0.1) < 1200


def test_a_server_that_refuses_at_once_is_not_asked_by_all_at_once() -> None:
    unwanted = UnwantedMails()
    unwanted.remember(Conversation(0.5, failed=False))
    unwanted.remember(Conversation(0.002, failed=True))
    assert unwanted.place_s(1.0) == 0.5
    fresh = UnwantedMails()
    fresh.remember(Conversation(0.002, failed=True))
    assert 0.05 <= fresh.place_s(1.0) < 0.25


async def test_what_nobody_gets_never_comes_back_whatever_became_of_others(
    database: Database, clock: Hands
) -> None:
    """While a mail server hung, ever more would wait for it, and mails that somebody gets behind."""
    await add_account(database, "ann@x.example")
    server = Server(DeliveryOutcome.LATER)
    server.goes_on.set()
    post = outbox(database, server, rest=server.rest)
    await ask(database, Purpose.RESET, "ann@x.example")
    await post.drain()
    for address in ("nobody@x.example", "noone@x.example"):
        await ask(database, Purpose.RESET, address)
    assert await post.drain() == 2
    assert await count(database, where="1 = 1") == 1
    tries = []
    for seconds in (14, 1, 59, 1):
        clock.move(seconds)
        tries.append(await post.drain())
    assert tries == [0, 1, 0, 0]
    assert set(server.sent) == {"ann@x.example"}


async def test_of_what_nobody_gets_no_address_is_kept_while_it_holds_its_place(
    database: Database,
) -> None:
    """A worker that stops meanwhile would leave it for a day."""
    for number in range(4):
        await ask(database, Purpose.RESET, f"nobody{number}@x.example")
    server = Server()
    draining = asyncio.create_task(outbox(database, server, rest=server.rest).drain())
    await server.four.wait()
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    async with database.read_transaction() as tx:
        kept = await tx.all("SELECT * FROM outbox")
    assert len(kept) == 4
    assert "nobody" not in str([dict(row) for row in kept])


def test_what_nobody_gets_takes_as_long_as_the_last_conversations_did() -> None:
    unwanted = UnwantedMails()
    for _ in range(100):
        unwanted.remember(Conversation(9.0, failed=False))
    lasted = [number / 100 for number in range(32)]
    for seconds in lasted:
        unwanted.remember(Conversation(seconds, failed=False))
    assert {unwanted.drawn() for _ in range(2000)} == set(lasted[-8:])
    unwanted.remember(Conversation(30.0, failed=True))
    assert {unwanted.drawn() for _ in range(100)} == {30.0}
    unwanted.remember(Conversation(0.5, failed=False))
    assert {unwanted.drawn() for _ in range(2000)} == {0.5, *lasted[-7:]}


def test_an_old_failure_counts_for_none() -> None:
    at, well, failed = 100.0, Conversation(0.5, failed=False), Conversation(30.0, failed=True)
    unwanted = UnwantedMails(now=lambda: at)
    unwanted.remember(well)
    unwanted.remember(failed)
    at += 59.0
    assert unwanted.drawn() == 30.0
    at += 1.0
    assert unwanted.drawn() == 0.5
    for _ in range(32):
        unwanted.remember(failed)
    at += 60.0
    assert 0.05 <= unwanted.drawn() < 0.25


def test_it_takes_as_long_as_those_that_had_as_many_beside_them() -> None:
    """Where conversations slow each other, many at once take longer than one alone."""
    unwanted = UnwantedMails()
    for beside in (1, 4, 4, 4, 1, 1, 1, 1, 3, 3, 3, 3, 3):
        unwanted.remember(Conversation(beside / 10, failed=False, beside=beside))
    assert {unwanted.drawn(4) for _ in range(500)} == {0.4, 0.3}
    for _ in range(8):
        unwanted.remember(Conversation(0.4, failed=False, beside=4))
    assert {unwanted.drawn(4) for _ in range(500)} == {0.4}
    assert {unwanted.drawn(1) for _ in range(500)} == {0.1, 0.3}


@pytest.mark.parametrize("behind", ["refuse_recipient", "refuse_data"])
@pytest.mark.parametrize("answer", ["550 no such user", "452 mailbox full"])
async def test_an_address_that_the_mail_server_refuses_says_nothing_of_others(
    mailbox: Mailbox, answer: str, behind: str
) -> None:
    """Its owner would choose by it how long what nobody gets takes."""
    unwanted, transport = UnwantedMails(), to(mailbox)
    setattr(mailbox, behind, answer)
    refused = await unwanted.heard(transport.send(EmailMessage(), "a@x.example", "b@x.example"))
    assert refused.cause == answer[:3]
    known = Conversation(9.0, failed=False)
    unwanted.remember(known)
    await unwanted.heard(transport.send(EmailMessage(), "a@x.example", "b@x.example"))
    assert {unwanted.drawn() for _ in range(100)} == {known.seconds}


async def test_those_under_way_are_counted_whoever_gets_them() -> None:
    """Of those that nobody gets, too: in their place there would be conversations."""
    seconds: list[float] = []

    async def rest(lasts_s: float) -> None:
        seconds.append(lasts_s)
        await server.rest(lasts_s)

    server = Server()
    unwanted = UnwantedMails(rest)
    for beside in (1, 2, 3, 4):
        for _ in range(8):
            unwanted.remember(Conversation(beside * 3600.0, failed=False, beside=beside))
    talks = [unwanted.heard(server.send(EmailMessage(), "", "")) for _ in range(2)]
    kept = [unwanted.last_as_long(asyncio.sleep(0)) for _ in range(2)]
    working = asyncio.gather(*talks, *kept)
    await server.four.wait()
    server.goes_on.set()
    await working
    assert [round(one / 3600) for one in seconds] == [3, 4]


def test_before_any_conversation_is_known_what_nobody_gets_takes_a_drawn_time() -> None:
    drawn = [UnwantedMails().drawn() for _ in range(1000)]
    assert all(0.05 <= one < 0.25 for one in drawn)
    assert len(set(drawn)) > 100


async def test_what_was_spent_already_is_a_part_of_the_time() -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    async def rehearse() -> None:
        rests.append(-1.0)

    unwanted = UnwantedMails(rest)
    unwanted.remember(Conversation(3600.0, failed=False))
    await unwanted.last_as_long(rehearse())
    assert rests[0] == -1.0
    assert 0.0 < rests[1] < 3600.0


async def test_the_time_of_each_conversation_is_remembered_failed_or_not(
    database: Database,
) -> None:
    """One that had a defect, too."""

    class Broken(Server):
        async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
            self.sent.append(recipient)
            raise RuntimeError("a defect")

    server = Broken()
    server.goes_on.set()
    post = outbox(database, server, rest=server.rest)
    async with database.transaction() as tx:
        await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, "ann@x.example", TIME)
    await post.drain()
    await ask(database, Purpose.RESET, "nobody@x.example")
    assert await post.drain() == 1
    assert await count(database, where="purpose IS NOT NULL") == 0
    assert server.begun == 1


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
