"""What a stranger may do with an address that is somebody else's."""

from __future__ import annotations

import secrets

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.registration import Registrations
from gateway.identity.mail.recipients import PER_MAILBOX, PER_REQUESTER
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.identity.test_both_stores import links, outbox, proof, unique


async def test_who_deletes_a_strangers_address_again_and_again_sends_it_no_more_mail(
    database: Database,
) -> None:
    """Where an account is made before its address is confirmed, it is gone as fast."""
    post, email = outbox(database), unique("ann") + "@x.example"
    registrations, accounts = Registrations(database, post, waits=False), Accounts(database)
    sent: set[str] = set()
    for number in range(12):
        await registrations.register(email, f"hash {number}", "one requester")
        while await post.drain():
            pass
        sent |= {one.id for one in await post.waiting_mail(1000) if one.recipient == email}
        account = await accounts.by_email(email)
        assert account is not None
        await accounts.delete(account.id)
    assert 0 < len(sent) <= PER_REQUESTER + 1


async def test_who_deletes_a_strangers_address_again_and_again_sends_it_no_more_resets(
    database: Database,
) -> None:
    """An account that was just made has no link yet: that is no way past the numbers."""
    post, email = outbox(database), unique("ann") + "@x.example"
    registrations, accounts = Registrations(database, post, waits=False), Accounts(database)
    sent: set[str] = set()
    for number in range(PER_MAILBOX + 3):
        account = await accounts.register(email, f"hash {number}")
        assert isinstance(account, Account)
        await registrations.forgot(email, f"requester {number // PER_REQUESTER}")
        await registrations.forgot(email, "one requester")
        while await post.drain():
            pass
        sent |= {one.id for one in await post.waiting_mail(1000) if one.recipient == email}
        await accounts.delete(account.id)
    assert 0 < len(sent) <= PER_MAILBOX


async def test_who_deletes_an_account_again_and_again_moves_none_to_a_mailbox_any_oftener(
    database: Database,
) -> None:
    post, accounts = outbox(database), Accounts(database)
    moves, victim = EmailChanges(database, post), unique("victim") + "@x.example"
    sent: set[str] = set()
    for number in range(PER_MAILBOX + 3):
        mine = await accounts.register(unique(f"u{number}") + "@x.example", "hash", verified=True)
        assert isinstance(mine, Account)
        await moves.request(mine.id, victim, await proof(database, mine))
        while await post.drain():
            pass
        sent |= {one.id for one in await post.waiting_mail(1000) if one.recipient == victim}
        await accounts.delete(mine.id)
    assert 0 < len(sent) <= PER_MAILBOX


async def test_one_account_that_asks_in_vain_keeps_no_owner_from_moving_to_a_mailbox(
    database: Database,
) -> None:
    post, accounts = outbox(database), Accounts(database)
    moves, wanted = EmailChanges(database, post), unique("ann") + "@x.example"

    sent: set[str] = set()

    async def ask(account: Account) -> int:
        await moves.request(account.id, wanted, await proof(database, account))
        while await post.drain():
            pass
        sent.update(one.id for one in await post.waiting_mail(1000) if one.recipient == wanted)
        return len(sent)

    other = await accounts.register(unique("other") + "@x.example", "hash", verified=True)
    ann = await accounts.register(unique("ann-of-old") + "@x.example", "hash", verified=True)
    assert isinstance(other, Account)
    assert isinstance(ann, Account)
    for number in range(1, PER_REQUESTER + 3):
        assert await ask(other) == min(number, PER_REQUESTER)
    assert await ask(ann) == PER_REQUESTER + 1


async def test_of_mail_to_a_deleted_account_that_had_no_address_nothing_is_kept_but_that_it_counts(
    database: Database,
) -> None:
    """Also of what says that the address has an account already."""
    post, email = outbox(database), unique("ann") + "@x.example"
    registrations, accounts = Registrations(database, post, waits=False), Accounts(database)
    for number in range(2):
        await registrations.register(email, f"hash {number}", f"requester {number}")
    await registrations.forgot(email, "a third")
    while await post.drain():
        pass
    account = await accounts.by_email(email)
    assert account is not None
    await accounts.delete(account.id)
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT * FROM outbox WHERE recipient_key = :key", key=email)
    assert len(rows) == 3
    for row in rows:
        told = (row["state"], row["email_key"], row["recipient"], row["password_hash"])
        assert told == ("dropped", "", None, None)


async def test_a_deleted_account_takes_nobody_elses_waiting_link(database: Database) -> None:
    post, name = outbox(database), unique("gro")
    registrations, accounts = Registrations(database, post, waits=False), Accounts(database)
    owner = f"{name}\xdf@x.example"
    await registrations.register(owner, "hash of the owner", "owner")
    (link,) = await links(post, owner)
    stranger = await accounts.register(f"{name}ss@x.example", "hash of a stranger")
    assert isinstance(stranger, Account)
    await accounts.delete(stranger.id)
    assert await links(post, owner) == [link]


@pytest.mark.parametrize(
    ("typed", "is_made"),
    [("Anna@x.example", True), ("\uff41nna@x.example", False), ("gro\xdf@x.example", False)],
)
async def test_no_account_is_made_at_once_of_a_spelling_that_may_be_another_mailbox(
    database: Database, typed: str, is_made: bool
) -> None:
    """Its owner's mail would go there, and nobody but who confirms it knows that it arrives."""
    post, accounts = outbox(database), Accounts(database)
    registrations = Registrations(database, post, waits=False)
    email = typed.replace("@", f"{secrets.token_hex(6)}@")
    await registrations.register(email, "hash", "stranger")
    assert (await accounts.by_email(email) is not None) == is_made
    (link,) = await links(post, email)
    confirmation = await registrations.confirmation(link)
    assert confirmation is not None
    verified = await registrations.verify(link, confirmation)
    assert not isinstance(verified, Reason)
    assert verified[0].email == email
