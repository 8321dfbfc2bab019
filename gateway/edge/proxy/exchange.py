"""One request of a client, from the handler that takes it up to the end of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.definitions import Upstream
    from gateway.access.routing.routes import Route
    from gateway.edge.http1.request_head import RequestHead
    from gateway.edge.server.listener import Connection
    from gateway.edge.server.request_body import RequestBody
    from gateway.model import Call

NO_HEADERS: Mapping[str, str] = {}


class Exchange:
    """What the steps of serving one request share.

    The handler makes it, and each step writes down what the next ones need.  What has no value
    from the beginning is set by the step that its comment names, and read only behind it.
    """

    __slots__ = (
        "began_at",
        "body",
        "call",
        "client",
        "cors_headers",
        "decided_at",
        "decided_s",
        "decision",
        "head",
        "request_id",
        "route",
        "upstream",
    )

    # Read from the request.
    call: Call

    # The decision.
    began_at: float
    """When it was asked for, by the monotonic clock."""
    decision: Decision
    decided_at: float

    # Forwarding.
    route: Route
    upstream: Upstream

    def __init__(
        self, client: Connection, head: RequestHead, body: RequestBody, request_id: str
    ) -> None:
        self.client = client
        self.head = head
        self.body = body
        self.request_id = request_id
        self.cors_headers = NO_HEADERS
        """The CORS fields of whatever answer it gets: where there are any, the upstream's go."""
        self.decided_s = 0.0
        """How long the decision took; 0.0 for what never came to one."""
