"""`python -m bench.floods`: what grows when a stranger asks for one thing again and again.

Each endpoint of the gateway's own, and each way in which a proxied call is refused, is flooded for
a while from one address.  Before, half-way and after it is read what there is: rows in SQL, keys
and memory in Redis, the memory of the workers, the ordinary log.  Beside each flood somebody with
a good token calls the backend at a person's pace; how much longer their slowest calls take than
without a flood is told too.  Exits 1 where something has grown past its bound.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import redis
import typer
from rich.console import Console
from rich.table import Table

from bench.cluster import PASSWORD, Cluster, Node, percentile
from bench.processes import children, resident_bytes, run_bench
from gateway.identity.clients.key_form import new_key
from gateway.stores.open_database import open_database

# Wide enough for the table where there is no terminal to ask.
console = Console(width=None if Console().is_terminal else 130)
CONNECTIONS = 16
CALLERS = 4
CALLER = "caller@example.com"
ALONE_S = 15.0
"""How long the others are timed without a flood, at most: some 3,000 calls."""
_TABLE = re.compile(r"^CREATE TABLE (\w+)", re.M)


@dataclass(frozen=True, slots=True)
class Flood:
    """`request` makes the nth request.  `rows` and `keys` are the most that it may leave in SQL
    (the audit log included) and in Redis, however often it is sent."""

    name: str
    request: Callable[[int], bytes]
    rows: int = 0
    keys: int = 0


def request(method: str, path: str, *fields: str, body: bytes = b"", kind: str = "json") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields]
    if body:
        types = {
            "json": "application/json",
            "form": "application/x-www-form-urlencoded",
            "event": "application/secevent+jwt",
        }
        lines.append(f"Content-Type: {types[kind]}")
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _json(
    path: str, make: Callable[[int], Mapping[str, str]], *fields: str
) -> Callable[..., bytes]:
    return lambda n: request("POST", path, *fields, body=json.dumps(make(n)).encode())


def _client(path: str) -> Callable[[int], bytes]:
    def make(n: int) -> bytes:
        word = base64.b64encode(f"client-{n}:secret".encode()).decode()
        form = urlencode({"grant_type": "client_credentials", "token": "t"}).encode()
        return request("POST", path, f"Authorization: Basic {word}", body=form, kind="form")

    return make


def _signed_by_nobody(n: int) -> str:
    """A JWT of the right form whose key nobody has, another each time."""
    return _jwt(n, "at+jwt", {"sub": "s", "exp": 9e9})


def _jwt(n: int, typ: str, claims: Mapping[str, object]) -> str:
    parts = ({"alg": "RS256", "typ": typ, "kid": f"k{n}"}, claims, n)
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    )


ISSUER_NAME, ISSUER = "company", "http://127.0.0.1:9"
"""An issuer of the flooded configuration that answers nobody."""
ISSUERS = f"""\
issuers:
  {ISSUER_NAME}:
    issuer: {ISSUER}
    audience: api
    backchannel_logout: true
    events: true
"""


def _of_issuer(n: int, typ: str) -> str:
    """What it may have signed with a key that nobody knows, another each time."""
    claims = {"iss": ISSUER, "aud": "api", "iat": int(time.time()), "jti": f"j{n}", "sub": f"s{n}"}
    return _jwt(n, typ, claims)


def _logout_token(n: int) -> bytes:
    form = urlencode({"logout_token": _of_issuer(n, "logout+jwt")}).encode()
    path = f"/auth/issuers/{ISSUER_NAME}/backchannel-logout"
    return request("POST", path, body=form, kind="form")


def _security_event(n: int) -> bytes:
    body = _of_issuer(n, "secevent+jwt").encode()
    return request("POST", f"/auth/issuers/{ISSUER_NAME}/events", body=body, kind="event")


def _bearer(method: str, path: str) -> Callable[[int], bytes]:
    return lambda n: request(method, path, f"Authorization: Bearer {_signed_by_nobody(n)}")


def _cookie(path: str) -> Callable[[int], bytes]:
    return lambda n: request(
        "GET", path, f"Cookie: __Host-session={secrets.token_urlsafe(32)}",
        "Sec-Fetch-Site: same-origin",
    )  # fmt: skip


def _email(n: int) -> str:
    return f"u{n}@flood.example"


LETTERS = 50
"""Of one address in 15 minutes."""
FAILED_CLIENTS = 300 + 2 * CONNECTIONS
"""Of one address in a minute, and what is under way when it has used them up."""

OWN = (
    Flood(
        "POST /auth/register",
        _json(
            "/auth/register", lambda n: {"email": _email(n), "password": f"quiet river {n} boat"}
        ),
        rows=LETTERS * 4,
        keys=2,
    ),
    Flood(
        "POST /auth/login, accounts made up",
        _json("/auth/login", lambda n: {"email": _email(n), "password": "wrong one 17"}),
        rows=60,
        keys=55,
    ),
    Flood(
        "POST /auth/login, one account",
        _json("/auth/login", lambda n: {"email": CALLER, "password": "wrong one 17"}),
        rows=10,
        keys=5,
    ),
    Flood(
        "POST /auth/refresh",
        _json("/auth/refresh", lambda n: {"refresh_token": f"{n:043}"}),
        keys=1,
    ),
    Flood("POST /auth/logout", _bearer("POST", "/auth/logout"), keys=1),
    Flood("GET /auth/me", _bearer("GET", "/auth/me"), keys=1),
    Flood("GET /auth/me/export", _bearer("GET", "/auth/me/export"), keys=1),
    Flood("GET /auth/sessions", _bearer("GET", "/auth/sessions"), keys=1),
    Flood("DELETE /auth/sessions/*", _bearer("DELETE", "/auth/sessions/x"), keys=1),
    Flood("GET /auth/keys", _bearer("GET", "/auth/keys"), keys=1),
    Flood("POST /auth/keys", _bearer("POST", "/auth/keys"), keys=1),
    Flood("DELETE /auth/keys/*", _bearer("DELETE", "/auth/keys/x"), keys=1),
    Flood("POST /auth/password/change", _bearer("POST", "/auth/password/change"), keys=1),
    Flood("POST /auth/email/change", _bearer("POST", "/auth/email/change"), keys=1),
    Flood(
        "POST /auth/email/verify",
        _json("/auth/email/verify", lambda n: {"token": f"{n:043}"}),
        keys=1,
    ),
    Flood(
        "POST /auth/password/reset",
        _json("/auth/password/reset", lambda n: {"token": f"{n:043}", "password": "quiet river 7"}),
        keys=1,
    ),
    Flood(
        "POST /auth/email/resend",
        _json("/auth/email/resend", lambda n: {"email": _email(n)}),
        rows=LETTERS + 5,
        keys=2,
    ),
    Flood(
        "POST /auth/password/forgot",
        _json("/auth/password/forgot", lambda n: {"email": _email(n)}),
        rows=LETTERS * 2 + 5,
        keys=2,
    ),
    Flood("GET /auth/csrf", _cookie("/auth/csrf"), keys=1),
    Flood("GET /auth/hand-over", lambda n: request("GET", f"/auth/hand-over?request={n:064}")),
    Flood("GET /auth/hand-over/start", lambda n: request("GET", f"/auth/hand-over/start?n={n}")),
    Flood(
        "GET /auth/hand-over/accept",
        lambda n: request("GET", f"/auth/hand-over/accept?code={n:064}"),
    ),
    Flood("GET /auth/captcha", lambda n: request("GET", "/auth/captcha"), keys=1),
    Flood("POST /auth/token", _client("/auth/token"), keys=FAILED_CLIENTS),
    Flood("POST /auth/introspect", _client("/auth/introspect"), keys=FAILED_CLIENTS),
    Flood("POST /auth/revoke", _client("/auth/revoke"), keys=FAILED_CLIENTS),
    Flood("POST /auth/issuers/*/backchannel-logout", _logout_token, keys=1),
    Flood("POST /auth/issuers/*/events", _security_event, keys=1),
    Flood("an unknown endpoint", lambda n: request("GET", f"/auth/x{n}")),
    Flood("a document", lambda n: request("GET", "/.well-known/jwks.json")),
)

_GUARDED = "/api/whoami"
PROXIED = (
    Flood("proxied: no route", lambda n: request("GET", f"/nowhere/{n}")),
    Flood("proxied: no credential", lambda n: request("GET", _GUARDED)),
    Flood("proxied: a made-up token", _bearer("GET", _GUARDED)),
    Flood(
        "proxied: a made-up token of another issuer",
        lambda n: request("GET", _GUARDED, f"Authorization: Bearer {_of_issuer(n, 'at+jwt')}"),
    ),
    Flood("proxied: a made-up cookie", _cookie(_GUARDED)),
    Flood(
        "proxied: a made-up API key",
        lambda n: request("GET", _GUARDED, f"Authorization: Bearer {new_key()}"),
    ),
    Flood("proxied: an ambiguous path", lambda n: request("GET", f"/a/%2e%2e/{n}")),
)
FLOODS = OWN + PROXIED
KEYS_BESIDE = 5
"""Leases, the stream, and buckets of callers: what comes and goes without a flood."""
AUDIT_ROWS = 40
"""What is counted is told each minute, a row for each reason and route; of earlier floods, too."""


def at(path: str, floods: tuple[Flood, ...] = PROXIED) -> tuple[Flood, ...]:
    """The proxied floods with another guarded path."""

    def moved(flood: Flood) -> Flood:
        return replace(
            flood, request=lambda n: flood.request(n).replace(_GUARDED.encode(), path.encode())
        )

    return tuple(map(moved, floods))


@dataclass(slots=True)
class Standing:
    """What there is at one moment."""

    rows: int
    keys: int
    redis_bytes: int
    worker_bytes: int
    log_bytes: int

    def since(self, before: Standing) -> Standing:
        return Standing(
            self.rows - before.rows,
            self.keys - before.keys,
            self.redis_bytes - before.redis_bytes,
            self.worker_bytes - before.worker_bytes,
            self.log_bytes - before.log_bytes,
        )


async def standing(database_url: str, redis_url: str, pids: list[int], log: Path) -> Standing:
    server = redis.Redis.from_url(redis_url)
    try:
        keys = int(server.dbsize())
        used = int(server.info("memory")["used_memory"])
    finally:
        server.close()
    database, rows = open_database(database_url), 0
    try:
        async with database.read_transaction() as tx:
            for table in tables():
                found = await tx.one(f"SELECT COUNT(*) AS n FROM {table}")
                rows += int(found["n"]) if found else 0
    finally:
        await database.close()
    return Standing(rows, keys, used, sum(map(resident_bytes, pids)), log.stat().st_size)


def tables() -> list[str]:
    folder = resources.files("gateway.stores").joinpath("schema")
    texts = [found.read_text("utf-8") for found in folder.iterdir() if found.name.endswith(".sql")]
    return sorted({name for text in texts for name in _TABLE.findall(text)})


async def hammer(
    port: int, flood: Flood, *, stop: asyncio.Event, most: int, per_s: float = 0.0
) -> Counter[int]:
    """Sends the flood over CONNECTIONS connections until `stop`, or `most` were sent; the answers
    by status.  `per_s`: not faster than that, all together."""
    statuses: Counter[int] = Counter()
    sent, began = 0, time.monotonic()

    async def one() -> None:
        nonlocal sent
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not stop.is_set() and sent < most:
            number, sent = sent, sent + 1
            if per_s and (early_s := began + number / per_s - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(flood.request(number))
                status, closes = await _answer(reader)
            except (OSError, EOFError, asyncio.LimitOverrunError):
                status, closes = 0, True
            statuses[status] += 1
            if closes and writer is not None:
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return statuses


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if status not in (204, 304):
        length = re.search(rb"\ncontent-length: *(\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
    return status, b"\nconnection: close" in head


async def timed_call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes
) -> float:
    """How many seconds a good call took; RuntimeError where it was not answered 200."""
    began = time.monotonic()
    writer.write(asked)
    status, _ = await _answer(reader)
    if status != 200:
        raise RuntimeError(f"a good call was answered {status}")
    return time.monotonic() - began


@dataclass
class Outcome:
    flood: Flood
    statuses: Counter[int]
    grown: Standing
    grown_later: Standing
    """In the second half: what goes on growing."""
    alone_p99_s: float
    p99_s: float
    """Of the others, without the flood and beside it."""

    @property
    def p99_ratio(self) -> float:
        return self.p99_s / self.alone_p99_s

    @property
    def wrong(self) -> list[str]:
        found = []
        if self.grown.rows > self.flood.rows + AUDIT_ROWS:
            found.append(f"{self.grown.rows} rows")
        if self.grown.keys > self.flood.keys + KEYS_BESIDE:
            found.append(f"{self.grown.keys} keys")
        if set(self.statuses) & {0, 500}:
            found.append(f"answers {dict(self.statuses)}")
        return found


@dataclass
class Bench:
    cluster: Cluster
    node: Node
    seconds: float
    per_s: float
    token: str = ""
    outcomes: list[Outcome] = field(default_factory=list)

    async def run(self, floods: tuple[Flood, ...]) -> None:
        session = await self._session("login", {"email": CALLER, "password": PASSWORD})
        for flood in floods:
            # Nobody signs in any more from the address that the floods come from, and a token
            # ends before they do.
            fields = {"refresh_token": session["refresh_token"]}
            session = await self._session("refresh", fields)
            self.token = session["access_token"]
            alone = await self._calls(min(self.seconds, ALONE_S))
            outcome = await self._flooded(flood, percentile(alone, 0.99))
            self.outcomes.append(outcome)
            shown = ", ".join(f"{n} × {status}" for status, n in outcome.statuses.most_common(3))
            console.print(f"{flood.name}: {shown}; others {outcome.p99_ratio:.1f} ×", style="dim")

    async def _flooded(self, flood: Flood, alone_p99_s: float) -> Outcome:
        before, stop = await self._standing(), asyncio.Event()
        hammering = asyncio.create_task(
            hammer(self.node.port, flood, stop=stop, most=10**9, per_s=self.per_s)
        )
        took = await self._calls(self.seconds / 2)
        half = await self._standing()
        took += await self._calls(self.seconds / 2)
        stop.set()
        statuses, after = await hammering, await self._standing()
        return Outcome(
            flood,
            statuses,
            after.since(before),
            after.since(half),
            alone_p99_s,
            percentile(took, 0.99),
        )

    async def _session(self, endpoint: str, fields: Mapping[str, str]) -> dict[str, str]:
        body = json.dumps(fields).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        writer.write(request("POST", f"/auth/{endpoint}", "Connection: close", body=body))
        text = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        found: dict[str, str] = json.loads(text)
        return found

    async def _calls(self, seconds: float) -> list[float]:
        took: list[float] = []
        until = time.monotonic() + seconds
        asked = request("GET", _GUARDED, f"Authorization: Bearer {self.token}")

        async def caller() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)
            while time.monotonic() < until:
                took.append(await timed_call(reader, writer, asked))
                await asyncio.sleep(0.02)
            writer.close()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return took

    async def _standing(self) -> Standing:
        process, cluster = self.node.process, self.cluster
        workers = children(process.pid)
        return await standing(cluster.database_url, cluster.redis_url, workers, process.log)


def table(outcomes: list[Outcome]) -> Table:
    made = Table(
        "flood", "calls", "rows", "later", "keys", "later", "workers", "log", "others' p99"
    )
    for one in outcomes:
        made.add_row(
            one.flood.name,
            f"{one.statuses.total():,}",
            f"{one.grown.rows:+}",
            f"{one.grown_later.rows:+}",
            f"{one.grown.keys:+}",
            f"{one.grown_later.keys:+}",
            f"{one.grown.worker_bytes / 1e6:+.1f} MB",
            f"{one.grown.log_bytes / 1e3:+.1f} KB",
            f"{one.alone_p99_s * 1e3:.1f} → {one.p99_s * 1e3:.1f} ms, {one.p99_ratio:.1f} ×",
        )
    return made


def main(
    seconds: Annotated[float, typer.Option(min=1)] = 60.0,
    per_s: Annotated[
        float, typer.Option(help="calls a second of each flood; 0: all it can")
    ] = 500.0,
    only: Annotated[str, typer.Option(help="which floods: a regular expression")] = "",
    database_url: str = "",
    redis_url: str = "",
) -> None:
    """Floods each endpoint for so many seconds; tells what grew, and what others felt."""
    cluster = Cluster.build(database_url, redis_url)
    try:
        routes = cluster.rig.fill("gateway/routes.yaml")
        text = routes.read_text("utf-8")
        taken = text.replace("routes:\n", "defaults: {issuers: [own, company]}\nroutes:\n", 1)
        routes.write_text(taken + ISSUERS, "utf-8")
        settings = {"GATEWAY_EMAIL_VERIFICATION": "required"}
        cluster.start(nodes=1, workers=2, settings=settings, routes=routes)
        cluster.add_user(CALLER)
        bench = Bench(cluster, cluster.nodes[0], seconds, per_s)
        with suppress(KeyboardInterrupt):
            asyncio.run(bench.run(tuple(flood for flood in FLOODS if re.search(only, flood.name))))
    finally:
        cluster.stop()
    console.print(table(bench.outcomes))
    wrong = [f"{one.flood.name}: {', '.join(one.wrong)}" for one in bench.outcomes if one.wrong]
    for line in wrong:
        console.print(line, style="red")
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    run_bench(main)
