"""The decision API behind the admin listener, asked in the words of each proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.simulation import SlowAuthenticator, SlowLimiter
from gateway.access.snapshot import Snapshot
from gateway.edge.admin.decision_api import DecisionApi
from gateway.edge.admin.decision_point import DecisionPoint
from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.ext_authz.server import CONNECTIONS_MAX, ExtAuthzServer
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.edge.server.listener import Listener
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.limit_state import LimitState
from gateway.model import (
    OWN_ISSUERS,
    Call,
    CredentialKind,
    Principal,
    Reason,
    SystemClock,
)
from gateway.telemetry.metrics import Tally
from tests.access.worlds import snapshot
from tests.edge.ext_authz.asking import Asked, check
from tests.edge.rig import Answer, Client, listen, principal
from tests.ports import free_port

PUBLIC_URL = "https://gate.example"

ROUTES = """
version: 1
decision_api: {trusted_peers: [127.0.0.1/32, 10.9.0.0/16]}
upstreams:
  api: {targets: [http://127.0.0.1:9001]}
  proving: {targets: [http://127.0.0.1:9002], assertion: {audience: orders}}
limits:
  few: {key: address, rate: 1/1h, burst: 4}
cors:
  app: {origins: ["https://app.example.com"], credentials: true}
routes:
  - {id: me, match: {path: /me}, policy: signed-in, upstream: api, cors: app}
  - {id: kept, match: {path: /kept}, policy: signed-in, upstream: api, forward_authorization: true}
  - {id: proving, match: {path: "/orders/{id}", methods: [GET]}, policy: signed-in, upstream: proving}
  - {id: public, match: {path: "/public/{rest:path}"}, auth: public, upstream: api}
  - {id: maybe, match: {path: /maybe}, auth: optional, upstream: api}
  - {id: hidden, match: {path: /hidden}, policy: hidden, action: see, upstream: api}
  - {id: few, match: {path: /few}, auth: public, limits: [few], upstream: api}
  - {id: where, match: {path: /where}, policy: where, action: see, auth: optional, upstream: api}
  - id: bodies
    match: {path: /bodies}
    policy: bodies
    action: see
    resource: {flag: "{body.flag}"}
    upstream: api
  - {id: list, match: {path: /list}, auth: optional, policy: teams, action: see, upstream: api}
  - {id: fresh, match: {path: /fresh}, policy: fresh, action: see, upstream: api}
  - {id: desk, match: {path: /desk}, policy: signed-in, upstream: api, sign_in: page}
  - {id: moved, match: {path: /moved}, auth: public, redirect: {to: /me}}
  - id: tenant
    match: {path: /tenant}
    auth: public
    upstream: api
    request: {set_headers: {X-Tenant: acme}, remove_headers: [X-Debug, Cookie]}
  - {id: other, match: {host: other.example.com, path: /me}, auth: public, upstream: api}
  - {id: wild, match: {host: "*.wild.example.com", path: /me}, auth: public, upstream: api}
"""


HIDDEN = """
policy: hidden
rules:
  - {id: nobody, deny: ["*"], conceal: true}
"""


WHERE = """
policy: where
rules:
  - id: from-there
    allow: ["*"]
    when: client.ip == "203.0.113.7" && request.host == "api.example.com"
"""


BODIES = """
policy: bodies
rules:
  - {id: unflagged, allow: ["*"], when: "!has(resource.flag)"}
"""


TEAMS = """
policy: teams
rules:
  - {id: other, allow: ["*"], when: "request.query.team != 'hr'"}
"""


FRESH = """
policy: fresh
rules:
  - {id: fresh, allow: ["*"], step_up: {max_age: 5m}, headers: {X-Tenant: "{user.email}"}}
"""


DIALECTS = ("nginx", "envoy", "traefik", "caddy", "grpc")
"""The last is Envoy's, too: what it asks of `edge/ext_authz/`."""


@dataclass
class Someone(SlowAuthenticator):
    """Knows one good token; remembers what it was asked."""

    calls: list[Call] = field(default_factory=list)

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        self.calls.append(call)
        if call.credential is None:
            return Reason.NO_CREDENTIAL
        if isinstance(call.credential, Reason):
            return call.credential
        if call.credential.kind is CredentialKind.COOKIE:
            return Reason.SESSION_UNKNOWN
        if call.credential.text != "good":
            return Reason.TOKEN_REVOKED
        return principal()


class OneOfFour(SlowLimiter):
    """Three calls pass, the next does not."""

    left = 3

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        self.left -= 1
        wait_s = 0.0 if self.left >= 0 else 30.0
        return LimitState(wait_s, '"few";q=4', (("few", 0.1),), (max(self.left, 0),))


class AssertionSigner:
    ready = True

    def assertion(self, who: Principal, audience: str, method: str, path: str) -> str | None:
        return f"{who.subject}.{audience}.{method}.{path}" if self.ready else None


@dataclass
class House:
    port: int
    someone: Someone
    assertion_signer: AssertionSigner
    live: bool = True
    ended: Reason | None = None
    """Why the session of the caller has ended since it was looked up."""
    peers: tuple[str, ...] | None = None
    clients: list[Client] = field(default_factory=list)
    defects: Tally = field(default_factory=Tally)
    point: DecisionPoint | None = None
    grpc: ExtAuthzServer | None = None
    grpc_address: str = ""

    async def send(self, data: bytes, *, to_head: bool = False) -> Answer:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        await client.send(data)
        return await client.answer(to_head=to_head)

    async def open_grpc(self, connections: int = CONNECTIONS_MAX) -> str:
        """The address of the listener of gRPC, which few tests want."""
        if self.grpc is None:
            assert self.point is not None
            self.grpc = ExtAuthzServer(
                self.point,
                ready=lambda: self.live,
                defects=self.defects,
                connections=connections,
            )
            self.grpc_address = f"127.0.0.1:{free_port()}"
            await self.grpc.start(self.grpc_address)
        return self.grpc_address

    async def ask(
        self,
        dialect: str,
        target: str = "/me",
        *fields: tuple[str, str],
        method: str = "GET",
        host: str = "api.example.com",
        proto: str = "https",
        ip: str = "203.0.113.7",
        token: str | None = None,
        without: str = "",
    ) -> Answer:
        if dialect == "grpc":
            await self.open_grpc()
            if token is not None:
                fields = (("Authorization", f"Bearer {token}"), *fields)
            told_by_envoy = (("X-Forwarded-Proto", proto), ("X-Forwarded-For", ip))
            fields = (*(pair for pair in told_by_envoy if pair[0] != without), *fields)
            # Envoy itself is called by a trusted peer, as the hops of the tests want it.
            asked = Asked(target, fields, method, host, scheme="", source="127.0.0.1")
            return (await check(self.grpc_address, asked)).answer(fields)
        return await self.send(
            told(
                dialect,
                target,
                *fields,
                method=method,
                host=host,
                proto=proto,
                ip=ip,
                token=token,
                without=without,
            ),
            to_head=dialect == "envoy" and method == "HEAD",
        )


def told(
    dialect: str,
    target: str,
    *fields: tuple[str, str],
    method: str = "GET",
    host: str = "api.example.com",
    proto: str = "https",
    ip: str = "203.0.113.7",
    token: str | None = None,
    without: str = "",
) -> bytes:
    """The bytes of the question, as that proxy asks it."""
    line, lines = f"GET /decide/{dialect} HTTP/1.1", [("Host", "authgate:9901")]
    if dialect == "nginx":
        lines += [
            ("X-Original-Method", method),
            ("X-Original-URI", target),
            ("X-Original-Host", host),
            ("X-Original-Proto", proto),
            ("X-Original-IP", ip),
        ]
    elif dialect == "envoy":
        line = f"{method} /decide/envoy{target} HTTP/1.1"
        lines = [("Host", host), ("X-Forwarded-Proto", proto), ("X-Forwarded-For", ip)]
    else:
        lines += [
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Uri", target),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Proto", proto),
            ("X-Forwarded-For", ip),
        ]
    lines = [(name, value) for name, value in lines if name != without]
    if token is not None:
        lines.append(("Authorization", f"Bearer {token}"))
    text = "\r\n".join([line, *(f"{n}: {v}" for n, v in [*lines, *fields])])
    return f"{text}\r\n\r\n".encode("latin-1")


POLICIES = (HIDDEN, WHERE, BODIES, TEAMS, FRESH)
WORLD = snapshot(ROUTES, *POLICIES)


class Nobody:
    async def gather(self) -> list[object]:
        return []


@asynccontextmanager
async def opened(world: Snapshot = WORLD) -> AsyncIterator[House]:
    someone, assertion_signer = Someone(), AssertionSigner()
    house = House(0, someone, assertion_signer)
    reader = CallReader()
    point = DecisionPoint(
        Authorizer(someone, OneOfFour()),
        lambda: world,
        reader,
        live=lambda: house.live,
        refusal=lambda who: house.ended,
        assertion_signer=assertion_signer,
        sign_in_redirects=SignInRedirects(
            PUBLIC_URL,
            OwnPaths(),
            ReturnTargets(
                bytes(32),
                SystemClock(),
                public_url=PUBLIC_URL,
                own_paths=OwnPaths(),
                shared_hosts=frozenset,
            ),
        ),
    )
    decisions = DecisionApi(point)
    options = AdminOptions(frozenset())
    admin = AdminListener(options, Nobody(), reader, None, decisions)  # type: ignore[arg-type]
    listener = Listener(admin, reader)
    listener.start()
    house.port = await listen(listener)
    house.point = point
    try:
        yield house
    finally:
        if house.grpc is not None:
            await house.grpc.stop(0.1)
        for client in house.clients:
            client.close()
        await listener.stop(0.1)


def seen(answer: Answer, dialect: str) -> tuple[int, str]:
    """Status and reason as the client of that proxy would be given them."""
    problem = json.loads(answer.body)
    assert answer.values("content-type") == [b"application/problem+json"]
    if dialect == "nginx":
        assert answer.status == (401 if problem["status"] == 401 else 403)
        assert int(answer.values("authgate-status")[0]) == problem["status"]
        assert json.loads(answer.values("authgate-problem")[0]) == problem
    else:
        assert answer.status == problem["status"]
    return problem["status"], problem["reason"]


each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
