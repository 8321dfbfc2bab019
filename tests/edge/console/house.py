"""A console on a port of its own, over pages of a test and a listener of the gateway's."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy

from gateway.access.console import HOME
from gateway.access.policies import Policy
from gateway.access.simulation import SlowAuthenticator
from gateway.access.snapshot import Snapshot
from gateway.audit.log import AuditEvent, AuditKind
from gateway.config.compile import Sources, compile_snapshot
from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.console.console import Console, ConsoleDependencies
from gateway.edge.console.local_sign_in import LocalSignIn, LocalSignInDependencies
from gateway.edge.console.operators import COOKIE, OperatorDependencies, Operators
from gateway.edge.console.overview_page import OverviewPage
from gateway.edge.console.pages import ConsolePage, NavigationEntry, PageRegistry
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.edge.console.sign_in_page import ConsoleSignIn, ConsoleSignInDependencies
from gateway.edge.console.static_files import StaticFiles
from gateway.edge.endpoints.endpoint import ShieldedTasks
from gateway.edge.proxy.request import CallReader
from gateway.edge.server.listener import Listener
from gateway.identity.sign_in.session_cookies import Csrf
from gateway.model import (
    OWN_ISSUERS,
    Call,
    Change,
    ChangeKind,
    Credential,
    CredentialKind,
    Principal,
    Reason,
)
from gateway.stores.protocols import Database
from gateway.telemetry.metrics import Metrics
from tests.databases import Hands, fresh_database
from tests.edge.rig import listen

TOKEN = "local-token"
KEY = b"k" * 32


class Workers:
    def __init__(self) -> None:
        self.ready = True
        self.problems: list[str] = []
        self.routes: list[Mapping[str, Any]] = []

    async def gather(self) -> list[Mapping[str, Any]]:
        metrics = Metrics()
        metrics.route("a").record("route_public", 200, 0.001)
        return [
            {
                "worker": number,
                "ready": self.ready,
                "configuration": {"version": "house-1", "stale": False},
                "dependencies": {"sql": "open"},
                "issuers": {"company": {"keys": 2, "age_s": 7, "stale": False, "error": None}},
                "problems": self.problems,
                "routes": self.routes,
                "metrics": metrics.state(),
            }
            for number in (1, 2)
        ]


_ROLES = {
    "token-of-admin": ("admin",),
    "token-of-user": ("viewer",),
    "token-of-admin-for-a-resource": ("admin",),
}


class Somebody(SlowAuthenticator):
    """Knows two access tokens: one of an admin, one of anybody."""

    def __init__(self) -> None:
        self.auth_time = 0
        self.others: dict[str, Principal | Reason] = {}
        """Of further tokens."""

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        assert isinstance(call.credential, Credential)
        if call.credential.kind is CredentialKind.COOKIE:
            return Reason.SESSION_UNKNOWN
        if call.credential.text in self.others:
            return self.others[call.credential.text]
        roles = _ROLES.get(call.credential.text)
        if roles is None:
            return Reason.TOKEN_MALFORMED
        principal = Principal(
            "u", roles, "s", "t", None, kid="k", issued_at=0, expires_at=1, auth_time=self.auth_time
        )
        principal.resource_only = "resource" in call.credential.text
        return principal


class Mails:
    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    async def mails(self) -> Sequence[Mapping[str, Any]]:
        self.meanwhile()
        return [{"to": "a@example.com", "subject": "<b>Hi</b>", "text": "x"}]


class Events:
    """Meets `edge.endpoints.audit_events.AuditSink`."""

    def __init__(self) -> None:
        self.all: list[AuditEvent] = []
        self.mail_reads: list[AuditEvent] = []
        """Apart: the first page, which each sign-in shows, holds mails."""
        self.denials: list[tuple[str, str | None, str | None]] = []

    def record(self, event: AuditEvent) -> None:
        (self.mail_reads if event.kind is AuditKind.MAIL_READ else self.all).append(event)

    def denied(self, reason: str, route: str | None, subject: str | None) -> None:
        self.denials.append((reason, route, subject))

    def pseudonym(self, normalized_email: str) -> str:
        return normalized_email


class Told:
    """Whom everybody has been told of."""

    def __init__(self) -> None:
        self.sessions: set[str] = set()
        self.changes: list[Change] = []
        self.is_stale = False
        self.confirms = True

    async def publish(self, changes: Sequence[Change]) -> bool:
        self.sessions |= {change.target for change in changes if change.kind is ChangeKind.SESSION}
        self.changes += changes
        return self.confirms and not self.is_stale

    def refusal(self, principal: Principal) -> Reason | None:
        if self.is_stale:
            return Reason.REPLICA_STALE
        return Reason.TOKEN_REVOKED if principal.session_id in self.sessions else None


@dataclass
class Answered:
    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def cookie(self) -> str:
        """The console's, as the answer gives it; "" where it takes it away or says nothing."""
        for line in self.headers.getall("Set-Cookie", []):
            match = re.match(rf"{COOKIE}=([^;]*)", line)
            if match is not None:
                return match[1]
        return ""

    @property
    def csrf(self) -> str:
        match = re.search(r'name="csrf" value="([^"]+)"', self.text)
        assert match is not None, self.text
        return match[1]


@dataclass
class ConsoleHouse:
    """What a test asks; `cookie` is sent along once it is there."""

    base: str
    session: aiohttp.ClientSession
    database: Database
    told: Told = field(default_factory=Told)
    policy: Policy | None = None
    workers: Workers = field(default_factory=Workers)
    mails: Mails = field(default_factory=Mails)
    events: Events = field(default_factory=Events)
    clock: Hands = field(default_factory=Hands)
    somebody: Somebody = field(default_factory=Somebody)
    shielded: ShieldedTasks = field(default_factory=ShieldedTasks)
    cookie: str = ""

    async def ask(
        self, path: str, method: str = "GET", *, form: Any = None, **headers: str
    ) -> Answered:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            fields.setdefault("Cookie", f"{COOKIE}={self.cookie}")
        async with self.session.request(
            method, self.base + path, headers=fields, data=form, allow_redirects=False
        ) as answer:
            return Answered(answer.status, answer.headers, await answer.text())

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answered:
        """As a browser that knows fetch metadata sends a form of this origin."""
        given = {"Origin": self.base, "Sec_Fetch_Site": "same-origin", **headers}
        return await self.ask(path, "POST", form=dict(form), **given)

    async def sign_in(self) -> str:
        """By the local token; gives the proof of intent of the pages."""
        answer = await self.post("/admin/sign-in", {"token": TOKEN})
        assert answer.status == 303, answer.text
        self.cookie = answer.cookie
        return (await self.ask("/admin")).csrf


@asynccontextmanager
async def console_house(
    *pages: ConsolePage,
    hosts: frozenset[str] = frozenset({"admin.internal"}),
    https_only: bool = False,
    folder: Path | None = None,
    of_pages: Database | None = None,
) -> AsyncIterator[ConsoleHouse]:
    """`of_pages` is the database of the pages, where who signs out is to be found there."""
    async with (
        aiohttp.ClientSession() as session,
        fresh_database(Path(tempfile.mkdtemp(dir=folder))) as database,
    ):
        house = ConsoleHouse("", session, of_pages or database)
        local = LocalSignIn(
            TOKEN,
            KEY,
            LocalSignInDependencies(house.database, house.told, house.told, house.clock),
        )
        operators = Operators(
            OperatorDependencies(
                local, house.somebody, Csrf(KEY), house.clock, policy=lambda: house.policy
            )
        )
        navigation = [NavigationEntry(HOME, "Overview")]
        overview = OverviewPage(
            house.workers,
            house.mails,
            lambda most: (house.workers.routes[:most], len(house.workers.routes)),
            operators.may_act,
        ).pages()
        static_files = StaticFiles()
        renderer = ConsoleRenderer(static_files, navigation, site="test.example")
        console = Console(
            ConsoleDependencies(
                pages=PageRegistry([*overview, *pages], navigation),
                renderer=renderer,
                static_files=static_files,
                operators=operators,
                sign_in=ConsoleSignIn(
                    ConsoleSignInDependencies(
                        local, None, operators, renderer, house.events, house.shielded
                    )
                ),
                audit=house.events,
                publisher=house.told,
                clock=house.clock,
                shielded=house.shielded,
                https_only=https_only,
            )
        )
        reader = CallReader()
        admin = AdminListener(
            AdminOptions(hosts),
            house.workers,
            reader,
            house.mails,
            console=console,
            operators=operators,
            audit=house.events,
        )
        listener = Listener(admin, reader)
        listener.start()
        house.base = f"http://127.0.0.1:{await listen(listener)}"
        yield house
        await listener.stop(0.1)


def policy_of(rules: str) -> Policy:
    """The policy of `console:` with this one rule; its role `viewer` may look."""
    text = f"version: 1\npolicy: ops\nroles: {{viewer: [admin:read]}}\nrules:\n  - {rules}\n"
    routes = "version: 1\nconsole: {policy: ops}\nroutes: []\n"
    snapshot = compile_snapshot(Sources(("routes.yaml", routes), (("policies/ops.yaml", text),)))
    assert isinstance(snapshot, Snapshot), snapshot
    assert snapshot.console_policy is not None
    return snapshot.console_policy
