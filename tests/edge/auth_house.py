"""The gateway's own endpoints behind a real door, over a real SQL store.

Only the publisher and the clock are fakes, at their Protocols, so that a test can say when
a worker does not confirm and what time it is.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altcha

from gateway.access.definitions import Cors
from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.audit.log import AuditEvent
from gateway.edge.endpoints.cookie_sessions import CookieParts, CookieSessions
from gateway.edge.endpoints.csrf import Intents
from gateway.edge.endpoints.endpoint import Endpoint, Unbroken
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.mail_links import MailLinkParts, MailLinks
from gateway.edge.endpoints.oauth import OAuthApi, OAuthParts
from gateway.edge.endpoints.rate_limits import OwnLimits
from gateway.edge.endpoints.router import AuthApi, assembled
from gateway.edge.endpoints.sign_in import SignInParts, Verification
from gateway.edge.endpoints.well_known import WellKnown, WellKnownOptions
from gateway.edge.proxy.handler import Proxy
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.cookies import SessionStorage
from gateway.edge.server.listener import Door
from gateway.edge.upstream.clusters import Upstreams
from gateway.identity.accounts.accounts import Account, Accounts
from gateway.identity.accounts.email_change import AddressChanges
from gateway.identity.accounts.passwords import PasswordOptions, Passwords
from gateway.identity.accounts.registration import Enrolments
from gateway.identity.clients.api_keys import ApiKeyIdentifier, ApiKeys
from gateway.identity.clients.client_auth import ClientAuthenticator
from gateway.identity.clients.failures import ClientFailures
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.keys.rotation import KeyKeeper
from gateway.identity.mail.notifications import Notices
from gateway.identity.mail.outbox import MailOptions, Postman
from gateway.identity.mail.templates import Letters
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions
from gateway.identity.sign_in.devices import Devices
from gateway.identity.sign_in.local_attempts import OwnAttempts
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.identity.sign_in.session_cookies import CookieMint, Csrf
from gateway.identity.sign_in.throttle import Throttle
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenVerifier
from gateway.identity.tokens.authenticator import Identification, KindIdentifier
from gateway.model import Change, ChangeKind, CredentialKind, Principal, Reason
from gateway.rate_limit.limiter import RateLimiter
from gateway.stores.protocols import Database, StoreUnavailable, Transaction
from gateway.stores.redis import RedisStore
from tests.databases import Hands, fresh_database
from tests.edge.rig import Answer, Client, listen

URL = "https://gate.example"
EMAIL = "alice@example.com"
PASSWORD = "correct horse 7 battery"
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@dataclass
class Workers:
    """Meets `protocols.RevocationPublisher` and `worker.verified.Revocations`: one worker, which can be
    told not to confirm."""

    confirm: bool = True
    told: list[Change] = field(default_factory=list)

    async def publish(self, changes: Sequence[Change]) -> bool:
        self.told += changes
        return self.confirm

    def refusal(self, principal: Principal) -> Reason | None:
        for change in self.told:
            if change.kind is ChangeKind.SUBJECT:
                if change.target == principal.subject and principal.issued_at <= change.not_before:
                    return change.cause
            elif change.kind is ChangeKind.CLIENT:
                if (
                    change.target == principal.client_id
                    and principal.issued_at <= change.not_before
                ):
                    return change.cause
            elif change.target in (principal.session_id, principal.token_id):
                return change.cause
        return None


class Fragile:
    """A database that can be away; meets `protocols.Database`."""

    dialect = "sqlite"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.before_commit: Callable[[], Awaitable[None]] | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self._answer()
        async with self._database.transaction() as tx:
            yield tx
            if self.before_commit is not None:
                await self.before_commit()

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        self._answer()
        return self._database.read_transaction()

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    async def close(self) -> None:
        await self._database.close()

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("sql", "away")


@dataclass
class Recorded:
    """Meets `edge.evidence.Recorder`."""

    events: list[AuditEvent] = field(default_factory=list)

    denials: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    def denied(self, reason: str, route: str | None, subject: str | None) -> None:
        self.denials.append((reason, route, subject))

    def pseudonym(self, email_key: str) -> str:
        return f"pseudonym of {len(email_key)} letters"


class Once:
    """Meets `identity.captcha.OneTime`."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    async def first(self, key: str, ttl_s: int) -> bool:
        del ttl_s
        new = key not in self._used
        self._used.add(key)
        return new


@dataclass
class House:
    """A running door; `ask` speaks JSON to it over a connection of its own."""

    port: int
    api: AuthApi
    database: Fragile
    workers: Workers
    clock: Hands
    parts: SignInParts
    issuer: TokenIssuer
    captcha: Captcha
    postman: Postman
    recorded: Recorded = field(default_factory=lambda: Recorded())
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
        made = await self.parts.passwords.hash(PASSWORD)
        assert isinstance(made, str)
        account = await self.parts.accounts.register(email, made, verified=True)
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
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: gate.example", *headers]
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
    by_mail: Callable[[Database], tuple[Postman, Enrolments]] | None = None,
    passwords: PasswordOptions | None = None,
    machines: bool = False,
    redis: RedisStore | None = None,
    auth_cors: Cors | None = None,
    limited: bool = False,
) -> AsyncIterator[House]:
    """With `redis` there are session cookies too; `limited` as it is served."""
    clock, workers, unbroken = Hands(), Workers(), Unbroken()
    async with fresh_database(folder, clock) as real:
        database = Fragile(real)
        sealer = Sealer(b"k" * 32)
        keeper = KeyKeeper(real, sealer, workers, alg="ES256", max_token_life_s=86_400)
        await keeper.ensure()
        ring = KeyRing(real, sealer, clock)
        await ring.refresh()
        workers.told.clear()
        issuer = TokenIssuer(ring, issuer=URL, audience=URL, ttl_s=900)
        verifier = TokenVerifier(ring, issuer=URL, audience=URL, max_life_s=86_400, clock=clock)
        postman, enrolments = by_mail(database) if by_mail else (None, None)
        refresh_tokens, sessions = RefreshTokens(database, RefreshOptions()), Sessions(database)
        csrf = Csrf(b"c" * 32)
        cookies = None
        if redis is not None:
            storage = SessionStorage(redis, clock, SessionSealer(b"s" * 32), CookieMint(b"m" * 32))
            cookies = CookieSessions(
                CookieParts(storage, refresh_tokens, sessions, workers, workers, csrf, clock, 900)
            )
        limits = OwnLimits(RateLimiter(clock)) if limited else None
        recorded, throttle = Recorded(), Throttle(OwnAttempts(clock), clock, lambda: 1)
        captcha = Captcha(CaptchaOptions(b"c" * 32, cost=1, prefix="0"), Once(), clock)
        post = postman or _postman(database)
        address_changes = AddressChanges(database, post)
        parts = SignInParts(
            accounts=Accounts(database),
            passwords=await Passwords.open(passwords or PasswordOptions(), 10),
            refresh_tokens=refresh_tokens,
            sessions=sessions,
            throttle=throttle,
            issuer=issuer,
            verifier=verifier,
            publisher=workers,
            guard=LoginGuard(throttle, captcha, Devices(b"d" * 32), Accounts(database), clock),
            notices=Notices(database, post),
            audit=recorded,
            origins=lambda _call: AllowedOrigins(OwnOrigins(URL), cors=auth_cors),
            unbroken=unbroken,
            verification=verification,
            enrolment=enrolments,
            cookies=cookies,
            session_wait_s=limits.session_wait_s if limits else None,
        )
        others: dict[CredentialKind, KindIdentifier] = {
            CredentialKind.API_KEY: ApiKeyIdentifier(database, workers, clock)
        }
        if cookies is not None:
            others[CredentialKind.COOKIE] = cookies
        identification = Identification(verifier, ring, workers, clock, others=others)
        intents = None
        if cookies is not None:
            intents = Intents(csrf, parts.origins, identification)
        well_known = WellKnown(ring, WellKnownOptions(public_url=URL, issuer=URL))
        more: dict[tuple[str, ...], Mapping[str, Endpoint]] = {**parts.guard.endpoints()}
        if enrolments is not None:
            more |= MailLinks(
                MailLinkParts(
                    enrolments,
                    address_changes,
                    parts.passwords,
                    parts.throttle,
                    parts.guard,
                    workers,
                    unbroken,
                    recorded,
                )
            ).endpoints()
        if machines:
            more |= _machines(parts, database, identification, clock, recorded).endpoints()
        api = assembled(
            parts,
            identification,
            well_known,
            https=True,
            address_changes=address_changes,
            more=more,
            intents=intents,
            limits=limits,
        )
        async with _behind_a_door(api, auth_cors) as port:
            house = House(
                port, api, database, workers, clock, parts, issuer, captcha, post, recorded
            )
            yield house
            for client in house.clients:
                client.close()
        await api.close()
        parts.passwords.close()


def _postman(database: Database) -> Postman:
    letters = Letters.load([], site="gate.example", public_url=URL)
    options = MailOptions("no-reply@gate.example", URL, b"m" * 32)
    return Postman(database, letters, options, None)


def _machines(
    parts: SignInParts,
    database: Database,
    identification: Identification,
    clock: Hands,
    recorded: Recorded,
) -> OAuthApi:
    return OAuthApi(
        OAuthParts(
            database=database,
            authenticator=ClientAuthenticator(database, clock, [URL, f"{URL}/auth/token"]),
            failures=ClientFailures(parts.throttle, clock),
            api_keys=ApiKeys(database),
            refresh_tokens=parts.refresh_tokens,
            issuer=parts.issuer,
            verifier=parts.verifier,
            identifier=identification,
            publisher=parts.publisher,
            unbroken=parts.unbroken,
            audit=recorded,
            issuer_name=URL,
            audience=URL,
        )
    )


@asynccontextmanager
async def _behind_a_door(api: AuthApi, auth_cors: Cors | None) -> AsyncIterator[int]:
    reader = CallReader()
    nowhere: Any = None
    snapshot: Any = SimpleNamespace(auth_cors=auth_cors)
    proxy = Proxy(nowhere, lambda: snapshot, reader, Upstreams(), api)
    door = Door(proxy, reader, shutdown_timeout=0.1)
    await door.setup()
    port = await listen(door)
    try:
        yield port
    finally:
        await door.cleanup()
