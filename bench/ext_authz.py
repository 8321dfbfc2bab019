"""`python -m bench.ext_authz`: what asking adds to a call through Envoy, over HTTP and over gRPC.

One Envoy of three listeners stands before one backend: the first hands calls on, the second asks
`/decide/envoy`, the third the listener of gRPC, each as deploy/envoy has it.  Single calls go to
the three in turn over kept connections, and rounds of load too, so that whatever disturbs the
machine disturbs all; the cost of a decision is told in CPU time of authgate and of Envoy.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from bench.decide import WARM_UP, Line, free_ports, start_gateway
from bench.load import load
from bench.peers import Peer
from bench.processes import Started, run_bench
from bench.rig import HERE, LOAD_CPU, PROXY_CPU, Rig, found
from tests.servers import wait_until

console = Console()
DEPLOYED = HERE.parent / "deploy" / "envoy"
ENVOY = HERE.parent / ".tools" / "envoy" / "bin" / "envoy"
DOORS = ("plain", "http", "grpc")


def example(name: str, ports: dict[str, int], at: str) -> dict[str, Any]:
    """An example as it is, but for its ports."""
    text = (DEPLOYED / name).read_text()
    new = {"8000": at, "8080": "public", "9901": "admin", "9191": "grpc_door", "9001": "backend"}
    for old, which in new.items():
        text = text.replace(f"port_value: {old}", f"port_value: {ports[which]}")
    made: dict[str, Any] = yaml.safe_load(text)
    return made


def configuration(ports: dict[str, int]) -> dict[str, Any]:
    """The three listeners, and a cluster for each way to ask."""
    by_http = example("envoy.yaml", ports, "http")["static_resources"]
    by_grpc = example("ext-authz-grpc.yaml", ports, "grpc")["static_resources"]
    plain = copy.deepcopy(by_http["listeners"][0])
    plain["address"]["socket_address"]["port_value"] = ports["plain"]
    manager = plain["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [
        one for one in manager["http_filters"] if "ext_authz" not in one["name"]
    ]
    for host in manager["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            route.pop("typed_per_filter_config", None)
    asked = by_grpc["clusters"][0]
    asked["name"] = asked["load_assignment"]["cluster_name"] = "authgate_grpc"
    listener = by_grpc["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    for one in manager["http_filters"]:
        if "ext_authz" in one["name"]:
            one["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] = "authgate_grpc"
    listeners = [plain, by_http["listeners"][0], listener]
    for name, one in zip(DOORS, listeners, strict=True):
        one["name"] = name
    return {"static_resources": {"listeners": listeners, "clusters": [*by_http["clusters"], asked]}}


def start_envoy(rig: Rig, ports: dict[str, int]) -> Started:
    path = rig.folder / "cfg" / "envoy.json"
    path.write_text(json.dumps(configuration(ports)))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    program = str(ENVOY) if ENVOY.exists() else found("envoy")
    return rig.start("envoy", [program, "-c", str(path), *options], ports["grpc"], cpu=PROXY_CPU)


def await_decisions(ports: dict[str, int], token: str) -> None:
    """Until each door lets the call pass: a worker refuses until it knows what was revoked."""

    def passes(door: str) -> bool:
        asked = http.client.HTTPConnection("127.0.0.1", ports[door], timeout=10)
        headers = {"Authorization": f"Bearer {token}"}
        try:
            asked.request("GET", "/api/users/1?fields=name", headers=headers)
            return asked.getresponse().status == 200
        finally:
            asked.close()

    for door in DOORS:
        wait_until(lambda door=door: passes(door), 30, f"a decision by {door}")  # type: ignore[misc]


def in_turn(ports: dict[str, int], token: str, count: int) -> list[list[float]]:
    lines = [Line(ports[door], token) for door in DOORS]
    for line in lines:
        for _ in range(WARM_UP):
            line.ask_ms()
    asked = [[line.ask_ms() for line in lines] for _ in range(count)]
    return [list(times) for times in zip(*asked, strict=True)]


def loaded(
    rig: Rig, ports: dict[str, int], processes: Sequence[Started], seconds: float, rounds: int
) -> dict[str, float]:
    """Medians of the rounds, each door in turn."""
    envoy, gateway = processes
    seen: dict[str, list[float]] = {}
    for _ in range(rounds):
        for door in DOORS:
            used_s = gateway.cpu_s()
            peer = Peer(door, door, ports[door], lambda *_: envoy)
            done = load(rig, peer, envoy, seconds)
            used_s = gateway.cpu_s() - used_s
            calls = done.requests_a_s * seconds
            for name, value in {
                "requests_a_s": done.requests_a_s,
                "envoy_cpu_us": done.cpu_us,
                "authgate_cpu_us": used_s * 1e6 / calls,
                "p50_ms": done.p50_ms,
                "p99_ms": done.p99_ms,
                "refused_or_broken": float(done.refused + done.broken),
            }.items():
                seen.setdefault(f"{door}_{name}", []).append(value)
    return {name: round(median(values), 3) for name, values in seen.items()}


def main(
    calls: Annotated[int, typer.Option(min=100, help="Single calls to each.")] = 3_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of load on each, a round.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Of load.")] = 3,
) -> None:
    """Measures what ext_authz adds over HTTP and over gRPC, and what a decision costs."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig.build(Path(folder), 1_000)
        names = ("backend", "public", "admin", "grpc_door", *DOORS)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        try:
            config = rig.fill("backend.conf", BACKEND=ports["backend"])
            rig.start(
                "backend",
                [found("nginx"), "-p", folder, "-c", str(config)],
                ports["backend"],
                cpu=LOAD_CPU,
            )
            os.environ["GATEWAY_EXT_AUTHZ_LISTEN"] = f"127.0.0.1:{ports['grpc_door']}"
            gateway = start_gateway(rig, ports["public"], ports["admin"], ports["backend"])
            envoy = start_envoy(rig, ports)
            await_decisions(ports, rig.credentials.good)
            plain, by_http, by_grpc = in_turn(ports, rig.credentials.good, calls)
            figures = {
                "plain_median_ms": median(plain),
                "http_added_median_ms": median(b - a for a, b in zip(plain, by_http, strict=True)),
                "grpc_added_median_ms": median(b - a for a, b in zip(plain, by_grpc, strict=True)),
            }
            figures = {name: round(value, 4) for name, value in figures.items()}
            figures |= loaded(rig, ports, (envoy, gateway), seconds, rounds)
            for figure in ("requests_a_s", "authgate_cpu_us", "envoy_cpu_us"):
                ratio = figures[f"grpc_{figure}"] / figures[f"http_{figure}"]
                figures[f"grpc_to_http_{figure}"] = round(ratio, 2)
        finally:
            rig.stop()
    table = Table("figure", "value", title="Envoy, Envoy that asks authgate by HTTP, and by gRPC")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console.print(table)
    (HERE / ".rig").mkdir(exist_ok=True)
    (HERE / ".rig" / "ext_authz.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_bench(main)
