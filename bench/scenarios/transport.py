"""Scenarios of connections: TLS, WebSockets, many of them, and large bodies."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.load import Round, ask, check, usual_cases
from bench.peers import Peer, Shape
from bench.processes import Started
from bench.rig import BASE_PORT, HERE, LOAD_CPU, Rig
from bench.scenarios.clients import sockets
from bench.scenarios.loads import by_client, by_wrk
from bench.scenarios.model import CPU, RATE, Entry, Goal, Scenario
from bench.scenarios.traffic import named
from bench.streams import Task, run

MIB = 1 << 20


# --- TLS ------------------------------------------------------------------------------------------


def handshakes(kind: str, rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
    return by_client(rig, peer, process, seconds, "handshakes", kind, str(seconds))


def tls_kept(rig: Rig) -> list[Entry]:
    del rig
    peers = named("gateway haproxy nginx-lua-cache envoy-cache naive", Shape(tls=True))
    return [Entry(peer, by_wrk(), check) for peer in peers]


def tls_new(rig: Rig) -> list[Entry]:
    del rig
    peers = named("gateway haproxy nginx-lua-cache envoy-cache naive", Shape(tls=True))
    kinds = {"resumed": "resumed", "whole handshakes": "full"}
    return [
        Entry(peer, partial(handshakes, word), check, variant)
        for variant, word in kinds.items()
        for peer in peers
    ]


TLS = Scenario(
    "tls",
    "TLS 1.3, kept connections",
    "The load of the main table over TLS 1.3; each of the 64 connections shakes hands once. The "
    "key of the certificate is on P-256. wrk and each peer choose the cipher as they do by "
    "default.",
    tls_kept,
    goals=(Goal("haproxy", 1.0, 1.5),),
    takes_s=45,
)
HANDSHAKES = Scenario(
    "handshakes",
    "TLS 1.3, a connection for each request",
    "A new connection, a handshake (whole, or resumed by a ticket), one authenticated GET, and "
    "its end. The client (`bench/scenarios/clients/handshakes.py`, eight processes on the core "
    "of the load) checks that each handshake was of its kind. It needs as much time for one as "
    "a peer does, so what is compared is the CPU time of a peer, and the rate is no more than "
    "what the client can do.",
    tls_new,
    unit="connections/s",
    compared=CPU,
    takes_s=80,
)


# --- WebSockets -----------------------------------------------------------------------------------


def start_echo(rig: Rig) -> None:
    command = [sys.executable, "-m", "bench.scenarios.clients.sockets", str(BASE_PORT)]
    environment = {"PYTHONPATH": str(HERE.parent)}
    rig.start("echo", command, BASE_PORT, cpu=LOAD_CPU, env=environment)


def opens_sockets(rig: Rig, peer: Peer) -> list[str]:
    """A handshake is judged as a GET is; and what is sent comes back."""
    tokens, faults = rig.signed(peer.shape.algorithm), []
    for case in usual_cases(rig, peer, "/api/socket"):
        status = asyncio.run(_handshake(peer, case.token or "none"))
        if status != case.status:
            faults.append(f"a handshake with {case.what} got {status}, not {case.status}")
    if (status := asyncio.run(_handshake(peer, tokens.good))) != 101:
        faults.append(f"a handshake with a good token got {status}")
    return faults


async def _handshake(peer: Peer, token: str) -> int:
    client = await sockets.opened(peer.port, token)
    client.close()
    words = client.granted.result().split(b" ", 2)
    return int(words[1]) if len(words) > 1 else 0


def messages(rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
    return by_client(rig, peer, process, seconds, "sockets", str(seconds))


def websocket(rig: Rig) -> list[Entry]:
    del rig
    peers = named("gateway haproxy nginx-lua-cache envoy-cache", Shape(websocket=True))
    return [Entry(peer, messages, opens_sockets) for peer in peers]


WEBSOCKET = Scenario(
    "websocket",
    "WebSocket messages",
    "64 sockets, each with one message of 64 bytes under way, to an upstream that echoes: a "
    "message passes the proxy twice. Both ends are programs of ours "
    "(`bench/scenarios/clients/sockets.py`) on one core, which is busy before a proxy is: what "
    "is compared is CPU time. The gateway reads the frames, for its limits and to close a "
    "socket whose session has ended; the others carry bytes. The naive gateway carries none.",
    websocket,
    unit="messages/s",
    compared=CPU,
    backend=start_echo,
    takes_s=35,
)


# --- many connections -----------------------------------------------------------------------------

COUNTS = (100, 1_000, 10_000)


def connections(rig: Rig) -> list[Entry]:
    del rig
    many = (("GATEWAY_MAX_CONNECTIONS_PER_ADDRESS", "0"), ("GATEWAY_MAX_CONNECTIONS", "12000"))
    shape = Shape(connections=12_000, settings=many)
    peers = named("gateway haproxy nginx-lua-cache envoy-cache", shape)
    return [
        Entry(peer, by_wrk(connections=count), check, f"{count:,} connections")
        for count in COUNTS
        for peer in peers
    ]


CONNECTIONS = Scenario(
    "connections",
    "100 to 10,000 connections",
    "The load of the main table over more connections, all of them busy: the answer to one is "
    "the next request. That latency grows with their number is arithmetic. The second in which "
    "10,000 are opened is counted, too, and so is the one in which a proxy that has a connection "
    "to the backend for each of them makes those.",
    connections,
    seconds=5.0,
    takes_s=210,
)


# --- large bodies ---------------------------------------------------------------------------------


def start_streams(rig: Rig) -> None:
    backend = [sys.executable, "-m", "bench.streams", str(BASE_PORT)]
    environment = {"PYTHONPATH": str(HERE.parent)}
    rig.start("bodies-backend", backend, BASE_PORT, cpu=LOAD_CPU, env=environment)


@contextmanager
def on_the_cpu_of_the_load() -> Iterator[None]:
    """For clients that are started by this process itself."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CPU} & everywhere or everywhere)
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def carry(
    size: int, count: int, rig: Rig, peer: Peer, process: Started, seconds: float, *, upload: bool
) -> Round:
    """A body a request; MB/s in place of requests, and CPU time for a MB."""
    task = Task(peer.port, upload, size, rig.credentials.good, slow=False, seconds=seconds)
    before_s = process.cpu_s()
    with on_the_cpu_of_the_load():
        exchanges, took_s = run(task, count)
    megabytes = exchanges * size / 1e6
    return Round(
        requests_a_s=megabytes / took_s,
        cpu_us=(process.cpu_s() - before_s) * 1e6 / megabytes,
        p50_ms=0.0,
        p99_ms=0.0,
        refused=0,
        broken=0,
    )


def carries_bodies(rig: Rig, peer: Peer) -> list[str]:
    path = "/api/bodies/1000"
    faults = []
    status, body = ask(peer, path, rig.credentials.good)
    if status != 200 or not body:
        faults.append(f"a body for a good token got {status}")
    for case in usual_cases(rig, peer, path):
        if (status := ask(peer, path, case.token)[0]) != case.status:
            faults.append(f"{case.what} got {status}, not {case.status}")
    return faults


def bodies(rig: Rig) -> list[Entry]:
    del rig
    peers = named("gateway haproxy nginx-lua-cache envoy-cache", Shape())
    kinds = {"64 KiB": (65_536, 16), "1 MiB": (MIB, 8)}
    return [
        Entry(peer, partial(carry, *kind, upload=upload), carries_bodies, f"{name} {way}")
        for name, kind in kinds.items()
        for way, upload in (("down", False), ("up", True))
        for peer in peers
    ]


BODIES = Scenario(
    "bodies",
    "Bodies of 64 KiB and 1 MiB",
    "Over 16 and 8 connections, to and from ends that send by `sendfile` and let the kernel "
    "throw away what they receive. HAProxy reads 16 KiB at a time and Envoy holds 1 MiB, as "
    "they do by default; nginx writes a body that does not fit its buffers into a file.",
    bodies,
    unit="MB/s",
    compared=RATE,
    backend=start_streams,
    seconds=1.5,
    takes_s=110,
)
