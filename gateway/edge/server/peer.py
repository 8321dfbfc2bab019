"""What is known of whoever is at the other end of a connection."""

from __future__ import annotations


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
