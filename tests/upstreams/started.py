"""The upstreams of the module, each as its own documentation starts it, on a port of its own.

An upstream is started when the first test asks for it.  What has to be installed for it, the skip
says; node's packages stand in `.tools/`, as their lock file has them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.proxies import program
from tests.kept import kept
from tests.node_packages import lacking
from tests.ports import free_port
from tests.servers import end_with_parent, wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NODE = kept("upstreams")
WITHIN_S = 60.0
FILE_BYTES = 3 << 20
PACKED = b"packed" * 10_000

ROUTES = """\
version: 1
upstreams:
{upstreams}
routes:
  - id: page
    match: {{path: /fastapi/page}}
    auth: public
    upstream: fastapi
{routes}
"""
UPSTREAM = '  {name}: {{targets: ["http://127.0.0.1:{port}"], timeout: {{response: 10s}}}}\n'
ROUTE = """\
  - id: {name}
    match: {{path: "/{name}/{{rest:path}}"}}
    policy: signed-in
    upstream: {name}
    max_body: 400MiB
  - id: {name}.told
    match: {{path: "/{name}/echo/told"}}
    policy: signed-in
    upstream: {name}
    identity_headers: [authgate, authelia, grafana]
  - id: {name}.closed
    match: {{path: "/{name}/echo/closed"}}
    policy: hidden
    action: hidden:read
    upstream: {name}
  - id: {name}.book
    match: {{path: "/{name}/books/{{number:int}}/pages"}}
    policy: hidden
    action: hidden:read
    upstream: {name}
  - id: {name}.document
    match: {{path: "/{name}/documents/{{id:uuid}}/pages"}}
    policy: hidden
    action: hidden:read
    upstream: {name}
"""


@dataclass
class Upstreams:
    """Ports are fixed from the start, so that one routes.yaml names them all."""

    folder: Path
    ports: dict[str, int]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def planned(cls, folder: Path) -> Upstreams:
        folder.mkdir()
        (folder / "file").write_bytes(os.urandom(FILE_BYTES))
        (folder / "packed.txt").write_bytes(PACKED)
        return cls(folder, {name: free_port() for name in COMMANDS})

    @property
    def routes(self) -> str:
        """As `tests.contract.running.started` takes them."""
        text = ROUTES.format(
            upstreams="".join(UPSTREAM.format(name=n, port=p) for n, p in self.ports.items()),
            routes="".join(ROUTE.format(name=name) for name in self.ports),
        )
        return text.replace("{", "{{").replace("}", "}}")

    @property
    def file(self) -> bytes:
        return (self.folder / "file").read_bytes()

    def start(self, name: str) -> None:
        if name in self.running:
            return
        if lacking := missing(name):
            pytest.skip(f"{name} is not here: {lacking}")
        port, own = self.ports[name], self.folder / name
        own.mkdir()
        command = COMMANDS[name](own, port)
        environment = {
            # What coverage leaves for children is for gateways: these are nobody's to measure.
            **{n: v for n, v in os.environ.items() if not n.startswith("COVERAGE_")},
            "PORT": str(port),
            "PREFIX": f"/{name}",
            "FILE": str(self.folder / "file"),
            "NODE_ENV": "production",
            "PYTHONPATH": str(ROOT),
            "XDG_DATA_HOME": str(own),
            "XDG_CONFIG_HOME": str(own),
        }
        log = own / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=own,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )
        self.running[name] = process
        wait_until(lambda: answers(port) or process.poll() is not None, WITHIN_S, name)
        assert process.poll() is None, log.read_text()[-3000:]

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- how each is started ------------------------------------------------------------------------


def _uvicorn(folder: Path, port: int) -> list[str]:
    words = ["--port", str(port), "--forwarded-allow-ips", "127.0.0.1", "--log-level", "error"]
    return [sys.executable, "-m", "uvicorn", "tests.upstreams.apps.fastapi_app:app", *words]


def _gunicorn(application: str) -> Callable[[Path, int], list[str]]:
    def command(folder: Path, port: int) -> list[str]:
        # Threads, or one kept connection would keep all others waiting.
        words = ["--bind", f"127.0.0.1:{port}", "--threads", "4", "--log-level", "error"]
        words += ["--forwarded-allow-ips", "127.0.0.1", "--no-control-socket"]
        words += ["--keep-alive", "5"]
        return [sys.executable, "-m", "gunicorn", f"tests.upstreams.apps.{application}", *words]

    return command


def _node(script: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, port: ["node", str(NODE / script)]


def _filled(template: str, folder: Path, port: int) -> Path:
    text = (HERE / "apps" / template).read_text()
    words = {"PORT": port, "FOLDER": folder.parent, "FILE": folder.parent / "file"}
    words["PACKED"] = folder.parent / "packed.txt"
    for name, value in words.items():
        text = text.replace(f"@{name}@", str(value))
    path = folder / template
    path.write_text(text)
    return path


def _nginx(folder: Path, port: int) -> list[str]:
    config = _filled("nginx.conf", folder, port)
    user = "user root;" if os.geteuid() == 0 else ""
    return [program("nginx") or "nginx", "-p", str(folder), "-c", str(config), "-g", user]


def _caddy(folder: Path, port: int) -> list[str]:
    config = _filled("Caddyfile", folder, port)
    return [program("caddy") or "caddy", "run", "--adapter", "caddyfile", "--config", str(config)]


COMMANDS: dict[str, Callable[[Path, int], list[str]]] = {
    "fastapi": _uvicorn,
    "django": _gunicorn("django_app:application"),
    "flask": _gunicorn("flask_app:app"),
    "express": _node("server.js"),
    "nginx": _nginx,
    "caddy": _caddy,
    "grpcweb": _node("grpc-server.js"),
    "sink": lambda folder, port: [sys.executable, "-m", "bench.streams", str(port)],
}


def missing(name: str) -> str:
    """What to install for it; empty when it is there, or could be fetched just now."""
    if name == "nginx" and program("nginx") is None:
        return "apt-get install nginx-light"
    if name == "caddy" and program("caddy") is None:
        return "apt-get install caddy"
    if name in ("express", "grpcweb"):
        return node_lacks()
    return ""


def node_lacks() -> str:
    """As `missing`, for the packages of node's side."""
    return lacking(HERE / "node", NODE)
