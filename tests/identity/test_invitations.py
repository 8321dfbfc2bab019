"""Invitations, on SQLite and on PostgreSQL: for one address, once, with roles."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.invitations import Invitations, InvitationTerms, NewInvitation
from gateway.identity.accounts.registration import Registrations
from gateway.identity.mail.outbox import MailOutbox, OutboxMail
from gateway.identity.opaque_tokens import hash_token
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.identity.test_both_stores import outbox, unique

TERMS = InvitationTerms(
    roles=("user", "buyer"), life_s=3600, by_mail=True, verified=False, invited_by="root"
)


@pytest.fixture
def email() -> str:
    return unique("Ann") + "@x.example"


async def invited(database: Database, email: str, terms: InvitationTerms = TERMS) -> NewInvitation:
    made = await Invitations(database).invite(email, terms)
    assert isinstance(made, NewInvitation)
    return made


async def mailed_token(post: MailOutbox, email: str) -> str:
    """The token of the newest letter to the address."""
    while await post.drain():
        pass
    letters = [m.content.text for m in await post.waiting_mail(1000) if m.recipient == email]
    (token,) = re.findall(r"/register#token=(\S+)", letters[0])
    return str(token)


async def letters_to(post: MailOutbox, email: str) -> list[str]:
    while await post.drain():
        pass
    return [m.content.subject for m in await post.waiting_mail(1000) if m.recipient == email]


async def test_the_mailed_token_makes_a_confirmed_account_with_the_roles(
    database: Database, email: str
) -> None:
    post = outbox(database)
    made = await invited(database, email)
    token = await mailed_token(post, email)
    assert token != made.token
    opened = await Invitations(database).find(token, email.lower())
    assert opened is not None
    assert opened.verifies
    account = await Invitations(database).register(token, email, "hash", "ip")
    assert isinstance(account, Account)
    stored = await Accounts(database).by_email(email)
    assert stored is not None
    assert (stored.email_verified, stored.roles) == (True, ("buyer", "user"))
    assert await letters_to(post, email) == []


async def test_the_printed_token_leaves_the_address_to_be_confirmed(
    database: Database, email: str
) -> None:
    post = outbox(database)
    made = await invited(database, email, replace(TERMS, by_mail=False))
    assert await letters_to(post, email) == []
    account = await Invitations(database).register(made.token, email, "hash", "ip")
    assert isinstance(account, Account)
    assert not account.email_verified
    assert ["Confirm" in subject for subject in await letters_to(post, email)] == [True]
    link = re.findall(r"#token=(\S+)", (await post.waiting_mail(1000))[0].content.text)[0]
    registrations = Registrations(database, post)
    confirmation = await registrations.confirmation(link)
    assert confirmation is not None
    assert not isinstance(await registrations.verify(link, confirmation), Reason)
    after = await Accounts(database).by_email(email)
    assert after is not None
    assert (after.email_verified, after.roles) == (True, ("buyer", "user"))


@pytest.mark.parametrize("by_mail", [True, False])
async def test_another_spelling_of_the_address_is_to_be_confirmed(
    database: Database, email: str, by_mail: bool
) -> None:
    """One name of an account may be two mailboxes: nobody was mailed at the other, nor vouched
    for it."""
    post = outbox(database)
    invited_as, typed = f"gross{email}", f"gro\u00df{email}"
    made = await invited(database, invited_as, replace(TERMS, by_mail=by_mail, verified=True))
    token = await mailed_token(post, invited_as) if by_mail else made.token
    account = await Invitations(database).register(token, typed, "hash", "ip")
    assert isinstance(account, Account)
    assert (account.email, account.email_verified) == (typed, False)
    assert ["Confirm" in subject for subject in await letters_to(post, typed)] == [True]


async def test_an_operator_may_vouch_for_the_address(database: Database, email: str) -> None:
    made = await invited(database, email, replace(TERMS, by_mail=False, verified=True))
    account = await Invitations(database).register(made.token, email, "hash", "ip")
    assert isinstance(account, Account)
    assert account.email_verified
    assert await letters_to(outbox(database), email) == []


async def test_of_ten_who_come_at_once_one_has_the_account(database: Database, email: str) -> None:
    post = outbox(database)
    made = await invited(database, email)
    tokens = [made.token, await mailed_token(post, email)] * 5
    results = await asyncio.gather(
        *(
            Invitations(database).register(token, email, f"hash-{number}", None)
            for number, token in enumerate(tokens)
        )
    )
    assert sum(isinstance(result, Account) for result in results) == 1
    refused = {result for result in results if not isinstance(result, Account)}
    assert refused <= {Reason.INVALID_TOKEN, Reason.EMAIL_TAKEN}
    assert await Invitations(database).find(made.token, email) is None


async def test_it_is_for_its_own_address_alone(database: Database, email: str) -> None:
    made = await invited(database, email)
    other = unique("mallory") + "@x.example"
    for wrong in (other, email.replace("x.example", "x.example.net"), "x" + email):
        assert await Invitations(database).find(made.token, wrong) is None
        result = await Invitations(database).register(made.token, wrong, "hash", None)
        assert result is Reason.INVALID_TOKEN
        assert await Accounts(database).by_email(wrong) is None
    assert await Invitations(database).find(made.token, email.upper()) is not None


async def test_a_newer_one_and_a_revocation_end_both_tokens(database: Database, email: str) -> None:
    post = outbox(database)
    older = await invited(database, email)
    mailed = await mailed_token(post, email)
    newer = await invited(database, email)
    for token in (older.token, mailed):
        assert await Invitations(database).find(token, email) is None
    assert [one.id for one in await Invitations(database).every() if one.email == email] == [
        newer.invitation.id
    ]
    assert await Invitations(database).revoke(email.lower())
    assert not await Invitations(database).revoke(email)
    assert await Invitations(database).find(newer.token, email) is None
    # What was not sent yet is not sent any more: nobody gets a link that is good no more.
    assert await letters_to(post, email) == []


async def test_an_address_with_an_account_is_not_invited(database: Database, email: str) -> None:
    made = await invited(database, email)
    await Accounts(database).register(email, "hash")
    assert await Invitations(database).invite(email, TERMS) is Reason.EMAIL_TAKEN
    result = await Invitations(database).register(made.token, email, "other", None)
    assert result is Reason.EMAIL_TAKEN
    account = await Accounts(database).by_email(email)
    assert account is not None
    assert account.password_hash == "hash"


async def test_it_ends_with_its_life_and_is_deleted(database: Database, email: str) -> None:
    made = await invited(database, email, replace(TERMS, life_s=0))
    assert await Invitations(database).find(made.token, email) is None
    result = await Invitations(database).register(made.token, email, "hash", None)
    assert result is Reason.INVALID_TOKEN
    assert email not in [one.email for one in await Invitations(database).every()]
    assert await letters_to(outbox(database), email) == []
    await outbox(database).purge()
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT id FROM invitations WHERE email = :email", email=email)
    assert rows == []


async def test_no_token_rests_in_sql(database: Database, email: str) -> None:
    made = await invited(database, email)
    mailed = await mailed_token(outbox(database), email)
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT * FROM invitations WHERE email = :email", email=email)
        letters = await tx.all("SELECT * FROM outbox WHERE recipient = :email", email=email)
    assert row is not None
    assert (row["hash"], row["mailed_hash"]) == (hash_token(made.token), hash_token(mailed))
    for token in (made.token, mailed):
        assert token not in str([row, *letters])


async def test_a_pending_registration_of_the_address_ends(database: Database, email: str) -> None:
    post = outbox(database)
    registrations = Registrations(database, post)
    await registrations.register(email, "of a stranger", "ip")
    (link,) = re.findall(
        r"#token=(\S+)", next(m for m in await _written(post) if m.recipient == email).content.text
    )
    made = await invited(database, email)
    assert isinstance(await Invitations(database).register(made.token, email, "own", None), Account)
    assert await registrations.confirmation(link) is None


async def _written(post: MailOutbox) -> list[OutboxMail]:
    while await post.drain():
        pass
    return list(await post.waiting_mail(1000))


async def test_wrong_roles_are_refused(database: Database, email: str) -> None:
    with pytest.raises(ValueError, match="role"):
        await Invitations(database).invite(email, replace(TERMS, roles=("no role",)))


@pytest.mark.parametrize("proven", [True, False])
async def test_it_ends_with_an_account_that_has_proven_the_address_alone(
    database: Database, email: str, proven: bool
) -> None:
    """Else a stranger who registers the address, and deletes that account, takes it away."""
    post, accounts = outbox(database), Accounts(database)
    await invited(database, email)
    stranger = await accounts.register(email, "hash", verified=proven)
    assert isinstance(stranger, Account)
    await accounts.delete(stranger.id)
    left = [one for one in await Invitations(database).every() if one.email == email]
    assert len(left) == len(await letters_to(post, email)) == (not proven)
