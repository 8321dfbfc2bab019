"""The built-in endpoints behind a real listener, over a real SQL store, wired as a worker wires
them (`edge.endpoints.assembly`).

The announcer and the clock are fakes, at their Protocols, so that a test can say when a worker
does not confirm and what time it is; so is Redis where a test does not bring its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import altcha

from gateway.access.attributes import Attribute, AttributeType, SetBy, TenantRules
from gateway.access.definitions import Cors
from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.access.issuers import Issuer
from gateway.access.providers import Provider as SignInProvider
from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.route_table import RouteTable
from gateway.access.snapshot import Snapshot
from gateway.edge.endpoints.assembly import build_endpoints
from gateway.edge.endpoints.cookie_sessions import CookieDependencies, CookieSessions
from gateway.edge.endpoints.csrf import CsrfGuard
from gateway.edge.endpoints.dependencies import EndpointDependencies
from gateway.edge.endpoints.endpoint import ShieldedTasks
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.provider_parts import ProviderParts
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.resource_metadata import ResourceMetadata
from gateway.edge.endpoints.router import AuthApi
from gateway.edge.endpoints.session_opening import Verification
from gateway.edge.endpoints.well_known import WellKnown, WellKnownOptions
from gateway.edge.pages.assembly import PagesOptions, build_pages
from gateway.edge.pages.overrides import PageOverrides
from gateway.edge.proxy.handler import Proxy
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.cookies import RedisCalls, SessionStorage
from gateway.edge.server.listener import Listener
from gateway.edge.upstream.clusters import Clusters
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.passwords import PasswordOptions, Passwords
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.clients.key_authenticator import ApiKeyAuthenticator
from gateway.identity.clients.key_terms import KeyTerms
from gateway.identity.factors.challenges import PasskeyChallenges
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.providers.asking import ProviderServers
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.key_sets import ProviderKeySets
from gateway.identity.providers.provider_sessions import ProviderSessions
from gateway.identity.providers.round_trips import RoundTrips
from gateway.identity.sessions.hand_over import HandOvers
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions
from gateway.identity.sign_in.devices import Devices
from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.identity.sign_in.mfa_tokens import MfaTokens
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.identity.sign_in.session_cookies import CookieMint, Csrf
from gateway.identity.sign_in.throttle import Throttle
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenVerifier
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Clock, CredentialKind
from gateway.rate_limit.limiter import RateLimiter
from gateway.stores.protocols import (
    Database,
)
from tests.databases import Hands, fresh_database
from tests.edge.house_parts import (
    Fragile,
    MemoryDeliveries,
    MemoryRedis,
    NoDocuments,
    Recorded,
    Workers,
    no_addresses,
)
from tests.edge.rig import Answer, Client, listen
from tests.identity.issuers.event_provider import NAME, Provider
from tests.identity.letters import SettledOutbox
from tests.nonces import Moments, Once

URL = "https://gate.example"
ATTRIBUTES = {
    "department": Attribute("department", values=("sales", "support"), claim="department"),
    "nickname": Attribute("nickname", set_by=frozenset((SetBy.PERSON,))),
    "teams": Attribute("teams", AttributeType.LIST),
    "salary": Attribute("salary", AttributeType.INTEGER, in_token=False),
}
TENANTS = TenantRules(("owner", "member"))
SHARED_HOSTS = frozenset(("app1.example", "app2.example"))
"""With the host of the public URL they share a sign-in."""
EMAIL = "alice@example.com"
PASSWORD = "correct horse 7 battery"
QUICK_ROUNDS = 4
"""bcrypt's least, 1 ms; no installation may have under 10, which are 60 ms."""
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


def provider_parts(
    clock: Clock,
    database: Database,
    providers: Mapping[str, SignInProvider],
    servers: ProviderServers | None,
) -> ProviderParts:
    keys = ProviderKeySets(NoDocuments(), clock, lambda _name, _outcome: None)
    client = ProviderClient(
        NoDocuments(),
        servers or ProviderServers(no_addresses),
        keys,
        clock,
        redirect_uri=lambda name: f"{URL}/auth/providers/{name}/callback",
    )
    return ProviderParts(
        providers=lambda: providers,
        client=client,
        keys=keys,
        trips=RoundTrips(b"p" * 32, Once(), clock),
        sessions=ProviderSessions(database, b"i" * 32),
        ended_sessions=EndedSessions(Once(), Moments()),
        count_sign_in=lambda _name, _outcome: None,
        count_report=lambda _name, _outcome: None,
    )


@dataclass
class House:
    """A running listener; `ask` speaks JSON to it over a connection of its own."""

    port: int
    api: AuthApi
    deps: EndpointDependencies
    database: Fragile
    workers: Workers
    clock: Hands
    captcha: Captcha
    recorded: Recorded
    ring: KeyRing
    provider: Provider
    issuers: dict[str, Issuer]
    """Those of the running configuration."""
    deliveries: MemoryDeliveries
    reports: list[tuple[str, str]]
    """As they were counted."""
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def raw(self, data: bytes) -> Answer:
        client = await self.client()
        await client.send(data)
        return await client.answer(to_head=data.startswith(b"HEAD"))

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Sequence[str] = (),
    ) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.raw(request(method, path, content, token=token, headers=headers))

    async def register(self, email: str = "alice@example.com") -> Account:
        password_hash = await self.deps.passwords.hash(PASSWORD)
        assert isinstance(password_hash, str)
        account = await self.deps.accounts.register(email, password_hash, verified=True)
        assert isinstance(account, Account)
        return account

    def solution(self) -> str:
        """Of a challenge that was just set, as the widget sends it."""
        challenge = altcha.Challenge.from_dict(dict(self.captcha.challenge()))
        solved = altcha.solve_challenge(challenge)
        assert solved is not None
        payload = altcha.Payload(challenge, solved).to_dict()
        return base64.b64encode(json.dumps(payload).encode()).decode()

    async def sign_in(
        self, email: str = "alice@example.com", headers: Sequence[str] = ()
    ) -> dict[str, Any]:
        answer = await self.ask(
            "POST", "/auth/login", {"email": email, "password": PASSWORD}, headers=headers
        )
        assert answer.status == 200, answer.body
        return told(answer)


def request(
    method: str,
    path: str,
    content: bytes,
    *,
    token: str | None = None,
    headers: Sequence[str] = (),
    content_type: str | None = "application/json",
    host: str = "gate.example",
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if content or method == "POST":
        lines.append(f"Content-Length: {len(content)}")
        if content_type is not None and content:
            lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def told(answer: Answer) -> dict[str, Any]:
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


def reason(answer: Answer) -> str:
    return str(told(answer)["reason"])


@asynccontextmanager
async def open_house(
    folder: Path,
    *,
    verification: Verification = "off",
    passwords: PasswordOptions | None = None,
    redis: RedisCalls | None = None,
    auth_cors: Cors | None = None,
    registration_rules: RegistrationRules | None = None,
    rounds: int = QUICK_ROUNDS,
    page_overrides: PageOverrides | None = None,
    factor_rule: FactorRule = NO_FACTOR_RULE,
    barring_roles: frozenset[str] = frozenset(),
    providers: Mapping[str, SignInProvider] | None = None,
    provider_servers: ProviderServers | None = None,
) -> AsyncIterator[House]:
    clock, workers, recorded, shielded = Hands(), Workers(), Recorded(), ShieldedTasks()
    async with fresh_database(folder, clock) as real:
        database = Fragile(real)
        sealer = Sealer(b"k" * 32)
        await KeyRotation(real, sealer, workers, alg="ES256", max_token_life_s=86_400).ensure()
        ring = KeyRing(real, sealer, clock)
        await ring.refresh()
        workers.told.clear()
        verifier = TokenVerifier(ring, issuer=URL, audience=URL, max_life_s=86_400, clock=clock)
        claims = AccountClaims(lambda: ATTRIBUTES, lambda: TENANTS)
        refresh_tokens = RefreshTokens(database, RefreshOptions(claims=claims), lambda: factor_rule)
        sessions = Sessions(database)
        csrf = Csrf(b"c" * 32)
        mint, session_sealer = CookieMint(b"m" * 32), SessionSealer(b"s" * 32)
        cookies = CookieSessions(
            CookieDependencies(
                storage=SessionStorage(redis or MemoryRedis(), clock, session_sealer, mint),
                refresh_tokens=refresh_tokens,
                sessions=sessions,
                revocations=workers,
                publisher=workers,
                csrf=csrf,
                clock=clock,
                ttl_s=900,
            )
        )
        authenticator = RequestAuthenticator(
            verifier,
            ring,
            workers,
            clock,
            others={
                CredentialKind.API_KEY: ApiKeyAuthenticator(
                    database, workers, clock, claims, KeyTerms(lambda: factor_rule, frozenset)
                ),
                CredentialKind.COOKIE: cookies,
            },
        )
        provider, deliveries = Provider(), MemoryDeliveries()
        issuers = {NAME: provider.issuer()}
        reports: list[tuple[str, str]] = []
        captcha = Captcha(CaptchaOptions(b"c" * 32, cost=1, prefix="0"), Once(), clock)
        accounts, throttle = Accounts(database), Throttle(LocalAttempts(clock), clock, lambda: 1)
        guard = LoginGuard(throttle, captcha, Devices(b"d" * 32), accounts, clock)
        limits = EndpointLimits(RateLimiter(clock), guard.some_device)
        deps = EndpointDependencies(
            database=database,
            clock=clock,
            accounts=accounts,
            mailer=SettledOutbox(
                database,
                MailTemplates.load([], site="gate.example", public_url=URL),
                MailOptions("no-reply@gate.example", URL, b"m" * 32),
                None,
            ),
            passwords=Passwords(passwords or PasswordOptions(), rounds),
            refresh_tokens=refresh_tokens,
            sessions=sessions,
            throttle=throttle,
            guard=guard,
            issuer=TokenIssuer(ring, issuer=URL, audience=URL, ttl_s=900),
            verifier=verifier,
            authenticator=authenticator,
            publisher=workers,
            audit=recorded,
            origins=lambda _call: AllowedOrigins(OwnOrigins(URL), cors=auth_cors),
            shielded=shielded,
            cookies=cookies,
            limits=limits,
            issuer_name=URL,
            audience=URL,
            assertion_audiences=(URL, f"{URL}/auth/token"),
            verification=verification,
            registration_rules=registration_rules or RegistrationRules(),
            factor_rule=lambda: factor_rule,
            barring_roles=lambda: barring_roles,
            sealer=sealer,
            mfa_tokens=MfaTokens(b"f" * 32, Once(), clock),
            hand_overs=HandOvers(b"h" * 32, Once(), clock),
            passkey_challenges=PasskeyChallenges(b"p" * 32, Once(), clock),
            shared_hosts=lambda: SHARED_HOSTS,
            has_sign_in_page=lambda host, path: path.startswith("/with-page"),
            return_targets=ReturnTargets(
                b"r" * 32,
                clock,
                public_url=URL,
                own_paths=OwnPaths(),
                shared_hosts=lambda: SHARED_HOSTS,
            ),
            public_url=URL,
            attributes=lambda: ATTRIBUTES,
            issuers=lambda: issuers,
            issuer_keys=provider,
            deliveries=deliveries,
            count_report=lambda name, outcome: reports.append((name, outcome)),
            providers=provider_parts(clock, database, providers or {}, provider_servers),
        )
        endpoints = build_endpoints(deps)
        pages = build_pages(
            PagesOptions(
                URL,
                registration_rules=deps.registration_rules,
                overrides=page_overrides or PageOverrides(),
            ),
            endpoints,
            deps.origins,
            limits,
            deps.return_targets,
        )
        api = AuthApi(
            {**endpoints, **pages.endpoints},
            WellKnown(
                ring,
                WellKnownOptions(public_url=URL, issuer=URL),
                ResourceMetadata(lambda: Snapshot("v", RouteTable()), OwnOrigins(URL)),
            ),
            shielded,
            https=True,
            csrf_guard=CsrfGuard(csrf, deps.origins, authenticator),
            limits=limits,
            pages=pages.refusal_page,
        )
        async with _behind_a_listener(api, auth_cors) as port:
            house = House(
                port,
                api,
                deps,
                database,
                workers,
                clock=clock,
                captcha=captcha,
                recorded=recorded,
                ring=ring,
                provider=provider,
                issuers=issuers,
                deliveries=deliveries,
                reports=reports,
            )
            yield house
            for client in house.clients:
                client.close()
        await api.close()
        deps.passwords.close()


@asynccontextmanager
async def _behind_a_listener(api: AuthApi, auth_cors: Cors | None) -> AsyncIterator[int]:
    reader = CallReader()
    nowhere: Any = None
    snapshot = Snapshot("v", RouteTable(), auth_cors=auth_cors)
    proxy = Proxy(nowhere, lambda: snapshot, reader, Clusters(), api)
    listener = Listener(proxy, reader)
    listener.start()
    port = await listen(listener)
    try:
        yield port
    finally:
        await listener.stop(0.1)
