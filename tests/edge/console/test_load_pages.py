"""What workers tell of themselves, as pages of the console."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from gateway.edge.console.load_pages import LIMITS, UPSTREAMS, WORKERS, LoadPages
from tests.edge.console.house import ConsoleHouse, Workers, console_house


class Loads:
    def __init__(self) -> None:
        self.all: list[Mapping[str, Any]] = [load(1), load(2)]

    async def gather(self) -> list[Mapping[str, Any]]:
        return self.all


def load(worker: int) -> dict[str, Any]:
    target = {
        "upstream": "orders",
        "target": "http://127.0.0.1:9001",
        "is_healthy": True,
        "is_open": False,
        "is_reachable": True,
        "in_flight": 3,
        "connections": 4,
        "has_health": True,
        "has_breaker": True,
    }
    down = {**target, "upstream": "billing", "is_healthy": False, "is_open": True}
    return {
        "worker": worker,
        "connections": 12.0,
        "restarts": 3,
        "lease": {
            "live": worker == 1,
            "staleness_s": 0.2 if worker == 1 else None,
            "stream": "abc",
            "revocations": 5,
            "live_workers": 2,
        },
        "targets": [target, down],
        "target_count": 2,
        "limits": [
            {
                "name": "per-user",
                "route": "",
                "per_s": 10.0,
                "burst": 100,
                "keys": 7,
                "callers": [{"key": "<b>u1", "used": 90}],
            }
        ],
    }


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
async def house(loads: Loads) -> AsyncIterator[ConsoleHouse]:
    async with console_house(*LoadPages(Workers(), loads).pages()) as opened:
        await opened.sign_in()
        yield opened


async def shown(house: ConsoleHouse, path: str) -> str:
    answer = await house.ask(path)
    assert answer.status == 200, answer.text
    return answer.text


async def test_workers_are_shown_with_their_leases(house: ConsoleHouse, loads: Loads) -> None:
    page = await shown(house, WORKERS)
    assert "2 workers of this machine, 3 restarts" in page
    assert "not held" in page
    assert "0.2 s ago" in page
    loads.all = [load(1)]
    assert "it does not answer" in await shown(house, WORKERS)


async def test_targets_that_are_not_well_stand_first(house: ConsoleHouse) -> None:
    page = await shown(house, UPSTREAMS)
    assert page.index("billing") < page.index("orders")
    assert "keeps calls away" in page
    assert "billing" not in await shown(house, f"{UPSTREAMS}?q=ORD")


async def test_who_is_near_a_limit_is_shown(house: ConsoleHouse) -> None:
    page = await shown(house, LIMITS)
    assert "90 of 100" in page
    assert "&lt;b&gt;u1" in page
    assert "600 a minute" in page
