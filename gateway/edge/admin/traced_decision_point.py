"""Questions of other proxies with a trace around each, where traces are on.

A question over HTTP has its trace already, from `edge.proxy.traced_handler.TracedHandler`; one over
gRPC, which no handler of ours reads, is given it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.call_trace import current_call
from gateway.edge.admin.decision_point import DecisionPoint, Denial, Permission, Question
from gateway.model import Reason
from gateway.telemetry.tracer import Tracer


class TracedDecisionPoint(DecisionPoint):
    def __init__(self, *positions: Any, tracer: Tracer, **names: Any) -> None:
        super().__init__(*positions, **names)
        self._tracer = tracer

    async def answer(self, question: Question) -> Permission | Denial:
        with self._traced(question):
            return await super().answer(question)

    def refused(self, question: Question, reason: Reason, detail: str | None = None) -> Denial:
        with self._traced(question):
            return super().refused(question, reason, detail)

    @contextmanager
    def _traced(self, question: Question) -> Iterator[None]:
        if current_call.get() is not None:
            yield
            return
        head = question.head
        trace = getattr(head, "trace", None)
        if trace is None:
            # Nobody but a trusted peer is answered: what it says of the call is believed.
            trace = self._tracer.begin(head.traceparent, "http", trusted=True)
            head.trace = trace
            if trace.is_new and not head.request_id:
                question.request_id = trace.trace_id
        token = current_call.set(trace)
        try:
            yield
        finally:
            current_call.reset(token)
