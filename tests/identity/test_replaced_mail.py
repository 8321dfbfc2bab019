"""Of the mails of one requester the newest is sent, and no registration is lost for that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.identity.mail import registrations
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.stores.protocols import Database
from tests.databases import Hands, add_account, fresh_database
from tests.identity.letters import LINK, Refusing, ask, count, outbox
from tests.mailbox import body_of

NEW = "new@x.example"
AWAY = DeliveryResult(DeliveryOutcome.LATER, "away")


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


async def register(
    database: Database, password_hash: str, requester: str = "somebody", key: str = NEW
) -> None:
    await ask(database, Purpose.VERIFY, key, requester, email=key, password_hash=password_hash)


async def resend(database: Database, key: str = NEW) -> None:
    await ask(database, Purpose.VERIFY, key)


async def confirmed_by(database: Database, mail: EmailMessage) -> str | None:
    """The hash of the registration that the link of the mail confirms."""
    ((_, token),) = LINK.findall(body_of(mail))
    async with database.read_transaction() as tx:
        found = await registrations.find(tx, token)
    return None if found is None else found.password_hash


async def held_by_another_worker(database: Database, clock: Hands) -> None:
    """Registrations, for the two minutes of a claim."""
    async with database.transaction() as tx:
        await tx.run(
            "UPDATE outbox SET claimed_until = :until WHERE password_hash IS NOT NULL"
            " AND state = 'waiting'",
            until=int(clock.now()) + 120,
        )


async def test_who_asks_for_the_mail_before_it_is_written_still_gets_it(
    database: Database, clock: Hands
) -> None:
    transport = Refusing()
    await register(database, "h")
    clock.move(1)
    await resend(database)
    await outbox(database, transport).drain()
    assert await confirmed_by(database, transport.messages[-1]) == "h"
    assert await count(database, "registrations", "1 = 1") == 1


async def test_a_mail_that_is_asked_for_again_leaves_it_to_the_registration_that_waits(
    database: Database, clock: Hands
) -> None:
    transport = Refusing()
    post = outbox(database, transport)
    await register(database, "h")
    clock.move(1)
    await resend(database)
    await held_by_another_worker(database, clock)
    assert await post.drain() == 1
    assert transport.messages == []
    clock.move(120)
    assert await post.drain() == 1
    (mail,) = transport.messages
    assert await confirmed_by(database, mail) == "h"


async def test_a_mail_that_is_asked_for_again_is_of_no_strangers_registration_meanwhile(
    database: Database, clock: Hands
) -> None:
    """Whoever registered the address first would else have theirs confirmed, and the owner's own
    registration be dropped for it."""
    transport = Refusing()
    post = outbox(database, transport)
    await register(database, "theirs", "a stranger")
    await post.drain()
    await register(database, "own")
    clock.move(1)
    await resend(database)
    await held_by_another_worker(database, clock)
    await post.drain()
    clock.move(120)
    await post.drain()
    confirmed = [await confirmed_by(database, mail) for mail in transport.messages]
    assert confirmed == ["theirs", "own"]


async def test_who_has_an_account_is_told_so_though_they_ask_again_at_once(
    database: Database, clock: Hands
) -> None:
    await add_account(database, "ann@x.example", verified=True)
    transport = Refusing()
    await register(database, "h", key="ann@x.example")
    clock.move(1)
    await resend(database, "ann@x.example")
    await outbox(database, transport).drain()
    (mail,) = transport.messages
    assert "already have an account" in mail["Subject"]


async def test_a_registration_that_was_never_written_is_replaced_by_the_next(
    database: Database, clock: Hands
) -> None:
    transport = Refusing()
    await register(database, "first")
    clock.move(1)
    await register(database, "second")
    await outbox(database, transport).drain()
    (mail,) = transport.messages
    assert await confirmed_by(database, mail) == "second"


async def test_a_mail_that_waits_for_the_server_is_replaced_by_one_that_is_asked_for_again(
    database: Database, clock: Hands
) -> None:
    transport = Refusing(AWAY)
    post = outbox(database, transport)
    await register(database, "h")
    await post.drain()
    clock.move(15)
    await resend(database)
    assert await post.drain() == 2
    assert len(transport.messages) == 2
    assert await confirmed_by(database, transport.messages[-1]) == "h"
    assert await count(database) == 0


async def with_one_place_left(database: Database, clock: Hands, transport: Refusing) -> None:
    """Four mails an hour have gone to the address."""
    for number in range(4):
        await register(database, f"h{number}")
        await outbox(database, transport).drain()
        clock.move(1)
    assert len(transport.messages) == 4


@pytest.mark.parametrize("wait_s", [1, 15], ids=["before", "with"])
async def test_a_mail_that_waits_and_its_successor_do_not_cancel_each_other(
    database: Database, clock: Hands, wait_s: int
) -> None:
    """The one waited for the server when the other was written, which replaced it, and for which
    it had used up the last place of the hour."""
    transport = Refusing()
    await with_one_place_left(database, clock, transport)
    transport.answers = [AWAY]
    post = outbox(database, transport)
    await register(database, "fifth")
    await post.drain()
    clock.move(wait_s)
    await register(database, "sixth")
    await post.drain()
    clock.move(3600)
    await post.drain()
    assert len(transport.messages) == 6
    assert await confirmed_by(database, transport.messages[-1]) == "sixth"


async def test_what_nobody_gets_stands_in_nobodys_way_while_it_is_written(
    database: Database, clock: Hands
) -> None:
    class Looking(Refusing):
        async def rehearse(self, message: EmailMessage) -> None:
            await super().rehearse(message)
            waits.append(await count(database))
            counted.append(await count(database, where="prepared_at IS NOT NULL"))

    waits: list[int] = []
    counted: list[int] = []
    transport = Looking(AWAY)
    post = outbox(database, transport)
    await register(database, "h")
    await post.drain()
    clock.move(15)
    await add_account(database, NEW, disabled=True)
    await post.drain()
    assert (len(transport.rehearsed), waits, counted) == (1, [0], [0])
    assert await count(database, where="1 = 1") == 0
