"""What a connection to an upstream asks of those around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncio import Transport

    from gateway.access.definitions import Upstream
    from gateway.edge.http1.response_head import Head, ResponseHeadReader
    from gateway.edge.http1.turns import Turns
    from gateway.model import Reason


C_contra = TypeVar("C_contra", contravariant=True)
"""A connection, as its pool keeps it."""


class UpgradedConnection(Protocol):
    """A connection that speaks another protocol from now on."""

    def detach(self) -> tuple[Transport, ConnectionPool[Any]]:
        """Its transport, which is the caller's, and the pool that it counts at."""


class ResponseReceiver(Protocol):
    """Whoever waits for a response.  Each method is called from the read callback."""

    is_head: bool
    """The request was HEAD: its response has no body, whatever its fields say."""
    request_sent: bool
    """The request's last byte was written."""
    answered_at: float
    """When its response began, by the monotonic clock."""
    retry_statuses: frozenset[int]
    """Responses that are thrown away where `acquire_retry`: the request is sent once more."""

    @property
    def decided_at(self) -> float:
        """When it was let in, by the monotonic clock."""

    @property
    def client_ip(self) -> str: ...

    def client_waited_s(self, now: float) -> float:
        """For how long in all it has waited for its own client, by the monotonic clock `now`; 0.0
        where it does not wait for it now."""

    def acquire_retry(self) -> bool: ...

    def refusal(self) -> Reason | None:
        """Why no more of it may pass; None while what let it in holds."""

    def interim(self, head: Head) -> None: ...

    def begin(self, head: Head, length: int, initial_data: bytes, complete: bool) -> None:
        """The final head; `initial_data` is the body as far as it came, unless it is chunked."""

    def data(self, data: bytes) -> None: ...

    def chunks(self, contents: list[bytes], trailers: list[bytes] | None) -> None:
        """Contents of chunks; `trailers` is a list once the body has ended."""

    def finished(self) -> None: ...

    def upgrade(self, head: Head, upstream: UpgradedConnection, initial_data: bytes) -> bool:
        """A 101 came, and `initial_data` behind it.

        True when it was asked for: the transport is then the receiver's.
        """

    def mark_long_lived(self) -> None:
        """The exchange goes on for longer than a decision may hold unasked."""

    def failed(self, reason: Reason, *, replayable: bool) -> None:
        """No response, or the rest of it, will come.

        `replayable`: a reused connection ended before its first response byte, so the
        request may never have been read.
        """


class ConnectionPool(Protocol[C_contra]):
    """Whoever keeps the connections of one target."""

    spec: Upstream
    turns: Turns
    heads: ResponseHeadReader
    """Reads the responses."""
    in_flight: int
    """Calls that hold a slot at it."""
    keeps_idle: bool
    """Whether the target has kept a connection open after a response."""

    def record_reuse(self) -> None:
        """It has, for the first time."""

    def record_early_close(self) -> None:
        """It has closed a connection as soon as it was used again."""

    def add(self, connection: C_contra) -> None:
        """It was made."""

    def put_idle(self, connection: C_contra) -> None:
        """Its exchange has ended, and another may begin."""

    def discard(self, connection: C_contra) -> None:
        """It is of no more use."""

    def hold(self, client_ip: str) -> None:
        """One more slot is held, for this client."""

    def release(self, client_ip: str) -> None:
        """A call of this client has ended that held a slot."""
