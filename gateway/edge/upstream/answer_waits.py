"""How long an answer and the rest of it are waited for (`docs/edge.md`, Time limits)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.upstream.protocols import ResponseReceiver
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.access.definitions import Upstream


def overdue(
    receiver: ResponseReceiver, now: float, active_at: float, spec: Upstream, *, paused: bool
) -> Reason | None:
    """Why it is waited for no longer; None while it is.

    `active_at` is when something last passed, and `paused` says that the upstream does not take
    the request as fast as it comes.
    """
    slow_client = False
    if receiver.request_sent:
        timed_out = now - active_at > spec.timeout_response_s
    elif paused:
        timed_out = now - active_at > spec.timeout_idle_s
    else:
        # The client's limits count: it is its body that does not come.
        timed_out, slow_client = False, True
    if timed_out or now - receiver.decided_at > spec.timeout_request_s:
        return Reason.REQUEST_TIMEOUT if slow_client else Reason.UPSTREAM_TIMEOUT
    return None


def body_overdue(
    receiver: ResponseReceiver, now: float, active_at: float, spec: Upstream, *, unread: bool
) -> Reason | None:
    """The same of the rest of one that has begun; `unread` says that nobody reads it now."""
    if now - receiver.answered_at > spec.timeout_stream_s:
        # No failure of the target, which answered: that it was asked for so much is not.
        return Reason.REQUEST_TIMEOUT
    if now - active_at > spec.timeout_idle_s and not unread:
        # It is the upstream that is silent, and not the client that does not read.
        return Reason.UPSTREAM_TIMEOUT
    return None
