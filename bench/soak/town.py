"""What is attacked: two nodes with workers behind HAProxy, PostgreSQL and Valkey behind a network
that breaks, two backends, an identity provider and a mail server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench.cluster import program
from bench.processes import Started, await_port, await_ready, children, listened_on
from bench.rig import HERE, found
from bench.soak.client import HOST
from bench.turned_clock import LIBRARY, TurnedClock
from tests.identity.issuers.provider import Signer, document, signer
from tests.mailbox import Mailbox, mail_server
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer

SITE = Path(__file__).parent / "site"
SHIPPED = HERE.parent / "deploy" / "haproxy" / "haproxy.cfg"
READERS = {True: "user.email.startsWith('reader')", False: "false"}
"""What the policy of reports says before an edit, and after it."""
DRAIN_S = 3
ACCESS_TTL_S = 120
_ONCE = "    retries 0\n    retry-on none\n    no option redispatch\n"
"""Of a backend of the balancer that is to try nothing twice."""


class Missing(RuntimeError):
    """A program that the soak needs is not here."""


@dataclass
class Node:
    name: str
    folder: Path
    port: int
    admin_port: int
    environment: dict[str, str]
    process: Started | None = None
    logs: Path = field(default_factory=Path)

    def start(self) -> None:
        self.spawn()
        self.await_listening()

    def spawn(self) -> None:
        # A killed process may hold its sockets for a moment longer than it.
        deadline = time.monotonic() + 10
        while listened_on(self.port) or listened_on(self.admin_port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"somebody else listens on {self.port}")
            time.sleep(0.02)
        self.process = Started(
            [program(), "serve"], cpu=None, log=self.logs, cwd=self.folder, env=self.environment
        )

    def await_listening(self) -> None:
        assert self.process is not None
        await_port(self.port, self.process, 60)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """Their process ids; none while the node is down."""
        try:
            return children(self.pid) if self.process and not self.process.ended else []
        except OSError:
            return []

    def status(self) -> dict[str, Any]:
        """What `/readyz` says; empty where nobody answers."""
        connection = HTTPConnection("127.0.0.1", self.admin_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return {"status": answer.status, **json.loads(answer.read())}
        except (OSError, HTTPException, ValueError):
            return {}
        finally:
            connection.close()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As an operator on its machine."""
        environment = {k: v for k, v in self.environment.items() if k != "LD_PRELOAD"}
        return subprocess.run(
            [program(), *words],
            text=True,
            capture_output=True,
            timeout=60,
            env=os.environ | environment,
            cwd=self.folder,
        )

    def write_policy(self, readers: str) -> None:
        """In one step, as an editor or a deployment does."""
        policy = self.folder / "policies" / "reports.yaml"
        fresh = policy.with_suffix(".new")
        fresh.write_text(
            (SITE / "policies" / "reports.yaml").read_text().replace("@READERS@", readers)
        )
        os.replace(fresh, policy)


class IdentityProvider:
    """Its key set on a port, unless it is away; and what it signs."""

    def __init__(self) -> None:
        self.port = free_port()
        self.signers: list[Signer] = [signer("ES256", "k-1")]
        self.rotated_at = 0.0
        """On the steady clock: when the key changed that signs."""
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        body = document(*self.signers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def rotate(self) -> None:
        """A new key signs; the one before stays published."""
        fresh = signer("ES256", f"k-{secrets.token_hex(4)}")
        self.stop()
        self.signers = [fresh, *self.signers[:1]]
        self.rotated_at = time.monotonic()
        self.start()

    def token(self, subject: str, roles: list[str], **changed: Any) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "sub": subject,
            "sid": f"s-{subject}",
            "jti": secrets.token_hex(8),
            "iat": now,
            "exp": now + 300,
            "realm_access": {"roles": roles},
        }
        return self.signers[0].token(**(claims | changed))


@dataclass
class Town:
    folder: Path
    workers: int
    stack: ExitStack = field(default_factory=ExitStack)
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    nodes: list[Node] = field(default_factory=list)
    backends: list[Started] = field(default_factory=list)
    backend_ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    provider: IdentityProvider = field(default_factory=IdentityProvider)
    balanced_port: int = field(default_factory=free_port)
    """Through the balancer as `deploy/haproxy` ships it."""
    plain_port: int = field(default_factory=free_port)
    """Through it without any second try."""
    readers: bool = True
    """Whether readers may read reports, as the policy that was written last says."""
    readers_known: bool | None = True
    """The same, once every worker has it; None while it is being edited."""
    limits_unsure_until: float = 0.0
    """On the steady clock: till then what a shared limit has let through may have been forgotten,
    as Redis was away."""

    def stop(self) -> None:
        """What was started, however far `start` came.  May be repeated."""
        self.stack.close()

    @property
    def limits_unsure(self) -> bool:
        return time.monotonic() < self.limits_unsure_until

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def start(self) -> None:
        """Raises Missing where a program is not here."""
        if not found("haproxy"):
            raise Missing("haproxy is not here: apt-get install haproxy")
        if LIBRARY is None:
            raise Missing("libfaketime is not here: apt-get install faketime")
        self.folder.chmod(0o755)
        (self.folder / "log").mkdir()
        self.postgres = PostgresServer(self.folder / "postgres").start()
        self.stack.callback(self.postgres.kill)
        valkey = ValkeyServer(
            self.folder / "valkey", maxmemory_policy="noeviction", appendfsync="everysec"
        )
        self.valkey = valkey.start()
        self.stack.callback(self.valkey.kill)
        self.mail: Mailbox = self.stack.enter_context(mail_server(free_port()))
        self.provider.start()
        self.stack.callback(self.provider.stop)
        for number in range(2):
            self.backends.append(self.start_backend(number))
            self.stack.callback(self._stop_backend, number)
        self._start_ways()
        for number in range(2):
            self.nodes.append(self._node(number))
        for node in self.nodes:
            self.stack.callback(node.stop)
            node.spawn()
        for node in self.nodes:
            node.await_listening()
            await_ready(node.admin_port)
        self._start_balancer()

    def _stop_backend(self, number: int) -> None:
        self.backends[number].stop()

    def start_backend(self, number: int) -> Started:
        port = self.backend_ports[number]
        command = [sys.executable, "-m", "bench.soak.backend", str(port), f"backend-{number}"]
        log = self.folder / "log" / f"backend{number}.log"
        started = Started([*command, str(self.journal)], cpu=None, log=log, cwd=HERE.parent)
        await_port(port, started, 60)
        return started

    # --- the stores, and the ways to them ---

    def _start_ways(self) -> None:
        self.sql_ways, self.redis_ways = (0, 1), (2, 3)
        self._way_ports = [free_port() for _ in range(4)]
        targets = [self.postgres.port] * 2 + [self.valkey.port] * 2
        words = [f"{p}:{t}" for p, t in zip(self._way_ports, targets, strict=True)]
        self._ways = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.store_ways", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
        )
        self.stack.callback(self._end_ways)
        assert self._ways.stdout is not None
        if self._ways.stdout.readline() != "ready\n":
            raise RuntimeError("the ways to the stores did not open")

    def _end_ways(self) -> None:
        assert self._ways.stdin is not None
        self._ways.stdin.close()
        try:
            self._ways.wait(5)
        except subprocess.TimeoutExpired:
            self._ways.kill()
            self._ways.wait()

    async def break_ways(self, ways: tuple[int, ...], how: str) -> None:
        """`how`: a fault of tests/faults.py, or `reset-idle`."""
        await asyncio.to_thread(self._say_to_ways, ways, how)

    def _say_to_ways(self, ways: tuple[int, ...], how: str) -> None:
        assert self._ways.stdin is not None
        assert self._ways.stdout is not None
        for way in ways:
            self._ways.stdin.write(f"{way} {how}\n")
            self._ways.stdin.flush()
            if self._ways.stdout.readline() != "done\n":
                raise RuntimeError("the ways to the stores have ended")

    # --- the nodes ---

    def _node(self, number: int) -> Node:
        folder = self.folder / f"node{number}"
        (folder / "policies").mkdir(parents=True)
        words = {"ISSUER": self.provider.port, "FIRST": self.backend_ports[0]}
        words["SECOND"] = self.backend_ports[1]
        text = (SITE / "routes.yaml").read_text()
        for name, value in words.items():
            text = text.replace(f"@{name}@", str(value))
        (folder / "routes.yaml").write_text(text)
        for policy in (SITE / "policies").glob("*.yaml"):
            shutil.copy(policy, folder / "policies")
        sql = urlsplit(self.postgres.url)
        user = sql.netloc.rpartition("@")[0]
        database = sql._replace(netloc=f"{user}@127.0.0.1:{self._way_ports[number]}")
        port, admin_port = free_port(), free_port()
        environment = {
            "GATEWAY_PUBLIC_URL": f"https://{HOST}",
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
            "GATEWAY_DATA_DIR": str(folder / "data"),
            "GATEWAY_DATABASE_URL": urlunsplit(database),
            "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{self._way_ports[2 + number]}",
            "GATEWAY_KEY_SECRET": self.secret,
            "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
            "GATEWAY_REGISTRATION": "open",
            "GATEWAY_EMAIL_VERIFICATION": "off",
            "GATEWAY_SMTP_URL": f"smtp://127.0.0.1:{self.mail.port}",
            "GATEWAY_MAIL_FROM": "soak@gate.example",
            "GATEWAY_BCRYPT_ROUNDS": "10",
            "GATEWAY_SIGNING_ALG": "ES256",
            "GATEWAY_ACCESS_TTL_S": str(ACCESS_TTL_S),
            "GATEWAY_DRAIN_S": str(DRAIN_S),
            "GATEWAY_WORKERS": str(self.workers),
        }
        node = Node(f"node {number + 1}", folder, port, admin_port, environment)
        node.logs = self.folder / "log" / f"node{number}.log"
        node.write_policy(READERS[True])
        if number == 1:
            self.clock = TurnedClock(folder, read_again_s=1)
            environment |= self.clock.environment
        return node

    def write_policies(self) -> None:
        for node in self.nodes:
            node.write_policy(READERS[self.readers])

    # --- the balancer ---

    def _start_balancer(self) -> None:
        """The shipped file on plain loopback, and a frontend beside it that tries nothing twice."""
        config = self.folder / "haproxy.cfg"
        config.write_text(self._balancer_file(SHIPPED.read_text()))
        log = self.folder / "log" / "haproxy.log"
        command = [found("haproxy"), "-f", str(config), "-db"]
        self.balancer = Started(command, cpu=None, log=log, cwd=self.folder)
        self.stack.callback(self.balancer.stop)
        await_port(self.balanced_port, self.balancer)

    def _balancer_file(self, shipped: str) -> str:
        text = "\n".join(line for line in shipped.splitlines() if "quic" not in line.split("#")[0])
        text = text.replace(
            "bind 0.0.0.0:8443 ssl crt /etc/authgate/tls/pair.pem alpn h2,http/1.1",
            f"bind 127.0.0.1:{self.balanced_port}",
        )
        for node, (listen, admin) in zip(self.nodes, ((8081, 9911), (8082, 9912)), strict=True):
            text = text.replace(
                f"127.0.0.1:{listen} port {admin}", f"127.0.0.1:{node.port} port {node.admin_port}"
            )
        plain = text[text.index("frontend public") :]
        for name in ("public", "authgate", "degraded"):
            plain = plain.replace(f"frontend {name}", f"frontend plain-{name}")
            plain = plain.replace(f"\nbackend {name}\n", f"\nbackend plain-{name}\n{_ONCE}")
            plain = plain.replace(f"use_backend {name}", f"use_backend plain-{name}")
            plain = plain.replace(f"default_backend {name}", f"default_backend plain-{name}")
        plain = plain.replace("nbsrv(authgate)", "nbsrv(plain-authgate)")
        plain = plain.replace(f":{self.balanced_port}", f":{self.plain_port}")
        return f"{text}\n{plain}\n"
