"""A clock that is off is told of."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.clock_skew import ClockMonitor
from tests.databases import Hands


class Store:
    """A store whose clock is so far off.  Meets `clock_skew.Read`."""

    def __init__(self, clock: Hands, offset_s: float = 0.0, takes_s: float = 0.0) -> None:
        self.clock = clock
        self.offset_s = offset_s
        self.takes_s = takes_s
        self.unavailable = False

    async def __call__(self) -> float:
        if self.unavailable:
            raise StoreUnavailable("sql")
        self.clock.move(self.takes_s / 2)
        there = self.clock.now() + self.offset_s
        self.clock.move(self.takes_s / 2)
        return there


@pytest.mark.parametrize("offset_s", [-3600.0, -5.1, 5.1, 3600.0])
async def test_a_clock_that_is_off_is_told_with_its_store_once(offset_s: float) -> None:
    clock = Hands()
    monitor = ClockMonitor(clock, {"SQL": Store(clock), "Redis": Store(clock, offset_s)})
    with capture_logs() as logs:
        await monitor.measure()
        await monitor.measure()
    assert monitor.offset_s == pytest.approx(offset_s)
    assert monitor.state().startswith("Redis's is ")
    assert [entry["event"] for entry in logs] == ["clock-differs"]


async def test_the_way_to_a_store_is_no_difference_of_clocks() -> None:
    clock = Hands()
    monitor = ClockMonitor(clock, {"SQL": Store(clock, takes_s=0.8)})
    await monitor.measure()
    assert monitor.offset_s == pytest.approx(0.0)
    assert monitor.state() == "in step"


async def test_a_store_that_is_away_says_nothing_of_the_clock() -> None:
    clock = Hands()
    store = Store(clock, 3600)
    monitor = ClockMonitor(clock, {"SQL": store})
    await monitor.measure()
    store.unavailable = True
    with capture_logs() as logs:
        await monitor.measure()
    assert (monitor.offset_s, monitor.state()) == (0.0, "in step")
    assert [entry["event"] for entry in logs] == ["clock-agrees"]
