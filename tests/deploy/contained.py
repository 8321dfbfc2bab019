"""The image, run as docs/operations/containers.md runs it, in front of two backends."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contract.echo import Echo
from tests.contract.running import Running, wait_until_ready
from tests.deploy.runs import CONFIGURATION, Runs, Started
from tests.ports import free_port

TAG = "localhost/authgate:test"
SECRET = base64.b64encode(os.urandom(32)).decode()
ROUTES = """\
version: 1
upstreams:
  echo:
    targets: ["http://127.0.0.1:{echo}"]
  slow:
    targets: ["http://127.0.0.1:{slow}"]
routes:
  - id: me
    match: {{path: /me}}
    policy: signed-in
    upstream: echo
  - id: slow
    match: {{path: /slow}}
    auth: public
    upstream: slow
"""


class _Waiting(socketserver.StreamRequestHandler):
    """Answers once it is told to."""

    server: Backend

    def handle(self) -> None:
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        self.server.asked.set()
        assert self.server.answer.wait(60)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")


class Backend(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Waiting)
        self.asked, self.answer = threading.Event(), threading.Event()


@dataclass(kw_only=True)
class Contained(Running):
    """A gateway in a container, on the network of this machine."""

    runs: Runs
    name: str

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in the container."""
        return self.runs.execute(self.name, words)

    def send(self, number: signal.Signals) -> None:
        self.runs.send(self.name, number)

    def python(self, program: str) -> str:
        done = self.execute("/opt/authgate/bin/python", "-c", program)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def contained(
    runs: Runs, folder: Path, backends: tuple[Echo, Backend], **settings: str
) -> Iterator[Contained]:
    """As docs/operations/containers.md runs it: nothing may be written but the data folder, not
    even a /tmp."""
    echo, backend = backends
    port, admin_port, name = free_port(), free_port(), f"gateway-{secrets.token_hex(4)}"
    configuration = folder / "configuration"
    (configuration / "policies").mkdir(parents=True)
    (configuration / "routes.yaml").write_text(
        ROUTES.format(echo=echo.server_address[1], slow=backend.server_address[1])
    )
    environment = {
        "GATEWAY_LISTEN": f"0.0.0.0:{port}",
        "GATEWAY_ADMIN_LISTEN": f"0.0.0.0:{admin_port}",
        "GATEWAY_PUBLIC_URL": "https://gateway.example.com",
        "GATEWAY_KEY_SECRET": SECRET,
        "GATEWAY_REGISTRATION": "open",
        "GATEWAY_EMAIL_VERIFICATION": "off",
        "GATEWAY_BCRYPT_ROUNDS": "10",
        "GATEWAY_SIGNING_ALG": "EdDSA",
        "GATEWAY_DRAIN_S": "1",
        **settings,
    }
    log = folder / "log"
    what = Started(TAG, environment, {CONFIGURATION: configuration})
    with log.open("wb") as both:
        process = runs.start(name, what, both)
    try:
        wait_until_ready(process, admin_port, log)
        yield Contained(
            port,
            admin_port,
            folder,
            echo,
            process,
            environment,
            log,
            runs=runs,
            name=name,
        )
    finally:
        runs.remove(name)
        process.wait(20)
