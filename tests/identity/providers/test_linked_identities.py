"""Whose account somebody gets by a provider, whoever was there before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.access.providers import Provider
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.mail.links import MailToken, Purpose, find_link, store_link, token_text
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.providers.identities import IdentityRefused, ProviderIdentity
from gateway.identity.providers.linked_identities import (
    LinkedAccount,
    LinkedIdentities,
    LinkRefusal,
    Unlinked,
)
from gateway.identity.providers.provider_sessions import ProviderSessions, end_sessions_of
from gateway.identity.providers.round_trips import LinkRequest
from gateway.identity.sessions.sessions import SignInSource, end_one
from gateway.identity.sign_in.refresh_tokens import (
    RefreshOptions,
    RefreshTokens,
    SessionGrant,
)
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.databases import fresh_database
from tests.identity.providers.parts import provider

URL = "https://gate.example"
SOURCE = SignInSource("browser", "192.0.2.1")
CREATES = "accounts: create\ntrust_email: true"


@dataclass
class Town:
    database: Database
    accounts: Accounts
    identities: LinkedIdentities
    tokens: RefreshTokens
    sessions: ProviderSessions

    async def add(self, email: str, *, verified: bool) -> Account:
        account = await self.accounts.register(email, "hash", verified=verified)
        assert isinstance(account, Account)
        return account

    async def session(self, account: Account) -> str:
        grant = await self.tokens.begin(account.id, SOURCE, checked_hash=account.password_hash)
        assert isinstance(grant, SessionGrant)
        return grant.session_id

    async def mails(self) -> list[str]:
        async with self.database.read_transaction() as tx:
            rows = await tx.all("SELECT template FROM outbox ORDER BY created_at, id")
        return [str(row["template"]) for row in rows]

    async def live(self) -> set[str]:
        async with self.database.read_transaction() as tx:
            rows = await tx.all("SELECT id FROM families WHERE ended_at IS NULL")
        return {str(row["id"]) for row in rows}


def _notifications(database: Database) -> SecurityNotifications:
    templates = MailTemplates.load([], site="gate.example", public_url=URL)
    outbox = MailOutbox(database, templates, MailOptions("no@x.example", URL, b"m" * 32), None)
    return SecurityNotifications(database, outbox)


async def now_of(town: Town) -> int:
    async with town.database.read_transaction() as tx:
        return int(await tx.now())


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with fresh_database(tmp_path) as database:
        yield Town(
            database,
            Accounts(database),
            LinkedIdentities(database, _notifications(database)),
            RefreshTokens(database, RefreshOptions()),
            ProviderSessions(database, b"i" * 32),
        )


def somebody(
    subject: str = "alice",
    email: str | None = "ada@example.com",
    *,
    verified: bool = True,
    of: Provider | None = None,
    roles: tuple[str, ...] = (),
) -> ProviderIdentity:
    return ProviderIdentity(
        of or provider(CREATES), subject, email, email_verified=verified, roles=roles
    )


async def test_an_account_is_made_where_the_configuration_lets_it_be(town: Town) -> None:
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    assert (found.is_new, found.account.email_verified) == (True, True)
    assert found.account.password_hash is None
    again = await town.identities.sign_in(somebody(email="moved@elsewhere.example"))
    assert isinstance(again, LinkedAccount)
    assert (again.account.id, again.is_new) == (found.account.id, False)
    assert again.account.email == "ada@example.com"
    none = await town.identities.sign_in(somebody("bob", "bob@example.com", of=provider()))
    assert none is LinkRefusal.NOT_LINKED


async def test_without_a_verified_address_there_is_none(town: Town) -> None:
    for identity in (somebody(verified=False), somebody(email=None)):
        assert await town.identities.sign_in(identity) is LinkRefusal.EMAIL_UNVERIFIED
    assert await town.accounts.by_email("ada@example.com") is None


async def test_two_tabs_that_come_back_at_once_make_one_account(town: Town) -> None:
    found = await asyncio.gather(*(town.identities.sign_in(somebody()) for _ in range(10)))
    assert all(isinstance(one, LinkedAccount) for one in found)
    assert len({one.account.id for one in found if isinstance(one, LinkedAccount)}) == 1
    assert sum(one.is_new for one in found if isinstance(one, LinkedAccount)) == 1


async def test_a_verified_address_links_where_the_provider_is_trusted_for_it(town: Town) -> None:
    account = await town.add("ada@example.com", verified=True)
    found = await town.identities.sign_in(somebody(of=provider("trust_email: true")))
    assert isinstance(found, LinkedAccount)
    assert (found.account.id, found.was_linked) == (account.id, True)
    assert await town.mails() == ["provider_linked"]


@pytest.mark.parametrize("verified", [True, False])
async def test_who_is_not_trusted_for_addresses_is_not_told_which_have_an_account(
    town: Town, verified: bool
) -> None:
    """There anybody may say of any address that it is theirs."""
    await town.add("ada@example.com", verified=True)
    await town.add("eve@example.com", verified=False)
    for email in ("ada@example.com", "eve@example.com", "nobody@example.com", None):
        said = somebody(email=email, verified=verified, of=provider())
        assert await town.identities.sign_in(said) is LinkRefusal.NOT_LINKED
    assert await town.mails() == []


@pytest.mark.parametrize(
    ("held", "given"),
    [("gross@example.com", "gro\u00df@example.com"), ("finn@example.com", "\ufb01nn@example.com")],
)
async def test_an_address_that_is_spelled_alike_links_nobody(
    town: Town, held: str, given: str
) -> None:
    """One name of an account is two mailboxes at the provider, which may be two people's."""
    await town.add(held, verified=True)
    trusted = provider("trust_email: true")
    refused = await town.identities.sign_in(somebody(email=given, of=trusted))
    assert refused is LinkRefusal.ADDRESS_TAKEN
    found = await town.identities.sign_in(somebody("other", held.title(), of=trusted))
    assert isinstance(found, LinkedAccount)


async def test_an_account_that_nobody_has_verified_is_not_linked_by_its_address(town: Town) -> None:
    """Who registered an address of somebody else has set its password."""
    await town.add("ada@example.com", verified=False)
    assert await town.identities.sign_in(somebody()) is LinkRefusal.ADDRESS_TAKEN
    assert await town.mails() == []


async def test_an_account_that_nobody_has_verified_links_nobody(town: Town) -> None:
    """Its real owner may come later, by a mailed link, and would share it with the stranger."""
    account = await town.add("victim@example.com", verified=False)
    request = LinkRequest(account.id, await town.session(account))
    stranger = somebody("stranger", "stranger@evil.example")
    refused = await town.identities.link(stranger, request)
    assert refused is LinkRefusal.OWN_ADDRESS_UNVERIFIED
    assert await town.identities.of_account(account.id) == []


async def test_an_owner_links_in_a_live_session_and_no_two_of_one_provider(town: Town) -> None:
    account = await town.add("ada@work.example", verified=True)
    session_id = await town.session(account)
    unverified = somebody("alice", "whoever@elsewhere.example", verified=False)
    found = await town.identities.link(unverified, LinkRequest(account.id, session_id))
    assert isinstance(found, LinkedAccount)
    assert await town.mails() == ["provider_linked"]
    other = somebody("bob", None)
    refused = await town.identities.link(other, LinkRequest(account.id, session_id))
    assert refused is LinkRefusal.LINKED_ALREADY
    ended = LinkRequest(account.id, "another-session")
    assert await town.identities.link(other, ended) is LinkRefusal.SESSION_ENDED
    second = await town.add("bob@work.example", verified=True)
    theirs = LinkRequest(second.id, await town.session(second))
    assert await town.identities.link(unverified, theirs) is LinkRefusal.LINKED_ELSEWHERE


async def test_a_disabled_account_stays_out(town: Town) -> None:
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    await town.accounts.disable(found.account.id)
    assert await town.identities.sign_in(somebody()) is LinkRefusal.ACCOUNT_DISABLED


async def test_two_issuers_that_call_somebody_alike_mean_two(town: Town) -> None:
    one = provider(CREATES)
    elsewhere = replace(one, issuer=replace(one.issuer, issuer="https://other.example"))
    first = await town.identities.sign_in(somebody())
    second = await town.identities.sign_in(
        somebody("alice", "other@example.com", of=replace(elsewhere, name="other"))
    )
    assert isinstance(first, LinkedAccount)
    assert isinstance(second, LinkedAccount)
    assert first.account.id != second.account.id


async def test_what_was_unlinked_is_not_linked_again_by_its_address(town: Town) -> None:
    account = await town.add("ada@example.com", verified=True)
    await town.identities.sign_in(somebody())
    session_id = await town.session(account)
    ended = await town.identities.unlink(account.id, "idp", session_id=session_id)
    assert ended == Unlinked("idp", [])
    assert await town.identities.sign_in(somebody()) is LinkRefusal.ADDRESS_TAKEN
    linked = await town.identities.link(somebody(), LinkRequest(account.id, session_id))
    assert isinstance(linked, LinkedAccount)
    assert (await town.mails()).count("provider_unlinked") == 1


async def test_a_move_that_was_asked_for_ends_with_the_link(town: Town) -> None:
    """Whoever signed in by it may have asked for it, and reads the mailbox that it goes to."""
    account = await town.add("ada@example.com", verified=True)
    await town.identities.sign_in(somebody())
    session_id = await town.session(account)
    text = token_text(b"k" * 32, "mail")
    async with town.database.transaction() as tx:
        link = MailToken(account.id, Purpose.EMAIL_CHANGE, "ada@example.com", "e@x.example", 2**40)
        await store_link(tx, text, "mail", link)
    assert isinstance(
        await town.identities.unlink(account.id, "idp", session_id=session_id), Unlinked
    )
    async with town.database.read_transaction() as tx:
        assert await find_link(tx, text, Purpose.EMAIL_CHANGE) is None


async def test_a_role_that_keeps_its_bearer_away_is_not_taken_off_with_the_link(town: Town) -> None:
    account = await town.add("ada@example.com", verified=True)
    await town.identities.sign_in(somebody(roles=("suspended", "staff")))
    session_id = await town.session(account)
    barring = frozenset(("suspended",))
    letters = _notifications(town.database)
    identities = LinkedIdentities(town.database, letters, barring_roles=lambda: barring)
    refused = await identities.unlink(account.id, "idp", session_id=session_id)
    assert refused is LinkRefusal.BARRED
    after = await town.accounts.by_id(account.id)
    assert after is not None
    assert after.roles == ("staff", "suspended")
    assert len(await identities.of_account(account.id)) == 1
    assert "provider_unlinked" not in await town.mails()


async def test_who_has_such_a_role_parts_from_no_provider(town: Town) -> None:
    """By one that did not give it they would come back, too, once their address has moved."""
    account = await town.add("ada@example.com", verified=True)
    await town.identities.sign_in(somebody())
    await town.accounts.grant(account.id, "suspended")
    session_id = await town.session(account)
    barring = frozenset(("suspended",))
    identities = LinkedIdentities(
        town.database, _notifications(town.database), barring_roles=lambda: barring
    )
    assert await identities.unlink(account.id, "idp", session_id=session_id) is LinkRefusal.BARRED
    await town.accounts.revoke(account.id, "suspended")
    session_id = await town.session(account)
    assert isinstance(await identities.unlink(account.id, "idp", session_id=session_id), Unlinked)


async def test_an_operator_takes_off_whatever_a_link_gave(town: Town) -> None:
    account = await town.add("ada@example.com", verified=True)
    await town.identities.sign_in(somebody(roles=("suspended",)))
    letters = _notifications(town.database)
    barring = frozenset(("suspended",))
    identities = LinkedIdentities(town.database, letters, barring_roles=lambda: barring)
    ended = await identities.unlink(account.id, "idp", session_id=None, may_be_last=True)
    assert isinstance(ended, Unlinked)


async def test_the_last_way_in_stays(town: Town) -> None:
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    begun = await town.tokens.begin(found.account.id, SOURCE, without_password=True)
    assert isinstance(begun, SessionGrant)
    refused = await town.identities.unlink(found.account.id, "idp", session_id=begun.session_id)
    assert refused is LinkRefusal.LAST_WAY_IN
    assert await town.identities.unlink(found.account.id, "no", session_id="s") is None


async def test_what_a_provider_gives_is_kept_apart_from_what_operators_grant(town: Town) -> None:
    found = await town.identities.sign_in(somebody(roles=("a", "b")))
    assert isinstance(found, LinkedAccount)
    account_id = found.account.id
    for role in ("b", "c"):
        assert len(await town.accounts.grant(account_id, role)) == 1
        assert await town.accounts.grant(account_id, role) == []
    assert await town.accounts.revoke(account_id, "a") == []
    found = await town.identities.sign_in(somebody(roles=("a",)))
    assert isinstance(found, LinkedAccount)
    assert (found.account.roles, list(found.changes)) == (("a", "b", "c"), [])
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    assert found.account.roles == ("b", "c")
    assert [change.cause for change in found.changes] == [Reason.TOKEN_OUTDATED]
    assert dict(await town.accounts.role_counts()) == {"b": 1, "c": 1}


async def test_more_roles_than_a_token_holds_let_nobody_in(town: Town) -> None:
    many = tuple(f"role-{number:04}" for number in range(500))
    with pytest.raises(IdentityRefused):
        await town.identities.sign_in(somebody(roles=many))
    assert await town.accounts.by_email("ada@example.com") is None


async def test_a_session_ends_with_the_one_at_the_provider(town: Town) -> None:
    here = replace(somebody(), session_id="there-1", id_token="an.id.token")
    found = await town.identities.sign_in(here)
    assert isinstance(found, LinkedAccount)
    begun = {}
    for name in ("there-1", "there-2"):
        origin = town.sessions.origin(replace(here, session_id=name), found.identity_id)
        grant = await town.tokens.begin(
            found.account.id, SOURCE, without_password=True, amr=("fed",), origin=origin
        )
        assert isinstance(grant, SessionGrant)
        begun[name] = grant.session_id
    kept = await town.sessions.of_session(begun["there-1"])
    assert kept is not None
    assert (kept.issuer, kept.id_token) == (here.provider.issuer.issuer, "an.id.token")
    issuer = here.provider.issuer.issuer
    async with town.database.transaction() as tx:
        assert await end_sessions_of(tx, "https://other.example", "x", subject="alice") == []
        assert await end_sessions_of(tx, issuer, "x") == []
        wrong = await end_sessions_of(tx, issuer, "x", subject="bob", provider_session="there-1")
        assert wrong == []
        ended = await end_sessions_of(tx, issuer, "x", provider_session="there-1")
    assert [change.target for change in ended] == [begun["there-1"]]
    assert await town.live() == {begun["there-2"]}
    async with town.database.transaction() as tx:
        await end_sessions_of(tx, issuer, "x", subject="alice")
    assert await town.live() == set()


async def test_no_session_begins_by_a_link_that_has_gone(town: Town) -> None:
    account = await town.add("ada@example.com", verified=True)
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    origin = town.sessions.origin(somebody(), found.identity_id)
    session_id = await town.session(account)
    ended = await town.identities.unlink(account.id, "idp", session_id=session_id)
    assert ended == Unlinked("idp", [])
    grant = await town.tokens.begin(
        account.id, SOURCE, without_password=True, amr=("fed",), origin=origin
    )
    assert grant is Reason.INVALID_CREDENTIALS


async def test_no_session_begins_that_its_provider_has_ended_meanwhile(town: Town) -> None:
    """Whoever is at the question for a second factor when the provider takes them away."""
    found = await town.identities.sign_in(somebody(roles=("staff",)))
    assert isinstance(found, LinkedAccount)
    here = replace(somebody(), session_id="there")
    origin = town.sessions.origin(here, found.identity_id)
    async with town.database.transaction() as tx:
        issuer = here.provider.issuer.issuer
        await end_sessions_of(tx, issuer, "x", subject="alice")
    grant = await town.tokens.begin(
        found.account.id, SOURCE, without_password=True, amr=("fed", "otp", "mfa"), origin=origin
    )
    assert grant is Reason.INVALID_CREDENTIALS
    # The next sign-in there counts, and what it gave is there.
    again = await town.identities.sign_in(somebody(roles=("staff",)))
    assert isinstance(again, LinkedAccount)
    assert (again.account.roles, list(again.changes)) == (("staff",), [])
    origin = town.sessions.origin(here, again.identity_id)
    grant = await town.tokens.begin(
        found.account.id, SOURCE, without_password=True, amr=("fed",), origin=origin
    )
    assert isinstance(grant, SessionGrant)


async def test_no_number_of_sessions_that_are_over_hides_a_live_one(town: Town) -> None:
    """Whoever expects to be taken away signs in hundreds of times before."""
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    here = replace(somebody(), session_id="there")
    origin = town.sessions.origin(here, found.identity_id)
    for number in range(300):
        grant = await town.tokens.begin(
            found.account.id, SOURCE, without_password=True, amr=("fed",), origin=origin
        )
        assert isinstance(grant, SessionGrant)
        if number < 250:
            async with town.database.transaction() as tx:
                await end_one(tx, grant.session_id, "sign-out")
    assert len(await town.live()) == 50
    async with town.database.transaction() as tx:
        await end_sessions_of(tx, here.provider.issuer.issuer, "x", subject="alice")
    assert await town.live() == set()


async def test_a_session_is_as_old_as_the_one_there(town: Town) -> None:
    found = await town.identities.sign_in(somebody())
    assert isinstance(found, LinkedAccount)
    origin = replace(town.sessions.origin(somebody(), found.identity_id), auth_time=1_000)
    grant = await town.tokens.begin(
        found.account.id, SOURCE, without_password=True, amr=("fed",), origin=origin
    )
    assert isinstance(grant, SessionGrant)
    assert grant.auth_time == 1_000
    async with town.database.read_transaction() as tx:
        row = await tx.one("SELECT auth_time FROM families WHERE id = :id", id=grant.session_id)
    assert row is not None
    assert row["auth_time"] == 1_000


async def test_the_owner_takes_the_links_away_and_deletion_erases_them(town: Town) -> None:
    found = await town.identities.sign_in(somebody(roles=("a",)))
    assert isinstance(found, LinkedAccount)
    told = await town.accounts.export(found.account.id)
    assert told is not None
    [link] = told["linked_identities"]
    assert (link["provider"], link["subject"], link["roles"]) == ("idp", "alice", ["a"])
    await town.accounts.delete(found.account.id)
    async with town.database.read_transaction() as tx:
        for table in ("linked_identities", "linked_roles", "provider_sessions"):
            assert await tx.all(f"SELECT * FROM {table}") == []


async def attributes_of(town: Town, account_id: str) -> dict[str, object]:
    account = await town.accounts.by_id(account_id)
    assert account is not None
    return dict(account.attributes)


async def test_a_provider_sets_attributes_and_takes_its_own_away(town: Town) -> None:
    said = replace(somebody(), attributes={"department": "sales", "teams": ["a"]})
    first = await town.identities.sign_in(said)
    assert isinstance(first, LinkedAccount)
    account_id = first.account.id
    facts = AccountFacts(town.database)
    await facts.put_attributes(account_id, {"clearance": 3})
    assert await attributes_of(town, account_id) == {
        "department": "sales", "teams": ["a"], "clearance": 3,
    }  # fmt: skip
    # The same once more outdates nothing; another value does, and is in the session that begins.
    again = await town.identities.sign_in(said)
    assert isinstance(again, LinkedAccount)
    assert again.changes == []
    moved = replace(said, attributes={"department": "support", "teams": None, "clearance": None})
    third = await town.identities.sign_in(moved)
    assert isinstance(third, LinkedAccount)
    assert [change.cause for change in third.changes] == [Reason.TOKEN_OUTDATED]
    assert third.account.attributes == {"department": "support", "clearance": 3}
    await town.identities.unlink(account_id, "idp", session_id=None, may_be_last=True)
    assert await attributes_of(town, account_id) == {"clearance": 3}


async def test_who_comes_by_two_providers_that_differ_gets_no_token_of_a_time_to_come(
    town: Town,
) -> None:
    """Each says something else of the person, so each sign-in changes the account again."""
    one = await town.identities.sign_in(somebody())
    assert isinstance(one, LinkedAccount)
    cookie_hash, account_id = "c" * 43, one.account.id
    begun = await town.tokens.begin(
        account_id, SOURCE, without_password=True, cookie_hash=cookie_hash
    )
    assert isinstance(begun, SessionGrant)
    found: list[object] = []
    for number in range(20):
        role = f"role-{number % 2}"
        found.append(await town.identities.sign_in(somebody(roles=(role,))))
        renewed = await town.tokens.renew(begun.session_id)
        assert renewed is not None
        assert renewed.issued_at - await now_of(town) <= 5
    assert found[-1] is LinkRefusal.TOO_SOON


async def test_a_session_that_has_ended_takes_no_link_away(town: Town) -> None:
    account = await town.add("ada@example.com", verified=True)
    session_id = await town.session(account)
    linked = await town.identities.link(somebody(), LinkRequest(account.id, session_id))
    assert isinstance(linked, LinkedAccount)
    async with town.database.transaction() as tx:
        await end_one(tx, session_id, "logout")
    for holder in (session_id, None):
        ended = await town.identities.unlink(account.id, "idp", session_id=holder)
        assert ended is LinkRefusal.SESSION_ENDED
    assert await town.identities.of_account(account.id)


async def test_more_than_an_account_can_hold_is_refused_whole(town: Town) -> None:
    said = replace(somebody(), attributes={f"a{n}": "x" * 256 for n in range(10)})
    with pytest.raises(IdentityRefused, match="too long"):
        await town.identities.sign_in(said)
    assert await town.accounts.by_email("ada@example.com") is None
