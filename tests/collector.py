"""An OTLP collector: it takes spans over HTTP, in protobuf, as the protocol's own classes read it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    status: int
    began_ns: int
    ended_ns: int
    tracestate: str


@dataclass
class Collector:
    """What it was sent; `status` is what it answers, `hangs` that it does not."""

    endpoint: str = ""
    status: int = 200
    messages: list[bytes] = field(default_factory=list, repr=False)
    asked: int = 0
    spans: list[ReceivedSpan] = field(default_factory=list, repr=False)
    go_on: threading.Event = field(default_factory=threading.Event)
    """Cleared, it holds its answers back."""

    def of(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def servers(self, **attributes: object) -> list[ReceivedSpan]:
        """The calls that have these attributes; `authgate_` stands for `authgate.`."""
        wanted = {name.replace("_", ".", 1): value for name, value in attributes.items()}
        return [
            span
            for span in list(self.spans)
            if span.kind == "SERVER" and wanted.items() <= span.attributes.items()
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    collector.go_on.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked += 1
            collector.go_on.wait(60)
            if collector.status == 200:
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.messages.append(body)
                collector.spans += read_spans(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that gave up is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield collector
    finally:
        collector.go_on.set()
        server.shutdown()
        server.server_close()


def read_spans(message: bytes) -> list[ReceivedSpan]:
    found = []
    for group in ExportTraceServiceRequest.FromString(message).resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            found += [
                ReceivedSpan(
                    span.name,
                    Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    _values(span.attributes),
                    resource,
                    span.status.code,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.trace_state,
                )
                for span in scope.spans
            ]
    return found


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
