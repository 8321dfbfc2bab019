from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.mail.notifications import SecurityNotifications, plain_text
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.sessions.sessions import SignInSource, begin
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, add_account, fresh_database
from tests.identity.letters import SettledOutbox


class House:
    def __init__(self, database: Database) -> None:
        self.database = database
        letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
        options = MailOptions("no-reply@x.example", "https://x.example", b"k" * 32)
        self.outbox = SettledOutbox(database, letters, options, None)
        self.notifications = SecurityNotifications(database, self.outbox)

    async def sign_in(self, account_id: str, user_agent: str, address: str = "192.0.2.1") -> None:
        async with self.database.transaction() as tx:
            origin = SignInSource(user_agent, address)
            sid = await begin(tx, account_id, origin, amr="pwd", at=NOON, expires_at=NOON + 600)
        await self.notifications.signed_in(account_id, sid, user_agent=user_agent, address=address)

    async def texts(self) -> list[str]:
        await self.outbox.drain()
        return [waiting.content.text for waiting in await self.outbox.waiting_mail()]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with fresh_database(tmp_path, Hands()) as opened:
        yield House(opened)


async def new_account(house: House) -> str:
    """One that was made today."""
    ann = await add_account(house.database, "ann@x.example", verified=True)
    async with house.database.transaction() as tx:
        await tx.run("UPDATE accounts SET created_at = :now", now=NOON)
    return ann


async def test_the_owners_user_agent_from_another_network_is_told(house: House) -> None:
    """A thief's browser says of itself what the owner's says."""
    ann = await new_account(house)
    await house.sign_in(ann, "Firefox", "192.0.2.1")
    await house.sign_in(ann, "Firefox", "192.0.2.99")  # the same network
    assert await house.texts() == []
    await house.sign_in(ann, "Firefox", "203.0.113.5")
    (text,) = await house.texts()
    assert "203.0.113.5" in text


async def test_a_sign_in_after_every_session_was_forgotten_is_told(house: House) -> None:
    ann = await add_account(house.database, "ann@x.example", verified=True)
    await house.sign_in(ann, "Firefox")
    (text,) = await house.texts()
    assert "Firefox" in text


async def test_a_new_device_is_told_and_the_first_and_the_known_are_not(house: House) -> None:
    ann = await new_account(house)
    await house.sign_in(ann, "Firefox")
    await house.sign_in(ann, "Firefox")
    assert await house.texts() == []
    await house.sign_in(ann, "curl")
    (text,) = await house.texts()
    assert "from 192.0.2.1 (curl)" in text


async def test_nothing_is_sent_unasked_to_an_address_that_nobody_confirmed(house: House) -> None:
    ann = await add_account(house.database, "ann@x.example", verified=False)
    await house.sign_in(ann, "Firefox")
    await house.sign_in(ann, "curl")
    async with house.database.transaction() as tx:
        await house.notifications.password_changed(tx, ann)
    assert await house.texts() == []


async def test_a_crowd_of_devices_makes_five_letters_an_hour(house: House) -> None:
    ann = await add_account(house.database, "ann@x.example", verified=True)
    for number in range(12):
        await house.sign_in(ann, f"agent {number}")
    assert len(await house.texts()) == 5


async def test_a_changed_password_is_told(house: House) -> None:
    ann = await add_account(house.database, "ann@x.example", verified=True)
    async with house.database.transaction() as tx:
        await house.notifications.password_changed(tx, ann)
    (text,) = await house.texts()
    assert "was changed at 2027-01-15 08:00 UTC" in text


@given(st.text())
def test_what_a_stranger_sends_is_short_printable_and_no_link(text: str) -> None:
    printable = plain_text(text)
    assert len(printable) <= 100
    assert "://" not in printable
    assert not re.search(r"[.@:][^\W\d_]", printable)
    assert len(printable.splitlines()) <= 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("Sign in at https://evil.example now", "Sign in at https evil. example now"),
        ("Secure it: WWW.evil.example/fix", "Secure it: WWW. evil. example/fix"),
        ("evil.example/fix", "evil. example/fix"),
        ("evil\u3002example", "evil\u3002 example"),
        ("mailto:x@evil.example", "mailto: x@ evil. example"),
    ],
)
def test_a_user_agent_cannot_bring_a_link_into_a_letter(sent: str, said: str) -> None:
    assert plain_text(sent) == said


def test_a_user_agent_is_told_as_it_is() -> None:
    browser = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0"
    assert plain_text(browser) == browser


async def test_a_new_password_is_told_with_whatever_else_opens_the_account(house: House) -> None:
    """Somebody else may have moved the account to its owner's mailbox, and keeps these."""
    ann = await add_account(house.database, "ann@x.example", verified=True)
    async with house.database.transaction() as tx:
        await house.notifications.password_changed(tx, ann)
        for number in range(2):
            await tx.run(
                "INSERT INTO passkeys (id, account_id, credential_id, public_key, name, sign_count,"
                " backup_eligible, backed_up, transports, aaguid, created_at)"
                " VALUES (:id, :ann, :id, '', 'a name', 0, 0, 0, '', '', 0)",
                id=f"p{number}",
                ann=ann,
            )
        await tx.run(
            "INSERT INTO totp_factors (id, account_id, sealed_secret, begun_by, created_at,"
            " confirmed_at, last_step) VALUES ('t', :ann, '', '', 0, 1, 0)",
            ann=ann,
        )
        await tx.run(
            "INSERT INTO linked_identities (id, account_id, issuer, subject, provider, linked_at,"
            " last_used_at) VALUES ('l', :ann, 'https://id.example', 's', 'company', 0, 0)",
            ann=ann,
        )
        await house.notifications.password_changed(tx, ann)
    told = {re.search(r"opens the account now: (.*)\.\n", text)[1] for text in await house.texts()}  # type: ignore[index]
    assert told == {
        "its password",
        "its password with an authenticator app, 2 passkeys, a sign-in by company",
    }
