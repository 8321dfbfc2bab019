"""`/auth`, put together: everything that signs people in stands on these parts.

A worker that cannot reach SQL yet has no cost of a hash and no keys; its desk is closed, and
says so, until it can be opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.app.settings import Settings
from gateway.audit.log import AuditLog
from gateway.config.watcher import ConfigWatcher
from gateway.edge.endpoints.account import OwnAccount, OwnAccountParts
from gateway.edge.endpoints.audit_events import Bounded
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.csrf import Intents
from gateway.edge.endpoints.endpoint import Unbroken
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.mail_links import MailLinkParts, MailLinks
from gateway.edge.endpoints.oauth import OAuthApi, OAuthParts
from gateway.edge.endpoints.rate_limits import OwnLimits
from gateway.edge.endpoints.router import AuthApi
from gateway.edge.endpoints.sign_in import SignIn, SignInParts
from gateway.edge.endpoints.well_known import WellKnown, WellKnownOptions
from gateway.edge.replies.problems import problem
from gateway.edge.server.web_request import REQUEST_ID
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.email_change import AddressChanges
from gateway.identity.accounts.passwords import PasswordOptions, Passwords, settled_rounds
from gateway.identity.accounts.registration import Enrolments
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_auth import ClientAuthenticator
from gateway.identity.clients.failures import ClientFailures
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.mail.notifications import Notices
from gateway.identity.mail.outbox import Postman
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions, UsedOnce
from gateway.identity.sign_in.devices import Devices
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.identity.sign_in.session_cookies import Csrf
from gateway.identity.sign_in.throttle import Throttle
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenVerifier
from gateway.identity.tokens.authenticator import Identification
from gateway.model import Call, Clock, Reason
from gateway.revocation.replica import Replica
from gateway.stores.attempts import RedisAttempts
from gateway.stores.nonces import RedisOneTime
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore
from gateway.telemetry.metrics import Tally


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
    identification: Identification
    cookies: CookieSessions
    csrf: Csrf
    mailer: Postman
    audit: AuditLog
    configuration: ConfigWatcher
    meter: Callable[[str, str, int, float], None]
    """`metrics.Metrics.record_endpoint`."""
    defects: Tally
    limits: OwnLimits
    key_secret: bytes = field(repr=False)


class LazyAuthApi:
    """`/auth` while the installation is not open yet, and then the endpoints themselves."""

    def __init__(self, meter: Callable[[str, str, int, float], None]) -> None:
        """`meter` is `metrics.Metrics.record_endpoint`: it counts what is refused before."""
        self._meter = meter
        self.opened = asyncio.Event()
        self._api: AuthApi | None = None
        self._passwords: Passwords | None = None

    def open(self, parts: tuple[AuthApi, Passwords]) -> None:
        self._api, self._passwords = parts
        self.opened.set()

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if self._api is None:
            refused = problem(
                Reason.STORE_UNAVAILABLE,
                request_id=request.get(REQUEST_ID) or "",
                retry_after_s=1,
                https=call.scheme == "https",
            )
            self._meter("", Reason.STORE_UNAVAILABLE, refused.status, 0.0)
            return refused
        return await self._api.answer(request, call)

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
    https = settings.public_url.startswith("https:")
    pepper = settings.password_pepper
    passwords = await Passwords.open(
        PasswordOptions(
            pepper=pepper.get_secret_value().encode() if pepper is not None else None,
            min_length=settings.password_min_length,
        ),
        await settled_rounds(database, settings.bcrypt_rounds),
    )
    accounts = Accounts(database)
    sessions = Sessions(database, idle_s=settings.refresh_idle_s)
    throttle = Throttle(RedisAttempts(parts.redis), parts.clock, lambda: parts.replica.live_workers)
    unbroken = Unbroken()
    audit = Bounded(parts.audit, parts.clock)
    enrolments = Enrolments(database, parts.mailer, waits=settings.email_verification == "required")
    notices = Notices(database, parts.mailer)
    own = OwnOrigins(settings.public_url)

    def origins(call: Call) -> AllowedOrigins:
        return parts.configuration.snapshot.auth_origins(own, call.host)

    address_changes = AddressChanges(database, parts.mailer)

    refresh_tokens = RefreshTokens(
        database, RefreshOptions(life_s=settings.refresh_ttl_s, idle_s=settings.refresh_idle_s)
    )
    issuer = TokenIssuer(
        parts.ring,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        ttl_s=settings.access_ttl_s,
    )
    guard = LoginGuard(
        throttle,
        Captcha(
            CaptchaOptions(derived_key(parts.key_secret, KeyPurpose.CAPTCHA)),
            UsedOnce(RedisOneTime(parts.redis), parts.clock),
            parts.clock,
        ),
        Devices(derived_key(parts.key_secret, KeyPurpose.DEVICE)),
        accounts,
        parts.clock,
    )
    sign_in = SignIn(
        SignInParts(
            accounts=accounts,
            passwords=passwords,
            refresh_tokens=refresh_tokens,
            sessions=sessions,
            throttle=throttle,
            issuer=issuer,
            verifier=parts.verifier,
            publisher=parts.replica,
            guard=guard,
            notices=notices,
            audit=audit,
            origins=origins,
            unbroken=unbroken,
            verification=settings.email_verification,
            enrolment=enrolments,
            cookies=parts.cookies,
            session_wait_s=parts.limits.session_wait_s,
        )
    )
    intents = Intents(parts.csrf, origins, parts.identification)
    mail_links = MailLinks(
        MailLinkParts(
            enrolments=enrolments,
            address_changes=address_changes,
            passwords=passwords,
            throttle=throttle,
            guard=guard,
            publisher=parts.replica,
            unbroken=unbroken,
            audit=audit,
        )
    )
    own_account = OwnAccount(
        OwnAccountParts(
            identifier=parts.identification,
            accounts=accounts,
            passwords=passwords,
            sessions=sessions,
            throttle=throttle,
            publisher=parts.replica,
            unbroken=unbroken,
            notices=notices,
            guard=guard,
            address_changes=address_changes,
            audit=audit,
        )
    )
    oauth = OAuthApi(
        OAuthParts(
            database=database,
            authenticator=ClientAuthenticator(
                database,
                parts.clock,
                [
                    settings.token_issuer,
                    *(f"{settings.public_url}/auth/{e}" for e in ("token", "introspect", "revoke")),
                ],
            ),
            failures=ClientFailures(throttle, parts.clock),
            api_keys=ApiKeys(database),
            refresh_tokens=refresh_tokens,
            issuer=issuer,
            verifier=parts.verifier,
            identifier=parts.identification,
            publisher=parts.replica,
            unbroken=unbroken,
            audit=audit,
            issuer_name=settings.token_issuer,
            audience=settings.token_audience,
        )
    )
    well_known = WellKnown(
        parts.ring,
        WellKnownOptions(
            public_url=settings.public_url, issuer=settings.token_issuer, client_credentials=True
        ),
    )
    endpoints = {
        **sign_in.endpoints(),
        **own_account.endpoints(),
        **mail_links.endpoints(),
        **oauth.endpoints(),
        **guard.endpoints(),
    }
    api = AuthApi(
        endpoints,
        well_known,
        unbroken,
        https=https,
        intents=intents,
        meter=parts.meter,
        defects=parts.defects,
        limits=parts.limits,
    )
    return api, passwords
