"""Traces: begun for each call, and sent for those that are sampled, refused or failed.

Law: on the path of a call nothing waits and nothing is encoded.  What has ended is put into a
bounded queue, which a thread empties (`trace_thread.py`); what finds no room is counted.  Whether
a call is sent is decided at its end, so that every refusal and every 5xx is, up to a flood.
"""

from __future__ import annotations

import os
import random
import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from gateway.access.authorizer import Decision
from gateway.call_trace import TRACEPARENT, CallTrace, current_call
from gateway.model import Call, RawHeaders, Reason
from gateway.telemetry.access_record import AGENT_CHARACTERS, PATH_CHARACTERS, AnsweredRequest
from gateway.telemetry.metrics import Histogram, Tally

_RANDOM_TRACE_ID = 2
"""A flag of W3C Trace Context Level 2, section 3.2.2.5.2: it is passed on as it came."""
_TRACESTATE_BYTES = 512


@dataclass(frozen=True, slots=True)
class TraceOptions:
    sample: float = 0.01
    """The share of the calls without a parent that is sampled."""
    believes_anyone: bool = True
    """Whether a client's flag decides that a call is sampled, or a trusted proxy's alone."""
    queue: int = 2_048
    """Calls that may wait to be sent."""
    batch: int = 512
    """Spans in one message to the collector."""
    delay_s: float = 5.0
    """How long a call waits for others at most."""


@dataclass(slots=True)
class FinishedCall:
    """A call as its span tells of it; no field of the request but these."""

    trace: CallTrace
    ended_at: float
    request_id: str
    status: int
    """0 where the client left before there was an answer."""
    reason: str
    decision: str
    """`allow`, `deny`, or empty where nothing was decided."""
    method: str
    host: str
    path: str
    client_ip: str
    scheme: str
    user_agent: str
    tracestate: str
    http_minor: int
    route_id: str = ""
    policy: str = ""
    rule: str = ""


class Tracer:
    """Of one worker, made after its fork.  Meets `edge.replies.observers.DecisionObserver`."""

    takes_allowed = True

    def __init__(
        self,
        options: TraceOptions,
        now: Callable[[], float],
        *,
        dropped: Tally | None = None,
    ) -> None:
        self._options = options
        self._now = now
        self._dropped = dropped or Tally()
        self._bound = round(options.sample * (1 << 64))
        # Ids, not secrets, as those of requests.
        self._random = random.Random(os.urandom(16))  # noqa: S311
        self.waiting: deque[FinishedCall] = deque()
        self.wanted = threading.Event()
        """Set when there is a whole message to send."""
        self._refusals: Counter[str] = Counter()
        """Those that were not sampled and wait, by reason, and all of them under the empty word."""
        self._most_refusals = max(1, options.queue // 2)
        self._counted_until = 0.0

    def begin(self, traceparent: bytes | None, scheme: str, *, trusted: bool) -> CallTrace:
        """`traceparent` is the client's, `trusted` whether it is a proxy of ours."""
        drawn = self._random.getrandbits(64) or 1
        if traceparent is not None and TRACEPARENT.fullmatch(traceparent):
            trace_id, parent_id = traceparent[3:35].decode("ascii"), traceparent[36:52]
            flags = int(traceparent[53:55], 16)
            if trusted or self._options.believes_anyone:
                sampled = bool(flags & 1)
            else:
                # Not by its id, which whoever is not believed has chosen.
                sampled = self._random.random() < self._options.sample
            trace = CallTrace(trace_id, f"{drawn:016x}", parent_id.decode("ascii"), sampled=sampled)
            trace.flags |= flags & _RANDOM_TRACE_ID
        else:
            trace_id = f"{self._random.getrandbits(128) or 1:032x}"
            trace = CallTrace(trace_id, f"{drawn:016x}", "", sampled=self._is_drawn(trace_id))
        trace.scheme = scheme
        return trace

    def _is_drawn(self, trace_id: str) -> bool:
        """By the last 64 bits of the id, as OpenTelemetry's `TraceIdRatioBased`: who has the same
        ratio elsewhere draws the same traces."""
        return int(trace_id[16:], 16) < self._bound

    # --- the ends of a call ---

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        del took_s
        trace = current_call.get()
        if trace is None or trace.ended or call is None or decision is None:
            return
        route = decision.route
        if route is not None:
            trace.pattern = route.pattern
        if not self._takes(trace, status, None if decision.allowed else str(decision.reason)):
            return
        user_agent, tracestate, minor = _told_by(call.headers)
        self._keep(
            FinishedCall(
                trace, monotonic(), request_id, status,
                reason=str(decision.reason),
                decision="allow" if decision.allowed else "deny",
                method=call.method, host=call.host, path=call.path, client_ip=call.client_ip,
                scheme=call.scheme, user_agent=user_agent, tracestate=tracestate,
                http_minor=minor,
                route_id="" if route is None else route.id,
                policy=decision.policy or "", rule=decision.rule or "",
            )
        )  # fmt: skip

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        self._answered(str(reason), request, route_id)

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        self._answered(reason, request, "")

    def aborted(self, trace: CallTrace, request: AnsweredRequest) -> None:
        """The client left before it had its answer, or in the midst of it."""
        if not trace.ended and self._takes(trace, request.status, None):
            self._keep(self._finished(trace, "client_gone", request, ""))

    def failed(self, trace: CallTrace, reason: Reason, request: AnsweredRequest) -> None:
        """Whoever served it failed, and its connection answers for it."""
        if not trace.ended and self._takes(trace, request.status, reason):
            self._keep(self._finished(trace, reason, request, ""))

    def _answered(self, reason: str | None, request: AnsweredRequest, route_id: str) -> None:
        trace = current_call.get()
        if trace is not None and not trace.ended and self._takes(trace, request.status, reason):
            self._keep(self._finished(trace, reason or "", request, route_id))

    def _finished(
        self, trace: CallTrace, reason: str, request: AnsweredRequest, route_id: str
    ) -> FinishedCall:
        user_agent, tracestate, minor = _told_by(request.headers)
        return FinishedCall(
            trace, monotonic(), request.request_id, request.status,
            reason=reason,
            # What was sent to an upstream had been allowed.
            decision="allow" if trace.upstream else "",
            method=request.method, host=request.host, path=request.path,
            client_ip=request.client_ip, scheme=trace.scheme, user_agent=user_agent,
            tracestate=tracestate, http_minor=minor, route_id=route_id,
        )  # fmt: skip

    def _takes(self, trace: CallTrace, status: int, refusal: str | None) -> bool:
        """Closes the trace; whether it is sent."""
        trace.ended = True
        if trace.sampled:
            has_room = len(self.waiting) < self._options.queue
        elif refusal is None and status < 500:
            return False
        else:
            has_room = self._has_room_for_refusal(refusal or str(status))
        if not has_room:
            self._dropped.n += 1
        return has_room

    def _has_room_for_refusal(self, reason: str) -> bool:
        """Anybody can be refused, as often as they like: these take half of the queue in each
        period, and one reason three quarters of that."""
        now, refusals, most = monotonic(), self._refusals, self._most_refusals
        if now >= self._counted_until:
            refusals.clear()
            self._counted_until = now + self._options.delay_s
        if (
            len(self.waiting) >= self._options.queue
            or refusals[""] >= most
            or refusals[reason] >= most * 3 // 4
        ):
            return False
        refusals[""] += 1
        refusals[reason] += 1
        return True

    def _keep(self, finished: FinishedCall) -> None:
        trace = finished.trace
        now = self._now()
        for histogram, value in trace.timings:
            assert isinstance(histogram, Histogram)
            at = bisect_left(histogram.bounds, value)
            if histogram.exemplars is None:
                histogram.exemplars = {}
            histogram.exemplars[at] = (trace.trace_id, value, now)
        trace.timings.clear()
        finished.path = finished.path[:PATH_CHARACTERS]
        self.waiting.append(finished)
        if len(self.waiting) >= self._options.batch:
            self.wanted.set()


def _told_by(headers: RawHeaders) -> tuple[str, str, int]:
    """`User-Agent`, `tracestate` and the minor version of HTTP, of a request's head."""
    user_agent, tracestate = b"", b""
    for name, value in headers:
        if len(name) == 10:
            name = name.lower()
            if name == b"user-agent":
                user_agent = user_agent or value
            elif name == b"tracestate":
                tracestate = tracestate + b"," + value if tracestate else value
    if len(tracestate) > _TRACESTATE_BYTES:
        tracestate = b""
    minor = getattr(headers, "minor", 1)
    return (
        user_agent[:AGENT_CHARACTERS].decode("latin-1"),
        tracestate.decode("latin-1"),
        minor if isinstance(minor, int) else 1,
    )
