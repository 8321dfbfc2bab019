"""What a stranger may do with an address that is somebody else's."""

from __future__ import annotations

import secrets

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.registration import Registrations
from gateway.identity.mail.recipients import PER_REQUESTER
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


async def test_who_deletes_an_account_again_and_again_moves_none_to_a_mailbox_any_oftener(
    database: Database,
) -> None:
    post, accounts = outbox(database), Accounts(database)
    moves, victim = EmailChanges(database, post), unique("victim") + "@x.example"
    sent: set[str] = set()
    for number in range(PER_REQUESTER + 3):
        mine = await accounts.register(unique(f"u{number}") + "@x.example", "hash", verified=True)
        assert isinstance(mine, Account)
        await moves.request(mine.id, victim, await proof(database, mine))
        while await post.drain():
            pass
        sent |= {one.id for one in await post.waiting_mail(1000) if one.recipient == victim}
        await accounts.delete(mine.id)
    assert 0 < len(sent) <= PER_REQUESTER


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
