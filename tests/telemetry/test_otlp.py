"""Whatever a client sends, its call can be told to a collector, and tells nothing that it must not."""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call_trace import CallTrace, ChildSpan, UpstreamAttempt, current_call
from gateway.edge.http1.request_head import RequestHeadReader
from gateway.model import Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.otlp import OtlpSender
from gateway.telemetry.tracer import TraceOptions, Tracer
from tests.collector import Collector, collecting

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
VALUES = st.lists(st.sampled_from([*range(0x20, 0x7F), *range(0x80, 0x100)]), max_size=60).map(
    bytes
)
NAMES = st.sampled_from(
    [
        "User-Agent",
        "tracestate",
        "Cookie",
        "Authorization",
        "X-Api-Key",
        "Referer",
        "X-Auth-User-Id",
    ]
)
SECRET = "s3cr3t"


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[OtlpSender, Collector]]:
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        sender = OtlpSender("1", 512)
        yield sender, collector
        sender.close()


def ended(
    fields: list[tuple[str, bytes]], target: str, parent: bytes | None, status: int
) -> Tracer:
    tracer = Tracer(TraceOptions(sample=1.0), lambda: 1.0)
    lines = [name.encode() + b": " + value for name, value in fields]
    block = b"\r\n".join([f"GET {target} HTTP/1.1".encode("ascii"), b"Host: x", *lines])
    head = RequestHeadReader().read(block)
    assert not isinstance(head, Reason)
    trace = tracer.begin(parent, "http", trusted=True)
    trace.attempts.append(UpstreamAttempt("1" * 16, "http://[::1]:80", b"GET /?q=s3cr3t HTTP/1.1"))
    transaction = ChildSpan("transaction", {}, is_client=True)
    trace.add(transaction)
    trace.add(ChildSpan("SELECT t", {"n": 1}, is_client=True, parent=transaction))
    token = current_call.set(trace)
    path = target.partition("?")[0]
    tracer.answered(None, AnsweredRequest("r", status, "::1", "GET", "x", path, headers=head))
    current_call.reset(token)
    return tracer


@given(
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    target=st.text(string.ascii_letters + string.punctuation, max_size=40).map("/".__add__),
    parent=st.sampled_from([PARENT, None]),
    status=st.sampled_from([0, 101, 200, 404, 500, 599]),
)
@settings(max_examples=60, deadline=None)
def test_any_call_can_be_told(
    both: tuple[OtlpSender, Collector],
    fields: list[tuple[str, bytes]],
    target: str,
    parent: bytes | None,
    status: int,
) -> None:
    sender, collector = both
    collector.spans.clear()
    result = sender.send(list(ended(fields, target, parent, status).waiting))
    assert (result.taken, result.lost, result.why) == (4, 0, "")
    by_id = {span.span_id: span for span in collector.spans}
    assert len(by_id) == 4
    (root,) = [span for span in collector.spans if span.kind == "SERVER"]
    assert root.parent_id == (PARENT[36:52].decode() if parent else "")
    (statement,) = [span for span in collector.spans if span.name == "SELECT t"]
    assert by_id[statement.parent_id].name == "transaction"


@given(
    fields=st.lists(
        st.tuples(NAMES.filter(lambda name: name not in ("User-Agent", "tracestate")), VALUES),
        max_size=6,
    ),
    position=st.integers(0, 5),
    path=st.text(string.ascii_lowercase, max_size=10).map("/".__add__),
)
@settings(max_examples=40, deadline=None)
def test_no_credential_and_no_query_is_told(
    both: tuple[OtlpSender, Collector],
    fields: list[tuple[str, bytes]],
    position: int,
    path: str,
) -> None:
    sender, collector = both
    collector.messages.clear()
    hidden = [(name, SECRET.encode() + value) for name, value in fields]
    tracer = ended(hidden, f"{path}?{'a' * position}={SECRET}", PARENT, 401)
    sender.send(list(tracer.waiting))
    assert len(collector.messages) == 1
    assert SECRET.encode() not in collector.messages[0]


def test_what_the_exporter_says_is_told_by_its_first_remark(
    both: tuple[OtlpSender, Collector],
) -> None:
    sender, collector = both
    collector.status = 400
    try:
        result = sender.send(list(ended([], "/", None, 200).waiting))
    finally:
        collector.status = 200
    assert (result.taken, result.lost) == (0, 4)
    assert "400" in result.why


def test_a_trace_has_the_flags_that_came_but_for_sampled() -> None:
    trace = CallTrace("1" * 32, "2" * 16, "", sampled=True)
    assert trace.next_traceparent()[-2:] == b"01"
