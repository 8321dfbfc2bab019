"""One round of load on one peer, and the checks that it does the work before any."""

from __future__ import annotations

import http.client
import json
import os
import resource
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers import Peer
from bench.processes import Started
from bench.rig import HERE, LOAD_CPU, Rig, found

CONNECTIONS = 64
PATH = "/api/users/"
SCRIPT = HERE / "load.lua"
WITHIN_S = 60.0
"""What sends a load must have ended so long after its time."""


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
    p999_ms: float = 0.0
    kernel_us: float = 0.0
    """What of `cpu_us` the kernel used: reading and writing, whoever asks it to."""

    @property
    def cores(self) -> float:
        """How many cores' time the proxy used."""
        return self.requests_a_s * self.cpu_us / 1e6

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def load(
    rig: Rig,
    peer: Peer,
    process: Started,
    seconds: float,
    *,
    path: str = PATH,
    connections: int = CONNECTIONS,
    words: Sequence[str] = (),
    tokens: Path | None = None,
) -> Round:
    """One round of wrk; `words` are those of load.lua."""
    command = [
        found("wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{max(round(seconds), 1)}s",
        "--timeout",
        "10s",
        "-s",
        str(SCRIPT),
        f"{'https' if peer.shape.tls else 'http'}://127.0.0.1:{peer.port}{path}",
        "--",
        str(tokens or rig.signed(peer.shape.algorithm).tokens),
        *words,
    ]
    return loaded_by(command, peer, process, seconds)


def loaded_by(command: Sequence[str], peer: Peer, process: Started, seconds: float) -> Round:
    """One round of a program that sends the load and prints what came of it behind RESULT."""
    cpus = {LOAD_CPU} & os.sched_getaffinity(0) or os.sched_getaffinity(0)
    before, kernel_before = process.cpu_s(), process.kernel_s()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + WITHIN_S,
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
            preexec_fn=lambda: _on(cpus),
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{peer.name} kept its load for {error.timeout:.0f} s") from None
    used_s, kernel_s = process.cpu_s() - before, process.kernel_s() - kernel_before
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
                p999_ms=said["p999_us"] / 1000,
                kernel_us=kernel_s * 1e6 / max(said["requests"], 1),
            )
    program = Path(command[0]).name
    raise RuntimeError(f"{program} gave no result for {peer.name}:\n{done.stdout}{done.stderr}")


def _on(cpus: set[int]) -> None:
    os.sched_setaffinity(0, cpus)
    # As many connections as the machine lets one process have.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is asked of a peer before it is measured, and the status that it must give."""

    what: str
    path: str
    token: str | None
    status: int


def usual_cases(rig: Rig, peer: Peer, path: str = "/api/whoami") -> list[Case]:
    tokens = rig.signed(peer.shape.algorithm)
    cases = [
        Case("no token", path, None, 401),
        Case("a forged token", path, tokens.forged, 401),
        Case("an expired token", path, tokens.expired, 401),
        Case("a token without the role", path, tokens.without_role, 403),
    ]
    if peer.revokes:
        cases.append(Case("a revoked token", path, tokens.revoked_token, 401))
    return cases


def check(
    rig: Rig, peer: Peer, cases: Sequence[Case] | None = None, path: str = "/api/whoami"
) -> list[str]:
    """What the peer does not do of what it is measured for."""
    tokens = rig.signed(peer.shape.algorithm)
    wrong = []
    status, told = ask(peer, path, tokens.good)
    if status != 200:
        return [f"a good token got {status}: {told[:200]}"]
    if not peer.judges:
        return []
    if told != "user-000001":
        wrong.append(f"the backend was told that {told!r} calls")
    for case in usual_cases(rig, peer, path) if cases is None else cases:
        status, _ = ask(peer, case.path, case.token)
        if status != case.status:
            wrong.append(f"{case.what} got {status}, not {case.status}")
    return wrong


def ask(peer: Peer, path: str, token: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=10)
    if peer.shape.tls:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", peer.port, timeout=10, context=tls_context()
        )
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def tls_context() -> ssl.SSLContext:
    """TLS 1.3 or nothing; the certificate of a rig vouches for itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
