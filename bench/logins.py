"""`python -m bench.logins`: what signing in tells, takes, and costs everybody else.

One node with two workers on PostgreSQL and Valkey, at the installation's own bcrypt cost.
Four figures, each with its goal; exits 1 when one is missed:

- the medians of a wrong password for a known and for an unknown address, tried in turn;
- the 95th percentile of a right password, nothing else going on;
- the 95th percentile of a proxied call while 40 sign-ins are under way all the time;
- of 30 guesses sent at once at one account, how many are evaluated, with every challenge solved.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Any

import altcha
import typer
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.cluster import PASSWORD, Cluster, percentile
from bench.processes import run_bench
from bench.rig import HERE

console = Console()
TRIES_AN_ADDRESS = 2
"""Under the three failures after which a challenge is asked for."""
CALLER = "caller@example.com"
CALLERS = 8
GOALS = {"apart": 5.0, "login_p95_ms": 200.0, "proxy_p95_ms": 50.0, "evaluated": 5.0}


@dataclass
class LazyAuthApi:
    """Sends sign-ins as if each came from a network of its own, through a proxy that is trusted."""

    url: str
    session: ClientSession
    sent: int = 0

    async def login(self, email: str, password: str, captcha: str | None = None) -> Answered:
        self.sent += 1
        address = f"10.{self.sent >> 8 & 255}.{self.sent & 255}.7"
        body = {"email": email, "password": password}
        if captcha is not None:
            body["captcha"] = captcha
        began = time.perf_counter()
        async with self.session.post(
            f"{self.url}/auth/login", json=body, headers={"X-Forwarded-For": address}
        ) as answer:
            text = await answer.read()
        took_s = time.perf_counter() - began
        return Answered(answer.status, json.loads(text), took_s)

    async def register(self, email: str) -> None:
        body = {"email": email, "password": PASSWORD}
        async with self.session.post(f"{self.url}/auth/register", json=body) as answer:
            if answer.status != 201:
                raise RuntimeError(f"register was answered {answer.status}")

    async def call(self, token: str) -> float:
        """Seconds that a proxied call took."""
        began = time.perf_counter()
        async with self.session.get(
            f"{self.url}/api/whoami", headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a call was answered {answer.status}")
        return time.perf_counter() - began

    async def solved(self) -> str:
        async with self.session.get(f"{self.url}/auth/captcha") as answer:
            challenge = altcha.Challenge.from_dict(await answer.json())
        solution = await asyncio.to_thread(altcha.solve_challenge, challenge)
        assert solution is not None
        payload = altcha.Payload(challenge, solution).to_dict()
        return base64.b64encode(json.dumps(payload).encode()).decode()


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    body: dict[str, Any]
    took_s: float


@dataclass
class Bench:
    desk: LazyAuthApi
    tries: int
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    """What is beside a figure in the table."""

    async def run(self) -> None:
        people = [f"person{number}@example.com" for number in range(max(40, self.tries // 2))]
        with progress("accounts", len(people)) as step:
            for email in people:
                await self.desk.register(email)
                step()
        await self._known_and_unknown(people)
        await self._unloaded(people)
        await self._beside_traffic(people[:40])
        await self._guesses()

    async def _known_and_unknown(self, people: list[str]) -> None:
        took: dict[bool, list[float]] = {True: [], False: []}
        strangers = [f"stranger{number}@example.com" for number in range(len(people))]
        pairs = list(zip(people, strangers, strict=True))
        with progress("known, unknown", self.tries) as step:
            for number in range(self.tries):
                known, unknown = pairs[number % len(pairs)]
                # In either order, so that neither always follows the other.
                for email in random.sample([known, unknown], 2):
                    answer = await self.desk.login(email, "not the password of anybody")
                    expect(answer, 401)
                    took[email == known].append(answer.took_s)
                step()
        known_s, unknown_s = median(took[True]), median(took[False])
        self.figures["known_ms"] = known_s * 1000
        self.figures["unknown_ms"] = unknown_s * 1000
        self.figures["apart"] = abs(known_s - unknown_s) / unknown_s * 100
        self.told["apart"] = f"known {known_s * 1000:.2f} ms, unknown {unknown_s * 1000:.2f} ms"

    async def _unloaded(self, people: list[str]) -> None:
        took = []
        with progress("unloaded", 100) as step:
            for number in range(100):
                answer = await self.desk.login(people[number % len(people)], PASSWORD)
                expect(answer, 200)
                took.append(answer.took_s)
                step()
        self.figures["login_p95_ms"] = percentile(took, 0.95) * 1000
        self.told["login_p95_ms"] = f"median {median(took) * 1000:.1f} ms"

    async def _beside_traffic(self, people: list[str]) -> None:
        token = str((await self.desk.login(CALLER, PASSWORD)).body["access_token"])
        alone = await self._calls(token, self.seconds)
        logins: Counter[int] = Counter()
        over = asyncio.Event()

        async def sign_in(email: str) -> None:
            while not over.is_set():
                logins[(await self.desk.login(email, PASSWORD)).status] += 1

        crowd = [asyncio.create_task(sign_in(email)) for email in people]
        beside = await self._calls(token, self.seconds)
        over.set()
        await asyncio.gather(*crowd)
        if set(logins) - {200}:
            raise RuntimeError(f"sign-ins were answered {dict(logins)}")
        self.figures["proxy_alone_p95_ms"] = percentile(alone, 0.95) * 1000
        self.figures["proxy_p95_ms"] = percentile(beside, 0.95) * 1000
        self.told["proxy_p95_ms"] = (
            f"median {median(beside) * 1000:.1f} ms of {len(beside):,} calls beside {logins[200]} "
            f"sign-ins; alone {percentile(alone, 0.95) * 1000:.1f} ms"
        )

    async def _calls(self, token: str, seconds: float) -> list[float]:
        took: list[float] = []
        until = time.monotonic() + seconds

        async def caller() -> None:
            while time.monotonic() < until:
                took.append(await self.desk.call(token))
                # A person's pace: what is measured is the wait, not how much can be pushed.
                await asyncio.sleep(0.02)

        with progress("proxied calls", 1) as step:
            await asyncio.gather(*(caller() for _ in range(CALLERS)))
            step()
        return took

    async def _guesses(self) -> None:
        email = "guessed@example.com"
        await self.desk.register(email)
        with progress("solving challenges", 30) as step:
            solutions = [await _stepped(self.desk.solved, step) for _ in range(30)]
        answers = await asyncio.gather(
            *(
                self.desk.login(email, f"guess number {number}", solution)
                for number, solution in enumerate(solutions)
            )
        )
        counts = Counter(answer.body["reason"] for answer in answers)
        self.figures["evaluated"] = counts["invalid_credentials"]
        self.told["evaluated"] = ", ".join(f"{n} {reason}" for reason, n in counts.most_common())


async def _stepped(ask: Callable[[], Awaitable[str]], step: Callable[[], None]) -> str:
    answer = await ask()
    step()
    return answer


def expect(answer: Answered, status: int) -> None:
    if answer.status != status:
        raise RuntimeError(f"a sign-in was answered {answer.status}: {answer.body}")


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; one line where there is none."""
    if not console.is_terminal:
        console.print(f"{name} …")
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as shown:
        task = shown.add_task(name, total=total)
        yield lambda: shown.advance(task)


async def measured(url: str, tries: int, seconds: float) -> Bench:
    async with ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=60)
    ) as session:
        bench = Bench(LazyAuthApi(url, session), tries, seconds)
        await bench.run()
        return bench


def show(bench: Bench, title: str) -> bool:
    """The table; whether every goal was reached."""
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("besides")
    rows = (
        ("apart", "medians of known and unknown apart", "%"),
        ("login_p95_ms", "sign-in unloaded, p95", " ms"),
        ("proxy_p95_ms", "proxied call beside 40 sign-ins, p95", " ms"),
        ("evaluated", "evaluated of 30 guesses at once", ""),
    )
    for name, about, unit in rows:
        value, goal = bench.figures[name], GOALS[name]
        text = f"{value:.0f}" if not unit else f"{value:.1f}{unit}"
        reached = value <= goal
        table.add_row(
            about, text if reached else f"[red]{text}[/]", f"≤ {goal:g}{unit}", bench.told[name]
        )
    console.print(table)
    return all(bench.figures[name] <= goal for name, goal in GOALS.items())


def main(
    tries: Annotated[int, typer.Option(min=10, help="Of each kind of address.")] = 500,
    seconds: Annotated[float, typer.Option(min=1, help="Of proxied calls, twice.")] = 10,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[
        int | None, typer.Option(min=10, max=14, help="bcrypt's cost, else as this machine has it.")
    ] = None,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """Measure sign-ins: what they tell, what they take, and what they cost others."""
    cluster = Cluster.build(database_url, redis_url)
    settings = {
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
        "GATEWAY_BCRYPT_ROUNDS": "" if rounds is None else str(rounds),
    }
    try:
        cluster.start(nodes=1, workers=workers, settings=settings)
        cluster.add_user(CALLER)
        bench = asyncio.run(measured(cluster.nodes[0].url, tries, seconds))
    finally:
        cluster.stop()
    reached = show(bench, f"Sign-ins over {workers} workers, {tries} tries of each kind")
    (HERE / ".rig" / "logins.json").write_text(json.dumps(bench.figures, indent=1) + "\n")
    if not reached:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
