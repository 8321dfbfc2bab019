"""Counts a call, and notes where, so that a histogram can name the trace of one that it counted;
taken where traces are on."""

from __future__ import annotations

from gateway.call_trace import current_call
from gateway.telemetry.metrics import Metrics, RouteMetrics


class TracedMetrics:
    """Meets `edge.replies.observers.RequestMetrics`.  Whether a trace becomes an exemplar is
    known when it has ended: the tracer gives it to the histogram then."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._meters: dict[str, TracedMeter] = {}

    def route(self, route_id: str) -> TracedMeter:
        meter = self._meters.get(route_id)
        if meter is None:
            meter = self._meters[route_id] = TracedMeter(self._metrics.route(route_id))
        return meter

    def record_endpoint(self, endpoint: str, outcome: str, status: int, seconds: float) -> None:
        self._metrics.record_endpoint(endpoint, outcome, status, seconds)
        trace = current_call.get()
        if trace is not None and not trace.ended:
            trace.pattern = endpoint
            trace.timings.append((self._metrics.endpoint_durations(endpoint), seconds))


class TracedMeter:
    def __init__(self, counts: RouteMetrics) -> None:
        self._counts = counts

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None:
        self._counts.record(reason, status, decision_s, upstream_s)
        trace = current_call.get()
        if trace is not None and not trace.ended:
            trace.timings.append((self._counts.decision, decision_s))
            if upstream_s is not None:
                trace.timings.append((self._counts.upstream, upstream_s))
