"""Tries are bounded by what an upstream is asked anyway."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.definitions import Retry
from gateway.edge.upstream.clusters import Clusters
from gateway.edge.upstream.retry_budget import LEAST_PER_S, WINDOW_S, RetryBudget
from gateway.telemetry.metrics import Metrics, Tally
from tests.access.worlds import problems, snapshot
from tests.edge.rig import OK, Exchange, RawUpstream, Rig, running, target
from tests.ports import free_port

BOTH_LOOPS = True

LEAST = LEAST_PER_S * WINDOW_S
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


def budget(share: float = 0.2) -> RetryBudget:
    made = RetryBudget(share, Tally(), Tally())
    made.turn(1_000.0)
    return made


def taken(made: RetryBudget, asked: int = 10_000) -> int:
    return sum(made.take() for _ in range(asked))


def test_a_quiet_upstream_has_the_least_that_everybody_has() -> None:
    made = budget()
    assert taken(made) == LEAST
    assert (made.sent.n, made.refused.n) == (LEAST, 10_000 - LEAST)


def test_a_busy_upstream_has_its_share_of_the_calls_and_not_the_least_besides() -> None:
    made = budget()
    made.calls += 1_000
    assert taken(made) == 200


def test_calls_and_retries_count_for_ten_seconds() -> None:
    made = budget()
    made.calls += 1_000
    assert taken(made) == 200
    made.turn(1_000.0 + WINDOW_S - 1)
    assert taken(made) == 0
    made.turn(1_000.0 + WINDOW_S)
    assert taken(made) == LEAST


def test_a_moment_without_turns_forgets_what_is_past() -> None:
    made = budget()
    made.calls += 1_000
    made.turn(10_000.0)
    assert taken(made) == LEAST


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), min_size=1, max_size=40))
def test_no_window_holds_more_retries_than_its_share(seconds: list[tuple[int, int]]) -> None:
    made, given_ = budget(), []
    for number, (calls, asked) in enumerate(seconds):
        made.turn(1_000.0 + number)
        made.calls += calls
        given_.append((calls, taken(made, asked)))
        window = given_[-WINDOW_S:]
        retries, most = sum(r for _, r in window), 0.2 * sum(c for c, _ in window)
        # What a busier second granted may weigh on a later window, but nothing is added to it.
        if given_[-1][1]:
            assert retries - 1 < max(LEAST, most)


# --- on the wire ---


async def flapping(exchange: Exchange) -> None:
    """Answers every call with a status that is tried again."""
    exchange.send(BUSY)


async def storm(rig: Rig, calls: int) -> list[int]:
    async def one() -> list[int]:
        client, statuses = await rig.client(), []
        for _ in range(calls // 10):
            await client.send(GET)
            statuses.append((await client.answer()).status)
        return statuses

    found = await asyncio.gather(*(one() for _ in range(10)))
    return [status for each in found for status in each]


async def test_a_storm_of_failures_does_not_double_the_load() -> None:
    async with running(flapping) as rig:
        rig.spec(retry=Retry(attempts=3, statuses=frozenset((503,)), budget=0.2))
        statuses = await storm(rig, 600)
        # The upstream's own answer is passed on where no try is left.
        assert statuses == [503] * 600
        sent = len(rig.upstream.requests)
        assert 600 + LEAST <= sent <= 600 * 1.2 + LEAST


async def test_without_the_budget_it_would() -> None:
    async with running(flapping) as rig:
        rig.spec(retry=Retry(attempts=2, statuses=frozenset((503,)), budget=1.0))
        await storm(rig, 100)
        assert len(rig.upstream.requests) == 200


async def test_an_upstream_that_is_down_is_not_dialled_twice_for_every_call() -> None:
    async with running() as rig:
        metrics = Metrics()
        proxy = rig.listener.handler
        rig.clusters.close()
        proxy._forwarder._clusters = Clusters(metrics=metrics)  # type: ignore[attr-defined]
        rig.spec(targets=(target(9), target(9)), retry=Retry(attempts=2, connect=True))
        assert await storm(rig, 200) == [502] * 200
        told = dict(metrics.state()["tallies"][0][3])
        assert LEAST <= told["u", "sent"] <= 200 * 0.2 + LEAST
        # But for the ten that are begun before anybody knows that nobody is there.
        assert 190 <= told["u", "sent"] + told["u", "refused"] <= 200
        proxy._forwarder._clusters.close()  # type: ignore[attr-defined]


async def test_a_failing_target_among_good_ones_is_made_up_for() -> None:
    async with running(flapping) as rig:
        good = RawUpstream()
        await good.start()
        two = (target(rig.upstream.port), target(good.port))
        rig.spec(targets=two, retry=Retry(attempts=2, statuses=frozenset((503,))))
        client = await rig.client()
        for _ in range(2 * LEAST):
            await client.send(GET)
            assert (await client.answer()).status == 200
        await good.stop()


async def test_a_dead_target_beside_a_living_one_costs_no_call_and_no_budget() -> None:
    async with running() as rig:
        rig.spec(
            targets=(target(rig.upstream.port), target(free_port())),
            retry=Retry(attempts=2, connect=True),
        )
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert cluster.budget is not None
        assert await storm(rig, 10 * LEAST) == [200] * (10 * LEAST)
        assert cluster.budget.sent.n == 0


async def test_connections_that_had_ended_are_replayed_outside_the_budget() -> None:
    async def once(exchange: Exchange) -> None:
        exchange.send(OK)
        await exchange.writer.drain()
        exchange.abort()

    async with running(once) as rig:
        rig.spec(retry=Retry(attempts=2, connect=True))
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert cluster.budget is not None
        client = await rig.client()
        for _ in range(3 * LEAST):
            await client.send(GET)
            assert (await client.answer()).status == 200
        assert cluster.budget.sent.n == 0


async def test_what_was_spent_stays_spent_over_a_reload() -> None:
    async with running() as rig:
        rig.spec(retry=Retry(attempts=2, connect=True))
        spent = rig.clusters.cluster_of(rig.gate.route.upstream).budget  # type: ignore[arg-type]
        rig.spec(timeout_connect_s=2.0)
        assert rig.clusters.cluster_of(rig.gate.route.upstream).budget is spent  # type: ignore[arg-type]
        rig.spec(retry=Retry(attempts=2, connect=True, budget=0.5))
        fresh = rig.clusters.cluster_of(rig.gate.route.upstream).budget  # type: ignore[arg-type]
        assert fresh is not None
        assert fresh is not spent


# --- as it is written ---


UPSTREAM = "version: 1\nupstreams: {{a: {{targets: [http://a], retry: {}}}}}\nroutes: []\n"


@pytest.mark.parametrize(
    ("written", "share"),
    [("{attempts: 2}", 0.2), ("{budget: 5%}", 0.05), ("{budget: 100%}", 1.0)],
)
def test_a_budget_is_read(written: str, share: float) -> None:
    assert snapshot(UPSTREAM.format(written)).upstreams["a"].retry.budget == share


@pytest.mark.parametrize("written", ["0%", "101%", "20", "0.2", "-1%", "off", '""'])
def test_a_budget_that_is_none_is_a_problem(written: str) -> None:
    said = problems(UPSTREAM.format(f"{{budget: {written}}}"))
    assert len(said) == 1
    assert "`budget`" in said[0]
