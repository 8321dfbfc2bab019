"""Tokens under made-up keys, and a provider that is away: what they cost a known token.

    python -m bench.kids [--rounds 6] [--seconds 5] [--rate 1000] [--down 600] [--json]

First a minute of a worker's clock in this process: a million tokens of one issuer, each under
another kid.  Then a real gateway: callers with a known token at a steady pace, alone, beside a
flood of texts that are no token, and beside one of made-up kids at the same rate, in turn; then a
minute of the last without a pause.  At the end its provider is shut down for a while.  Exits 1
where the issuer was asked for its keys more than 7 times in a minute, or where a call with a known
token failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from bench.backchannel import Connection
from bench.cluster import percentile
from bench.issuers import Confirmed, call_with
from bench.processes import run_bench
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import CredentialKind
from tests.contract.running import Running, started
from tests.identity.issuers.provider import (
    Signer,
    document,
    fetched,
    issuer_tokens,
    published,
    signer,
)
from tests.identity.keyring import Gate, HandClock, b64, opened
from tests.ports import free_port

MOST_FETCHES = 7
CALLS, MINUTE_S = 1_000_000, 60.0
CALLERS, FLOODERS, PACE_S = 4, 8, 0.02
UNPACED = 1e9
"""Calls a second."""
ROUTES = """\
version: 1
issuers:
  company: {{issuer: "URL", audience: api, algorithms: [ES256]}}
routes:
  - id: theirs
    match: {{path: /theirs}}
    issuers: [company]
    policy: signed-in
    direct_response: {{status: 204}}
"""


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    seconds: float
    rate: float
    down: float


class Provider(ThreadingHTTPServer):
    """Publishes one key, and counts who asks for it."""

    daemon_threads = True

    def __init__(self, port: int, key: Signer) -> None:
        self.url = url = f"http://127.0.0.1:{port}"
        self.fetches = 0
        provider = self
        there = {
            "/.well-known/openid-configuration": json.dumps(
                {"issuer": url, "jwks_uri": f"{url}/keys"}
            ).encode(),
            "/keys": document(key),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.fetches += self.path == "/keys"
                self.send_response(200)
                self.end_headers()
                self.wfile.write(there[self.path])

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", port), Handler)


@contextmanager
def serving(port: int, key: Signer) -> Iterator[Provider]:
    with Provider(port, key) as provider:
        threading.Thread(target=provider.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield provider
        finally:
            provider.shutdown()


async def in_one_minute(folder: Path) -> dict[str, float]:
    """A million calls, a minute apart from first to last by the worker's clock."""
    clock, documents = HandClock(), published(signer())
    tokens = await fetched(issuer_tokens(documents, clock))
    bearer, taken = frozenset((CredentialKind.BEARER,)), frozenset(("company",))
    async with opened(folder, clock) as database:
        gate = await Gate(database, clock).start()
        confirmed: Any = Confirmed(clock)  # type: ignore[arg-type]
        authenticator = RequestAuthenticator(
            gate.verifier, gate.ring, confirmed, clock, issuers=tokens
        )
        made_up = made_up_tokens(signer().token())
        before, began = documents.asked_for_keys(), time.process_time()
        for number in range(CALLS):
            await authenticator.authenticate(call_with(made_up(number)), bearer, taken)
            clock.advance(MINUTE_S / CALLS)
        took_s = time.process_time() - began
    return {
        "calls": CALLS,
        "fetches": documents.asked_for_keys() - before,
        "us_a_call": took_s / CALLS * 1e6,
    }


def made_up_tokens(like: str) -> Callable[[int], str]:
    rest = like.partition(".")[2]

    def make(number: int) -> str:
        header = {"alg": "ES256", "typ": "at+jwt", "kid": f"made-up-{number}"}
        return f"{b64(json.dumps(header).encode())}.{rest}"

    return make


async def status(connection: Connection, token: str) -> int:
    return await connection.status(["GET /theirs HTTP/1.1", f"Authorization: Bearer {token}"])


async def known_calls(port: int, token: str, seconds: float) -> tuple[list[float], int]:
    """How long each took, and how many failed, at a steady pace over CALLERS connections."""
    times: list[float] = []
    failed = 0
    until = time.monotonic() + seconds

    async def caller(connection: Connection) -> None:
        nonlocal failed
        while time.monotonic() < until:
            began = time.perf_counter()
            failed += await status(connection, token) != 204
            times.append(time.perf_counter() - began)
            await asyncio.sleep(PACE_S)

    await asyncio.gather(*(caller(Connection(port)) for _ in range(CALLERS)))
    return times, failed


async def flooded(port: int, make: Callable[[int], str], rate: float) -> None:
    """So many calls a second, until it is cancelled."""
    numbers = iter(range(1_000_000_000))

    async def flooder(connection: Connection) -> None:
        while True:
            began = time.monotonic()
            for _ in range(10):
                await status(connection, make(next(numbers)))
            await asyncio.sleep(max(0.0, began + 10 * FLOODERS / rate - time.monotonic()))

    await asyncio.gather(*(flooder(Connection(port)) for _ in range(FLOODERS)))


async def beside(work: Awaitable[None], measured: Awaitable[Any]) -> Any:
    flood = asyncio.ensure_future(work)
    try:
        return await measured
    finally:
        flood.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flood


async def floods(
    running: Running, provider: Provider, known: str, chosen: Options
) -> dict[str, Any]:
    port = running.port
    made_up = made_up_tokens(known)
    kinds: dict[str, Callable[[int], str] | None] = {
        "alone": None,
        "no token": lambda number: f"no-token-{number}",
        "made-up kid": made_up,
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    failed = 0
    for _ in range(chosen.rounds):
        for kind, make in kinds.items():
            measured = known_calls(port, known, chosen.seconds)
            if make is None:
                found, wrong = await measured
            else:
                found, wrong = await beside(flooded(port, make, chosen.rate), measured)
            times[kind] += found
            failed += wrong
    before, began = provider.fetches, time.monotonic()
    calls, wrong = await beside(flooded(port, made_up, UNPACED), known_calls(port, known, MINUTE_S))
    failed += wrong
    return {
        "minute_s": time.monotonic() - began,
        "minute_fetches": provider.fetches - before,
        "minute_known_calls": len(calls),
        "p99_ms": {kind: percentile(found, 0.99) * 1e3 for kind, found in times.items()},
        "p50_ms": {kind: percentile(found, 0.5) * 1e3 for kind, found in times.items()},
        "calls": {kind: len(found) for kind, found in times.items()},
        "failed": failed,
    }


def at_a_gateway(folder: Path, chosen: Options) -> dict[str, Any]:
    key, port = signer(), free_port()
    now = int(time.time())
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(serving(port, key))
        routes = ROUTES.replace("URL", provider.url)
        running = stack.enter_context(started(folder / "g", routes=routes))
        known = key.token(iss=provider.url, iat=now, exp=now + 3600, auth_time=now)
        found = asyncio.run(floods(running, provider, known, chosen))
        provider.shutdown()
        provider.server_close()
        times, failed = asyncio.run(known_calls(running.port, known, chosen.down))
        found["down"] = {"seconds": chosen.down, "calls": len(times), "failed": failed}
    return found


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 6,
    seconds: Annotated[float, typer.Option(help="Of each part of a round.")] = 5.0,
    rate: Annotated[float, typer.Option(help="Calls a second of a flood.")] = 1000.0,
    down: Annotated[float, typer.Option(help="Seconds without the provider.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What tokens under made-up keys, and an absent provider, cost a known token."""
    chosen = Options(rounds, seconds, rate, down)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder:
        minute = asyncio.run(in_one_minute(Path(folder)))
        gateway = at_a_gateway(Path(folder), chosen)
    if as_json:
        print(json.dumps({"minute": minute, "gateway": gateway}, indent=2))
    else:
        print(
            f"{minute['calls']:,} made-up kids in a minute of one worker:"
            f" {minute['fetches']} fetches, {minute['us_a_call']:.1f} µs a call"
        )
        for kind, p99_ms in gateway["p99_ms"].items():
            p50_ms, calls = gateway["p50_ms"][kind], gateway["calls"][kind]
            print(f"known token, {kind:11}  p50 {p50_ms:6.2f} ms  p99 {p99_ms:6.2f} ms  n {calls}")
        print(f"a minute without a pause: {gateway['minute_fetches']} fetches")
        away = gateway["down"]
        print(
            f"provider away for {away['seconds']:g} s: {away['failed']} of {away['calls']} failed"
        )
    failed = gateway["failed"] + gateway["down"]["failed"]
    asked = max(minute["fetches"], gateway["minute_fetches"])
    if failed or asked > MOST_FETCHES:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
