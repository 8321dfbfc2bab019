from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.registration import Registrations
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import OutboxMail
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.sessions.sessions import SignInSource, begin
from gateway.identity.tombstones import email_target
from gateway.model import ChangeKind, Reason
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, add_account, fresh_database
from tests.identity.letters import SettledOutbox

OLD, NEW = "ann@x.example", "Anna@y.example"


class House:
    def __init__(self, database: Database) -> None:
        self.database = database
        letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
        options = MailOptions("no-reply@x.example", "https://x.example", b"k" * 32)
        self.outbox = SettledOutbox(database, letters, options, None)
        self.changes = EmailChanges(database, self.outbox)
        self.accounts = Accounts(database)

    async def proof(self, account_id: str) -> Proof:
        """Of an owner who is signed in and has given the password."""
        async with self.database.transaction() as tx:
            origin = SignInSource("a browser", "192.0.2.1")
            sid = await begin(tx, account_id, origin, amr="pwd", at=NOON, expires_at=NOON + 600)
        return Proof(sid, "old")

    async def ask(self, account_id: str, new_email: str) -> Reason | None:
        return await self.changes.request(account_id, new_email, await self.proof(account_id))

    async def letters(self) -> list[OutboxMail]:
        """Oldest first."""
        await self.outbox.drain()
        return sorted(await self.outbox.waiting_mail(), key=lambda letter: letter.recipient)

    async def link_to(self, recipient: str) -> str:
        (letter,) = [match for match in await self.letters() if match.recipient == recipient]
        match = re.search(r"#token=(\S+)", letter.content.text)
        assert match is not None
        return match[1]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with fresh_database(tmp_path, Hands()) as opened:
        yield House(opened)


async def test_the_account_moves_when_the_new_address_confirms_and_both_are_told(
    house: House,
) -> None:
    ann = await add_account(house.database, OLD, verified=True)
    assert await house.ask(ann, NEW) is None
    asked = await house.letters()
    assert [(letter.recipient, letter.content.subject.split()[0]) for letter in asked] == [
        (NEW, "Confirm"),
        (OLD, "A"),
    ]
    before = await house.accounts.by_email(OLD)
    assert before is not None
    results = await house.changes.confirm(await house.link_to(NEW))
    assert results is not None
    account, (change,) = results
    assert (account.id, account.email, account.normalized_email) == (ann, NEW, "anna@y.example")
    assert (change.kind, change.cause) == (ChangeKind.SUBJECT, Reason.TOKEN_OUTDATED)
    moved = await house.accounts.by_email("anna@y.example")
    assert moved is not None
    assert (moved.id, moved.email, moved.email_verified) == (ann, NEW, True)
    assert await house.accounts.by_email(OLD) is None
    notices = [
        letter for letter in await house.letters() if "has changed" in letter.content.subject
    ]
    assert [letter.recipient for letter in notices] == [OLD]


async def test_a_link_to_a_domain_that_is_taken_no_more_moves_nothing(house: House) -> None:
    ann = await add_account(house.database, OLD)
    await house.ask(ann, NEW)
    link = await house.link_to(NEW)
    for domain, moves in (("x.example", False), ("y.example", True)):
        rules = RegistrationRules("closed", frozenset({domain}))
        later = EmailChanges(house.database, house.outbox, rules)
        assert (await later.confirm(link) is not None) == moves


async def test_who_is_kept_away_by_a_role_leaves_no_address_behind(house: House) -> None:
    barring = frozenset(("suspended",))
    changes = EmailChanges(house.database, house.outbox, barring_roles=lambda: barring)
    ann = await add_account(house.database, OLD, verified=True)
    await house.ask(ann, NEW)
    link = await house.link_to(NEW)
    await house.accounts.grant(ann, "suspended")
    assert await changes.request(ann, NEW, await house.proof(ann)) is Reason.NO_RULE
    assert await changes.confirm(link) is None
    assert await house.accounts.by_email(OLD) is not None


async def test_a_link_moves_the_account_once(house: House) -> None:
    ann = await add_account(house.database, OLD)
    await house.ask(ann, NEW)
    link = await house.link_to(NEW)
    assert await house.changes.confirm(link) is not None
    assert await house.changes.confirm(link) is None


async def test_an_address_that_has_an_account_gets_no_letter(house: House) -> None:
    ann = await add_account(house.database, OLD)
    await add_account(house.database, "anna@y.example")
    assert await house.ask(ann, NEW) is None
    assert await house.letters() == []


async def test_an_address_that_is_taken_meanwhile_is_not_moved_to(house: House) -> None:
    ann = await add_account(house.database, OLD)
    await house.ask(ann, NEW)
    link = await house.link_to(NEW)
    await add_account(house.database, "anna@y.example")
    assert await house.changes.confirm(link) is None
    assert await house.accounts.by_email(OLD) is not None


async def test_the_newest_wish_counts(house: House) -> None:
    ann = await add_account(house.database, OLD)
    await house.ask(ann, NEW)
    link = await house.link_to(NEW)
    await house.ask(ann, "third@z.example")
    assert await house.changes.confirm(link) is None
    assert await house.changes.confirm(await house.link_to("third@z.example")) is not None


async def test_a_changed_password_stops_the_move_also_before_its_letter_is_written(
    house: House,
) -> None:
    ann = await add_account(house.database, OLD)
    await house.ask(ann, NEW)
    await house.accounts.change_password(ann, "new", await house.proof(ann))
    assert await house.letters() == []


async def test_a_reset_link_to_the_old_address_ends_with_the_move(house: House) -> None:
    ann = await add_account(house.database, OLD)
    registrations = Registrations(house.database, house.outbox)
    await registrations.forgot(OLD, "somebody")
    reset = await house.link_to(OLD)
    assert await registrations.resettable(reset)
    await house.ask(ann, NEW)
    assert await house.changes.confirm(await house.link_to(NEW)) is not None
    assert not await registrations.resettable(reset)
    async with house.database.transaction() as tx:
        await tx.run("UPDATE accounts SET email_key = :old", old=OLD)
    assert not await registrations.resettable(reset)  # nor when the account moves back


async def test_a_disabled_account_does_not_move(house: House) -> None:
    ann = await add_account(house.database, OLD)
    await house.ask(ann, NEW)
    link = await house.link_to(NEW)
    await house.accounts.disable(ann)
    assert await house.changes.confirm(link) is None
    assert await house.ask(ann, NEW) is Reason.TOKEN_REVOKED
    proof = await house.proof(ann)
    assert await house.changes.request("nobody", NEW, proof) is Reason.TOKEN_REVOKED


async def test_the_old_address_is_not_told_unless_its_owner_had_confirmed_it(
    house: House,
) -> None:
    ann = await add_account(house.database, OLD, verified=False)
    await house.ask(ann, NEW)
    assert [letter.recipient for letter in await house.letters()] == [NEW]


async def test_the_address_that_was_left_last_is_the_last_where_the_clock_was_set_back(
    house: House,
) -> None:
    """A restore moves the account to the one that it was left for."""
    ann = await add_account(house.database, OLD, verified=True)
    old, new = email_target(ann, OLD), email_target(ann, "anna@y.example")
    await house.ask(ann, NEW)
    assert await house.changes.confirm(await house.link_to(NEW)) is not None
    async with house.database.transaction() as tx:
        await tx.run(
            "UPDATE tombstones SET ended_at = ended_at + 3600 WHERE target = :old", old=old
        )
        before = await tx.one("SELECT ended_at FROM tombstones WHERE target = :old", old=old)
    assert await house.ask(ann, OLD) is None
    texts = [letter.content.text for letter in await house.letters() if letter.recipient == OLD]
    (token,) = re.findall(r"email\S*#token=(\S+)", "\n".join(texts))
    assert await house.changes.confirm(token) is not None
    async with house.database.read_transaction() as tx:
        after = await tx.one("SELECT ended_at FROM tombstones WHERE target = :new", new=new)
    assert before is not None
    assert after is not None
    assert after["ended_at"] > before["ended_at"]
