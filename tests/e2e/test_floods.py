"""What a stranger asks for again and again grows up to its bound, and then no further.

The floods are those of `bench.flood_requests`, sent to a started gateway over real sockets; what
there is afterwards is read from SQL, Redis, the processes and the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.flood_requests import ISSUERS, OWN, PROVIDER_SECRET, PROXIED, Flood, at
from bench.flood_requests import request as asked
from bench.flood_sender import hammer
from bench.floods import AUDIT_ROWS, KEYS_BESIDE, Standing, standing
from tests.contract.running import ROUTES, Running, started
from tests.e2e.processes import workers
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow

CALLS = 600
PASSWORD = "correct horse 7 battery\n"
TAKEN = "  auth: required\n  issuers: [own, company]\n"
FLOODS = OWN + at("/me", PROXIED)
LOG_BYTES_A_SECOND = 20 * 500
"""Lines of refusals that a worker writes in a second, and how long one is."""


@dataclass
class Flooded:
    gateway: Running
    redis_url: str
    owner: dict[str, str]
    """A session from before the floods, after which nobody signs in from this address."""

    def standing(self) -> Standing:
        gateway = self.gateway
        return asyncio.run(
            standing(
                gateway.environment["GATEWAY_DATABASE_URL"],
                self.redis_url,
                workers(gateway),
                gateway.log,
            )
        )


def signed_in(gateway: Running, email: str) -> dict[str, str]:
    made = gateway.cli("users", "create", email, "--verified", "--password-stdin", stdin=PASSWORD)
    assert made.returncode == 0, made.stderr
    answer = gateway.call(
        "POST", "/auth/login", json_body={"email": email, "password": PASSWORD.strip()}
    )
    assert answer.status == 200, answer
    return dict(answer.json)


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    folder: Path = tmp_path_factory.mktemp("floods")
    others = ISSUERS.replace("{", "{{").replace("}", "}}")  # ROUTES has places to be filled
    server = ValkeyServer(folder / "valkey", maxmemory_policy="noeviction").start()
    try:
        with started(
            folder / "g",
            routes=ROUTES.replace("  auth: required\n", TAKEN, 1) + others,
            GATEWAY_REDIS_URL=server.url,
            **{f"GATEWAY_SECRET_{PROVIDER_SECRET.upper()}": "s"},
            GATEWAY_EMAIL_VERIFICATION="required",
        ) as running:
            yield Flooded(running, server.url, signed_in(running, "owner@example.com"))
    finally:
        server.kill()


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
def test_a_flood_grows_nothing_past_its_bound(flooded: Flooded, flood: Flood) -> None:
    async def send() -> set[int]:
        return set(await hammer(flooded.gateway.port, flood, stop=asyncio.Event(), most=CALLS))

    before, began = flooded.standing(), time.monotonic()
    statuses = asyncio.run(send())
    grown = flooded.standing().since(before)
    took_s = time.monotonic() - began
    assert not statuses & {0, 500}
    assert grown.rows <= flood.rows + AUDIT_ROWS
    assert grown.keys <= flood.keys + KEYS_BESIDE
    assert grown.redis_bytes <= 4_000_000
    assert grown.worker_bytes <= 40_000_000
    assert grown.log_bytes <= LOG_BYTES_A_SECOND * (took_s + 3)


def test_a_session_that_is_renewed_all_the_time_leaves_a_row_a_second(flooded: Flooded) -> None:
    token = flooded.owner["refresh_token"]
    before, statuses = flooded.standing(), set()
    for _ in range(300):
        answer = flooded.gateway.call("POST", "/auth/refresh", json_body={"refresh_token": token})
        statuses.add(answer.status)
        token = answer.json.get("refresh_token", token)
    assert statuses == {200, 429}
    assert flooded.standing().since(before).rows < 200


def test_an_ended_token_that_is_sent_again_and_again_grows_nothing(flooded: Flooded) -> None:
    token = flooded.owner["access_token"]
    assert flooded.gateway.call("POST", "/auth/logout", token=token).status == 204
    again = asked("POST", "/auth/logout", f"Authorization: Bearer {token}")
    test_a_flood_grows_nothing_past_its_bound(flooded, Flood("ended", lambda n: again, rows=5))


def test_everybody_else_is_served_after_all_of_them(flooded: Flooded) -> None:
    assert flooded.gateway.call("GET", "/public/x").status == 200
    assert "Traceback" not in flooded.gateway.log.read_text()
