"""What is known of whoever is at the other end of a connection."""

from __future__ import annotations

from typing import Protocol


class Peer:
    """What is known of a connection before its first request; made once for each."""

    __slots__ = ("forwarded", "https", "ip", "named", "scheme", "trusted")

    def __init__(self, ip: str, https: bool, trusted: bool) -> None:
        self.ip = ip
        self.https = https
        self.scheme = "https" if https else "http"
        self.trusted = trusted
        self.named: bytes | None = None
        self.forwarded = b""
        """The forwarded fields of its last call, which named the host `named`."""


class PeerReader(Protocol):
    """What a listener asks of whoever reads calls."""

    def peer(self, ip: str, *, https: bool) -> Peer:
        """Of a connection that has just come."""

    def new_request_id(self) -> str:
        """For what was refused before it was a request."""
