"""What strangers have sent to mailboxes whose servers are slow keeps nobody else's mail waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, cast

import pytest

from gateway.identity.mail.links import Purpose
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.outbox_claim import MailClaims
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.identity.mail.under_way import AT_ONCE, MOST, MOST_LIMITED
from gateway.stores.protocols import Database, Transaction
from tests.databases import add_account
from tests.identity.letters import TIME, ask, count, outbox


class SlowForSome:
    """A mail server that keeps each mail to slow.example until it is told to take one; and so does
    what stands in for it for those that nobody gets."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.hanging = 0
        self._taken = asyncio.Semaphore(0)

    async def send(self, _message: EmailMessage, _sender: str, recipient: str) -> DeliveryResult:
        if recipient.endswith("@slow.example"):
            await self.rest(0.0)
        self.sent.append(recipient)
        return DeliveryResult(DeliveryOutcome.DONE)

    async def rehearse(self, _message: EmailMessage) -> None:
        pass

    async def rest(self, _seconds: float) -> None:
        self.hanging += 1
        await self._taken.acquire()
        self.hanging -= 1

    def outbox(self, database: Database) -> MailOutbox:
        return outbox(database, self, rest=self.rest, settled=False)

    async def hangs_with(self, number: int) -> None:
        async with asyncio.timeout(60):
            while self.hanging != number:
                await asyncio.sleep(0)

    async def take(self, database: Database, number: int) -> None:
        """Returns once as many more are written down as sent."""
        sent = await count(database, where="state = 'sent'")
        for _each in range(number):
            self._taken.release()
        await until_sent(database, sent + number)


class Counted:
    """How often a database is looked into."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        self.looks += 1
        async with self._database.read_transaction() as tx:
            yield tx


async def until_sent(database: Database, number: int) -> None:
    async with asyncio.timeout(60):
        while await count(database, where="state = 'sent'") < number:
            await asyncio.sleep(0.001)


async def register(database: Database, email: str, requester: str) -> None:
    await ask(database, Purpose.VERIFY, email, requester, email=email, password_hash="a hash")


async def flood(database: Database, number: int = 60) -> None:
    """As from five addresses of one network, some seconds ago: what is asked for after it is
    younger, in whatever second."""
    for one in range(number):
        await register(database, f"u{one}@slow.example", f"flooding-{one % 5}")
    async with database.transaction() as tx:
        await tx.run("UPDATE outbox SET due_at = due_at - 5 WHERE purpose = 'verify'")


async def notify(database: Database, post: MailOutbox, *emails: str) -> None:
    async with database.transaction() as tx:
        for email in emails:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, email, TIME)


@pytest.fixture
async def server() -> SlowForSome:
    return SlowForSome()


@pytest.fixture
async def post(database: Database, server: SlowForSome) -> AsyncIterator[MailOutbox]:
    posted = server.outbox(database)
    yield posted
    running = asyncio.create_task(posted.run())
    await asyncio.sleep(0)
    running.cancel()  # which ends those under way
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_reset_is_sent_at_once_though_a_flood_of_registrations_hangs(
    database: Database, server: SlowForSome, post: MailOutbox
) -> None:
    await add_account(database, "ann@x.example")
    await flood(database)
    assert await post.drain() == MOST_LIMITED
    assert await post.drain() == 0
    await server.hangs_with(MOST_LIMITED)
    await ask(database, Purpose.RESET, "ann@x.example", "ann")
    assert await post.drain() == 1
    await until_sent(database, 1)
    assert server.sent == ["ann@x.example"]


async def test_a_newcomers_registration_waits_for_a_few_of_a_flood_not_for_all_of_it(
    database: Database, server: SlowForSome, post: MailOutbox
) -> None:
    await flood(database)
    assert await post.drain() == MOST_LIMITED
    await server.hangs_with(MOST_LIMITED)
    await register(database, "new@x.example", "newcomer")
    assert await post.drain() == 0
    for _ in range(2):  # Every second time goes by age.
        await server.take(database, AT_ONCE)
        assert await post.drain() == AT_ONCE
    await until_sent(database, 2 * AT_ONCE + 1)
    assert "new@x.example" in server.sent


async def test_what_is_tried_again_has_its_turn_however_many_others_ask(
    database: Database, post: MailOutbox
) -> None:
    """More requesters than a worker remembers, each of them new."""
    await register(database, "ann@x.example", "ann")
    async with database.transaction() as tx:
        # It has waited for longest, in whatever second the others come.
        await tx.run("UPDATE outbox SET failure = '451 greylisted', due_at = due_at - 5")
        ann = await tx.one("SELECT id FROM outbox")
    assert ann is not None
    claims, claimed = MailClaims(database), list[str]()
    for number in range(3):
        for other in range(10):
            await register(database, f"u{number}-{other}@x.example", f"r{number}-{other}")
        claimed += [one.id for one in await claims.claim(10, 10, unwritten=False)]
    assert ann["id"] in claimed


async def test_who_asks_for_a_reset_in_between_does_not_choose_whose_registration_is_next(
    database: Database,
) -> None:
    """Whose mail server it is sees when registrations are begun, and when they end is theirs: a
    reset before each had them all begun by age, behind the whole flood."""
    await flood(database)
    await register(database, "new@x.example", "newcomer")
    async with database.transaction() as tx:
        new = await tx.one("SELECT id FROM outbox WHERE requester = 'newcomer'")
    assert new is not None
    claims, claimed = MailClaims(database), list[str]()
    for number in range(3):
        await ask(database, Purpose.RESET, f"nobody{number}@x.example", "flooding")
        assert len(await claims.claim(MOST, 0, unwritten=False)) == 1
        claimed += [one.id for one in await claims.claim(MOST, AT_ONCE, unwritten=False)]
    assert new["id"] in claimed


async def test_of_a_long_backlog_the_oldest_and_the_newest_are_compared_alone(
    database: Database,
) -> None:
    """With 150,000 due PostgreSQL ended each claim after 1.2 s, and nobody had any mail."""
    for number in range(10):
        await register(database, f"u{number}@x.example", f"r{number}")
    async with database.transaction() as tx:
        for number in range(10):
            await tx.run(
                "UPDATE outbox SET due_at = due_at - :by WHERE requester = :who",
                by=10 - number,
                who=f"r{number}",
            )
        rows = await tx.all("SELECT id, requester FROM outbox")
    requesters = {str(row["id"]): int(str(row["requester"])[1:]) for row in rows}
    claims = MailClaims(database, ends=2)
    claimed = [
        sorted(requesters[one.id] for one in await claims.claim(MOST, MOST, unwritten=False))
        for _ in range(3)
    ]
    assert claimed == [[0, 1, 8, 9], [2, 3, 6, 7], [4, 5]]


async def test_who_asks_again_during_a_flood_waits_for_a_turn_of_each_of_the_others(
    database: Database, server: SlowForSome, post: MailOutbox
) -> None:
    await register(database, "ann@x.example", "ann")
    assert await post.drain() == 1
    await until_sent(database, 1)
    await flood(database)
    assert await post.drain() == MOST_LIMITED
    await server.hangs_with(MOST_LIMITED)
    await register(database, "ann2@x.example", "ann")
    assert await post.drain() == 0
    await server.take(database, AT_ONCE)
    assert await post.drain() == AT_ONCE
    await until_sent(database, AT_ONCE + 2)
    assert "ann2@x.example" in server.sent


async def test_a_newcomers_reset_waits_for_one_of_each_other_requester(
    database: Database, server: SlowForSome, post: MailOutbox
) -> None:
    for number in range(3 * MOST):
        await ask(database, Purpose.RESET, f"nobody{number}@x.example", "flooding")
    await add_account(database, "ann@x.example")
    await ask(database, Purpose.RESET, "ann@x.example", "ann")
    assert await post.drain() == MOST
    await until_sent(database, 1)
    assert server.sent == ["ann@x.example"]


async def test_a_flood_of_resets_keeps_no_registration_waiting(
    database: Database, server: SlowForSome, post: MailOutbox
) -> None:
    for number in range(3 * MOST):
        await ask(database, Purpose.RESET, f"nobody{number}@x.example", "flooding")
    await register(database, "new@x.example", "newcomer")
    assert await post.drain() == MOST
    await until_sent(database, 1)
    assert server.sent == ["new@x.example"]


async def test_what_is_tried_again_never_has_more_than_its_part_of_the_places(
    database: Database, server: SlowForSome, post: MailOutbox
) -> None:
    await notify(database, post, *[f"n{number}@slow.example" for number in range(2 * MOST)])
    async with database.transaction() as tx:
        await tx.run("UPDATE outbox SET attempts = 1, failure = '451'")
    await flood(database, 20)
    assert await post.drain() == MOST_LIMITED
    await server.hangs_with(MOST_LIMITED)
    # What was never tried goes first, though it was asked for later; what is tried again at one
    # domain has a turn in the first round, as each of the five who ask.
    assert await count(database, where="purpose IS NOT NULL AND attempts > 0") == 9
    assert await post.drain() == 0
    await notify(database, post, "ann@x.example")
    assert await post.drain() == 1
    await until_sent(database, 1)
    assert server.sent == ["ann@x.example"]


@pytest.mark.parametrize("accounts", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(
    ("purpose", "most"), [(Purpose.VERIFY, MOST_LIMITED), (Purpose.RESET, MOST)]
)
async def test_how_many_are_under_way_says_not_whether_anybody_gets_them(
    database: Database,
    server: SlowForSome,
    post: MailOutbox,
    purpose: Purpose,
    most: int,
    accounts: bool,
) -> None:
    for number in range(MOST + AT_ONCE):
        email = f"u{number}@slow.example"
        if accounts:
            await add_account(database, email)
        await ask(database, purpose, email)
    assert await post.drain() == most
    await server.hangs_with(most)


async def test_a_flood_that_waits_for_places_is_no_reason_to_look_again_and_again(
    database: Database, server: SlowForSome
) -> None:
    counted = Counted(database)
    post = server.outbox(cast("Database", counted))
    await flood(database)
    running = asyncio.create_task(post.run())
    try:
        await server.hangs_with(MOST_LIMITED)
        await asyncio.sleep(0.5)
        looked = counted.looks
        await asyncio.sleep(0.5)
        assert counted.looks - looked <= 1
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_those_that_wait_for_places_begin_once_there_are_some(
    database: Database, server: SlowForSome
) -> None:
    """Not with the next poll, which is two seconds later."""
    post = server.outbox(database)
    await flood(database)
    running = asyncio.create_task(post.run())
    try:
        await server.hangs_with(MOST_LIMITED)
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        for _each in range(4):
            await server.take(database, AT_ONCE)
            await server.hangs_with(MOST_LIMITED)
        assert asyncio.get_running_loop().time() - began < 2
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
