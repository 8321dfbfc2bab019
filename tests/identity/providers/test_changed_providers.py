"""What becomes of links, and of what providers gave, once the configuration calls others by their
names, or them by others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.access.providers import Provider
from gateway.identity.accounts.account_facts import AccountFacts, put_attributes
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import (
    LinkedAccount,
    LinkedIdentities,
    LinkRefusal,
    Unlinked,
)
from gateway.identity.providers.provider_sessions import ProviderSessions
from gateway.identity.providers.round_trips import LinkRequest
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.identity.letters import SettledOutbox
from tests.identity.providers.parts import provider

OLD, NEW = "https://old.example", "https://new.example"
GONE = "https://gone.example"
URL = "https://gate.example"
SOURCE = SignInSource("browser", "192.0.2.1")
EMAIL = "ada@example.com"


def named(name: str, issuer: str) -> Provider:
    made = provider("accounts: create\ntrust_email: true")
    return replace(
        made,
        name=name,
        label=name,
        issuer=replace(made.issuer, name=name, issuer=issuer),
    )


@dataclass
class Town:
    database: Database
    configured: dict[str, Provider] = field(default_factory=dict)

    def __post_init__(self) -> None:
        templates = MailTemplates.load([], site="gate.example", public_url=URL)
        options = MailOptions("no@x.example", URL, b"m" * 32)
        self.outbox = SettledOutbox(self.database, templates, options, None)
        self.accounts, self.facts = Accounts(self.database), AccountFacts(self.database)
        self.tokens = RefreshTokens(self.database, RefreshOptions())
        self.sessions = ProviderSessions(self.database, b"i" * 32)
        self.links = LinkedIdentities(
            self.database,
            SecurityNotifications(self.database, self.outbox),
            providers=lambda: self.configured,
        )

    def configure(self, *providers: Provider) -> None:
        self.configured = {one.name: one for one in providers}

    async def comes(
        self,
        name: str,
        *,
        roles: tuple[str, ...] = (),
        attributes: dict[str, Any] | None = None,
        subject: str = "ada",
    ) -> LinkedAccount:
        identity = ProviderIdentity(
            self.configured[name],
            subject,
            EMAIL,
            email_verified=True,
            roles=roles,
            attributes=attributes or {},
        )
        found = await self.links.sign_in(identity)
        assert isinstance(found, LinkedAccount), found
        return found

    async def session(self, found: LinkedAccount, name: str) -> str:
        identity = ProviderIdentity(self.configured[name], "ada")
        origin = self.sessions.origin(identity, found.identity_id)
        grant = await self.tokens.begin(
            found.account.id, SOURCE, without_password=True, amr=("fed",), origin=origin
        )
        assert isinstance(grant, SessionGrant)
        return grant.session_id

    async def live(self) -> set[str]:
        async with self.database.read_transaction() as tx:
            rows = await tx.all("SELECT id FROM families WHERE ended_at IS NULL")
        return {str(row["id"]) for row in rows}

    async def account(self) -> Account:
        account = await self.accounts.by_email(EMAIL)
        assert account is not None
        return account

    async def told(self) -> dict[str, object]:
        return dict((await self.account()).attributes)

    async def unlinks(self, name: str) -> str:
        """As an operator does; what went."""
        account = await self.account()
        ended = await self.links.unlink(account.id, name, session_id=None, may_be_last=True)
        assert isinstance(ended, Unlinked)
        return ended.providers

    async def issuers(self) -> list[str]:
        account = await self.account()
        return sorted(link.issuer for link in await self.links.of_account(account.id))


@pytest.fixture
def town(database: Database) -> Town:
    return Town(database)


async def moved(town: Town, **before: Any) -> LinkedAccount:
    """Ada, who came by `corp` before its block named another issuer."""
    town.configure(named("corp", OLD))
    found = await town.comes("corp", **before)
    town.configure(named("corp", NEW))
    return found


# --- another issuer under the same name


async def test_who_unlinks_a_provider_unlinks_what_had_its_name_before(town: Town) -> None:
    """The owner sees one name: what is left under it would be a way in, and a source of roles,
    for whoever has the old issuer."""
    town.configure(named("corp", OLD))
    first = await town.comes("corp", attributes={"department": "sales"})
    old_session = await town.session(first, "corp")
    town.configure(named("corp", NEW))
    await town.comes("corp", roles=("staff",))
    new_session = await town.session(await town.comes("corp", roles=("staff",)), "corp")
    assert await town.live() == {old_session, new_session}
    account = await town.account()
    ended = await town.links.unlink(account.id, "corp", session_id=None, may_be_last=True)
    assert isinstance(ended, Unlinked)
    assert {old_session, new_session} <= {change.target for change in ended.changes}
    assert set(ended.providers.split(", ")) == {OLD, "corp"}
    assert (await town.issuers(), await town.live()) == ([], set())
    assert (await town.account()).roles == ()
    assert await town.told() == {}
    # Neither is linked by its address again.
    for issuer in (OLD, NEW):
        again = ProviderIdentity(named("corp", issuer), "ada", EMAIL, email_verified=True)
        assert await town.links.sign_in(again) is LinkRefusal.ADDRESS_TAKEN


async def test_what_the_old_issuer_gave_ends_with_a_sign_in_by_the_new_one(town: Town) -> None:
    await moved(town, roles=("boss", "staff"), attributes={"clearance": 9, "department": "sales"})
    found = await town.comes("corp", roles=("staff",), attributes={"department": "sales"})
    assert found.account.roles == ("staff",)
    assert {change.cause for change in found.changes} == {Reason.TOKEN_OUTDATED}
    assert await town.told() == {"department": "sales"}
    again = await town.comes("corp", roles=("staff",), attributes={"department": "sales"})
    assert again.changes == []
    # The link is seen, and goes with the name.
    assert await town.issuers() == [NEW, OLD]


async def test_who_links_the_new_issuer_loses_what_the_old_one_gave(town: Town) -> None:
    await moved(town, roles=("boss",))
    account = await town.account()
    grant = await town.tokens.begin(account.id, SOURCE, without_password=True)
    assert isinstance(grant, SessionGrant)
    identity = ProviderIdentity(town.configured["corp"], "ada", None)
    linked = await town.links.link(identity, LinkRequest(account.id, grant.session_id))
    assert isinstance(linked, LinkedAccount)
    assert (linked.account.roles, len(linked.changes)) == ((), 1)


async def test_a_provider_that_has_another_name_now_keeps_what_it_gave(town: Town) -> None:
    """`corp` is a new one, and the old one goes on under another name."""
    town.configure(named("corp", OLD))
    await town.comes("corp", roles=("boss",), attributes={"clearance": 9})
    town.configure(named("corp", NEW), named("corp-old", OLD))
    found = await town.comes("corp", roles=("staff",), attributes={"department": "sales"})
    assert found.account.roles == ("boss", "staff")
    assert await town.told() == {"clearance": 9, "department": "sales"}
    account = found.account
    linked = await town.links.of_account(account.id)
    assert {link.issuer: link.provider for link in linked} == {OLD: "corp-old", NEW: "corp"}
    await town.unlinks("corp")
    assert await town.issuers() == [OLD]
    assert (await town.account()).roles == ("boss",)
    assert await town.told() == {"clearance": 9}


async def test_two_that_change_names_take_nothing_of_each_other(town: Town) -> None:
    town.configure(named("a", OLD), named("b", NEW))
    await town.comes("a", roles=("x",), attributes={"clearance": 9})
    await town.comes("b", roles=("y",), attributes={"department": "sales"})
    town.configure(named("b", OLD), named("a", NEW))
    for _ in range(2):
        assert (await town.comes("b", roles=("x",), attributes={"clearance": 9})).changes == []
        same = await town.comes("a", roles=("y",), attributes={"department": "sales"})
        assert same.changes == []
    await town.unlinks("b")
    assert (await town.issuers(), (await town.account()).roles) == ([NEW], ("y",))


@pytest.mark.parametrize("is_configured", [False, True])
async def test_a_link_that_nobody_can_sign_in_by_is_no_way_in(
    town: Town, is_configured: bool
) -> None:
    """Else the owner of an account takes their last way in away and is not told."""
    found = await moved(town)
    town.configure(
        *((named("before", OLD),) if is_configured else ()), named("corp", NEW), named("b", URL)
    )
    await town.comes("b")
    session = await town.session(await town.comes("b"), "b")
    ended = await town.links.unlink(found.account.id, "b", session_id=session)
    assert (ended is LinkRefusal.LAST_WAY_IN) is not is_configured
    assert OLD in await town.issuers()


# --- another name of the same issuer


async def test_what_a_provider_gave_is_its_own_under_another_name(town: Town) -> None:
    town.configure(named("corp", OLD))
    await town.comes("corp", attributes={"clearance": 9, "department": "sales"})
    town.configure(named("company", OLD))
    assert [link.provider for link in await town.links.of_account((await town.account()).id)] == [
        "company"
    ]
    await town.comes("company", attributes={"department": "support"})
    assert await town.told() == {"department": "support"}
    await town.unlinks("company")
    assert (await town.told(), await town.issuers()) == ({}, [])


async def kept_by_name(town: Town, name: str, **values: Any) -> None:
    """As earlier versions kept whose a value is."""
    account = await town.account()
    async with town.database.transaction() as tx:
        await put_attributes(tx, account.id, values, f"provider {name}")


@pytest.mark.parametrize("name", ["corp", "company", "long-gone"])
async def test_what_was_kept_by_name_is_not_lost_to_its_provider(town: Town, name: str) -> None:
    """Whatever it was called when it gave it."""
    town.configure(named("corp", OLD))
    await town.comes("corp")
    await kept_by_name(town, name, clearance=9, department="sales")
    await town.facts.put_attributes((await town.account()).id, {"note": "x"})
    town.configure(named("company", OLD))
    await town.comes("company", attributes={"department": "sales"})
    assert await town.told() == {"department": "sales", "note": "x"}
    owners = {
        one.name: one.set_by for one in await town.facts.attributes((await town.account()).id)
    }
    assert owners == {"department": f"provider {OLD}", "note": "operator"}


async def test_what_was_kept_by_name_goes_with_the_link(town: Town) -> None:
    town.configure(named("corp", OLD))
    await town.comes("corp")
    await kept_by_name(town, "corp", clearance=9)
    await kept_by_name(town, "before", department="sales")
    town.configure(named("company", OLD))
    await town.unlinks("company")
    assert await town.told() == {}


async def test_what_was_kept_by_name_is_not_taken_by_another_provider(town: Town) -> None:
    town.configure(named("corp", OLD), named("b", NEW))
    await town.comes("corp")
    await kept_by_name(town, "corp", clearance=9)
    await town.comes("b", attributes={"department": "sales"})
    assert await town.told() == {"clearance": 9, "department": "sales"}


# --- what the block does not name any more


async def test_what_a_provider_is_not_asked_for_any_more_is_taken_away(town: Town) -> None:
    town.configure(named("corp", OLD))
    await town.comes("corp", attributes={"department": "sales", "clearance": 9})
    await town.facts.put_attributes((await town.account()).id, {"note": "x"})
    found = await town.comes("corp", attributes={"department": "sales"})
    assert await town.told() == {"department": "sales", "note": "x"}
    assert len(found.changes) == 1
    await town.comes("corp")
    assert await town.told() == {"note": "x"}


async def test_the_names_of_a_link_are_those_of_the_configuration(town: Town) -> None:
    found = await moved(town)
    account_id = found.account.id
    for configured, name in (
        ((named("corp", NEW),), OLD),
        ((named("corp", NEW), named("before", OLD)), "before"),
        ((), "corp"),
    ):
        town.configure(*configured)
        [link] = await town.links.of_account(account_id)
        assert (link.provider, link.issuer) == (name, OLD)
    town.configure(named("before", OLD))
    # A page that was drawn before the change names what it was called then.
    assert await town.unlinks("corp") == "before"
    assert await town.issuers() == []


# --- which link goes


async def test_who_unlinks_a_name_that_has_gone_keeps_what_had_it_and_goes_on(town: Town) -> None:
    """Their way in went with a link that nobody can sign in by."""
    town.configure(named("corp", GONE))
    await town.comes("corp")
    town.configure(named("corp", OLD))
    await town.comes("corp", roles=("staff",))
    town.configure(named("company", OLD))
    session = await town.session(await town.comes("company", roles=("staff",)), "company")
    # As both were, where nobody has signed in since the last change.
    async with town.database.transaction() as tx:
        await tx.run("UPDATE linked_identities SET provider = 'corp'")
    account = await town.account()
    ended = await town.links.unlink(account.id, "corp", session_id=session)
    assert isinstance(ended, Unlinked)
    assert (ended.providers, await town.issuers()) == ("corp", [OLD])
    assert (await town.account()).roles == ("staff",)


async def test_an_issuer_that_has_gone_is_unlinked_alone(town: Town) -> None:
    await moved(town, attributes={"department": "sales"})
    await town.comes("corp", roles=("staff",), attributes={"clearance": 9})
    assert await town.unlinks(OLD) == OLD
    await town.outbox.drain()
    told = [mail.content.text for mail in await town.outbox.waiting_mail()]
    assert len([text for text in told if "https old. example" in text]) == 1
    assert await town.issuers() == [NEW]
    assert ((await town.account()).roles, await town.told()) == (("staff",), {"clearance": 9})


# --- whose it is that was kept by a name which is another's now


async def test_what_was_kept_by_a_name_stays_its_providers_whoever_has_the_name(
    town: Town,
) -> None:
    town.configure(named("corp", OLD))
    await town.comes("corp")
    await kept_by_name(town, "corp", clearance=9)
    town.configure(named("corp", NEW), named("corp-old", OLD))
    for _ in range(3):
        await town.comes("corp", attributes={"department": "sales"})
        assert await town.told() == {"clearance": 9, "department": "sales"}
    await town.unlinks("corp")
    assert await town.told() == {"clearance": 9}
    await town.comes("corp-old")
    assert await town.told() == {}


async def test_of_two_that_change_names_each_keeps_what_was_kept_by_its_own(town: Town) -> None:
    town.configure(named("a", OLD), named("b", NEW))
    await town.comes("a")
    await town.comes("b")
    await kept_by_name(town, "a", clearance=9)
    await kept_by_name(town, "b", department="sales")
    town.configure(named("b", OLD), named("a", NEW))
    for _ in range(3):
        await town.comes("b", attributes={"clearance": 9})
        assert await town.told() == {"clearance": 9, "department": "sales"}
    await town.comes("a", attributes={"department": "sales"})
    await town.unlinks("b")
    assert await town.told() == {"department": "sales"}


async def test_who_unlinks_one_of_two_that_changed_names_keeps_what_the_other_gave(
    town: Town,
) -> None:
    town.configure(named("a", OLD), named("b", NEW))
    await town.comes("a")
    await town.comes("b")
    await kept_by_name(town, "a", clearance=9)
    await kept_by_name(town, "b", department="sales")
    town.configure(named("b", OLD), named("a", NEW))
    await town.unlinks("b")
    assert await town.told() == {"department": "sales"}


async def test_what_was_kept_by_an_older_name_is_not_taken_by_another_provider(
    town: Town,
) -> None:
    """Earlier versions kept the name by which the same value was said first."""
    town.configure(named("b", OLD), named("c", NEW), named("d", GONE))
    await town.comes("b")
    await kept_by_name(town, "a", clearance=9, department="sales")
    # What it says itself is its own, and goes with it.
    await town.comes("c", attributes={"department": "sales"})
    await town.comes("d")
    assert await town.told() == {"clearance": 9, "department": "sales"}
    await town.unlinks("d")
    assert await town.told() == {"clearance": 9, "department": "sales"}
    await town.unlinks("c")
    assert await town.told() == {"clearance": 9}
    await town.comes("b")
    assert await town.told() == {}


async def test_what_nobody_else_can_have_given_goes_with_the_last_that_can_be_used(
    town: Town,
) -> None:
    town.configure(named("b", OLD), named("c", NEW))
    await town.comes("b")
    await town.comes("c")
    await kept_by_name(town, "a", clearance=9)
    town.configure(named("c", NEW))
    await town.unlinks("c")
    assert (await town.told(), await town.issuers()) == ({}, [OLD])


async def test_what_the_old_issuer_gave_ends_though_another_provider_is_linked(
    town: Town,
) -> None:
    town.configure(named("corp", OLD), named("c", URL))
    await town.comes("corp", attributes={"clearance": 9})
    await town.comes("c")
    await kept_by_name(town, "corp", department="sales")
    town.configure(named("corp", NEW), named("c", URL))
    await town.comes("corp")
    assert await town.told() == {}
