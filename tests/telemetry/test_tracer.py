"""Which calls are sent, how many wait, and what becomes of them where nobody takes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from structlog.testing import capture_logs

from gateway.call_trace import TRACEPARENT, CallTrace, Traced, current_call
from gateway.model import Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.metrics import Histogram, Tally
from gateway.telemetry.trace_thread import SendResult, TraceThread
from gateway.telemetry.tracer import FinishedCall, TraceOptions, Tracer

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


def tracer(**options: object) -> Tracer:
    return Tracer(TraceOptions(**options), lambda: 1.0, dropped=Tally())  # type: ignore[arg-type]


def answered(
    one: Tracer, status: int = 200, reason: Reason | None = None, parent: bytes | None = None
) -> CallTrace:
    """A call from its beginning to its end."""
    trace = one.begin(parent, "http", trusted=False)
    token = current_call.set(trace)
    try:
        one.answered(reason, AnsweredRequest("r", status))
    finally:
        current_call.reset(token)
    return trace


@pytest.mark.parametrize("flags", [b"00", b"01", b"02", b"03"])
def test_a_parent_decides_whether_its_calls_are_sampled(flags: bytes) -> None:
    trace = tracer(sample=0.0).begin(PARENT + flags, "http", trusted=False)
    assert trace.sampled is bool(int(flags, 16) & 1)
    sent = trace.next_traceparent()
    assert TRACEPARENT.fullmatch(sent)
    assert (sent[:36], sent[-2:]) == (PARENT[:36], flags)
    assert sent[36:52] != PARENT[36:52], "the upstream's parent is this attempt"


@pytest.mark.parametrize(("trusted", "sampled"), [(True, True), (False, False)])
def test_only_a_trusted_proxy_decides_where_nobody_else_is_believed(
    trusted: bool, sampled: bool
) -> None:
    one = tracer(sample=0.0, believes_anyone=False)
    assert one.begin(PARENT + b"01", "http", trusted=trusted).sampled is sampled


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f-]{50,60}", fullmatch=True))
def test_what_is_no_parent_begins_a_trace(given_parent: bytes) -> None:
    trace = tracer().begin(given_parent, "http", trusted=True)
    assert trace.is_new is (TRACEPARENT.fullmatch(given_parent) is None)
    assert TRACEPARENT.fullmatch(trace.next_traceparent())


def test_the_ratio_draws_so_many_and_as_the_library_does() -> None:
    one, library = tracer(sample=0.25), TraceIdRatioBased(0.25)
    traces = [one.begin(None, "http", trusted=False) for _ in range(4_000)]
    assert 800 < sum(trace.sampled for trace in traces) < 1_200
    for trace in traces[:100]:
        result = library.should_sample(None, int(trace.trace_id, 16), "GET")
        assert (result.decision is Decision.RECORD_AND_SAMPLE) is trace.sampled


def test_who_is_not_believed_cannot_choose_an_id_that_is_drawn() -> None:
    one = tracer(sample=0.25, believes_anyone=False)
    drawn = b"00-4bf92f3577b34da60000000000000000-00f067aa0ba902b7-01"
    sampled = [one.begin(drawn, "http", trusted=False).sampled for _ in range(4_000)]
    assert 800 < sum(sampled) < 1_200


async def test_a_thread_that_was_not_started_can_be_stopped() -> None:
    options = TraceOptions()
    await TraceThread(Tracer(options, lambda: 1.0), options, Sender).stop()


@pytest.mark.parametrize(
    ("status", "reason", "sent"),
    [
        (200, None, 0),
        (404, None, 0),
        (401, Reason.NO_CREDENTIAL, 1),
        (500, None, 1),
        (503, None, 1),
    ],
)
def test_refusals_and_failures_are_sent_whatever_is_sampled(
    status: int, reason: Reason | None, sent: int
) -> None:
    one = tracer(sample=0.0)
    answered(one, status, reason)
    assert len(one.waiting) == sent


def test_a_flood_of_refusals_leaves_room_for_others() -> None:
    dropped = Tally()
    one = Tracer(TraceOptions(sample=0.0, queue=100, delay_s=60), lambda: 1.0, dropped=dropped)
    for _ in range(500):
        answered(one, 401, Reason.NO_CREDENTIAL)
    for _ in range(500):
        answered(one, 403, Reason.NO_RULE)
    reasons = [call.reason for call in one.waiting]
    assert (reasons.count("no_credential"), reasons.count("no_rule")) == (37, 13)
    for _ in range(80):
        answered(one, parent=PARENT + b"01")
    assert len(one.waiting) == 100
    assert dropped.n == 1_000 - 50 + 30


def test_a_call_ends_once() -> None:
    one = tracer(sample=1.0)
    trace = answered(one)
    request = AnsweredRequest("r", 500)
    one.aborted(trace, request)
    one.failed(trace, Reason.INTERNAL_ERROR, request)
    assert [call.status for call in one.waiting] == [200]


def test_a_call_that_has_ended_takes_no_more_children_and_one_takes_64() -> None:
    one = tracer(sample=1.0)
    trace = one.begin(None, "http", trusted=False)
    token = current_call.set(trace)
    for _ in range(70):
        with Traced("work", {}):
            pass
    with pytest.raises(ZeroDivisionError), Traced("late", {}):
        raise ZeroDivisionError
    assert (len(trace.children), trace.left_out) == (64, 7)
    one.answered(None, AnsweredRequest("r", 200))
    with Traced("after", {}) as child:
        assert child is None
    current_call.reset(token)
    with Traced("without", {}) as child:
        assert child is None


def test_only_what_is_sent_becomes_an_exemplar() -> None:
    one, histogram = tracer(sample=0.0), Histogram((0.1, 1.0))
    for status in (200, 500):
        trace = one.begin(None, "http", trusted=False)
        trace.timings.append((histogram, 0.5))
        token = current_call.set(trace)
        one.answered(None, AnsweredRequest("r", status))
        current_call.reset(token)
        if status == 200:
            assert histogram.exemplars is None
    assert histogram.exemplars == {1: (trace.trace_id, 0.5, 1.0)}


class Sender:
    """Meets `trace_thread.SpanSender`."""

    def __init__(self) -> None:
        self.sent: list[FinishedCall] = []
        self.results: list[SendResult | Exception] = []
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.closed = threading.Event()

    def send(self, calls: Sequence[FinishedCall]) -> SendResult:
        self.asked.release()
        self.go_on.wait(30)
        result = self.results.pop(0) if self.results else SendResult(len(calls), 0)
        if isinstance(result, Exception):
            raise result
        self.sent += calls
        return result

    def close(self) -> None:
        self.closed.set()
        self.go_on.set()


async def sent_one_by_one(sender: Sender, count: int) -> tuple[Tally, Tally]:
    """So many calls, each in a message of its own; the spans taken and lost."""
    options = TraceOptions(sample=1.0, batch=1, delay_s=60)
    one, taken, lost = Tracer(options, lambda: 1.0), Tally(), Tally()
    thread = TraceThread(one, options, lambda: sender, taken=taken, lost=lost)
    thread.start()
    for _ in range(count):
        answered(one)
        assert await asyncio.to_thread(sender.asked.acquire, timeout=10)
    await thread.stop()
    assert sender.closed.is_set()
    return taken, lost


async def test_what_is_not_taken_is_counted_and_told_once() -> None:
    sender = Sender()
    sender.results = [SendResult(0, 3, "busy"), SendResult(0, 2, "busy"), SendResult(5, 0)]
    with capture_logs() as lines:
        taken, lost = await sent_one_by_one(sender, 3)
    assert (taken.n, lost.n) == (5, 5)
    assert [line["event"] for line in lines] == ["traces-not-sent", "traces-sent-again"]
    assert (lines[0]["why"], lines[0]["spans"]) == ("busy", 3)


async def test_a_call_that_cannot_be_told_does_not_end_the_others() -> None:
    sender = Sender()
    sender.results = [ValueError("a defect"), ValueError("another")]
    with capture_logs() as lines:
        taken, lost = await sent_one_by_one(sender, 3)
    assert (taken.n, lost.n, len(sender.sent)) == (1, 2, 1)
    assert [line["event"] for line in lines] == ["traces-failed"]


async def test_the_rest_is_sent_at_the_end_unless_nobody_takes_it() -> None:
    options = TraceOptions(sample=1.0, delay_s=60)
    one, sender = Tracer(options, lambda: 1.0), Sender()
    thread = TraceThread(one, options, lambda: sender)
    thread.start()
    answered(one)
    await thread.stop()
    assert len(sender.sent) == 1
    one, sender = Tracer(options, lambda: 1.0), Sender()
    sender.go_on.clear()
    thread = TraceThread(one, options, lambda: sender)
    thread.start()
    answered(one)
    began_at = asyncio.get_running_loop().time()
    await thread.stop(0.2)
    assert asyncio.get_running_loop().time() - began_at < 5
    assert sender.closed.is_set(), "what is being sent is given up"
