"""One mail whose server hangs keeps no later one back, and none is lost or sent twice for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.identity.mail.links import Purpose
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.identity.mail.under_way import AT_ONCE, MOST
from gateway.stores.protocols import Database, StoreUnavailable
from tests.databases import Hands, add_account, fresh_database
from tests.identity.letters import TIME, ask, count, outbox


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


class Hanging:
    """A mail server that hangs for some, and so does what stands in for it for those nobody gets,
    until it goes on."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.begun = self.cancelled = 0
        self.goes_on = asyncio.Event()

    async def send(self, _message: EmailMessage, _sender: str, recipient: str) -> DeliveryResult:
        self.sent.append(recipient)
        if recipient.startswith("hangs"):
            await self.rest(0.0)
        return DeliveryResult(DeliveryOutcome.DONE)

    async def rehearse(self, _message: EmailMessage) -> None:
        pass

    async def rest(self, _seconds: float) -> None:
        self.begun += 1
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def has_begun(self, number: int) -> None:
        async with asyncio.timeout(60):
            while self.begun < number:
                await asyncio.sleep(0)

    def outbox(self, database: Database) -> MailOutbox:
        return outbox(database, self, rest=self.rest, settled=False)


async def enqueue(database: Database, post: MailOutbox, *names: str) -> None:
    async with database.transaction() as tx:
        for name in names:
            await post.enqueue(tx, MailTemplate.PASSWORD_CHANGED, f"{name}@x.example", TIME)


async def until_sent(database: Database, number: int) -> None:
    async with asyncio.timeout(60):
        while await count(database, where="state = 'sent'") < number:
            await asyncio.sleep(0)


@pytest.mark.parametrize("address", ["hangs@x.example", "nobody@x.example"])
async def test_a_mail_that_hangs_keeps_no_later_one_back_whether_or_not_anybody_gets_it(
    database: Database, address: str
) -> None:
    await add_account(database, "hangs@x.example")
    server = Hanging()
    post = server.outbox(database)
    await ask(database, Purpose.RESET, address)
    assert await post.drain() == 1
    await server.has_begun(1)
    await enqueue(database, post, "ann")
    assert await post.drain() == 1
    await until_sent(database, 1)
    assert server.sent[-1] == "ann@x.example"
    assert not server.goes_on.is_set()
    server.goes_on.set()
    async with asyncio.timeout(60):
        while await count(database, where="state <> 'sent'"):
            await asyncio.sleep(0)


async def test_the_outbox_claims_on_while_a_mail_hangs(database: Database) -> None:
    server = Hanging()
    post = server.outbox(database)
    await enqueue(database, post, "hangs")
    running = asyncio.create_task(post.run())
    try:
        await server.has_begun(1)
        await enqueue(database, post, "ann")
        post.wake()
        await until_sent(database, 1)
        assert await count(database) == 1
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert server.cancelled == 1


@pytest.mark.parametrize("address", ["hangs@x.example", "nobody@x.example"])
async def test_so_many_are_under_way_and_others_wait_until_some_have_ended(
    database: Database, address: str
) -> None:
    await add_account(database, "hangs@x.example")
    server = Hanging()
    post = server.outbox(database)
    for number in range(MOST + 3):
        await enqueue_asked(database, address, number)
    assert await post.drain() == MOST
    assert server.begun <= MOST
    waits = asyncio.create_task(post.drain())
    await server.has_begun(MOST)
    assert await count(database, where="attempts = 0") == 3
    assert not waits.done()
    server.goes_on.set()
    assert await waits == 3


async def enqueue_asked(database: Database, address: str, number: int) -> None:
    """Of as many mailboxes as there are mails: none has had its number."""
    if address.startswith("hangs"):
        await add_account(database, f"hangs{number}@x.example")
        await ask(database, Purpose.RESET, f"hangs{number}@x.example")
    else:
        await ask(database, Purpose.RESET, f"nobody{number}@x.example")


async def test_as_many_begin_together_as_there_are_places(database: Database) -> None:
    """However many hang: what ends first would else tell by when the next ones begin."""
    server = Hanging()
    post = server.outbox(database)
    await enqueue(database, post, *[f"hangs{number}" for number in range(MOST - AT_ONCE)])
    assert await post.drain() == MOST - AT_ONCE
    await enqueue(database, post, *[f"n{number}" for number in range(AT_ONCE + 1)])
    assert await post.drain() == AT_ONCE
    await until_sent(database, AT_ONCE)
    assert await post.drain() == 1
    await until_sent(database, AT_ONCE + 1)
    server.goes_on.set()
    await until_sent(database, MOST + 1)


async def test_a_drain_that_is_cancelled_ends_what_was_begun_before(
    database: Database, clock: Hands
) -> None:
    """Nothing is lost: another worker sends it once the claim has ended."""
    server = Hanging()
    post = server.outbox(database)
    await enqueue(database, post, *[f"hangs{number}" for number in range(MOST)])
    assert await post.drain() == MOST
    await server.has_begun(MOST)
    draining = asyncio.create_task(post.drain())
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert server.cancelled == MOST
    clock.move(120)
    server.goes_on.set()
    other = server.outbox(database)
    assert await other.drain() == MOST
    await until_sent(database, MOST)


async def test_a_drain_that_is_cancelled_leaves_nothing_to_tell_to_the_next(
    database: Database, clock: Hands
) -> None:
    server = Hanging()
    post = server.outbox(database)
    await enqueue(database, post, "hangs")
    assert await post.drain() == 1
    await server.has_begun(1)
    draining = asyncio.create_task(post.drain())
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    clock.move(120)
    server.goes_on.set()
    assert await post.drain() == 1
    await until_sent(database, 1)


class Defect(Exception):
    """Not the store, nor a cancellation."""


async def run_until_a_defect(database: Database, server: Hanging) -> asyncio.Task[None]:
    """An outbox with a mail under way that has come upon one."""
    begun = asyncio.Event()

    def fail() -> float:
        begun.set()
        raise Defect

    post = outbox(database, server, fail, server.rest, settled=False)
    await enqueue(database, post, "hangs")
    running = asyncio.create_task(post.run())
    await server.has_begun(1)
    post.wake()
    await begun.wait()
    return running


async def test_an_outbox_that_fails_leaves_no_mail_under_way(database: Database) -> None:
    """Whoever starts it again pauses first, and a stop meanwhile would close the stores beneath."""
    server = Hanging()
    running = await run_until_a_defect(database, server)
    with pytest.raises(Defect):
        await running
    assert server.cancelled == 1


async def test_a_stop_while_an_outbox_that_fails_ends_its_mail_is_not_lost(
    database: Database,
) -> None:
    class Deaf(Hanging):
        async def rest(self, seconds: float) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await super().rest(seconds)
            await super().rest(seconds)

    server = Deaf()
    running = await run_until_a_defect(database, server)
    try:
        await server.has_begun(2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert server.cancelled == 2
    finally:
        server.goes_on.set()


async def test_what_is_under_way_is_not_begun_again_though_its_claim_has_ended(
    database: Database, clock: Hands
) -> None:
    """As after the machine slept."""
    server = Hanging()
    post = server.outbox(database)
    await enqueue(database, post, "hangs")
    await post.drain()
    clock.move(121)
    assert await post.drain() == 1
    server.goes_on.set()
    await until_sent(database, 1)
    assert server.sent == ["hangs@x.example"]
    assert await post.drain() == 0


async def test_what_a_late_one_fails_for_is_told_by_the_next_drain(database: Database) -> None:
    class Away(Hanging):
        async def send(self, message: EmailMessage, sender: str, to: str) -> DeliveryResult:
            await super().send(message, sender, to)
            ended.set()
            raise StoreUnavailable("sql", "away")

    ended = asyncio.Event()
    server = Away()
    post = server.outbox(database)
    await enqueue(database, post, "hangs")
    assert await post.drain() == 1
    server.goes_on.set()
    await ended.wait()
    with pytest.raises(StoreUnavailable):
        await post.drain()
    assert await post.drain() == 0
    assert await count(database, where="attempts = 1") == 1
