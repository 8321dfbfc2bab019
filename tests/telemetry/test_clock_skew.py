"""A clock that is off is told of."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.clock_skew import ClockWatch
from tests.databases import Hands


class Store:
    """A store whose clock is so far off.  Meets `clock_watch.Read`."""

    def __init__(self, clock: Hands, offset_s: float = 0.0, takes_s: float = 0.0) -> None:
        self.clock = clock
        self.offset_s = offset_s
        self.takes_s = takes_s
        self.away = False

    async def __call__(self) -> float:
        if self.away:
            raise StoreUnavailable("sql")
        self.clock.move(self.takes_s / 2)
        there = self.clock.now() + self.offset_s
        self.clock.move(self.takes_s / 2)
        return there


@pytest.mark.parametrize("offset_s", [-3600.0, -5.1, 5.1, 3600.0])
async def test_a_clock_that_is_off_is_told_with_its_store_once(offset_s: float) -> None:
    clock = Hands()
    watch = ClockWatch(clock, {"SQL": Store(clock), "Redis": Store(clock, offset_s)})
    with capture_logs() as logs:
        await watch.look()
        await watch.look()
    assert watch.offset_s == pytest.approx(offset_s)
    assert watch.state().startswith("Redis's is ")
    assert [entry["event"] for entry in logs] == ["clock-differs"]


async def test_the_way_to_a_store_is_no_difference_of_clocks() -> None:
    clock = Hands()
    watch = ClockWatch(clock, {"SQL": Store(clock, takes_s=0.8)})
    await watch.look()
    assert watch.offset_s == pytest.approx(0.0)
    assert watch.state() == "in step"


async def test_a_store_that_is_away_says_nothing_of_the_clock() -> None:
    clock = Hands()
    store = Store(clock, 3600)
    watch = ClockWatch(clock, {"SQL": store})
    await watch.look()
    store.away = True
    with capture_logs() as logs:
        await watch.look()
    assert (watch.offset_s, watch.state()) == (0.0, "in step")
    assert [entry["event"] for entry in logs] == ["clock-agrees"]
