"""Two nodes with workers on one PostgreSQL and one Valkey, as an operator runs them."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import (
    Started,
    await_port,
    await_ready,
    children,
    family,
    resident_bytes,
)
from bench.rig import BASE_PORT, HERE, Rig
from gateway.identity.accounts.user_import import ImportedUser, import_users
from gateway.stores.open_database import open_database
from tests.servers import PostgresServer, ValkeyServer

PASSWORD = "a-benchmark-has-no-secrets-9-but-this"


@dataclass
class Node:
    port: int
    process: Started

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory_bytes(self) -> int:
        """Of all its processes; pages that they share are counted once (PSS)."""
        total = 0
        for pid in family(self.process.pid):
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(
                int(line.split()[1]) * 1024
                for line in rollup.splitlines()
                if line.startswith("Pss:")
            )
        return total

    def workers_rss_bytes(self) -> list[int]:
        """Resident memory of each worker, shared pages included."""
        return [resident_bytes(pid) for pid in children(self.process.pid)]


@dataclass
class Cluster:
    rig: Rig
    database_url: str
    redis_url: str
    servers: list[PostgresServer | ValkeyServer] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """Of the last node that was started; the command line works with it too."""

    @classmethod
    def build(cls, database_url: str = "", redis_url: str = "") -> Cluster:
        """Starts what no URL was given for."""
        rig = Rig.build(HERE / ".rig", users=1)
        cluster = cls(rig, database_url, redis_url)
        folder = rig.folder / "stores"
        shutil.rmtree(folder, ignore_errors=True)
        if not database_url:
            postgres = PostgresServer(folder / "postgres").start()
            cluster.servers.append(postgres)
            cluster.database_url = postgres.url
        if not redis_url:
            valkey = ValkeyServer(
                folder / "valkey", maxmemory_policy="noeviction", appendfsync="everysec"
            ).start()
            cluster.servers.append(valkey)
            cluster.redis_url = valkey.url
        rig.start_backend()
        return cluster

    def start(
        self,
        *,
        nodes: int,
        workers: int,
        settings: Mapping[str, str] | None = None,
        routes: Path | None = None,
    ) -> None:
        """`settings` are said besides those of every bench, or instead of them; `routes` is a
        file that was filled, instead of that of every bench."""
        rig = self.rig
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        files = [
            "--config",
            str(routes or rig.fill("gateway/routes.yaml")),
            "--policies",
            str(rig.fill("gateway/policies/users.yaml").parent),
        ]
        for number in range(nodes):
            port = BASE_PORT + 40 + number
            folder = rig.folder / f"node{number}"
            shutil.rmtree(folder, ignore_errors=True)
            self.environment = {
                "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{BASE_PORT + 40}",
                "GATEWAY_LISTEN": f"127.0.0.1:{port}",
                "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{port + 20}",
                "GATEWAY_DATA_DIR": str(folder),
                "GATEWAY_DATABASE_URL": self.database_url,
                "GATEWAY_REDIS_URL": self.redis_url,
                "GATEWAY_KEY_SECRET": secret,
                "GATEWAY_REGISTRATION": "open",
                "GATEWAY_EMAIL_VERIFICATION": "off",
                "GATEWAY_BCRYPT_ROUNDS": "10",
                "GATEWAY_WORKERS": str(workers),
                **(settings or {}),
            }
            command = [program(), "serve", *files]
            log = rig.folder / "log" / f"node{number}.log"
            process = Started(command, cpu=None, log=log, cwd=rig.folder, env=self.environment)
            rig.started.append(process)
            await_port(port, process)
            await_ready(port + 20)
            self.nodes.append(Node(port, process))

    def add_user(self, email: str) -> None:
        command = [program(), "users", "create", email, "--role", "user", "--verified"]
        subprocess.run(
            [*command, "--password-stdin"],
            input=PASSWORD + "\n",
            text=True,
            check=True,
            capture_output=True,
            env=os.environ | self.environment,
            cwd=self.rig.folder,
        )

    def add_users(self, emails: Sequence[str]) -> None:
        """Verified users of the role `user` with the same password, hashed once: the first is
        made as an operator would, the others are brought in with its hash."""
        self.add_user(emails[0])
        asyncio.run(_bring_in(self.database_url, emails))

    def stop(self) -> None:
        self.rig.stop()
        for server in self.servers:
            server.kill()


async def _bring_in(database_url: str, emails: Sequence[str]) -> None:
    database = open_database(database_url)
    try:
        async with database.read_transaction() as tx:
            first = await tx.one(
                "SELECT password_hash FROM accounts WHERE email_key = :key", key=emails[0]
            )
        assert first is not None
        people = [
            ImportedUser(line, email, email, True, ("user",), str(first["password_hash"]))
            for line, email in enumerate(emails[1:], 2)
        ]
        if problems := await import_users(database, people):
            raise RuntimeError(f"{emails[problems[0].line - 1]}: {problems[0].problem}")
    finally:
        await database.close()


def program() -> str:
    """The `gateway` of the environment that runs this."""
    return str(Path(sys.executable).with_name("gateway"))


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
