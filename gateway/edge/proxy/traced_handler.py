"""The handler of the public listener where traces are on: it is chosen at the start, so that
without traces nothing asks for them.

Each step of a call runs with its trace as `current_call`: in the client's read callback, in the
upstream's, and in the call's task.  Its end is told to the tracer as to every other observer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any

from gateway.access.routing.csrf import CsrfCheck
from gateway.call_trace import CallTrace, UpstreamAttempt, current_call
from gateway.edge.http1.grammar import name_of
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.forwarder import Forwarder
from gateway.edge.proxy.request import CallReader
from gateway.edge.proxy.response_relay import CLIENT_GONE, Failure, ResponseRelay
from gateway.edge.replies.problems import problem_type
from gateway.edge.server.handler import Handler, ServeResult
from gateway.edge.server.listener import BadRequest, Connection
from gateway.edge.server.request_body import RequestBody
from gateway.edge.streams.registry import LongLivedRequests
from gateway.edge.upstream.clusters import Clusters, TargetPool
from gateway.model import Reason
from gateway.telemetry.access_record import AnsweredRequest, told_target
from gateway.telemetry.tracer import Tracer

_TRACEPARENT = b"\r\ntraceparent: "
_TRACEPARENT_BYTES = 55
_CONNECT_FAILED = "connect"


class TracedHandler:
    """`server.handler.Handler`: another one, with a trace around each request."""

    def __init__(self, handler: Handler, tracer: Tracer, *, trusted: bool = False) -> None:
        """`trusted`: whoever asks is a proxy of ours, or is refused."""
        self._handler = handler
        self._tracer = tracer
        self._trusted = trusted

    def serve(self, client: Connection, head: RequestHead, body: RequestBody) -> ServeResult:
        peer = client.peer
        trusted = self._trusted or peer.trusted
        trace = self._tracer.begin(head.traceparent, peer.scheme, trusted=trusted)
        head.trace = trace
        if trace.is_new:
            # W3C Trace Context section 3.3: without the one there is nothing the other speaks of.
            head.lines = _without_tracestate(head.lines)
        token = current_call.set(trace)
        try:
            result = self._handler.serve(client, head, body)
        except Exception as error:
            failed(self._tracer, head, client.peer.ip, error)
            raise
        finally:
            current_call.reset(token)
        if result is None or isinstance(result, bool):
            return result
        return _TracedWork(result, self._tracer, head, client.peer.ip)


class TracedForwarder(Forwarder):
    """Notes each attempt, and tells of the end in the name of the call."""

    def __init__(
        self,
        reader: CallReader,
        clusters: Clusters,
        long_lived: LongLivedRequests,
        csrf: CsrfCheck | None = None,
        *,
        tracer: Tracer,
    ) -> None:
        super().__init__(reader, clusters, long_lived, csrf)
        self._tracer = tracer

    def begin(
        self, relay: ResponseRelay, on_end: Callable[[ResponseRelay, Failure | None], None]
    ) -> bool:
        _name_route(relay)

        def ended(relay: ResponseRelay, failure: Failure | None) -> None:
            token = current_call.set(relay.exchange.head.trace)
            try:
                on_end(relay, failure)
                if relay.started or failure is CLIENT_GONE:
                    # Where it was cut off in the midst, nobody else may have been told.
                    self._abort(relay)
            finally:
                current_call.reset(token)

        return super().begin(relay, ended)

    async def forward(self, relay: ResponseRelay) -> Failure | None:
        _name_route(relay)
        return await super().forward(relay)

    def note_attempt(self, relay: ResponseRelay, target: TargetPool) -> None:
        trace = relay.exchange.head.trace
        if trace.attempts:
            # One that was sent has ended before.
            trace.attempts[-1].end(_CONNECT_FAILED)
            relay.upstream_head = _with_new_parent(relay.upstream_head, trace)
        line = relay.upstream_head.partition(b"\r\n")[0]
        trace.attempts.append(UpstreamAttempt(trace.upstream_span_id, target.target.url, line))
        super().note_attempt(relay, target)

    def may_retry(self, relay: ResponseRelay, failure: Failure) -> bool:
        attempts = relay.exchange.head.trace.attempts
        if attempts:
            attempts[-1].end(failure.reason)
        return super().may_retry(relay, failure)

    def _abort(self, relay: ResponseRelay) -> None:
        exchange = relay.exchange
        head, ip = exchange.head, exchange.call.client_ip
        request = _request_of(head, ip, relay.status, exchange.request_id)
        self._tracer.aborted(head.trace, request)


class TracedCallReader(CallReader):
    """A call without an id of its own is called by that of its trace, where that is new."""

    def new_request_id(self) -> str:
        trace = current_call.get()
        return trace.trace_id if trace is not None and trace.is_new else super().new_request_id()

    def traceparent(self, fields: RequestHead) -> bytes:
        return fields.trace.next_traceparent()


def _name_route(relay: ResponseRelay) -> None:
    exchange = relay.exchange
    trace = exchange.head.trace
    trace.pattern, trace.upstream = exchange.route.pattern, exchange.upstream.name


class _TracedWork(Coroutine[Any, Any, bool]):
    """The rest of a call, as its task steps it: in each step its trace is the current one.

    It stands around the coroutine rather than in one of its own, so that to close it before it
    has begun closes that one too.
    """

    def __init__(
        self, work: Coroutine[Any, Any, bool], tracer: Tracer, head: RequestHead, ip: str
    ) -> None:
        self._work = work
        self._tracer = tracer
        self._head = head
        self._ip = ip

    def send(self, value: Any, /) -> Any:
        return self._stepped(lambda: self._work.send(value))

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        error = kind if value is None else value
        return self._stepped(lambda: self._work.throw(error))  # type: ignore[arg-type]

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._work.__await__()

    def _stepped(self, step: Callable[[], Any]) -> Any:
        token = current_call.set(self._head.trace)
        try:
            return step()
        except StopIteration:
            self._tracer.aborted(self._head.trace, _request_of(self._head, self._ip, 0))
            raise
        except BaseException as error:
            failed(self._tracer, self._head, self._ip, error)
            raise
        finally:
            current_call.reset(token)


def failed(tracer: Tracer, head: RequestHead, ip: str, error: BaseException) -> None:
    """Its connection answers for what was raised, or is gone."""
    trace = head.trace
    if trace.ended:
        return
    if isinstance(error, BadRequest):
        status = problem_type(error.reason).status
        tracer.failed(trace, error.reason, _request_of(head, ip, status))
    elif isinstance(error, ConnectionError) or not isinstance(error, Exception):
        tracer.aborted(trace, _request_of(head, ip, 0))
    else:
        # The line about the defect is written by the connection, outside of the call.
        error.add_note(f"trace_id {trace.trace_id}")
        tracer.failed(trace, Reason.INTERNAL_ERROR, _request_of(head, ip, 500))


def _request_of(head: RequestHead, ip: str, status: int, request_id: str = "") -> AnsweredRequest:
    path, host = told_target(head.target), (head.host or b"").decode("latin-1")
    return AnsweredRequest(request_id, status, ip, head.method, host, path, headers=head)


def _without_tracestate(lines: list[bytes]) -> list[bytes]:
    if any(line[:10].lower() == b"tracestate" for line in lines):
        return [line for line in lines if name_of(line) != b"tracestate"]
    return lines


def _with_new_parent(head: bytes, trace: CallTrace) -> bytes:
    """The head as it is sent once more: by another attempt."""
    at = head.index(_TRACEPARENT) + len(_TRACEPARENT)
    return head[:at] + trace.next_traceparent() + head[at + _TRACEPARENT_BYTES :]
