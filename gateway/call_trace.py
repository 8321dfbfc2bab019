"""The trace of one call: its ids, and what was done for it and took time.

Whoever serves a call with traces on sets `current_call`; a store, a hash or a fetch adds a child
to it.  Nothing here knows how spans are sent.

Law: a child holds names and numbers that its room chose, never a value of a request, a statement
or a credential.
"""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from time import monotonic, time_ns
from types import TracebackType

# W3C Trace Context section 3.2.2: version ff is invalid, and so is an id of zeros.
TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
MOST_CHILDREN = 64
"""Of one call: a socket may ask its stores for days."""

Attribute = str | int | bool


class ChildSpan:
    """One thing that was done for a call, by the monotonic clock."""

    __slots__ = ("attributes", "began_at", "ended_at", "error", "is_client", "name", "parent")

    def __init__(
        self,
        name: str,
        attributes: dict[str, Attribute],
        *,
        is_client: bool,
        parent: ChildSpan | None = None,
    ) -> None:
        self.name = name
        self.attributes = attributes
        self.is_client = is_client
        """Whether it asked something of another server, or of a file."""
        self.parent = parent
        """None where it was done for the call itself."""
        self.began_at = monotonic()
        self.ended_at = 0.0
        self.error = ""
        """The kind of error; empty where there was none."""

    def end(self, error: str = "") -> None:
        if not self.ended_at:
            self.ended_at = monotonic()
            self.error = error


class CallTrace:
    """Made when a call comes, and closed when it is known how it was answered."""

    __slots__ = (
        "attempts",
        "began_at",
        "began_ns",
        "children",
        "ended",
        "flags",
        "is_new",
        "left_out",
        "parent_id",
        "pattern",
        "sampled",
        "scheme",
        "span_id",
        "timings",
        "trace_id",
        "upstream",
        "upstream_span_id",
    )

    def __init__(self, trace_id: str, span_id: str, parent_id: str, *, sampled: bool) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        """Empty where nobody before us has traced the call."""
        self.is_new = not parent_id
        self.sampled = sampled
        """What is told to the upstream.  A refusal is sent to the collector all the same."""
        self.flags = 1 if sampled else 0
        self.began_at = monotonic()
        self.began_ns = time_ns()
        self.children: list[ChildSpan] = []
        self.left_out = 0
        """Children that were more than MOST_CHILDREN."""
        self.attempts: list[UpstreamAttempt] = []
        self.upstream_span_id = ""
        """Of the attempt that is made next, or under way."""
        self.timings: list[tuple[object, float]] = []
        """Histograms that this call was counted in, and its values."""
        self.scheme = ""
        """That of the client's connection."""
        self.pattern = ""
        """The route or the endpoint as it is written in the configuration; empty where none is
        known."""
        self.upstream = ""
        """The name of the upstream that it was sent to; empty where it was not."""
        self.ended = False

    def add(self, child: ChildSpan) -> ChildSpan | None:
        """None where the call has ended, or has children enough."""
        if self.ended:
            return None
        if len(self.children) >= MOST_CHILDREN:
            self.left_out += 1
            return None
        self.children.append(child)
        return child

    def next_traceparent(self) -> bytes:
        """As the upstream reads it, with the attempt that is made next as its parent."""
        self.upstream_span_id = span_id = os.urandom(8).hex()
        return f"00-{self.trace_id}-{span_id}-{self.flags:02x}".encode("ascii")


class UpstreamAttempt:
    """One attempt to have a call answered by a target of its upstream."""

    __slots__ = ("began_at", "ended_at", "error", "request_line", "span_id", "target_url")

    def __init__(self, span_id: str, target_url: str, request_line: bytes) -> None:
        self.span_id = span_id
        self.target_url = target_url
        self.request_line = request_line
        self.began_at = monotonic()
        self.ended_at = 0.0
        self.error = ""

    def end(self, error: str) -> None:
        if not self.ended_at:
            self.ended_at = monotonic()
            self.error = error


current_call: ContextVar[CallTrace | None] = ContextVar("current_call", default=None)


class Traced:
    """`with Traced("hash password", {…}):` adds a child to the current call, if there is one."""

    __slots__ = ("child",)

    def __init__(
        self,
        name: str,
        attributes: dict[str, Attribute],
        *,
        is_client: bool = False,
        parent: ChildSpan | None = None,
    ) -> None:
        trace = current_call.get()
        self.child: ChildSpan | None = None
        if trace is not None:
            self.child = trace.add(ChildSpan(name, attributes, is_client=is_client, parent=parent))

    def __enter__(self) -> ChildSpan | None:
        return self.child

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.child is not None:
            self.child.end("" if kind is None else kind.__name__)
