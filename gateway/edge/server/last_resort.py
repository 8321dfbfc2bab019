"""What a connection answers by itself: to what is no request, and where a handler has failed."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway.edge.replies.observers import Meter, NoMetrics
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import problem_bytes, problem_type
from gateway.edge.server.peer import Peer, PeerReader
from gateway.edge.server.request_body import BadRequest
from gateway.model import Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)


class LastResort:
    """Of one listener.  `on_refusal` is told of each of these answers, as far as it is known whose
    it was; `meter` counts all of it."""

    def __init__(
        self,
        reader: PeerReader,
        *,
        meter: Meter | None = None,
        defects: Tally | None = None,
        types: ProblemTypes | None = None,
        on_refusal: Callable[[Reason, AnsweredRequest], None] | None = None,
    ) -> None:
        self._reader = reader
        self._meter = meter or NoMetrics()
        self._defects = defects or Tally()
        self._types = types
        self._on_refusal = on_refusal

    def answer(self, why: Reason | BaseException, peer: Peer, *, is_head: bool) -> bytes:
        """The whole answer, after which the connection is closed.  It shows nothing of a defect."""
        if isinstance(why, Reason):
            reason = why
        else:
            reason = why.reason if isinstance(why, BadRequest) else Reason.INTERNAL_ERROR
        request_id = self._reader.new_request_id()
        status = problem_type(reason).status
        self._meter.record(reason, status, 0.0)
        if reason is Reason.INTERNAL_ERROR:
            self._defects.n += 1
            log.error("request-failed", request_id=request_id, exc_info=why)
        if self._on_refusal is not None:
            self._on_refusal(reason, AnsweredRequest(request_id, status, peer.ip))
        return problem_bytes(
            reason, request_id=request_id, https=peer.https, to_head=is_head, types=self._types
        )
