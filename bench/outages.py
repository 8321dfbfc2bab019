"""`python -m bench.outages`: what callers see while Redis or PostgreSQL fail in each way.

Two nodes, each with a fault proxy of its own before a real PostgreSQL and a real Valkey, which
are also killed, frozen and emptied.  Throughout, callers ask public and private routes of both
nodes, sign in and sign out.  Exits 1 when a token whose sign-out was answered 204 is accepted,
when anything is answered 500 or later than 2 s (and what a busy machine adds), when a store
that is back does not heal within 5 s, or when the p99 of public routes, with and without limits
that the workers share, reaches 100 ms.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from rich.console import Console
from rich.table import Table

from bench.cluster import PASSWORD, percentile, program
from bench.processes import Started, await_port, run_bench
from bench.rig import BASE_PORT, HERE
from tests.faults import Fault, FaultProxy
from tests.servers import PostgresServer, ValkeyServer

console = Console()
PORT = BASE_PORT + 80
NODES = 2
FAULT_S = 7.0
"""Longer than a worker may go on without Redis."""
LATE_S = 2.3
HEAL_S = 5.0
PUBLIC_P99_S = 0.1
PUBLIC = ("public", "leased", "shared")
"""Routes without a credential; the last two have limits which all workers share."""
SESSIONS_A_FAULT = 8

ROUTES = """\
version: 1
upstreams:
  app: {{targets: ["http://127.0.0.1:{port}"]}}
limits:
  leased: {{key: address, rate: 1000/1s, burst: 10000}}
  shared: {{key: address, rate: 1000/1s, burst: 10000, scope: shared}}
routes:
  - id: public
    match: {{path: /public}}
    auth: public
    upstream: app
  - id: leased
    match: {{path: /leased}}
    auth: public
    limits: [leased]
    upstream: app
  - id: shared
    match: {{path: /shared}}
    auth: public
    limits: [shared]
    upstream: app
  - id: private
    match: {{path: /private}}
    policy: signed-in
    upstream: app
"""


@dataclass
class Seen:
    """What callers saw during one fault."""

    name: str
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    slowest_s: float = 0.0
    revoked_accepted: int = 0
    confirmed: int = 0
    pending: int = 0
    healed_s: float = 0.0
    """Until calls and sign-ins were good again on both nodes."""
    confirming_s: float = 0.0
    """Until a sign-out was answered 204 again."""

    def note(self, kind: str, status: int, took_s: float) -> None:
        self.statuses.setdefault(kind, Counter())[status] += 1
        self.slowest_s = max(self.slowest_s, took_s)
        self.seconds.setdefault(kind, []).append(took_s)

    def faults(self) -> list[str]:
        """Why this is not as promised."""
        found = []
        if self.revoked_accepted:
            found.append(f"{self.revoked_accepted} revoked accepted")
        if any(count[500] for count in self.statuses.values()):
            found.append("500")
        for kind in PUBLIC:
            if set(self.statuses[kind]) != {200}:
                found.append(f"{kind} routes answered {dict(self.statuses[kind])}")
        if self.slowest_s > LATE_S:
            found.append(f"an answer took {self.slowest_s:.1f} s")
        if max(self.healed_s, self.confirming_s) > HEAL_S:
            found.append(f"healed after {max(self.healed_s, self.confirming_s):.1f} s")
        if any(self.p99_s(kind) >= PUBLIC_P99_S for kind in PUBLIC):
            found.append("slow public routes")
        return found

    def p99_s(self, kind: str) -> float:
        return percentile(self.seconds[kind], 0.99)


@dataclass
class Town:
    folder: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    sql_ways: list[FaultProxy]
    redis_ways: list[FaultProxy]
    client: ClientSession
    nodes: list[Started] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Access tokens whose sign-out was answered 204."""

    def url(self, node: int, path: str) -> str:
        return f"http://127.0.0.1:{PORT + node}{path}"

    async def ask(
        self, seen: Seen | None, kind: str, method: str, url: str, **what: Any
    ) -> tuple[int, Any]:
        began_at = time.perf_counter()
        try:
            async with self.client.request(method, url, **what) as answer:
                body = await answer.read()
                status = answer.status
        except (ClientError, TimeoutError):
            status, body = 0, b""
        if seen is not None:
            seen.note(kind, status, time.perf_counter() - began_at)
        return status, json.loads(body) if status == 200 and body[:1] == b"{" else body

    async def sign_in(self, seen: Seen | None = None, node: int = 0) -> str:
        """An access token; empty where there was none."""
        status, answer = await self.ask(
            seen,
            "login",
            "POST",
            self.url(node, "/auth/login"),
            json={"email": "outage@example.com", "password": PASSWORD},
        )
        return str(answer["access_token"]) if status == 200 else ""

    async def call(self, seen: Seen | None, kind: str, node: int, token: str) -> int:
        status, _ = await self.ask(
            seen, kind, "GET", self.url(node, "/private"), headers=_bearer(token)
        )
        return status

    async def sign_out(self, seen: Seen, token: str) -> None:
        status, _ = await self.ask(
            seen, "logout", "POST", self.url(0, "/auth/logout"), headers=_bearer(token)
        )
        if status == 204:
            seen.confirmed += 1
            self.ended.append(token)
            await self.try_ended(seen, [token] * 4)
        else:
            seen.pending += 1

    async def try_ended(self, seen: Seen, tokens: list[str]) -> None:
        asked = [self.call(seen, "revoked", n, t) for n in range(NODES) for t in tokens]
        seen.revoked_accepted += sum(0 < status < 400 for status in await asyncio.gather(*asked))

    async def is_well(self, token: str) -> bool:
        answers = [await self.call(None, "", node, token) for node in range(NODES)]
        return answers == [200] * NODES and await self.sign_in(None, 1) != ""


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Outage:
    name: str
    begin: Callable[[Town], Awaitable[None]]
    end: Callable[[Town], Awaitable[None]]


def outages() -> list[Outage]:
    found = []
    for store in ("redis", "sql"):
        for fault in (Fault.REFUSE, Fault.RESET, Fault.HANG, Fault.GARBLE, Fault.CUT):
            found.append(_of_the_network(store, fault))
    found.append(_of_the_network("redis", Fault.HANG, one=True))

    async def nothing(town: Town) -> None:
        del town

    async def flush(town: Town) -> None:
        await asyncio.to_thread(town.valkey.ask, b"FLUSHALL")

    async def kill_redis(town: Town) -> None:
        town.valkey.kill()

    async def start_redis(town: Town) -> None:
        await asyncio.to_thread(town.valkey.start)

    async def start_redis_empty(town: Town) -> None:
        shutil.rmtree(town.valkey.folder / "appendonlydir")
        await start_redis(town)

    async def freeze_redis(town: Town) -> None:
        town.valkey.freeze()

    async def thaw_redis(town: Town) -> None:
        town.valkey.thaw()

    async def kill_sql(town: Town) -> None:
        town.postgres.kill()

    async def start_sql(town: Town) -> None:
        await asyncio.to_thread(town.postgres.start_again)

    async def freeze_sql(town: Town) -> None:
        town.postgres.freeze()

    async def thaw_sql(town: Town) -> None:
        town.postgres.thaw()

    return [
        *found,
        _at_rest("redis"),
        _at_rest("sql"),
        Outage("redis emptied", flush, nothing),
        Outage("redis killed, back", kill_redis, start_redis),
        Outage("redis killed, back empty", kill_redis, start_redis_empty),
        Outage("redis frozen", freeze_redis, thaw_redis),
        Outage("sql killed, back", kill_sql, start_sql),
        Outage("sql frozen", freeze_sql, thaw_sql),
    ]


def _of_the_network(store: str, fault: Fault, *, one: bool = False) -> Outage:
    def ways(town: Town) -> list[FaultProxy]:
        found = town.redis_ways if store == "redis" else town.sql_ways
        return found[1:] if one else found

    async def begin(town: Town) -> None:
        for way in ways(town):
            await way.set(fault)

    async def end(town: Town) -> None:
        for way in ways(town):
            await way.set(Fault.NONE)

    return Outage(f"{store} {fault.value}" + (" (one node)" if one else ""), begin, end)


def _at_rest(store: str) -> Outage:
    """Connections are reset again and again; new ones work."""
    resetting: list[asyncio.Task[None]] = []

    async def reset(town: Town) -> None:
        while True:
            for way in town.redis_ways if store == "redis" else town.sql_ways:
                await way.reset_idle()
            await asyncio.sleep(0.5)

    async def begin(town: Town) -> None:
        resetting.append(asyncio.create_task(reset(town)))

    async def end(_: Town) -> None:
        resetting.pop().cancel()

    return Outage(f"{store} connections reset", begin, end)


async def suffer(town: Town, outage: Outage) -> Seen:
    seen = Seen(outage.name)
    live = await town.sign_in()
    tokens = [await town.sign_in() for _ in range(SESSIONS_A_FAULT)]
    over = asyncio.Event()

    async def ask_public(node: int, kind: str) -> None:
        while not over.is_set():
            await town.ask(seen, kind, "GET", town.url(node, f"/{kind}"))
            await asyncio.sleep(0.01)

    async def ask_private(node: int) -> None:
        while not over.is_set():
            await town.call(seen, "private", node, live)
            await asyncio.sleep(0.02)

    async def sign_others_out() -> None:
        for token in tokens:
            await town.sign_out(seen, token)
            await asyncio.sleep(FAULT_S / len(tokens) / 2)

    async def sign_in_now_and_then() -> None:
        while not over.is_set():
            await town.sign_in(seen, 1)
            await asyncio.sleep(0.7)

    async with asyncio.TaskGroup() as group:
        for node in range(NODES):
            for kind in PUBLIC:
                group.create_task(ask_public(node, kind))
            group.create_task(ask_private(node))
        group.create_task(sign_in_now_and_then())
        await asyncio.sleep(0.3)
        await outage.begin(town)
        began_at = time.monotonic()
        await sign_others_out()
        await asyncio.sleep(max(FAULT_S - (time.monotonic() - began_at), 0))
        await outage.end(town)
        back_at = time.monotonic()
        while not await town.is_well(live) and time.monotonic() < back_at + 20:
            await asyncio.sleep(0.02)
        seen.healed_s = time.monotonic() - back_at
        last = await town.sign_in()
        confirmed = seen.confirmed
        while seen.confirmed == confirmed and time.monotonic() < back_at + 20:
            await town.sign_out(seen, last)
            await asyncio.sleep(0.02)
        seen.confirming_s = time.monotonic() - back_at
        await town.try_ended(seen, town.ended[-40:])
        over.set()
    return seen


@asynccontextmanager
async def built(workers: int) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authgate-outages-")))
        folder.chmod(0o755)
        postgres = PostgresServer(folder / "postgres").start()
        stack.callback(postgres.kill)
        valkey = ValkeyServer(folder / "valkey", None, maxmemory_policy="noeviction").start()
        stack.callback(valkey.kill)
        ways = []
        for server in (postgres, valkey):
            for _ in range(NODES):
                way = FaultProxy(("127.0.0.1", server.port))
                await way.start()
                stack.push_async_callback(way.stop)
                ways.append(way)
        client = ClientSession(timeout=ClientTimeout(total=10))
        stack.push_async_callback(client.close)
        town = Town(folder, postgres, valkey, ways[:NODES], ways[NODES:], client)
        port = await _backend(stack)
        (folder / "routes.yaml").write_text(ROUTES.format(port=port))
        (folder / "policies").mkdir()
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        for number in range(NODES):
            town.nodes.append(await asyncio.to_thread(_start_node, town, number, secret, workers))
            stack.callback(town.nodes[-1].stop)
        yield town


async def _backend(stack: AsyncExitStack) -> int:
    async def answer(request: web.BaseRequest) -> web.Response:
        del request
        return web.Response(text="ok")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return int(runner.addresses[0][1])


def _start_node(town: Town, number: int, secret: str, workers: int) -> Started:
    sql = urlsplit(town.postgres.url)
    login = sql.netloc.rpartition("@")[0]
    through = sql._replace(netloc=f"{login}@127.0.0.1:{town.sql_ways[number].port}")
    environment = {
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{PORT}",
        "GATEWAY_LISTEN": f"127.0.0.1:{PORT + number}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{PORT + 10 + number}",
        "GATEWAY_DATA_DIR": str(town.folder / f"node{number}"),
        "GATEWAY_DATABASE_URL": urlunsplit(through),
        "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{town.redis_ways[number].port}",
        "GATEWAY_KEY_SECRET": secret,
        "GATEWAY_REGISTRATION": "open",
        "GATEWAY_EMAIL_VERIFICATION": "off",
        "GATEWAY_BCRYPT_ROUNDS": "10",
        "GATEWAY_WORKERS": str(workers),
    }
    log = HERE / ".rig" / "log" / f"outages{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    node = Started([program(), "serve"], cpu=None, log=log, cwd=town.folder, env=environment)
    await_port(PORT + number, node)
    return node


async def measure(workers: int, only: str) -> list[Seen]:
    found = []
    async with built(workers) as town:
        body = {"email": "outage@example.com", "password": PASSWORD}
        async with asyncio.timeout(30):
            while (await town.ask(None, "", "POST", town.url(0, "/auth/register"), json=body))[
                0
            ] not in (201, 409):
                await asyncio.sleep(0.1)
        for outage in outages():
            if only in outage.name:
                seen = await suffer(town, outage)
                console.print(
                    f"{seen.name}: {', '.join(seen.faults()) or 'as promised'}", style="dim"
                )
                found.append(seen)
    return found


def main(
    workers: Annotated[int, typer.Option(min=1, help="Of each node.")] = 1,
    only: Annotated[str, typer.Option(help="Outages whose name has this in it.")] = "",
) -> None:
    """Break Redis and PostgreSQL in every way under callers, and count what they see."""
    os.environ.pop("GATEWAY_REDIS_URL", None)
    found = asyncio.run(measure(workers, only))
    table = Table(title=f"{NODES} nodes with {workers} workers each")
    columns = ("outage", "revoked accepted", "204 / pending", "private", "login", "slowest ms")
    for name in (
        *columns,
        "healed ms",
        "204 again ms",
        "public, leased, shared: p99 (most) ms",
        "verdict",
    ):
        table.add_column(name, justify="right")
    for seen in found:
        table.add_row(
            seen.name,
            str(seen.revoked_accepted),
            f"{seen.confirmed} / {seen.pending}",
            _told(seen.statuses["private"]),
            _told(seen.statuses.get("login", Counter())),
            f"{seen.slowest_s * 1000:.0f}",
            f"{seen.healed_s * 1000:.0f}",
            f"{seen.confirming_s * 1000:.0f}",
            ", ".join(_p99_and_most(seen.seconds[kind]) for kind in PUBLIC),
            ", ".join(seen.faults()) or "as promised",
        )
    Console(width=200).print(table)
    raise typer.Exit(1 if any(seen.faults() for seen in found) else 0)


def _p99_and_most(seconds: list[float]) -> str:
    return f"{percentile(seconds, 0.99) * 1000:.0f} ({max(seconds) * 1000:.0f})"


def _told(statuses: Counter[int]) -> str:
    return " ".join(f"{status}:{count}" for status, count in sorted(statuses.items()))


if __name__ == "__main__":
    run_bench(main)
