"""One round of load on one peer, and the checks that it does the work before any."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers import Peer
from bench.processes import Started
from bench.rig import HERE, LOAD_CPU, Rig, found

CONNECTIONS = 64
PATH = "/api/users/"


@dataclass(frozen=True, slots=True)
class Round:
    requests_a_s: float
    cpu_us: float
    """CPU time of the proxy's processes for one request, in microseconds."""
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers other than 2xx and 3xx."""
    broken: int
    """Connections that failed, broke or timed out."""

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def load(
    rig: Rig,
    peer: Peer,
    process: Started,
    seconds: float,
    *,
    path: str = PATH,
    script: Path = HERE / "load.lua",
) -> Round:
    url = f"http://127.0.0.1:{peer.port}{path}"
    command = [
        found("wrk"),
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{max(round(seconds), 1)}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        url,
        "--",
        str(rig.credentials.tokens),
    ]
    cpus = {LOAD_CPU} & os.sched_getaffinity(0) or os.sched_getaffinity(0)
    before = process.cpu_s()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    used_s = process.cpu_s() - before
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            said = json.loads(line.removeprefix("RESULT "))
            return Round(
                requests_a_s=said["requests"] / (said["duration_us"] / 1e6),
                cpu_us=used_s * 1e6 / max(said["requests"], 1),
                p50_ms=said["p50_us"] / 1000,
                p99_ms=said["p99_us"] / 1000,
                refused=said["refused"],
                broken=said["broken"],
            )
    raise RuntimeError(f"wrk gave no result for {peer.name}:\n{done.stdout}{done.stderr}")


def check(rig: Rig, peer: Peer) -> list[str]:
    """What the peer does not do of what it is measured for."""
    tokens = rig.credentials
    wrong = []
    status, told = _get(peer.port, "/api/whoami", tokens.good)
    if status != 200:
        return [f"a good token got {status}: {told[:200]}"]
    if not peer.judges:
        return []
    if told != "user-000001":
        wrong.append(f"the backend was told that {told!r} calls")
    cases = [
        ("no token", None, 401),
        ("a forged token", tokens.forged, 401),
        ("an expired token", tokens.expired, 401),
        ("a token without the role", tokens.without_role, 403),
    ]
    if peer.revokes:
        cases.append(("a revoked token", tokens.revoked_token, 401))
    for what, token, expected in cases:
        status, _ = _get(peer.port, "/api/whoami", token)
        if status != expected:
            wrong.append(f"{what} got {status}, not {expected}")
    return wrong


def _get(port: int, path: str, token: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()
