"""The endpoints of `/auth`, put together: each gets the dependencies that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.access.attributes import Attribute
from gateway.access.authorizer import Authenticator
from gateway.access.issuers import Issuer
from gateway.access.routing.csrf import AllowedOrigins
from gateway.access.routing.own_paths import OwnPaths, url_host
from gateway.edge.endpoints.account import AccountDependencies, AccountEndpoints
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import Endpoints, ShieldedTasks
from gateway.edge.endpoints.hand_over import HandOverDependencies, HandOverEndpoints
from gateway.edge.endpoints.issuer_events import IssuerEventDependencies, IssuerEventEndpoints
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.mail_links import MailLinkDependencies, MailLinkEndpoints
from gateway.edge.endpoints.oauth import OAuthDependencies, OAuthEndpoints
from gateway.edge.endpoints.passkey_proofs import PasskeyProofs
from gateway.edge.endpoints.passkey_sign_in import (
    PasskeySignInDependencies,
    PasskeySignInEndpoints,
)
from gateway.edge.endpoints.passkeys import PasskeyDependencies, PasskeyEndpoints
from gateway.edge.endpoints.personal_keys import PersonalKeyDependencies, PersonalKeyEndpoints
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.registration import (
    RegistrationDependencies,
    RegistrationEndpoints,
)
from gateway.edge.endpoints.session_opening import (
    SessionOpener,
    SessionOpenerDependencies,
    Verification,
)
from gateway.edge.endpoints.sessions import SessionDependencies, SessionEndpoints
from gateway.edge.endpoints.sign_in import SignInDependencies, SignInEndpoints
from gateway.edge.endpoints.sign_out_limit import SignOutLimit
from gateway.edge.endpoints.tenants import TenantDependencies, TenantEndpoints
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.invitations import Invitations
from gateway.identity.accounts.passwords import Passwords
from gateway.identity.accounts.registration import Registrations
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_auth import ClientAuthenticator
from gateway.identity.clients.failures import ClientFailures
from gateway.identity.clients.personal_keys import PersonalKeys
from gateway.identity.factors.challenges import PasskeyChallenges
from gateway.identity.factors.passkey_ceremonies import PasskeyCeremonies
from gateway.identity.factors.passkeys import Passkeys
from gateway.identity.factors.relying_party import relying_party
from gateway.identity.issuers.event_tokens import IssuerKeys
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.sessions.hand_over import HandOvers
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.refresh_tokens import RefreshTokens
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.identity.sign_in.throttle import Throttle
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenVerifier
from gateway.model import Call, Clock
from gateway.stores.protocols import Database, Deliveries, RevocationPublisher


@dataclass(frozen=True, slots=True)
class EndpointDependencies:
    """What the endpoints need together; a worker and the tests fill in the same."""

    database: Database
    clock: Clock
    accounts: Accounts
    mailer: MailOutbox
    passwords: Passwords
    refresh_tokens: RefreshTokens
    sessions: Sessions
    throttle: Throttle
    guard: LoginGuard
    issuer: TokenIssuer
    verifier: TokenVerifier
    authenticator: Authenticator
    publisher: RevocationPublisher
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the current snapshot says."""
    shielded: ShieldedTasks
    cookies: CookieSessions
    limits: EndpointLimits
    issuer_name: str
    audience: str
    assertion_audiences: tuple[str, ...]
    """What the assertions of clients may be made out to."""
    verification: Verification
    hand_overs: HandOvers
    passkey_challenges: PasskeyChallenges
    shared_hosts: Callable[[], frozenset[str]]
    """The hosts that share a sign-in, as the current snapshot says."""
    has_sign_in_page: Callable[[str, str], bool]
    """Whether browsers that lack a session for this path of this host are led to the pages."""
    return_targets: ReturnTargets
    public_url: str
    issuers: Callable[[], Mapping[str, Issuer]]
    """Whose reports are taken, as the current snapshot says."""
    attributes: Callable[[], Mapping[str, Attribute]]
    """What accounts may have, as the current snapshot says."""
    issuer_keys: IssuerKeys
    deliveries: Deliveries
    count_report: Callable[[str, str], None]
    """Counts a report of an issuer by its outcome."""
    registration_rules: RegistrationRules = field(default_factory=RegistrationRules)
    own_paths: OwnPaths = field(default_factory=OwnPaths)


def build_endpoints(deps: EndpointDependencies) -> Endpoints:
    """Every endpoint below `/auth` but `/auth/csrf`, which is the CSRF guard's."""
    notifications = SecurityNotifications(deps.database, deps.mailer)
    registrations = Registrations(deps.database, deps.mailer, waits=deps.verification == "required")
    personal_keys = PersonalKeys(deps.database, notifications)
    public_host = url_host(deps.public_url)

    def shares_session(host: str) -> bool:
        return host != public_host and host in deps.shared_hosts()

    def counts_alone(host: str) -> bool:
        return host != public_host and bool(deps.shared_hosts())

    email_changes = EmailChanges(deps.database, deps.mailer)
    opener = SessionOpener(
        SessionOpenerDependencies(
            refresh_tokens=deps.refresh_tokens,
            issuer=deps.issuer,
            cookies=deps.cookies,
            guard=deps.guard,
            notifications=notifications,
            audit=deps.audit,
            verification=deps.verification,
            counts_alone=counts_alone,
            account_wait_s=deps.limits.account_wait_s,
        )
    )
    sign_in = SignInEndpoints(
        SignInDependencies(
            accounts=deps.accounts,
            passwords=deps.passwords,
            opener=opener,
            guard=deps.guard,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            login_path=deps.own_paths.endpoint("login"),
        )
    )
    registration = RegistrationEndpoints(
        RegistrationDependencies(
            accounts=deps.accounts,
            passwords=deps.passwords,
            registrations=registrations,
            invitations=Invitations(deps.database),
            throttle=deps.throttle,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            verification=deps.verification,
            registration_rules=deps.registration_rules,
        )
    )
    sessions = SessionEndpoints(
        SessionDependencies(
            authenticator=deps.authenticator,
            refresh_tokens=deps.refresh_tokens,
            sessions=deps.sessions,
            personal_keys=personal_keys,
            issuer=deps.issuer,
            verifier=deps.verifier,
            publisher=deps.publisher,
            audit=deps.audit,
            shielded=deps.shielded,
            sign_out_limit=SignOutLimit(deps.clock),
            cookies=deps.cookies,
            session_wait_s=deps.limits.session_wait_s,
        )
    )
    key_endpoints = PersonalKeyEndpoints(
        PersonalKeyDependencies(
            counts_alone=counts_alone,
            authenticator=deps.authenticator,
            keys=personal_keys,
            clock=deps.clock,
            limits=deps.limits,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    )
    account = AccountEndpoints(
        AccountDependencies(
            authenticator=deps.authenticator,
            accounts=deps.accounts,
            passwords=deps.passwords,
            throttle=deps.throttle,
            publisher=deps.publisher,
            shielded=deps.shielded,
            notifications=notifications,
            guard=deps.guard,
            email_changes=email_changes,
            audit=deps.audit,
            registration_rules=deps.registration_rules,
        )
    )
    mail_links = MailLinkEndpoints(
        MailLinkDependencies(
            registrations=registrations,
            email_changes=email_changes,
            passwords=deps.passwords,
            throttle=deps.throttle,
            guard=deps.guard,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    )
    tenants = TenantEndpoints(
        TenantDependencies(
            attributes=deps.attributes,
            authenticator=deps.authenticator,
            facts=AccountFacts(deps.database),
            refresh_tokens=deps.refresh_tokens,
            cookies=deps.cookies,
            issuer=deps.issuer,
            session_wait_s=deps.limits.session_wait_s,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    )
    oauth = OAuthEndpoints(
        OAuthDependencies(
            database=deps.database,
            client_authenticator=ClientAuthenticator(
                deps.database, deps.clock, deps.assertion_audiences
            ),
            failures=ClientFailures(deps.throttle, deps.clock),
            api_keys=ApiKeys(deps.database),
            refresh_tokens=deps.refresh_tokens,
            issuer=deps.issuer,
            verifier=deps.verifier,
            authenticator=deps.authenticator,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
            issuer_name=deps.issuer_name,
            audience=deps.audience,
        )
    )
    hand_over = HandOverEndpoints(
        HandOverDependencies(
            hand_overs=deps.hand_overs,
            cookies=deps.cookies,
            authenticator=deps.authenticator,
            shares_session=shares_session,
            session_wait_s=deps.limits.session_wait_s,
            audit=deps.audit,
            shielded=deps.shielded,
            public_url=deps.public_url,
            own_paths=deps.own_paths,
            has_sign_in_page=deps.has_sign_in_page,
            return_targets=deps.return_targets,
        )
    )
    issuer_events = IssuerEventEndpoints(
        IssuerEventDependencies(
            issuers=deps.issuers,
            keys=deps.issuer_keys,
            clock=deps.clock,
            database=deps.database,
            deliveries=deps.deliveries,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
            count=deps.count_report,
        )
    )
    return {
        **registration.endpoints(),
        **sign_in.endpoints(),
        **sessions.endpoints(),
        **account.endpoints(),
        **key_endpoints.endpoints(),
        **tenants.endpoints(),
        **mail_links.endpoints(),
        **oauth.endpoints(),
        **hand_over.endpoints(),
        **issuer_events.endpoints(),
        **deps.guard.endpoints(),
        **_passkey_endpoints(deps, opener, notifications, counts_alone),
    }


def _passkey_endpoints(
    deps: EndpointDependencies,
    opener: SessionOpener,
    notifications: SecurityNotifications,
    counts_alone: Callable[[str], bool],
) -> Endpoints:
    """None where the public URL names an IP address: no browser makes passkeys for one."""
    party = relying_party(deps.public_url)
    if party is None:
        return {}
    passkeys = Passkeys(deps.database, notifications)
    ceremonies = PasskeyCeremonies(party, deps.passkey_challenges, passkeys)
    proofs = PasskeyProofs(ceremonies, deps.database, notifications, deps.audit)
    own = PasskeyEndpoints(
        PasskeyDependencies(
            counts_alone=counts_alone,
            authenticator=deps.authenticator,
            ceremonies=ceremonies,
            passkeys=passkeys,
            clock=deps.clock,
            limits=deps.limits,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    )
    sign_in = PasskeySignInEndpoints(
        PasskeySignInDependencies(
            ceremonies=ceremonies,
            proofs=proofs,
            opener=opener,
            guard=deps.guard,
            throttle=deps.throttle,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            login_path=deps.own_paths.endpoint("login", "passkey"),
        )
    )
    return {**own.endpoints(), **sign_in.endpoints()}
