"""The metrics of all workers in one answer: in the text format of Prometheus, or in OpenMetrics
with exemplars, where the scraper asks for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway.telemetry.metrics import Labels, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Exemplars = Mapping[tuple[str, Labels], Mapping[int, Exemplar]]
"""The newest of all workers, by a histogram's name and labels, and by the place of its bucket."""


def exposition(states: Sequence[State], media_type: str = CONTENT_TYPE) -> bytes:
    """The metrics of all these workers, as CONTENT_TYPE or OPENMETRICS: counts and times are added
    up, gauges carry the worker they are of.  The former has no room for exemplars."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatesCollector(states))
    if media_type == OPENMETRICS:
        openmetrics: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
        return openmetrics
    return generate_latest(registry)


def media_type_for(accept: str) -> str:
    """OPENMETRICS where a scraper's `Accept` names its version 1, and likes nothing better."""
    weights = {CONTENT_TYPE: 0.0, OPENMETRICS: 0.0}
    for one in accept.lower().split(","):
        name, *parameters = [part.strip() for part in one.split(";")]
        told = dict(part.split("=", 1) for part in parameters if "=" in part)
        try:
            weight = float(told.get("q", "1"))
        except ValueError:
            continue
        if name == "text/plain":
            weights[CONTENT_TYPE] = max(weights[CONTENT_TYPE], weight)
        elif name == "application/openmetrics-text" and told.get("version", "1.0.0") == "1.0.0":
            weights[OPENMETRICS] = max(weights[OPENMETRICS], weight)
    return OPENMETRICS if 0 < weights[OPENMETRICS] >= weights[CONTENT_TYPE] else CONTENT_TYPE


class _StatesCollector(Collector):
    """Collects the states of all workers as families of Prometheus."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = states
        self._exemplars = _newest_exemplars(states)

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
        yield from self._node_counters()
        yield from self._infos()
        yield from self._processes()

    def _requests(self) -> Iterator[Metric]:
        answers: dict[tuple[str, str, str], int] = {}
        decision: dict[Labels, list[Any]] = {}
        upstream: dict[Labels, list[Any]] = {}
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
        yield self._histogram(
            "decision_duration_seconds", "Time to decide one call.", ("route",), decision
        )
        yield self._histogram(
            "upstream_response_header_seconds",
            "Time from the decision to the head of the upstream's answer.",
            ("route",),
            upstream,
        )

    def _counters(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Sequence[str], dict[Labels, int]]] = {}
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

    def _histograms(self) -> Iterator[Metric]:
        families: dict[str, tuple[str, Sequence[str], dict[Labels, list[Any]]]] = {}
        for state in self._states:
            for name, about, labels, children in state["histograms"]:
                sums = families.setdefault(name, (about, labels, {}))[2]
                for key, plain in children:
                    _add(sums, tuple(key), plain)
        for name, (about, labels, sums) in families.items():
            yield self._histogram(name, about, labels, sums)

    def _histogram(
        self, name: str, about: str, labels: Sequence[str], sums: Mapping[Labels, list[Any]]
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(f"authgate_{name}", about, labels=labels)
        for key, (bounds, counts, total) in sums.items():
            exemplars = self._exemplars.get((name, key), {})
            running = 0
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for place, (bound, n) in enumerate(zip([*bounds, inf], counts, strict=True)):
                running += n
                shown = "+Inf" if bound == inf else repr(float(bound))
                exemplar = exemplars.get(place)
                buckets.append((shown, running) if exemplar is None else (shown, running, exemplar))
            family.add_metric(key, buckets, total)
        return family

    def _gauges(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for state in self._states:
            for name, about, value in state["gauges"]:
                family = families.setdefault(
                    name, GaugeMetricFamily(f"authgate_{name}", about, labels=("worker",))
                )
                family.add_metric((state["worker"],), value)
        for state in self._states:
            for name, about, label, values in state["labelled_gauges"]:
                family = families.setdefault(
                    name, GaugeMetricFamily(f"authgate_{name}", about, labels=(label, "worker"))
                )
                for value, n in values.items():
                    family.add_metric((value, state["worker"]), n)
        yield from families.values()

    def _node_counters(self) -> Iterator[Metric]:
        counters: dict[str, tuple[str, int]] = {}
        for state in self._states:
            for name, about, n in state["node"]:
                counters[name] = about, max(n, counters.get(name, ("", 0))[1])
        for name, (about, n) in counters.items():
            yield CounterMetricFamily(f"authgate_{name}", about, value=n)

    def _infos(self) -> Iterator[Metric]:
        infos: dict[str, tuple[str, dict[tuple[tuple[str, str], ...], None]]] = {}
        for state in self._states:
            for name, about, labels in state["infos"]:
                infos.setdefault(name, (about, {}))[1][tuple(labels.items())] = None
        for name, (about, variants) in infos.items():
            names = [label for label, _ in next(iter(variants))]
            family = GaugeMetricFamily(f"authgate_{name}_info", about, labels=names)
            for pairs in variants:
                family.add_metric([value for _, value in pairs], 1.0)
            yield family

    def _processes(self) -> Iterator[Metric]:
        """By the names that every exporter gives them."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for state in self._states:
            for name, about, kind, value in state["process"]:
                family_of = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                family = families.setdefault(name, family_of(name, about, labels=("worker",)))
                family.add_metric((state["worker"],), value)
        yield from families.values()


def _add(sums: dict[Labels, list[Any]], key: Labels, plain: list[Any]) -> None:
    bounds, counts, total = plain
    running = sums.get(key)
    if running is None:
        sums[key] = [bounds, list(counts), total]
    else:
        running[1] = [a + b for a, b in zip(running[1], counts, strict=True)]
        running[2] += total


def _newest_exemplars(states: Sequence[State]) -> Exemplars:
    newest: dict[tuple[str, Labels], dict[int, Exemplar]] = {}
    for state in states:
        for name, labels, exemplars in state.get("exemplars", ()):
            places = newest.setdefault((name, tuple(labels)), {})
            for place, trace_id, value, at in exemplars:
                known = places.get(place)
                if known is None or known.timestamp is None or known.timestamp < at:
                    places[place] = Exemplar({"trace_id": trace_id}, value, at)
    return newest
