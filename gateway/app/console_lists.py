"""The pages of the console that list what there is and act on it, put together."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.access.resource_servers import resource_paths
from gateway.app.bootstrap import make_key_rotation
from gateway.app.components import Components
from gateway.app.status import WorkerStatus
from gateway.audit.background_check import BackgroundCheck
from gateway.audit.chain import ChainKey
from gateway.edge.console.audit_page import AUDIT, AuditPage, AuditPageDependencies
from gateway.edge.console.clients_page import CLIENTS, ClientPageDependencies, ClientsPage
from gateway.edge.console.issuers_page import ISSUERS, CheckNamed, IssuersPage
from gateway.edge.console.keys_page import KEYS, KeysPage
from gateway.edge.console.load_pages import LIMITS, UPSTREAMS, WORKERS, LoadPages
from gateway.edge.console.mail_page import MAIL, MailPage, MailPageDependencies
from gateway.edge.console.operator_database import OperatorDatabase
from gateway.edge.console.pages import ConsolePage, NavigationEntry
from gateway.edge.console.person_page import PersonDependencies, PersonPage
from gateway.edge.console.sessions_page import SESSIONS, SessionListDependencies, SessionsPage
from gateway.edge.console.users_page import USERS, UserListDependencies, UsersPage
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.accounts.account_search import AccountSearch
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.invitations import Invitations
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_search import ClientSearch
from gateway.identity.clients.clients import Clients
from gateway.identity.clients.personal_keys import PersonalKeys
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.factors.totp import TotpFactor
from gateway.identity.issuers.issuer_checks import CheckedIssuer, IssuerChecks
from gateway.identity.issuers.verifier import IssuerVerifier
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.signing_keys import readable_chain_keys
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.outbox_list import OutboxList
from gateway.identity.providers.linked_identities import LinkedIdentities
from gateway.identity.sessions.session_search import SessionSearch
from gateway.identity.sessions.sessions import Sessions
from gateway.stores.attempts import RedisAttempts

LISTS = (
    NavigationEntry(USERS, "Users"),
    NavigationEntry(SESSIONS, "Sessions"),
    NavigationEntry(CLIENTS, "Clients"),
    NavigationEntry(KEYS, "Signing keys"),
    NavigationEntry(ISSUERS, "Issuers"),
    NavigationEntry(UPSTREAMS, "Upstreams"),
    NavigationEntry(LIMITS, "Limits"),
    NavigationEntry(WORKERS, "Workers"),
    NavigationEntry(MAIL, "Mail"),
    NavigationEntry(AUDIT, "Audit log"),
)


def list_pages(components: Components, status: WorkerStatus) -> Sequence[ConsolePage]:
    """None of them has the store itself: what they write, they write for who is still signed in."""
    database = OperatorDatabase(components.database)
    return [
        *_account_pages(components, database),
        *_credential_pages(components, database),
        *LoadPages(status.brief, status.load).pages(),
        *IssuersPage(status.brief, _issuer_checks(components)).pages(),
        *_mail_pages(components, database),
        *_audit_pages(components, database),
    ]


def _issuer_checks(components: Components) -> CheckNamed:
    clock, max_life_s = components.clock, components.plan.settings.max_token_life_s
    checks = IssuerChecks(SystemResolver().addresses, clock)

    async def check(name: str) -> Sequence[CheckedIssuer]:
        snapshot = components.plan.configuration.snapshot
        paths = resource_paths(snapshot.routes)
        return await checks.check(
            IssuerVerifier(issuer, max_life_s=max_life_s, now=clock.now, resource_paths=paths)
            for issuer in snapshot.issuers.values()
            if name in ("", issuer.name)
        )

    return check


def _account_pages(components: Components, database: OperatorDatabase) -> Sequence[ConsolePage]:
    settings = components.plan.settings
    notifications = SecurityNotifications(database, components.mailer)
    totp = TotpFactor(database, Sealer(components.plan.key_secret()))
    users = UsersPage(
        UserListDependencies(
            search=AccountSearch(database),
            invitations=Invitations(database),
            mailer=components.mailer,
            rules=settings.registration_rules,
            pseudonym=components.audit.pseudonym,
            sends_mail=settings.smtp_url is not None,
        )
    )
    person = PersonPage(
        PersonDependencies(
            database=database,
            accounts=Accounts(database),
            sessions=Sessions(database, idle_s=settings.refresh_idle_s),
            keys=PersonalKeys(database),
            factors=OwnFactors(database, totp, notifications),
            links=LinkedIdentities(
                database,
                notifications,
                providers=lambda: components.plan.configuration.snapshot.providers,
            ),
            attempts=RedisAttempts(components.redis),
        )
    )
    return [*users.pages(), *person.pages()]


def _credential_pages(components: Components, database: OperatorDatabase) -> Sequence[ConsolePage]:
    plan, idle_s = components.plan, components.plan.settings.refresh_idle_s
    rotation = make_key_rotation(
        plan,
        database,
        Sealer(plan.key_secret()),
        components.replica,
        confirmations=components.database,
    )
    sessions = SessionsPage(
        SessionListDependencies(
            SessionSearch(database, idle_s=idle_s),
            Sessions(database, idle_s=idle_s),
            Accounts(database),
        )
    )
    clients = ClientsPage(
        ClientPageDependencies(ClientSearch(database), Clients(database), ApiKeys(database))
    )
    return [*sessions.pages(), *clients.pages(), *KeysPage(rotation).pages()]


def _mail_pages(components: Components, database: OperatorDatabase) -> Sequence[ConsolePage]:
    sends_mail = components.plan.settings.smtp_url is not None
    outbox = OutboxList(database)
    return MailPage(MailPageDependencies(outbox, components.mailer, sends_mail)).pages()


def _audit_pages(components: Components, database: OperatorDatabase) -> Sequence[ConsolePage]:
    async def chain_keys() -> Sequence[ChainKey]:
        """That of now, and those of secrets that were in use before."""
        secret = components.plan.key_secret()
        async with components.database.read_transaction() as tx:
            before = await readable_chain_keys(tx, Sealer(secret))
        return [ChainKey(key) for key in (derived_key(secret, KeyPurpose.AUDIT_CHAIN), *before)]

    check = BackgroundCheck(components.database, components.clock, chain_keys)
    components.tasks.start("audit-check", check.run)
    return AuditPage(
        AuditPageDependencies(database, check, components.audit, components.clock)
    ).pages()
