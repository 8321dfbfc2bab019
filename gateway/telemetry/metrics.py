"""What the gateway counts, as plain integers that cost a request under a microsecond.

prometheus-client's own counters take a lock for each step and its multiprocess mode a file;
here a child is resolved when the configuration loads, a step is `n += 1` on the one thread of
the loop, and the text of Prometheus is made when somebody asks.  A worker gives its `state()`
as plain data, so that whichever worker is asked can answer for all of them.

    meter = metrics.route("orders.read")        # once, at load
    meter.record("rule_allowed", 200, 0.00004, 0.0031)
"""

from __future__ import annotations

import os
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DECISION_BOUNDS_S = (25e-6, 50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 5e-3, 25e-3, 0.1, 1.0)
UPSTREAM_BOUNDS_S = (1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

State = Mapping[str, Any]
"""One worker's metrics as JSON holds them."""


@dataclass(slots=True)
class Tally:
    """A number that only grows; `n` may be stepped directly."""

    n: int = 0


@dataclass(slots=True)
class Spread:
    """A histogram: `counts[i]` values were at most `bounds[i]`, the last ones above all."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RouteMeter:
    """What one route has answered.  It outlives a reload, so that no count goes back."""

    __slots__ = ("answers", "decision", "upstream")

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.decision = Spread(DECISION_BOUNDS_S)
        self.upstream = Spread(UPSTREAM_BOUNDS_S)

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None:
        """One answer: why, with which status, how long the decision took, and how long the
        upstream took until its head was there (None where it was not asked)."""
        key = (reason, status)
        self.answers[key] = self.answers.get(key, 0) + 1
        spread = self.decision
        spread.counts[bisect_left(DECISION_BOUNDS_S, decision_s)] += 1
        spread.total += decision_s
        if upstream_s is not None:
            spread = self.upstream
            spread.counts[bisect_left(UPSTREAM_BOUNDS_S, upstream_s)] += 1
            spread.total += upstream_s


class Metrics:
    """Everything that one worker counts."""

    def __init__(self) -> None:
        self._life = secrets.token_hex(8)
        """Names these counts among those of all workers that ever were."""
        self._routes: dict[str, RouteMeter] = {}
        self._tallies: dict[str, tuple[str, tuple[str, ...], dict[tuple[str, ...], Tally]]] = {}
        self._spreads: dict[str, tuple[str, tuple[str, ...], dict[tuple[str, ...], Spread]]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._node: dict[str, tuple[str, Callable[[], int]]] = {}
        self._infos: dict[str, tuple[str, Callable[[], Mapping[str, str]]]] = {}
        self._own: dict[tuple[str, str, int], tuple[Tally, Spread]] = {}
        self._process = ProcessCollector(registry=None)

    def route(self, route_id: str) -> RouteMeter:
        """The meter of a route; what no route answered is counted under the empty id."""
        meter = self._routes.get(route_id)
        if meter is None:
            meter = self._routes[route_id] = RouteMeter()
        return meter

    def own(self, endpoint: str, outcome: str, status: int, seconds: float) -> None:
        """One answer of the gateway's own endpoints; the empty endpoint is what is none."""
        key = (endpoint, outcome, status)
        found = self._own.get(key)
        if found is None:
            found = self._own[key] = self._own_children(endpoint, outcome, str(status))
        found[0].n += 1
        found[1].observe(seconds)

    def _own_children(self, endpoint: str, outcome: str, status: str) -> tuple[Tally, Spread]:
        counted = self.tally(
            "endpoint_requests",
            "Answers of the gateway's own endpoints by outcome and status.",
            endpoint=endpoint,
            outcome=outcome,
            status=status,
        )
        timed = self.spread(
            "endpoint_duration_seconds",
            "Time until the gateway's own endpoints had their answer.",
            UPSTREAM_BOUNDS_S,
            endpoint=endpoint,
        )
        return counted, timed

    def defects(self, where: str) -> Tally:
        """Of the gateway itself: there from the start, so that the first one is seen to come."""
        return self.tally(
            "defects",
            "Answers 500 of the gateway's own making, and failures of background tasks.",
            where=where,
        )

    def tally(self, name: str, about: str, **labels: str) -> Tally:
        """`authgate_<name>_total` with these labels; the same one at every call."""
        _, _, children = self._tallies.setdefault(name, (about, tuple(labels), {}))
        return children.setdefault(tuple(labels.values()), Tally())

    def spread(self, name: str, about: str, bounds: Sequence[float], **labels: str) -> Spread:
        """`authgate_<name>`, a histogram; `name` ends with its unit."""
        _, _, children = self._spreads.setdefault(name, (about, tuple(labels), {}))
        return children.setdefault(tuple(labels.values()), Spread(bounds))

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """`authgate_<name>`, read when somebody asks; every worker shows its own."""
        self._gauges[name] = (about, read)

    def node(self, name: str, about: str, read: Callable[[], int]) -> None:
        """`authgate_<name>_total`: one number that all workers of the node read, counted once."""
        self._node[name] = (about, read)

    def info(self, name: str, about: str, read: Callable[[], Mapping[str, str]]) -> None:
        """`authgate_<name>_info`: always 1, its labels tell; once for all workers that agree."""
        self._infos[name] = (about, read)

    def state(self) -> State:
        return {
            "worker": str(os.getpid()),
            "life": self._life,
            "routes": [
                [route, list(meter.answers.items()), _plain(meter.decision), _plain(meter.upstream)]
                for route, meter in self._routes.items()
            ],
            "tallies": [
                [name, about, labels, [[key, child.n] for key, child in children.items()]]
                for name, (about, labels, children) in self._tallies.items()
            ],
            "spreads": [
                [name, about, labels, [[key, _plain(child)] for key, child in children.items()]]
                for name, (about, labels, children) in self._spreads.items()
            ],
            "gauges": [[name, about, read()] for name, (about, read) in self._gauges.items()],
            "node": [[name, about, read()] for name, (about, read) in self._node.items()],
            "infos": [[name, about, dict(read())] for name, (about, read) in self._infos.items()],
            "process": [
                [family.name, family.documentation, family.type, sample.value]
                for family in self._process.collect()
                for sample in family.samples
            ],
        }


def exposition(states: Sequence[State]) -> bytes:
    """The metrics of all these workers in the text format of Prometheus: counts and times are
    added up, gauges carry the worker they are of."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gathered(states))
    return generate_latest(registry)


def _plain(spread: Spread) -> list[Any]:
    return [list(spread.bounds), list(spread.counts), spread.total]


class _Gathered(Collector):
    def __init__(self, states: Sequence[State]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._tallied()
        yield from self._spread()
        yield from self._read()
        yield from self._of_the_node()
        yield from self._told()
        yield from self._of_processes()

    def _requests(self) -> Iterator[Metric]:
        answers: dict[tuple[str, str, str], int] = {}
        decision: dict[tuple[str, ...], list[Any]] = {}
        upstream: dict[tuple[str, ...], list[Any]] = {}
        for state in self._states:
            for route, counted, decided, forwarded in state["routes"]:
                for (reason, status), n in counted:
                    key = (route, reason, str(status))
                    answers[key] = answers.get(key, 0) + n
                _add(decision, (route,), decided)
                _add(upstream, (route,), forwarded)
        requests = CounterMetricFamily(
            "authgate_requests",
            "Answers by route, outcome and status; the empty route is what no route answered.",
            labels=("route", "outcome", "status"),
        )
        for key, n in answers.items():
            requests.add_metric(key, n)
        yield requests
        yield _histogram(
            "authgate_decision_duration_seconds", "Time to decide one call.", ("route",), decision
        )
        yield _histogram(
            "authgate_upstream_response_header_seconds",
            "Time from the decision to the head of the upstream's answer.",
            ("route",),
            upstream,
        )

    def _tallied(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Sequence[str], dict[tuple[str, ...], int]]] = {}
        for state in self._states:
            for name, about, labels, children in state["tallies"]:
                sums = families.setdefault(name, (about, labels, {}))[2]
                for key, n in children:
                    sums[tuple(key)] = sums.get(tuple(key), 0) + n
        for name, (about, labels, sums) in families.items():
            family = CounterMetricFamily(f"authgate_{name}", about, labels=labels)
            for key, n in sums.items():
                family.add_metric(key, n)
            yield family

    def _spread(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Sequence[str], dict[tuple[str, ...], list[Any]]]] = {}
        for state in self._states:
            for name, about, labels, children in state["spreads"]:
                sums = families.setdefault(name, (about, labels, {}))[2]
                for key, plain in children:
                    _add(sums, tuple(key), plain)
        for name, (about, labels, sums) in families.items():
            yield _histogram(f"authgate_{name}", about, labels, sums)

    def _read(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for state in self._states:
            for name, about, value in state["gauges"]:
                family = families.setdefault(
                    name, GaugeMetricFamily(f"authgate_{name}", about, labels=("worker",))
                )
                family.add_metric((state["worker"],), value)
        yield from families.values()

    def _of_the_node(self) -> Iterator[Metric]:
        found: dict[str, tuple[str, int]] = {}
        for state in self._states:
            for name, about, n in state["node"]:
                found[name] = about, max(n, found.get(name, ("", 0))[1])
        for name, (about, n) in found.items():
            yield CounterMetricFamily(f"authgate_{name}", about, value=n)

    def _told(self) -> Iterator[Metric]:
        found: dict[str, tuple[str, dict[tuple[tuple[str, str], ...], None]]] = {}
        for state in self._states:
            for name, about, labels in state["infos"]:
                found.setdefault(name, (about, {}))[1][tuple(labels.items())] = None
        for name, (about, each) in found.items():
            names = [label for label, _ in next(iter(each))]
            family = GaugeMetricFamily(f"authgate_{name}_info", about, labels=names)
            for pairs in each:
                family.add_metric([value for _, value in pairs], 1.0)
            yield family

    def _of_processes(self) -> Iterator[Metric]:
        """By the names that every exporter gives them."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for state in self._states:
            for name, about, kind, value in state["process"]:
                made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                family = families.setdefault(name, made(name, about, labels=("worker",)))
                family.add_metric((state["worker"],), value)
        yield from families.values()


def _add(sums: dict[tuple[str, ...], list[Any]], key: tuple[str, ...], plain: list[Any]) -> None:
    bounds, counts, total = plain
    held = sums.get(key)
    if held is None:
        sums[key] = [bounds, list(counts), total]
    else:
        held[1] = [a + b for a, b in zip(held[1], counts, strict=True)]
        held[2] += total


def _histogram(
    name: str, about: str, labels: Sequence[str], sums: Mapping[tuple[str, ...], list[Any]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, about, labels=labels)
    for key, (bounds, counts, total) in sums.items():
        running, buckets = 0, []
        for bound, n in zip([*bounds, float("inf")], counts, strict=True):
            running += n
            buckets.append((repr(float(bound)) if bound != float("inf") else "+Inf", running))
        family.add_metric(key, buckets, total)
    return family
