"""`/auth`, put together: everything that signs people in stands on these parts.

A worker that cannot reach SQL yet has no cost of a hash and no keys; its desk is closed, and
says so, until it can be opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.app.settings import Settings
from gateway.audit.log import AuditLog
from gateway.config.watcher import ConfigWatcher
from gateway.edge.endpoints.assembly import build_endpoints
from gateway.edge.endpoints.audit_events import BoundedAuditSink
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.csrf import CsrfGuard
from gateway.edge.endpoints.dependencies import EndpointDependencies
from gateway.edge.endpoints.endpoint import ProblemReply, ShieldedTasks
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.provider_parts import ProviderParts
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.resource_metadata import ResourceMetadata
from gateway.edge.endpoints.router import AuthApi
from gateway.edge.endpoints.well_known import WellKnown, WellKnownOptions
from gateway.edge.pages.assembly import PagesOptions, build_pages
from gateway.edge.pages.overrides import PageOverrides
from gateway.edge.pages.refusals import RefusalPage
from gateway.edge.replies.problems import OUTCOME, problem
from gateway.edge.server.endpoint_calls import REQUEST_ID
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.hashing_threads import HashingThreads
from gateway.identity.accounts.known_passwords import KnownPasswords
from gateway.identity.accounts.passwords import PasswordOptions, Passwords, calibrated_rounds
from gateway.identity.factors.challenges import PasskeyChallenges
from gateway.identity.issuers.event_tokens import IssuerKeys
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.key_sets import ProviderKeySets
from gateway.identity.providers.provider_sessions import ProviderSessions
from gateway.identity.providers.round_trips import RoundTrips
from gateway.identity.sessions.hand_over import HandOvers
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions, FallbackNonceStore
from gateway.identity.sign_in.devices import Devices
from gateway.identity.sign_in.mfa_tokens import MfaTokens
from gateway.identity.sign_in.refresh_tokens import RefreshTokens
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.identity.sign_in.session_cookies import Csrf
from gateway.identity.sign_in.throttle import Throttle
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenVerifier
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Call, Clock, Reason
from gateway.rate_limit.limiter import RateLimiter
from gateway.revocation.replica import Replica
from gateway.stores.attempts import RedisAttempts
from gateway.stores.deliveries import RedisDeliveries
from gateway.stores.moments import RedisMoments
from gateway.stores.nonces import RedisNonceStore
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore
from gateway.telemetry.metrics import Metrics, Tally


@dataclass(frozen=True, slots=True)
class AuthDependencies:
    """What the worker has, and the endpoints stand on."""

    settings: Settings
    database: Database
    redis: RedisStore
    clock: Clock
    replica: Replica
    ring: KeyRing
    verifier: TokenVerifier
    authenticator: RequestAuthenticator
    refresh_tokens: RefreshTokens
    cookies: CookieSessions
    csrf: Csrf
    mailer: MailOutbox
    audit: AuditLog
    configuration: ConfigWatcher
    meter: Callable[[str, str, int, float], None]
    """`metrics.Metrics.record_endpoint`."""
    defects: Tally
    limits: RateLimiter
    metrics: Metrics
    issuer_keys: IssuerKeys
    return_targets: ReturnTargets
    provider_client: ProviderClient
    provider_keys: ProviderKeySets
    known_passwords: KnownPasswords
    page_overrides: PageOverrides
    hashing: type[HashingThreads]
    key_secret: bytes = field(repr=False)


class LazyAuthApi:
    """`/auth` while the installation is not open yet, and then the endpoints themselves."""

    def __init__(
        self, meter: Callable[[str, str, int, float], None], refusal_page: RefusalPage
    ) -> None:
        """`meter` is `metrics.Metrics.record_endpoint`: it counts what is refused before.
        `refusal_page` is for people who come before."""
        self._meter = meter
        self._refusal_page = refusal_page
        self.opened = asyncio.Event()
        self._api: AuthApi | None = None
        self._passwords: Passwords | None = None

    def open(self, parts: tuple[AuthApi, Passwords]) -> None:
        self._api, self._passwords = parts
        self.opened.set()

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if self._api is None:
            refused = self._refuse(call, request.get(REQUEST_ID) or "")
            self._meter("", Reason.STORE_UNAVAILABLE, refused.status, 0.0)
            return refused
        return await self._api.answer(request, call)

    def refusal_page(
        self, call: Call, reason: str, request_id: str, retry_after_s: float
    ) -> tuple[Mapping[str, str], bytes] | None:
        if self._api is None:
            return None
        return self._api.refusal_page(call, reason, request_id, retry_after_s)

    def _refuse(self, call: Call, request_id: str) -> web.Response:
        """By a page below `ui/`, where a browser asks for one."""
        https = call.scheme == "https"
        told = ProblemReply(Reason.STORE_UNAVAILABLE, retry_after_s=1)
        refused = problem(told.reason, request_id=request_id, retry_after_s=1, https=https)
        page = self._refusal_page.refusal(call, told, request_id)
        if page is None:
            return refused
        fields = {**refused.headers, "Content-Type": page.media_type, **page.headers}
        shown = web.Response(status=page.status, headers=fields, body=page.document)
        shown[OUTCOME] = refused[OUTCOME]
        return shown

    def passwords(self) -> Passwords:
        assert self._passwords is not None
        return self._passwords

    def hashing(self) -> int:
        return self._passwords.under_way if self._passwords is not None else 0

    async def close(self) -> None:
        if self._api is not None:
            await self._api.close()
        if self._passwords is not None:
            self._passwords.close()


async def build_auth_api(parts: AuthDependencies) -> tuple[AuthApi, Passwords]:
    """Every endpoint of `/auth`.  Raises StoreUnavailable."""
    settings, database = parts.settings, parts.database
    pepper = settings.password_pepper
    passwords = Passwords(
        PasswordOptions(
            pepper=pepper.get_secret_value().encode() if pepper is not None else None,
            min_length=settings.password_min_length,
            is_known=parts.known_passwords.hold,
            pool=parts.hashing,
        ),
        await calibrated_rounds(database, settings.bcrypt_rounds),
    )
    accounts = Accounts(database)
    throttle = Throttle(RedisAttempts(parts.redis), parts.clock, lambda: parts.replica.live_workers)
    shielded = ShieldedTasks()
    own_origins = OwnOrigins(settings.public_url)

    def origins(call: Call) -> AllowedOrigins:
        return parts.configuration.snapshot.auth_origins(own_origins, call.host)

    captcha = Captcha(
        CaptchaOptions(derived_key(parts.key_secret, KeyPurpose.CAPTCHA)),
        FallbackNonceStore(RedisNonceStore(parts.redis), parts.clock),
        parts.clock,
    )
    devices = Devices(derived_key(parts.key_secret, KeyPurpose.DEVICE))
    own_paths = settings.own_paths
    oauth_paths = ("token", "introspect", "revoke")
    guard = LoginGuard(throttle, captcha, devices, accounts, parts.clock)
    limits = EndpointLimits(parts.limits, guard.some_device)
    dependencies = EndpointDependencies(
        database=database,
        clock=parts.clock,
        accounts=accounts,
        mailer=parts.mailer,
        passwords=passwords,
        refresh_tokens=parts.refresh_tokens,
        sessions=Sessions(database, idle_s=settings.refresh_idle_s),
        throttle=throttle,
        guard=guard,
        issuer=TokenIssuer(
            parts.ring,
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            ttl_s=settings.access_ttl_s,
        ),
        verifier=parts.verifier,
        authenticator=parts.authenticator,
        publisher=parts.replica,
        audit=BoundedAuditSink(parts.audit, parts.clock),
        origins=origins,
        shielded=shielded,
        cookies=parts.cookies,
        limits=limits,
        issuer_name=settings.token_issuer,
        audience=settings.token_audience,
        assertion_audiences=(
            settings.token_issuer,
            *(settings.public_url + own_paths.endpoint(path) for path in oauth_paths),
        ),
        verification=settings.email_verification,
        hand_overs=HandOvers(
            derived_key(parts.key_secret, KeyPurpose.HAND_OVER),
            RedisNonceStore(parts.redis),
            parts.clock,
        ),
        passkey_challenges=PasskeyChallenges(
            derived_key(parts.key_secret, KeyPurpose.PASSKEY_CHALLENGE),
            RedisNonceStore(parts.redis),
            parts.clock,
        ),
        factor_rule=lambda: parts.configuration.snapshot.factor_rule,
        barring_roles=lambda: parts.configuration.snapshot.barring_roles,
        sealer=Sealer(parts.key_secret),
        mfa_tokens=MfaTokens(
            derived_key(parts.key_secret, KeyPurpose.MFA),
            FallbackNonceStore(RedisNonceStore(parts.redis), parts.clock),
            parts.clock,
        ),
        shared_hosts=lambda: parts.configuration.snapshot.shared_hosts,
        has_sign_in_page=lambda host, path: parts.configuration.snapshot.has_sign_in_page(
            host, path
        ),
        return_targets=parts.return_targets,
        public_url=settings.public_url,
        attributes=lambda: parts.configuration.snapshot.attributes,
        issuers=lambda: parts.configuration.snapshot.issuers,
        issuer_keys=parts.issuer_keys,
        deliveries=RedisDeliveries(parts.redis),
        count_report=parts.metrics.by_issuer(
            "issuer_reports", "What issuers told of ends, by outcome."
        ),
        providers=ProviderParts(
            providers=lambda: parts.configuration.snapshot.providers,
            client=parts.provider_client,
            keys=parts.provider_keys,
            trips=RoundTrips(
                derived_key(parts.key_secret, KeyPurpose.PROVIDER),
                RedisNonceStore(parts.redis),
                parts.clock,
            ),
            sessions=ProviderSessions(database, derived_key(parts.key_secret, KeyPurpose.ID_TOKEN)),
            ended_sessions=EndedSessions(RedisNonceStore(parts.redis), RedisMoments(parts.redis)),
            count_sign_in=parts.metrics.by_provider(
                "provider_sign_ins", "What came of sign-ins by a provider, by outcome."
            ),
            count_report=parts.metrics.by_provider(
                "provider_reports", "What providers told of ends, by outcome."
            ),
        ),
        registration_rules=settings.registration_rules,
        own_paths=own_paths,
    )
    well_known = WellKnown(
        parts.ring,
        WellKnownOptions(
            public_url=settings.public_url,
            issuer=settings.token_issuer,
            client_credentials=True,
            own_paths=own_paths,
        ),
        ResourceMetadata(lambda: parts.configuration.snapshot, own_origins),
    )
    endpoints = build_endpoints(dependencies)
    pages = build_pages(
        pages_options(settings, parts.page_overrides),
        endpoints,
        origins,
        limits,
        parts.return_targets,
    )
    api = AuthApi(
        {**endpoints, **pages.endpoints},
        well_known,
        shielded,
        https=settings.public_url.startswith("https:"),
        csrf_guard=CsrfGuard(parts.csrf, origins, parts.authenticator, own_paths),
        limits=limits,
        meter=parts.meter,
        defects=parts.defects,
        own_paths=own_paths,
        pages=pages.refusal_page,
    )
    return api, passwords


def pages_options(settings: Settings, overrides: PageOverrides) -> PagesOptions:
    return PagesOptions(
        settings.public_url,
        registration_rules=settings.registration_rules,
        password_min_length=settings.password_min_length,
        own_paths=settings.own_paths,
        overrides=overrides,
    )
