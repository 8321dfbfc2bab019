"""`python -m bench.decide`: what asking authgate adds to a call through nginx.

One nginx of two servers stands before one backend: the first hands calls on, the second asks
the decision API first, as deploy/nginx has it.  Single calls go to both in turn over kept
connections, so that whatever disturbs the machine disturbs both; then each is loaded for the
cost of a decision in CPU time.  Exits 1 when the median of a call grows by 0.3 ms or more.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.load import PATH, Round, load
from bench.peers import Peer, gateway_environment, make_database
from bench.processes import Started, run_bench
from bench.rig import HERE, LOAD_CPU, PROXY_CPU, Rig, found

console = Console()
GOAL_MS = 0.3
DEPLOYED = HERE.parent / "deploy" / "nginx"
WARM_UP = 200

FRONT = """
worker_processes 1;
daemon off;
pid @RIG@/run/@NAME@.pid;
error_log @RIG@/log/@NAME@.err;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_body_temp_path @RIG@/run/@NAME@.1;
  proxy_temp_path @RIG@/run/@NAME@.2;
  fastcgi_temp_path @RIG@/run/@NAME@.3;
  uwsgi_temp_path @RIG@/run/@NAME@.4;
  scgi_temp_path @RIG@/run/@NAME@.5;
  upstream app { server 127.0.0.1:@BACKEND@; keepalive 128; keepalive_requests 100000000; }
"""
"""How the configuration of a front begins; behind it comes what it asks."""
MAPS = "\n".join(
    line
    for line in (DEPLOYED / "nginx.conf").read_text().splitlines()
    if line.lstrip().startswith("map ")
)
"""Those that the files of `deploy/nginx` go by."""
NGINX = (
    f"{MAPS}\n"
    + """\
  upstream authgate_public { server 127.0.0.1:@PUBLIC@; }
  upstream authgate_decisions {
    server 127.0.0.1:@ADMIN@; keepalive 128; keepalive_requests 100000000;
  }
  server {
    listen 127.0.0.1:@PLAIN@ backlog=4096;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }
  }
  server {
    listen 127.0.0.1:@JUDGED@ backlog=4096;
    include authgate.conf;
    location / { include authgate-protect.conf; proxy_pass http://app; }
  }
}
"""
)


class Line:
    """One kept connection that sends the same request again and again."""

    def __init__(self, port: int, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = (
            f"GET /api/users/1?fields=name HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"User-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n\r\n"
        ).encode()

    def ask_ms(self) -> float:
        began_at = time.perf_counter()
        self._socket.sendall(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            piece = self._socket.recv(65_536)
            if not piece:
                raise RuntimeError(f"closed after {answer[:200]!r}")
            answer += piece
        took = time.perf_counter() - began_at
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered {answer[:200]!r}")
        return took * 1000


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def start_gateway(rig: Rig, port: int, admin: int, backend: int) -> Started:
    routes = rig.fill("gateway/routes.yaml", BACKEND=backend)
    routes.write_text(routes.read_text() + "\ndecision_api: {trusted_peers: [127.0.0.1/32]}\n")
    policies = rig.fill("gateway/policies/users.yaml").parent
    environment = gateway_environment(rig, port)
    environment["GATEWAY_ADMIN_LISTEN"] = f"127.0.0.1:{admin}"
    program = str(Path(sys.executable).with_name("gateway"))
    make_database(rig, environment, rig.credentials.public_pem)
    words = ["serve", "--config", str(routes), "--policies", str(policies)]
    return rig.start("gateway", [program, *words], admin, env=environment)


def start_nginx(rig: Rig, name: str = "front", template: str = NGINX, **ports: int) -> Started:
    text = FRONT + template
    for word, value in {"RIG": rig.folder, "NAME": name, **ports}.items():
        text = text.replace(f"@{word}@", str(value))
    config = rig.folder / "cfg" / f"{name}.conf"
    config.write_text(text)
    for path in DEPLOYED.glob("authgate*.conf"):
        (config.parent / path.name).write_text(path.read_text())
    command = [found("nginx"), "-p", str(rig.folder), "-c", str(config)]
    return rig.start(name, command, ports["JUDGED"], cpu=PROXY_CPU)


def one_by_one(plain: int, judged: int, token: str, count: int) -> tuple[list[float], list[float]]:
    lines = Line(plain, token), Line(judged, token)
    for line in lines:
        for _ in range(WARM_UP):
            line.ask_ms()
    pairs = [(lines[0].ask_ms(), lines[1].ask_ms()) for _ in range(count)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def loaded(rig: Rig, name: str, port: int, process: Started, seconds: float) -> Round:
    peer = Peer(name, name, port, lambda *_: process)
    return load(rig, peer, process, seconds)


def asked(rig: Rig, admin: int, gateway: Started, seconds: float) -> Round:
    """The decision API alone, asked as Envoy asks it, with nothing in between."""
    peer = Peer("decisions", "decisions", admin, lambda *_: gateway)
    words = ("forwarded=1",)
    return load(rig, peer, gateway, seconds, path=f"/decide/envoy{PATH}", words=words)


def main(
    calls: Annotated[int, typer.Option(min=100, help="Single calls to each.")] = 5_000,
    seconds: Annotated[float, typer.Option(min=0, help="Of load on each; 0 for none.")] = 5.0,
) -> None:
    """Measures what auth_request adds, and what a decision costs."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig.build(Path(folder), 1_000)
        backend, public, admin, plain, judged = free_ports(5)
        try:
            config = rig.fill("backend.conf", BACKEND=backend)
            rig.start(
                "backend",
                [found("nginx"), "-p", folder, "-c", str(config)],
                backend,
                cpu=LOAD_CPU,
            )
            gateway = start_gateway(rig, public, admin, backend)
            front = start_nginx(
                rig, BACKEND=backend, PUBLIC=public, ADMIN=admin, PLAIN=plain, JUDGED=judged
            )
            before, after = one_by_one(plain, judged, rig.credentials.good, calls)
            added_ms = median(b - a for a, b in zip(before, after, strict=True))
            figures = {
                "plain_median_ms": round(median(before), 4),
                "judged_median_ms": round(median(after), 4),
                "added_median_ms": round(added_ms, 4),
            }
            if seconds:
                idle = loaded(rig, "plain", plain, front, seconds)
                # Over the same load, what nginx uses and what authgate uses.
                used_s = gateway.cpu_s()
                busy = loaded(rig, "judged", judged, front, seconds)
                used_s = gateway.cpu_s() - used_s
                figures |= {
                    "plain_requests_a_s": round(idle.requests_a_s),
                    "judged_requests_a_s": round(busy.requests_a_s),
                    "nginx_plain_cpu_us": round(idle.cpu_us, 1),
                    "nginx_judged_cpu_us": round(busy.cpu_us, 1),
                    "authgate_cpu_us": round(used_s * 1e6 / (busy.requests_a_s * seconds), 1),
                    "refused_or_broken": busy.refused + busy.broken,
                }
                alone = asked(rig, admin, gateway, seconds)
                figures |= {
                    "alone_decisions_a_s": round(alone.requests_a_s),
                    "alone_cpu_us": round(alone.cpu_us, 1),
                    "alone_p50_ms": round(alone.p50_ms, 3),
                    "alone_p99_ms": round(alone.p99_ms, 3),
                    "alone_refused_or_broken": alone.refused + alone.broken,
                }
                # What the same calls cost where authgate carries them itself.
                carried = loaded(rig, "carried", public, gateway, seconds)
                figures |= {
                    "carried_requests_a_s": round(carried.requests_a_s),
                    "carried_cpu_us": round(carried.cpu_us, 1),
                    "carried_refused_or_broken": carried.refused + carried.broken,
                }
        finally:
            rig.stop()
    table = Table("figure", "value", title="nginx, and nginx that asks authgate")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console.print(table)
    (HERE / ".rig").mkdir(exist_ok=True)
    (HERE / ".rig" / "decide.json").write_text(json.dumps(figures, indent=1) + "\n")
    if figures["added_median_ms"] >= GOAL_MS:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
