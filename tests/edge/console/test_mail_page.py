"""The outbox in the console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.console.mail_page import MAIL, MailPage, MailPageDependencies
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.invitations import Invitations, InvitationTerms
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.outbox_list import MailState, OutboxList
from gateway.identity.mail.templates import MailTemplates
from gateway.stores.protocols import Database
from tests.edge.console.house import Answered, ConsoleHouse, console_house
from tests.identity.letters import SettledOutbox


@dataclass
class Post:
    house: ConsoleHouse
    database: Database
    mailer: MailOutbox
    csrf: str

    async def act(self, do: str, mail: str) -> Answered:
        return await self.house.post(MAIL, {"csrf": self.csrf, "do": do, "mail": mail})

    async def mails(self, state: MailState = MailState.WAITING) -> list[str]:
        return [mail.id for mail in await OutboxList(self.database).page(state, None, 10)]


@pytest.fixture
async def post(sqlite_database: Database) -> AsyncIterator[Post]:
    database = sqlite_database
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    options = MailOptions("no@x.example", "https://x.example", b"k" * 32)
    mailer = SettledOutbox(database, letters, options, None)
    await Accounts(database).register("ada@example.com", None)
    terms = InvitationTerms([], 3_600, by_mail=True, verified=False, invited_by="root")
    await Invitations(database).invite("new@example.com", terms)
    page = MailPage(MailPageDependencies(OutboxList(database), mailer, sends_mail=True))
    async with console_house(*page.pages()) as house:
        yield Post(house, database, mailer, await house.sign_in())


async def test_what_waits_is_shown_without_its_text_and_link(post: Post) -> None:
    await post.mailer.drain()  # writes it
    [kept] = await post.mailer.waiting_mail()
    answer = await post.house.ask(MAIL)
    assert "new@example.com" in answer.text
    assert "invitation" in answer.text
    assert "token=" not in answer.text
    link = next(word for word in kept.content.text.split() if word.startswith("https://"))
    assert link not in answer.text
    assert "No mail is failed." in (await post.house.ask(f"{MAIL}?state=failed")).text
    assert "new@example.com" in (await post.house.ask(f"{MAIL}?state=bogus")).text


async def test_a_mail_is_tried_now(post: Post) -> None:
    [mail] = await post.mails()
    async with post.database.transaction() as tx:
        await tx.run("UPDATE outbox SET due_at = 99999999999, failure = 'refused by 192.0.2.1'")
    assert "refused by 192.0.2.1" in (await post.house.ask(MAIL)).text
    assert (await post.act("send", mail)).status == 303
    async with post.database.read_transaction() as tx:
        row = await tx.one("SELECT due_at FROM outbox")
    assert row is not None
    assert row["due_at"] < 99999999999


async def test_a_mail_is_dropped_and_its_link_is_good_no_more(post: Post) -> None:
    [mail] = await post.mails()
    await post.mailer.drain()
    async with post.database.transaction() as tx:
        await tx.run("UPDATE outbox SET claimed_until = 0")
    assert (await post.act("drop", mail)).status == 303
    assert await post.mails() == []
    assert await post.mails(MailState.DROPPED) == [mail]
    async with post.database.read_transaction() as tx:
        row = await tx.one("SELECT mailed_hash FROM invitations")
    assert row is not None
    assert row["mailed_hash"] is None
    assert (await post.act("drop", mail)).status == 422
    assert (await post.act("send", "a b")).status == 422
    changes = [e.kind for e in post.house.events.all if e.kind is AuditKind.MAIL_CHANGED]
    assert len(changes) == 1


async def test_a_mail_that_is_being_sent_is_left_alone(post: Post) -> None:
    [mail] = await post.mails()
    async with post.database.transaction() as tx:
        await tx.run("UPDATE outbox SET claimed_until = 99999999999")
    assert (await post.act("drop", mail)).status == 422
    assert (await post.act("send", mail)).status == 422
