"""What the endpoints of `/auth` stand on together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.access.attributes import Attribute
from gateway.access.authorizer import Authenticator
from gateway.access.factor_rule import FactorRule
from gateway.access.issuers import Issuer
from gateway.access.routing.csrf import AllowedOrigins
from gateway.access.routing.own_paths import OwnPaths
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import ShieldedTasks
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.provider_parts import ProviderParts
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.session_opening import (
    Verification,
)
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.passwords import Passwords
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.factors.challenges import PasskeyChallenges
from gateway.identity.issuers.event_tokens import IssuerKeys
from gateway.identity.keys.encryption import Sealer
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.sessions.hand_over import HandOvers
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.mfa_tokens import MfaTokens
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
    factor_rule: Callable[[], FactorRule]
    """Whose sign-in needs a second factor, as the current snapshot says."""
    barring_roles: Callable[[], frozenset[str]]
    """Those that their bearer cannot take off, as the current snapshot says."""
    sealer: Sealer
    """Seals the secrets of second factors at rest."""
    mfa_tokens: MfaTokens
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
    providers: ProviderParts
    registration_rules: RegistrationRules = field(default_factory=RegistrationRules)
    own_paths: OwnPaths = field(default_factory=OwnPaths)
