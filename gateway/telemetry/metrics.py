"""The metrics of the gateway, as plain integers that cost a request under a microsecond.

prometheus-client's own counters take a lock for each step and its multiprocess mode a file;
here a child is resolved when the configuration loads, a step is `n += 1` on the one thread of
the loop, and the text of Prometheus is written at each scrape.  A worker returns its `state()`
as plain data, so that any worker can answer for all of them.

    meter = metrics.route("orders.read")        # once, at load
    meter.record("rule_allowed", 200, 0.00004, 0.0031)
"""

from __future__ import annotations

import os
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import ProcessCollector

DECISION_BOUNDS_S: Sequence[float]
DECISION_BOUNDS_S = (25e-6, 50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 5e-3, 25e-3, 0.1, 1.0)
UPSTREAM_BOUNDS_S: Sequence[float]
UPSTREAM_BOUNDS_S = (1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Declared: else the compiler keeps each number apart, and makes the tuple anew for each call.

State = Mapping[str, Any]
"""One worker's metrics as JSON holds them."""

Exemplar = tuple[str, float, float]
"""The id of a trace, the value with which it was counted, and when, since the epoch."""

Labels = tuple[str, ...]
"""The names of a family's labels, or one child's values of them."""


@dataclass(slots=True)
class Tally:
    """A counter; its owner may step `n` directly."""

    n: int = 0


@dataclass(slots=True)
class Histogram:
    """A histogram: `counts[i]` values were at most `bounds[i]`, the last ones above all."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    exemplars: dict[int, Exemplar] | None = None
    """The last trace that was counted at each place of `counts`; None where no call is traced."""

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


_ANSWERS: dict[tuple[str, int], tuple[str, int]] = {}
"""What has been answered so far: each reason with each status, of which there are few."""


class RouteMetrics:
    """Counts what one route has answered; it outlives a reload, so that no count goes back."""

    __slots__ = ("answers", "decision", "upstream")

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.decision = Histogram(DECISION_BOUNDS_S)
        self.upstream = Histogram(UPSTREAM_BOUNDS_S)

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None:
        """One answer: why, with which status, how long the decision took, and how long the
        upstream took until its head was there (None where it was not asked)."""
        key = (reason, status)
        try:
            self.answers[key] += 1
        except KeyError:
            # One key for all routes: what is compared lies where the last call has looked.
            self.answers[_ANSWERS.setdefault(key, key)] = 1
        histogram = self.decision
        histogram.counts[bisect_left(DECISION_BOUNDS_S, decision_s)] += 1
        histogram.total += decision_s
        if upstream_s is not None:
            histogram = self.upstream
            histogram.counts[bisect_left(UPSTREAM_BOUNDS_S, upstream_s)] += 1
            histogram.total += upstream_s


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        self._life = secrets.token_hex(8)
        """Tells these counts from those of every other worker, dead ones included."""
        self._routes: dict[str, RouteMetrics] = {}
        self._tallies: dict[str, tuple[str, Labels, dict[Labels, Tally]]] = {}
        self._histograms: dict[str, tuple[str, Labels, dict[Labels, Histogram]]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._labelled: dict[str, tuple[str, str, Callable[[], Mapping[str, float]]]] = {}
        self._node: dict[str, tuple[str, Callable[[], int]]] = {}
        self._infos: dict[str, tuple[str, Callable[[], Mapping[str, str]]]] = {}
        self._endpoints: dict[tuple[str, str, int], tuple[Tally, Histogram]] = {}
        self._process = ProcessCollector(registry=None)

    def route(self, route_id: str) -> RouteMetrics:
        """The metrics of a route; what no route answered is counted under the empty id."""
        metrics = self._routes.get(route_id)
        if metrics is None:
            metrics = self._routes[route_id] = RouteMetrics()
        return metrics

    def record_endpoint(self, endpoint: str, outcome: str, status: int, seconds: float) -> None:
        """Counts one answer of the gateway's own endpoints; an unknown one has an empty name."""
        key = (endpoint, outcome, status)
        children = self._endpoints.get(key)
        if children is None:
            children = self._endpoints[key] = self._endpoint(endpoint, outcome, str(status))
        requests, durations = children
        requests.n += 1
        durations.observe(seconds)

    def _endpoint(self, endpoint: str, outcome: str, status: str) -> tuple[Tally, Histogram]:
        requests = self.tally(
            "endpoint_requests",
            "Answers of the gateway's own endpoints by outcome and status.",
            endpoint=endpoint,
            outcome=outcome,
            status=status,
        )
        return requests, self.endpoint_durations(endpoint)

    def endpoint_durations(self, endpoint: str) -> Histogram:
        return self.histogram(
            "endpoint_duration_seconds",
            "Time until the gateway's own endpoints had their answer.",
            UPSTREAM_BOUNDS_S,
            endpoint=endpoint,
        )

    def defects(self, where: str) -> Tally:
        """Counts defects of the gateway; it exists from the start, so that the first one shows as
        an increase."""
        return self.tally(
            "defects",
            "Answers 500 of the gateway's own making, and failures of background tasks.",
            where=where,
        )

    def tally(self, name: str, about: str, **labels: str) -> Tally:
        """`authgate_<name>_total` with these labels; the same one at every call."""
        _, _, children = self._tallies.setdefault(name, (about, tuple(labels), {}))
        return children.setdefault(tuple(labels.values()), Tally())

    def by_issuer(self, name: str, about: str) -> Callable[[str, str], None]:
        """Counts what came of it, by issuer and outcome."""

        def count(issuer: str, outcome: str) -> None:
            self.tally(name, about, issuer=issuer, outcome=outcome).n += 1

        return count

    def by_provider(self, name: str, about: str) -> Callable[[str, str], None]:
        """The same by provider."""

        def count(provider: str, outcome: str) -> None:
            self.tally(name, about, provider=provider, outcome=outcome).n += 1

        return count

    def histogram(self, name: str, about: str, bounds: Sequence[float], **labels: str) -> Histogram:
        """`authgate_<name>`, a histogram; `name` ends with its unit."""
        _, _, children = self._histograms.setdefault(name, (about, tuple(labels), {}))
        return children.setdefault(tuple(labels.values()), Histogram(bounds))

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """`authgate_<name>`, read at each scrape; every worker shows its own."""
        self._gauges[name] = (about, read)

    def labelled_gauge(
        self, name: str, about: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """As `gauge`, of several things that `label` tells apart."""
        self._labelled[name] = (about, label, read)

    def node(self, name: str, about: str, read: Callable[[], int]) -> None:
        """`authgate_<name>_total`: one number that all workers of the node read; shown once."""
        self._node[name] = (about, read)

    def info(self, name: str, about: str, read: Callable[[], Mapping[str, str]]) -> None:
        """`authgate_<name>_info`: always 1, with labels; shown once for all workers that agree."""
        self._infos[name] = (about, read)

    def number(self, name: str) -> float | None:
        """What `gauge` or `node` of this name shows now."""
        known = self._gauges.get(name) or self._node.get(name)
        return None if known is None else known[1]()

    def state(self) -> State:
        return {
            "worker": str(os.getpid()),
            "life": self._life,
            "routes": [
                [
                    route,
                    list(counts.answers.items()),
                    _plain(counts.decision),
                    _plain(counts.upstream),
                ]
                for route, counts in self._routes.items()
            ],
            "tallies": [
                [name, about, labels, [[key, child.n] for key, child in children.items()]]
                for name, (about, labels, children) in self._tallies.items()
            ],
            "histograms": [
                [name, about, labels, [[key, _plain(child)] for key, child in children.items()]]
                for name, (about, labels, children) in self._histograms.items()
            ],
            "gauges": [[name, about, read()] for name, (about, read) in self._gauges.items()],
            "labelled_gauges": [
                [name, about, label, dict(read())]
                for name, (about, label, read) in self._labelled.items()
            ],
            "exemplars": [
                [name, list(labels), [[at, *exemplar] for at, exemplar in exemplars.items()]]
                for name, labels, exemplars in self._exemplars()
            ],
            "node": [[name, about, read()] for name, (about, read) in self._node.items()],
            "infos": [[name, about, dict(read())] for name, (about, read) in self._infos.items()],
            "process": [
                [family.name, family.documentation, family.type, sample.value]
                for family in self._process.collect()
                for sample in family.samples
            ],
        }

    def _exemplars(self) -> Iterator[tuple[str, Labels, dict[int, Exemplar]]]:
        """Those of each histogram: its name, its labels' values, and one for each place."""
        for route, counts in self._routes.items():
            if counts.decision.exemplars:
                yield "decision_duration_seconds", (route,), counts.decision.exemplars
            if counts.upstream.exemplars:
                yield "upstream_response_header_seconds", (route,), counts.upstream.exemplars
        for name, (_, _, children) in self._histograms.items():
            for labels, histogram in children.items():
                if histogram.exemplars:
                    yield name, labels, histogram.exemplars


def _plain(histogram: Histogram) -> list[Any]:
    return [list(histogram.bounds), list(histogram.counts), histogram.total]
