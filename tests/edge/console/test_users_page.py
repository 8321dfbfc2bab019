"""Users in the console: found, shown whole, and acted on as the commands do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.edge.console.person_page import PersonDependencies, PersonPage
from gateway.edge.console.users_page import USERS, UserListDependencies, UsersPage
from gateway.identity.accounts.account_search import AccountSearch
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.invitations import Invitations
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.clients.personal_keys import PersonalKeys
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.factors.totp import TotpFactor
from gateway.identity.keys.encryption import Sealer
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import LinkedAccount, LinkedIdentities
from gateway.identity.sessions.sessions import Sessions, SignInSource, begin
from gateway.model import ChangeKind
from gateway.stores.protocols import Attempt, Database, ReserveResult, StoreUnavailable
from tests.databases import NOON
from tests.edge.console.house import Answered, ConsoleHouse, console_house
from tests.identity.providers.parts import provider

PASSWORD_HASH = "$2b$10$secret-hash"


class Counters:
    """Meets `stores.protocols.Attempts`."""

    def __init__(self) -> None:
        self.cleared: list[str] = []
        self.away = False

    async def reserve(self, attempts: list[Attempt], mark: str) -> ReserveResult:
        raise AssertionError

    async def settle(self, attempts: list[Attempt], mark: str, *, failed: bool) -> None:
        raise AssertionError

    async def give_back(self, attempts: list[Attempt], mark: str) -> None:
        raise AssertionError

    async def clear(self, keys: list[str]) -> None:
        if self.away:
            raise StoreUnavailable("redis", "away")
        self.cleared += keys

    async def keys_under(self, prefix: str) -> list[str]:
        if self.away:
            raise StoreUnavailable("redis", "away")
        return [prefix]


@dataclass
class People:
    house: ConsoleHouse
    database: Database
    counters: Counters
    mailer: MailOutbox
    ada: str
    csrf: str = ""

    async def act(self, do: str, path: str = "", **form: str) -> Answered:
        fields = {"csrf": self.csrf, "do": do, **form}
        return await self.house.post(path or f"{USERS}/{self.ada}", fields)

    async def shown(self, path: str = "") -> str:
        answer = await self.house.ask(path or f"{USERS}/{self.ada}")
        assert answer.status == 200, answer.text
        return answer.text

    @property
    def told(self) -> list[tuple[str, str | None, str | None, object]]:
        """Of the last action."""
        return [
            (event.kind, event.subject, event.actor, event.detail.get("change"))
            for event in self.house.events.all
            if event.kind is not AuditKind.CONSOLE_OPENED
        ]


@pytest.fixture
async def people(sqlite_database: Database) -> AsyncIterator[People]:
    database, counters = sqlite_database, Counters()
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    options = MailOptions("no@x.example", "https://x.example", b"k" * 32)
    mailer = MailOutbox(database, letters, options, None)
    notifications = SecurityNotifications(database, mailer)
    users = UsersPage(
        UserListDependencies(
            search=AccountSearch(database),
            invitations=Invitations(database),
            mailer=mailer,
            rules=RegistrationRules("invited", frozenset({"example.com"})),
            pseudonym=lambda key: f"pseudonym of {key}",
            sends_mail=False,
        )
    )
    person = PersonPage(
        PersonDependencies(
            database=database,
            accounts=Accounts(database),
            sessions=Sessions(database),
            keys=PersonalKeys(database),
            factors=OwnFactors(database, TotpFactor(database, Sealer(b"k" * 32)), notifications),
            links=LinkedIdentities(database, notifications),
            attempts=counters,  # type: ignore[arg-type]
        )
    )
    made = await Accounts(database).register("ada@example.com", PASSWORD_HASH, roles=["viewer"])
    pages = [*users.pages(), *person.pages()]
    async with console_house(*pages) as house:
        yield People(house, database, counters, mailer, made.id, await house.sign_in())  # type: ignore[union-attr]


async def add_session(database: Database, account_id: str, agent: str = "Firefox") -> str:
    async with database.transaction() as tx:
        now = int(await tx.now())
        source = SignInSource(agent, "192.0.2.7")
        return await begin(tx, account_id, source, amr="pwd", at=now, expires_at=now + 900)


async def test_users_are_listed_and_searched(people: People) -> None:
    await Accounts(people.database).register("<b>bob</b>@example.com", None)
    everybody = await people.shown(USERS)
    assert "ada@example.com" in everybody
    assert "&lt;b&gt;bob&lt;/b&gt;@example.com" in everybody
    assert "<b>bob" not in everybody
    assert "ada@example.com" not in await people.shown(f"{USERS}?q=%3Cb")
    assert "No user matches." in await people.shown(f"{USERS}?role=admin&q=%22%3E%3Cscript%3E")
    assert PASSWORD_HASH not in everybody


async def test_a_long_list_has_pages(people: People) -> None:
    accounts = Accounts(people.database)
    for number in range(60):
        await accounts.register(f"u{number:02}@example.com", None, roles=["many"])
    first = await people.shown(f"{USERS}?role=many")
    assert "u49@example.com" in first
    assert "u50@example.com" not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = await people.shown(following[1].replace("&amp;", "&"))
    assert "u49@example.com" not in second
    assert "u59@example.com" in second
    assert "Next page" not in second


async def test_a_person_is_shown_with_all_that_is_theirs_and_no_secret(people: People) -> None:
    session_id = await add_session(people.database, people.ada, "<i>Browser</i>")
    log = AuditLog(people.database, people.house.clock, b"p" * 32, b"c" * 32)
    log.record(AuditEvent(AuditKind.SIGNED_IN, subject=people.ada, detail={"x": "<script>"}))
    log.record(AuditEvent(AuditKind.SIGNED_IN, subject="somebody-else"))
    await log.flush()
    shown = await people.shown()
    assert session_id in shown
    assert "&lt;i&gt;Browser" in shown
    assert "x=&lt;script&gt;" in shown
    assert "somebody-else" not in shown
    assert PASSWORD_HASH not in shown


@pytest.mark.parametrize("account_id", ["nobody", "ada@example.com", "a%20b", "%22"])
async def test_who_is_not_there_is_no_page(people: People, account_id: str) -> None:
    assert (await people.house.ask(f"{USERS}/{account_id}")).status == 404
    assert (await people.act("disable", f"{USERS}/{account_id}")).status == 404
    assert people.told == []


async def test_a_role_is_given_and_taken_as_the_command_does(people: People) -> None:
    answer = await people.act("grant", role=" auditor ")
    assert answer.headers["Location"] == f"{USERS}/{people.ada}?done=grant"
    assert people.told == [("role_changed", people.ada, "local-token", "granted")]
    assert [(one.kind, one.target) for one in people.house.told.changes] == [
        (ChangeKind.SUBJECT, people.ada)
    ]
    assert (await people.act("grant", role="auditor")).status == 422
    wrong = await people.act("grant", role="no such role!")
    assert wrong.status == 422
    assert "no such role!" in wrong.text
    assert (await people.act("revoke", role="auditor")).status == 303
    assert (await people.act("revoke", role="auditor")).status == 422
    account = await Accounts(people.database).by_id(people.ada)
    assert account is not None
    assert account.roles == ("viewer",)


async def test_a_role_that_a_provider_gives_becomes_the_operators_gift(people: People) -> None:
    """It is no longer gone with the next sign-in there, so it is told and stands in the log."""
    trusted = provider("accounts: create\ntrust_email: true")
    email, roles = "eve@example.com", ("auditor",)
    identity = ProviderIdentity(trusted, "eve", email, email_verified=True, roles=roles)
    notifications = SecurityNotifications(people.database, people.mailer)
    found = await LinkedIdentities(people.database, notifications).sign_in(identity)
    assert isinstance(found, LinkedAccount)
    path = f"{USERS}/{found.account.id}"
    assert (await people.act("grant", path, role="auditor")).status == 303
    assert people.told == [("role_changed", found.account.id, "local-token", "granted")]
    assert [one.target for one in people.house.told.changes] == [found.account.id]
    assert await Accounts(people.database).granted_roles(found.account.id) == ["auditor"]
    assert (await people.act("grant", path, role="auditor")).status == 422


async def test_an_account_is_disabled_and_enabled(people: People) -> None:
    session_id = await add_session(people.database, people.ada)
    assert (await people.act("disable")).status == 303
    assert "disabled" in await people.shown()
    session = await Sessions(people.database).get(session_id)
    assert session is not None
    assert session.ended_at is not None
    assert (await people.act("enable")).status == 303
    assert [change for *_, change in people.told] == ["disabled", "enabled"]


async def test_all_sessions_or_one_end(people: People) -> None:
    one, other = [await add_session(people.database, people.ada) for _ in range(2)]
    assert (await people.act("end-session", session=one)).status == 303
    assert [s.id for s in await Sessions(people.database).find_active(people.ada)] == [other]
    assert (await people.act("end-all")).status == 303
    assert await Sessions(people.database).find_active(people.ada) == []
    assert people.told[-1][:1] == ("revoked",)


async def test_a_session_of_somebody_else_does_not_end_here(people: People) -> None:
    other = await Accounts(people.database).register("eve@example.com", None)
    theirs = await add_session(people.database, other.id)  # type: ignore[union-attr]
    assert (await people.act("end-session", session=theirs)).status == 422
    assert (await people.act("end-session", session="\x00")).status == 422
    assert (await people.act("end-key", key="pk-none")).status == 422
    assert len(await Sessions(people.database).find_active(other.id)) == 1  # type: ignore[union-attr]
    assert people.told == []


async def test_factors_are_reset_and_failures_forgotten(people: People) -> None:
    assert (await people.act("reset-factors")).status == 303
    assert (await people.act("unlock")).status == 303
    assert [kind for kind, *_ in people.told] == ["factors_reset", "account_changed"]
    assert people.counters.cleared


async def test_what_is_not_confirmed_says_so(people: People) -> None:
    people.house.told.confirms = False
    answer = await people.act("disable")
    assert answer.headers["Location"].endswith("?done=unconfirmed")
    assert people.told  # it was done
    assert "not yet confirmed by every worker" in await people.shown(answer.headers["Location"])


async def test_an_address_is_invited_by_mail_and_no_link_is_shown(people: People) -> None:
    answer = await people.act("invite", USERS, email="new@example.com", roles="viewer, auditor")
    assert answer.headers["Location"] == f"{USERS}?done=kept"
    [invitation] = await Invitations(people.database).every()
    assert invitation.roles == ("viewer", "auditor")
    [event] = [e for e in people.house.events.all if e.kind is AuditKind.ACCOUNT_CHANGED]
    assert event.detail["asked_for"] == "pseudonym of new@example.com"
    assert "new@example.com" not in json.dumps({**event.detail, "asked_for": ""})


@pytest.mark.parametrize(
    ("email", "roles", "told"),
    [
        ("no address", "", "not an address"),
        ("x@elsewhere.example", "", "GATEWAY_REGISTRATION_DOMAINS"),
        ("ada@example.com", "", "an account with this address already"),
        ("y@example.com", "no!", "a role is 1 to 128"),
    ],
)
async def test_an_invitation_that_nobody_could_use_is_not_sent(
    people: People, email: str, roles: str, told: str
) -> None:
    answer = await people.act("invite", USERS, email=email, roles=roles)
    assert answer.status == 422
    assert told in answer.text
    assert await Invitations(people.database).every() == []


async def test_who_may_only_read_sees_no_form_and_does_nothing(people: People) -> None:
    people.house.cookie = ""
    people.house.somebody.auth_time = NOON
    headers = {"Authorization": "Bearer token-of-user"}
    assert (await people.house.ask(USERS, **headers)).status == 403
    answer = await people.house.ask(
        f"{USERS}/{people.ada}", "POST", form={"do": "disable"}, **headers
    )
    assert answer.status == 403
    assert people.told == []


async def test_a_store_that_is_away_is_a_page_that_says_so(people: People) -> None:
    people.counters.away = True
    answer = await people.act("unlock")
    assert answer.status == 503
    assert people.told == []
