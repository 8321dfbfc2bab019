"""Calls as spans of OpenTelemetry, sent by its exporter over HTTP; needs the extra `otel`.

The names are those of the semantic conventions (HTTP, database), ours begin with `authgate.`.

Law: no attribute holds a query, a header field but `User-Agent`, a body, or anything of a
credential.  Who called is not told: the request id leads to the access log, which says it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from gateway.call_trace import Attribute, CallTrace, ChildSpan, UpstreamAttempt
from gateway.telemetry.trace_thread import SendResult
from gateway.telemetry.tracer import FinishedCall

_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
_WHY_CHARACTERS = 200
_EMPTY = Context()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtlpSender:
    """Meets `trace_thread.SpanSender`.  Where to and how: the `OTEL_EXPORTER_OTLP_*` variables,
    as the exporter reads them."""

    def __init__(self, version: str, batch: int) -> None:
        self._batch = batch
        self._remarks = _Remarks()
        self._exporter = OTLPSpanExporter()
        self._ids = _GivenIds()
        self._ended = _Ended()
        # What the environment says of the service goes before what we say of ourselves.
        resource = (
            Resource.create({})
            .merge(
                Resource(
                    {
                        "service.name": "authgate",
                        "service.version": version,
                        "service.instance.id": f"{os.uname().nodename}-{os.getpid()}",
                        "process.pid": os.getpid(),
                    }
                )
            )
            .merge(OTELResourceDetector().detect())
        )
        # Whether a call is sent was decided when it ended.
        provider = TracerProvider(
            ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("authgate", version)

    @property
    def remark(self) -> str:
        """What the exporter found wrong with its variables; it goes on by a default."""
        remark = self._remarks.first
        # It would show the header, and with that a key.
        is_of_headers = remark.startswith("Header")
        return "OTEL_EXPORTER_OTLP_HEADERS cannot be read" if is_of_headers else remark

    def send(self, calls: Sequence[FinishedCall]) -> SendResult:
        for finished in calls:
            self._add(finished)
        spans, self._ended.spans = self._ended.spans, []
        taken, lost, why = 0, 0, ""
        for at in range(0, len(spans), self._batch):
            message = spans[at : at + self._batch]
            self._remarks.first = ""
            if self._exporter.export(message) is SpanExportResult.SUCCESS:
                taken += len(message)
            else:
                lost += len(message)
                why = self._remarks.first or "the collector did not take them"
        return SendResult(taken, lost, why)

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _add(self, finished: FinishedCall) -> None:
        trace = finished.trace
        self._ids.trace_id = int(trace.trace_id, 16)
        state = TraceState()
        parent = None
        if trace.parent_id:
            state = TraceState.from_header([finished.tracestate])
            parent = _context(trace.trace_id, trace.parent_id, state)
        method = _method(finished.method)
        pattern = trace.pattern
        self._emit(
            f"{method} {pattern}" if pattern else method,
            SpanKind.SERVER,
            (trace.span_id, parent),
            _attributes(finished, method),
            (_ns(trace, trace.began_at), _ns(trace, finished.ended_at)),
            failed=finished.status >= 500,
        )
        own = _context(trace.trace_id, trace.span_id, state)
        for number, attempt in enumerate(trace.attempts):
            self._add_attempt(finished, attempt, number, own)
        made: dict[int, Any] = {}
        for child in trace.children:
            above = own if child.parent is None else made.get(id(child.parent), own)
            span_id = f"{self._ids.drawn():016x}"
            made[id(child)] = _context(trace.trace_id, span_id, state)
            self._add_child(finished, child, span_id, above)

    def _add_attempt(
        self, finished: FinishedCall, attempt: UpstreamAttempt, number: int, own: Any
    ) -> None:
        trace, method = finished.trace, _method(finished.method)
        is_last = number == len(trace.attempts) - 1
        failed_at_upstream = finished.reason.startswith("upstream_")
        error = attempt.error
        if is_last and not error and (failed_at_upstream or not finished.status):
            error = finished.reason
        target = urlsplit(attempt.target_url)
        path = attempt.request_line.split(b" ")[1:2] or [b"/"]
        # Without its query, which may hold whatever a client puts there.
        shown = path[0].partition(b"?")[0].decode("latin-1")
        attributes: dict[str, Attribute] = {
            "http.request.method": method,
            "server.address": target.hostname or "",
            "server.port": target.port or (443 if target.scheme == "https" else 80),
            "url.full": f"{target.scheme}://{target.netloc.rpartition('@')[2]}{shown}",
            "network.protocol.version": "1.1",
            "authgate.upstream": trace.upstream,
        }
        if number:
            attributes["http.request.resend_count"] = number
        if error:
            attributes["error.type"] = error
        elif is_last:
            attributes["http.response.status_code"] = finished.status
            if finished.status >= 400:
                attributes["error.type"] = str(finished.status)
        ended_at = attempt.ended_at or finished.ended_at
        self._emit(
            method,
            SpanKind.CLIENT,
            (attempt.span_id, own),
            attributes,
            (_ns(trace, attempt.began_at), _ns(trace, ended_at)),
            failed="error.type" in attributes,
        )

    def _add_child(
        self, finished: FinishedCall, child: ChildSpan, span_id: str, above: Any
    ) -> None:
        attributes: dict[str, Attribute] = dict(child.attributes)
        if child.error:
            attributes["error.type"] = child.error
        trace = finished.trace
        self._emit(
            child.name,
            SpanKind.CLIENT if child.is_client else SpanKind.INTERNAL,
            (span_id, above),
            attributes,
            (_ns(trace, child.began_at), _ns(trace, child.ended_at or finished.ended_at)),
            failed=bool(child.error),
        )

    def _emit(
        self,
        name: str,
        kind: SpanKind,
        place: tuple[str, SpanContext | None],
        attributes: Mapping[str, Attribute],
        times_ns: tuple[int, int],
        *,
        failed: bool,
    ) -> None:
        """`place` is the span's id, and what it was done for."""
        span_id, parent = place
        self._ids.span_id = int(span_id, 16)
        above = NonRecordingSpan(parent) if parent is not None else None
        span = self._tracer.start_span(
            name,
            # An empty context: what this thread may be in the midst of is no parent.
            context=_EMPTY if above is None else set_span_in_context(above, _EMPTY),
            kind=kind,
            attributes=attributes,
            start_time=times_ns[0],
            record_exception=False,
            set_status_on_exception=False,
        )
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(max(times_ns))


def _attributes(finished: FinishedCall, method: str) -> dict[str, Attribute]:
    trace = finished.trace
    told: dict[str, Attribute | None] = {
        "http.request.method": method,
        "http.request.method_original": finished.method[:20] if method == "_OTHER" else None,
        "http.response.status_code": finished.status,
        "http.route": trace.pattern,
        "url.path": finished.path,
        "url.scheme": finished.scheme,
        "server.address": finished.host,
        "client.address": finished.client_ip,
        "user_agent.original": finished.user_agent,
        "network.protocol.version": f"1.{finished.http_minor}",
        "authgate.request_id": finished.request_id,
        "authgate.decision": finished.decision,
        "authgate.reason": finished.reason,
        "authgate.route": finished.route_id,
        "authgate.policy": finished.policy,
        "authgate.rule": finished.rule,
        "authgate.upstream": trace.upstream,
        "authgate.attempts": len(trace.attempts),
        "authgate.spans_left_out": trace.left_out,
    }
    if not finished.status:
        told["error.type"] = finished.reason
    elif finished.status >= 500:
        answered_by_upstream = trace.attempts and not finished.reason.startswith("upstream_")
        told["error.type"] = str(finished.status) if answered_by_upstream else finished.reason
    return {name: value for name, value in told.items() if value}


def _method(method: str) -> str:
    return method if method in _METHODS else "_OTHER"


def _ns(trace: CallTrace, at: float) -> int:
    """Since the epoch: the clock of the day is asked once, when the call comes."""
    return trace.began_ns + round((at - trace.began_at) * 1e9)


def _context(trace_id: str, span_id: str, state: TraceState) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, _SAMPLED, state)


class _GivenIds(IdGenerator):
    """Ids that were given to others before the span is made."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def drawn(self) -> int:
        return int.from_bytes(os.urandom(8)) or 1


class _Ended(SpanProcessor):
    """Holds what has ended, until it is sent."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class _Remarks(logging.Handler):
    """What the exporter says of a message that it could not send; it says so each time, and the
    log of the gateway once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        library = logging.getLogger("opentelemetry")
        library.addHandler(self)
        library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        # What follows says that it was tried until its time was over.
        self.first = self.first or record.getMessage()[:_WHY_CHARACTERS]
