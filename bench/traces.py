"""`python -m bench.traces`: what a request costs where calls are traced.

Three gateways with one worker each, without traces, with one call in a hundred sampled and with
every call, before one nginx and one collector (a process of its own, which reads and forgets).  One
connection each asks in turns; the CPU time is that of all processes of a gateway, the thread that
sends included, as the median of the rounds.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.decide import free_ports
from bench.instructions import Kind, ask, kinds
from bench.kept_connection import KeptConnection
from bench.peers import gateway_environment
from bench.processes import Started, await_ready, run_bench
from bench.results import machine
from bench.rig import LOAD_CPU, PROXY_CPU, Rig, found

console = Console(width=None if Console().is_terminal else 120)
VARIANTS = {
    "off": {},
    "one in a hundred": {"GATEWAY_TRACES": "otlp", "GATEWAY_TRACES_SAMPLE": "0.01"},
    "every call": {"GATEWAY_TRACES": "otlp", "GATEWAY_TRACES_SAMPLE": "1"},
}


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def collect(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), Collector).serve_forever()


class Gateway:
    """One variant: its rig, its backend, and itself."""

    def __init__(self, folder: Path, settings: dict[str, str], collector: int) -> None:
        folder.mkdir()
        self.rig = Rig.build(folder, 10)
        backend, self.port, admin = free_ports(3)
        config = self.rig.fill("backend.conf", BACKEND=backend)
        nginx = [found("nginx"), "-p", str(folder), "-c", str(config)]
        self.rig.start("backend", nginx, backend, cpu=LOAD_CPU)
        environment = {
            **gateway_environment(self.rig, self.port),
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
            **settings,
        }
        program = str(Path(sys.executable).with_name("gateway"))
        key = str(self.rig.credentials.public_pem)
        for words in (["db", "upgrade"], ["keys", "import", key, "--verify-only"]):
            subprocess.run(
                [program, *words],
                env=os.environ | environment,
                cwd=folder,
                check=True,
                capture_output=True,
            )
        routes = self.rig.fill("gateway/routes.yaml", BACKEND=backend)
        policies = self.rig.fill("gateway/policies/users.yaml").parent
        command = [program, "serve", "--config", str(routes), "--policies", str(policies)]
        log = folder / "log" / "gateway.log"
        self.process = Started(command, cpu=PROXY_CPU, log=log, cwd=folder, env=environment)
        self.rig.started.append(self.process)
        await_ready(admin)

    def micros(self, kind: int, requests: int) -> float:
        """CPU time of one request."""
        line = KeptConnection(self.port)
        before = self.process.cpu_s()
        ask(line, asked(self.rig)[kind], requests)
        used_s = self.process.cpu_s() - before
        line.close()
        return used_s / requests * 1e6


def asked(rig: Rig) -> tuple[Kind, ...]:
    """Those that need nothing but the routes of the peers."""
    return kinds(rig)[:4]


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    requests: Annotated[int, typer.Option(min=100, help="Of each kind, in each round.")] = 3_000,
) -> None:
    """Measures what traces cost."""
    folder = Path(tempfile.mkdtemp(prefix="authgate-traces-"))
    (collector,) = free_ports(1)
    sink = multiprocessing.Process(target=collect, args=(collector,), daemon=True)
    sink.start()
    gateways: dict[str, Gateway] = {}
    try:
        for number, (name, settings) in enumerate(VARIANTS.items()):
            gateways[name] = Gateway(folder / str(number), settings, collector)
        names = [kind.name for kind in asked(gateways["off"].rig)]
        micros: dict[tuple[str, int], list[float]] = {}
        for _ in range(rounds):
            for kind in range(len(names)):
                for name, gateway in gateways.items():
                    cost = gateway.micros(kind, requests)
                    micros.setdefault((name, kind), []).append(cost)
    finally:
        for gateway in gateways.values():
            gateway.rig.stop()
        sink.terminate()
        shutil.rmtree(folder, ignore_errors=True)
    on = machine()
    table = Table("CPU \u00b5s a request", *VARIANTS, title=f"{on['cpu']}, Python {on['python']}")
    for kind, label in enumerate(names):
        medians = [statistics.median(micros[name, kind]) for name in VARIANTS]
        table.add_row(label, *(f"{median:.0f}" for median in medians))
    console.print(table)


if __name__ == "__main__":
    run_bench(main)
