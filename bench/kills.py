"""`python -m bench.kills`: kill -9 of everything, again and again, while sessions refresh.

Master, workers and the embedded Valkey die at once, ten times; clients try again with what
they hold.  Exits 1 when a refresh token that was answered is not good afterwards, when one
token has two successors, or when a process outlives its parent.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import ClientError
from rich.console import Console

from bench.client import Caller, Times, UnexpectedAnswer
from bench.cluster import PASSWORD, program
from bench.processes import Processes, Started, await_port, family, run_bench
from bench.rig import BASE_PORT, HERE, Rig
from gateway.stores.open_database import open_database

console = Console()
EMAIL = "kills@example.com"
CLIENTS = 16
PORT = BASE_PORT + 70
TWICE_EVERY = 10
"""Each so-manieth refresh is sent over two connections at once."""


@dataclass
class House:
    """One gateway on embedded stores (or a given SQL store), to be killed whole."""

    rig: Rig
    folder: Path
    database_url: str
    workers: int
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    process: Started | None = None
    restarts_s: list[float] = field(default_factory=list)
    orphans: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{PORT}",
            "GATEWAY_LISTEN": f"127.0.0.1:{PORT}",
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{PORT + 1}",
            "GATEWAY_DATA_DIR": str(self.folder),
            "GATEWAY_DATABASE_URL": self.database_url,
            "GATEWAY_REGISTRATION": "open",
            "GATEWAY_EMAIL_VERIFICATION": "off",
            "GATEWAY_BCRYPT_ROUNDS": "10",
            "GATEWAY_WORKERS": str(self.workers),
            "GATEWAY_KEY_SECRET": self.secret,
        }

    def start(self) -> None:
        # The threads of a killed process may hold its sockets for a moment longer than it.
        deadline = time.monotonic() + 10
        while _somebody_listens():
            if time.monotonic() > deadline:
                raise RuntimeError(f"somebody else listens on {PORT}")
            time.sleep(0.01)
        began_at = time.monotonic()
        files = ["--config", str(self.rig.fill("gateway/routes.yaml"))]
        files += ["--policies", str(self.rig.fill("gateway/policies/users.yaml").parent)]
        log = self.rig.folder / "log" / "kills.log"
        command = [program(), "serve", *files]
        self.process = Started(
            command, cpu=None, log=log, cwd=self.rig.folder, env=self.environment
        )
        await_port(PORT, self.process)
        self.restarts_s.append(time.monotonic() - began_at)

    def kill(self) -> None:
        """-9 for every process at once; whoever is left after a moment is an orphan."""
        assert self.process is not None
        with Processes(family(self.process.pid)) as processes:
            for pid in processes.pids:
                os.kill(pid, signal.SIGKILL)
            self.process.stop()
            self.orphans += processes.left_after(5)

    def kill_master(self) -> None:
        """-9 for the master alone: what it started must follow by itself."""
        assert self.process is not None
        with Processes(family(self.process.pid)) as processes:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.stop()
            self.orphans += processes.left_after(10)

    def add_user(self) -> None:
        subprocess.run(
            [program(), "users", "create", EMAIL, "--verified", "--password-stdin"],
            input=PASSWORD + "\n",
            text=True,
            check=True,
            capture_output=True,
            env=os.environ | self.environment,
            cwd=self.rig.folder,
        )


@dataclass
class Outcome:
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    successors: dict[str, set[str]] = field(default_factory=dict)

    def note(self, token: str, successor: str) -> None:
        self.acknowledged += 1
        self.successors.setdefault(token, set()).add(successor)

    @property
    def doubled(self) -> int:
        return sum(len(found) > 1 for found in self.successors.values())


async def refresh_until(goal: int, outcome: Outcome, clients: int) -> None:
    """Each client holds one session and refreshes it until all together have had enough."""
    times = Times()
    callers = [
        [Caller(f"http://127.0.0.1:{PORT}", times) for _ in range(2)] for _ in range(clients)
    ]

    async def one(pair: list[Caller]) -> None:
        token = ""
        turn = 0
        while outcome.acknowledged < goal:
            turn += 1
            try:
                if not token:
                    token = (await pair[0].login(EMAIL, PASSWORD)).refresh_token
                    continue
                asked = pair if turn % TWICE_EVERY == 0 else pair[:1]
                answers = await asyncio.gather(*(caller.refresh(token) for caller in asked))
            except (ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.05)
                continue
            except UnexpectedAnswer as error:
                if str(error).startswith("429"):
                    token = ""  # this session was renewed too often: go on with another
                if str(error).startswith(("429", "503")):
                    await asyncio.sleep(0.05)
                    continue
                outcome.lost.append(str(error))
                return
            for answer in answers:
                outcome.note(token, answer.refresh_token)
            token = answers[0].refresh_token

    try:
        await asyncio.gather(*map(one, callers))
    finally:
        await asyncio.gather(*(caller.close() for pair in callers for caller in pair))


async def attack(house: House, refreshes: int, kills: int, clients: int) -> Outcome:
    outcome = Outcome()
    refreshing = asyncio.create_task(refresh_until(refreshes, outcome, clients))
    for number in range(kills):
        due = refreshes * (number + 1) // (kills + 1)
        while outcome.acknowledged < due and not refreshing.done():
            await asyncio.sleep(0.005)
        await asyncio.to_thread(house.kill_master if number % 3 == 2 else house.kill)
        await asyncio.to_thread(house.start)
        console.print(
            f"kill {number + 1}: {outcome.acknowledged} acknowledged, {len(outcome.lost)} lost,"
            f" back in {house.restarts_s[-1]:.1f} s",
            style="dim",
        )
    await refreshing
    return outcome


async def broken_families(database_url: str) -> int:
    """Families that live and have not exactly one token to go on with."""
    database = open_database(database_url)
    try:
        async with database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT family_id, SUM(CASE WHEN used_at IS NULL THEN 1 ELSE 0 END) AS unused"
                " FROM refresh_tokens GROUP BY family_id"
            )
    finally:
        await database.close()
    return sum(int(row["unused"]) != 1 for row in rows)


def run(
    refreshes: int, kills: int, clients: int, workers: int, database_url: str
) -> dict[str, int]:
    rig = Rig.build(HERE / ".rig" / "kills", users=1)
    folder = rig.folder / f"kills-{secrets.token_hex(4)}"
    url = database_url or f"sqlite:///{folder}/gateway.db"
    house = House(rig, folder, url, workers)
    try:
        house.start()
        house.add_user()
        outcome = asyncio.run(attack(house, refreshes, kills, clients))
        house.kill()
        broken = asyncio.run(broken_families(url))
    finally:
        if house.process is not None:
            house.process.stop()
        shutil.rmtree(folder, ignore_errors=True)
    for line in outcome.lost:
        console.print(f"lost: {line}", style="red")
    return {
        "kills": kills,
        "acknowledged": outcome.acknowledged,
        "lost": len(outcome.lost),
        "with_two_successors": outcome.doubled,
        "broken_families": broken,
        "orphans": house.orphans,
        "slowest_restart_ms": round(max(house.restarts_s) * 1000),
    }


def _somebody_listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def main(
    refreshes: Annotated[int, typer.Option(min=1)] = 10_000,
    kills: Annotated[int, typer.Option(min=0)] = 10,
    clients: Annotated[int, typer.Option(min=1)] = CLIENTS,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    database_url: Annotated[str, typer.Option(help="Else SQLite in the data folder.")] = "",
) -> None:
    """kill -9 of everything while sessions refresh: nothing acknowledged may be lost."""
    figures = run(refreshes, kills, clients, workers, database_url)
    console.print_json(json.dumps(figures))
    bad = ("lost", "with_two_successors", "broken_families", "orphans")
    raise typer.Exit(1 if any(figures[name] for name in bad) else 0)


if __name__ == "__main__":
    run_bench(main)
